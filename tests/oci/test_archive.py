"""Image archives: one tar for OCI tools, Docker and podman."""

import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from oci_samples import as_layer, image_of, sample_entries

from dockyard.cache import Cache
from dockyard.errors import ImageError
from dockyard.files import FileEntry, SliceSource, file_entry, with_parents
from dockyard.oci.archive import read_archive, write_archive
from dockyard.oci.config import Healthcheck, ImageConfig
from dockyard.oci.image import Image
from dockyard.oci.layer import BytesBlob, Layer, pack_layer
from dockyard.oci.layout import read_layout
from dockyard.oci.unpack import tar_chunks
from dockyard.oci.verify import verify_image


def archive(image: Image, *references: str, omit=()) -> bytes:
    out = io.BytesIO()
    write_archive(image, out, references, omit=omit)
    return out.getvalue()


@pytest.fixture
def image(sample: tuple[Layer, dict[str, bytes]], cache: Cache) -> Image:
    """The sample layer, and a small one on top."""
    top = pack_layer([file_entry("top", b"top")], cache=cache)
    return image_of(sample[0], as_layer(top, cache))


def test_an_archive_is_an_oci_layout_and_has_dockers_manifest(image: Image, tmp_path: Path) -> None:
    data = archive(image, "ada/app:v1", "app")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
        tar.extractall(tmp_path / "x", filter="data")
    assert len(names) == len(set(names))
    assert read_layout(tmp_path / "x", "v1").digest == image.digest
    assert read_layout(tmp_path / "x", "latest").digest == image.digest
    (entry,) = json.loads((tmp_path / "x/manifest.json").read_bytes())
    assert entry["RepoTags"] == ["docker.io/ada/app:v1", "docker.io/library/app:latest"]
    assert entry["Config"] == f"blobs/sha256/{image.id.hex}"
    assert entry["Layers"] == [f"blobs/sha256/{x.descriptor.digest.hex}" for x in image.layers]
    assert set(entry["Layers"]) < set(names)


def test_an_archive_is_read_back_by_any_of_its_names(image: Image, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archive(image, "ada/app:v1", "app"))
    for name in (None, "v1", "app", "docker.io/library/app", "ada/app:v1"):
        read = read_archive(path, name)
        assert (read.digest, read.config) == (image.digest, image.config)
    assert verify_image(read_archive(path)) == []
    with pytest.raises(ImageError, match="no image called 'ada/app'"):
        read_archive(path, "ada/app")


def test_equal_images_give_equal_archives(image: Image) -> None:
    assert archive(image, "app") == archive(image, "app")


def test_a_layer_that_is_twice_in_the_image_is_once_in_the_archive(image: Image) -> None:
    twice = image.append(image.layers[0])
    with tarfile.open(fileobj=io.BytesIO(archive(twice))) as tar:
        assert len(tar.getnames()) == len(set(tar.getnames()))


def test_omitted_layers_are_left_out_and_so_are_the_layouts_own_files(image: Image) -> None:
    data = archive(image, "app", omit=[image.layers[0].diff_id])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
    assert f"blobs/sha256/{image.layers[0].descriptor.digest.hex}" not in names
    assert f"blobs/sha256/{image.layers[1].descriptor.digest.hex}" in names
    assert not {"oci-layout", "index.json"} & set(names)
    assert len(data) < 20_000


def test_a_layer_that_changed_its_size_is_noticed(image: Image) -> None:
    broken = replace(image.layers[0], blob=BytesBlob(data=b"x"))
    with pytest.raises(ImageError, match="1 bytes instead of"):
        archive(replace(image, layers=(broken,)))


def docker_save(image: Image, path: Path, *, symlinks: bool = False) -> None:
    """Write what Docker before 25 saves: plain layer tars, the second time as a symbolic link."""
    with tarfile.open(path, "w") as tar:

        def add(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

        layers = []
        for number, layer in enumerate(image.layers):
            name = f"{number}aa/layer.tar"
            layers.append(name)
            add(name, b"".join(tar_chunks(layer)))
        if symlinks:
            link = tarfile.TarInfo("99/layer.tar")
            link.type, link.linkname = tarfile.SYMTYPE, "../0aa/layer.tar"
            tar.addfile(link)
            layers[0] = "99/layer.tar"
        add("abc.json", image.config_bytes)
        manifest = [{"Config": "abc.json", "RepoTags": ["app:latest"], "Layers": layers}]
        add("manifest.json", json.dumps(manifest).encode())


@pytest.mark.parametrize("symlinks", [False, True])
def test_reads_what_older_dockers_saved(image: Image, tmp_path: Path, symlinks: bool) -> None:
    docker_save(image, tmp_path / "d.tar", symlinks=symlinks)
    for name in (None, "app", "docker.io/library/app:latest"):
        read = read_archive(tmp_path / "d.tar", name)
        assert read.id == image.id
        assert verify_image(read) == []
    with pytest.raises(ImageError, match="no such image"):
        read_archive(tmp_path / "d.tar", "else")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "neither index.json nor manifest.json"),
        ({"manifest.json": b"[]"}, "no such image"),
        ({"manifest.json": b"{}"}, "no such image"),
        ({"manifest.json": b"[{}]"}, "lacks Config"),
        ({"manifest.json": b'[{"Config":"c","Layers":[]}]'}, "lacks c"),
        ({"manifest.json": b'[{"Config":"c","Layers":["l"]}]', "c": b"{}"}, "lacks l"),
        ({"manifest.json": b'[{"Config":"c","Layers":[]}]', "c": b"{}"}, "breaks the spec"),
        ({"index.json": b"{}"}, "no image index"),
        ({"index.json": b'{"schemaVersion":2,"manifests":[]}'}, "no image for"),
    ],
)
def test_refuses_an_archive_that_is_none(
    files: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(ImageError, match=message):
        read_archive(tmp_path / "x.tar")


def test_refuses_a_file_that_is_no_tar(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no" * 1000)
    with pytest.raises(ImageError, match="can't be read"):
        read_archive(tmp_path / "x.tar")
    with pytest.raises(ImageError, match="can't be read"):
        read_archive(tmp_path / "gone.tar")


# Engines -------------------------------------------------------------------------------------


@pytest.fixture
def runnable(tmp_path: Path, cache: Cache) -> Image:
    """An image that says what it sees: a static program below, the sample's files above."""
    program, command = _static_program(tmp_path)
    source = SliceSource(program, program.stat().st_size)
    base = pack_layer(
        with_parents([FileEntry(path="bin/busybox", mode=0o755, source=source)]), cache=cache
    )
    (tmp_path / "s").mkdir()
    entries = [entry for entry in sample_entries(tmp_path / "s")[0] if entry.path != "bin"]
    config = ImageConfig(
        entrypoint=command,
        working_dir="/opt",
        env={"WORD": "ahoy"},
        exposed_ports=("8080/tcp",),
        healthcheck=Healthcheck(test=("CMD", *command), interval=5, retries=2),
    )
    layers = [base, pack_layer([], cache=cache), pack_layer(entries, cache=cache)]
    return image_of(*(as_layer(packed, cache) for packed in layers), config=config)


def _static_program(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """A program that needs no libraries, and its command in the image."""
    if compiler := shutil.which("cc"):
        (folder / "say.c").write_text(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <sys/stat.h>\nint main(void)"
            '{struct stat s; if (stat("/opt/lib/big.so", &s)) return 3;'
            'printf("%s %lld %o\\n", getenv("WORD"), (long long)s.st_size, s.st_mode & 0777);}\n'
        )
        subprocess.run([compiler, "-static", "-o", folder / "say", folder / "say.c"], check=True)
        return folder / "say", ("/bin/busybox",)
    busybox = shutil.which("busybox")
    if busybox and b"/ld-linux" not in Path(busybox).read_bytes()[:4096]:
        script = 'echo "$WORD $(/bin/busybox stat -c "%s %a" /opt/lib/big.so)"'
        return Path(busybox), ("/bin/busybox", "sh", "-c", script)
    pytest.skip("neither a C compiler nor a static busybox is installed")


@pytest.fixture
def tag() -> Iterator[str]:
    """A name of this test's own, removed from Docker afterwards."""
    name = f"dockyard-test-oci:{uuid.uuid4().hex[:12]}"
    yield name
    subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)


@pytest.mark.docker
def test_docker_loads_and_runs_it_and_takes_an_upper_layer_alone(
    runnable: Image, tag: str, cache: Cache
) -> None:
    def load(image: Image, **options) -> None:
        out = io.BytesIO()
        write_archive(image, out, [tag], **options)
        subprocess.run(["docker", "load", "-q"], input=out.getvalue(), check=True)

    def docker(*command: str) -> str:
        return subprocess.run(
            ["docker", *command], check=True, capture_output=True, text=True
        ).stdout.strip()

    load(runnable)
    assert docker("image", "inspect", "-f", "{{.Id}}", tag) == str(runnable.id)
    assert docker("run", "--rm", "--network", "none", tag) == "ahoy 3000000 755"
    top = pack_layer([file_entry("top", b"new")], cache=cache)
    above = runnable.append(as_layer(top, cache))
    load(above, omit=[layer.diff_id for layer in runnable.layers])
    assert docker("image", "inspect", "-f", "{{.Id}}", tag) == str(above.id)
    assert docker("run", "--rm", "--network", "none", tag) == "ahoy 3000000 755"
    assert json.loads(docker("image", "inspect", "-f", "{{json .RootFS.Layers}}", tag)) == [
        str(layer.diff_id) for layer in above.layers
    ]


@pytest.mark.docker
def test_what_docker_saves_is_read_back(runnable: Image, tag: str, tmp_path: Path) -> None:
    out = io.BytesIO()
    write_archive(runnable, out, [tag])
    subprocess.run(["docker", "load", "-q"], input=out.getvalue(), check=True)
    subprocess.run(["docker", "save", "-o", tmp_path / "saved.tar", tag], check=True)
    saved = read_archive(tmp_path / "saved.tar", tag)
    assert saved.id == runnable.id
    assert verify_image(saved, ours=False) == []


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name: podman refuses a run root of over 50 characters."""
    with tempfile.TemporaryDirectory(prefix="dy") as folder:
        yield Path(folder)


def test_podman_loads_it(image: Image, tmp_path: Path, short: Path) -> None:
    if shutil.which("podman") is None:
        pytest.skip("podman isn't installed")
    podman = ["podman", "--root", short / "root", "--runroot", short / "run"]
    podman += ["--storage-driver", "vfs"]
    (tmp_path / "a.tar").write_bytes(archive(image, "dockyard-test-oci:one"))
    loaded = subprocess.run(
        [*podman, "load", "-q", "-i", tmp_path / "a.tar"],
        check=False,
        capture_output=True,
        text=True,
    )
    if loaded.returncode and "newuidmap" in loaded.stderr:
        pytest.skip("podman can't map users here")
    assert loaded.returncode == 0, loaded.stderr
    listed = subprocess.run(
        [*podman, "inspect", "--type", "image", "dockyard-test-oci:one"],
        check=True,
        capture_output=True,
    ).stdout
    (found,) = json.loads(listed)
    assert found["Id"] == image.id.hex
    assert found["RepoTags"] == ["docker.io/library/dockyard-test-oci:one"]
    assert found["RootFS"]["Layers"] == [str(layer.diff_id) for layer in image.layers]


def test_skopeo_reads_it_in_both_forms(image: Image, tmp_path: Path) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo isn't installed")
    (tmp_path / "a.tar").write_bytes(archive(image, "app:v1"))
    for source in ("oci-archive", "docker-archive"):
        copied = tmp_path / source
        subprocess.run(
            [
                "skopeo",
                "--insecure-policy",
                "copy",
                "-q",
                f"{source}:{tmp_path}/a.tar",
                f"oci:{copied}:x",
            ],
            check=True,
            capture_output=True,
        )
        assert read_layout(copied, "x").config.diff_ids == image.config.diff_ids
