"""Image layouts: what is written can be read, by us and by skopeo, whatever happens meanwhile."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from oci_samples import as_layer, image_of

from dockyard.cache import Cache
from dockyard.errors import ImageError
from dockyard.files import file_entry
from dockyard.oci.config import ImageConfig
from dockyard.oci.image import Image
from dockyard.oci.layer import BytesBlob, Layer, pack_layer
from dockyard.oci.layout import read_layout, write_layout
from dockyard.oci.platform import Platform
from dockyard.oci.verify import verify_image


@pytest.fixture
def small(cache: Cache) -> Image:
    return image_of(as_layer(pack_layer([file_entry("hello", b"hi")], cache=cache), cache))


def other(image: Image, cache: Cache, text: str = "other") -> Image:
    packed = pack_layer([file_entry(text, text.encode())], cache=cache)
    return image.append(as_layer(packed, cache))


def test_an_image_survives_being_written_and_read(
    sample: tuple[Layer, dict[str, bytes]], tmp_path: Path
) -> None:
    image = image_of(sample[0], config=ImageConfig(labels={"a": "ü"}))
    amounts: list[int] = []
    written = write_layout(image, tmp_path / "l", reference_name="v1", advance=amounts.append)
    read = read_layout(tmp_path / "l", "v1")
    assert (read.digest, read.id) == (image.digest, image.id) == (written.digest, image.id)
    assert read.config == image.config
    assert verify_image(read) == []
    assert sum(amounts) == image.size
    assert read_layout(tmp_path / "l").digest == image.digest


def test_a_layout_is_extended_and_a_name_replaced(
    small: Image, cache: Cache, tmp_path: Path
) -> None:
    folder = tmp_path / "layout"
    second = other(small, cache)
    write_layout(small, folder, reference_name="a")
    blob = folder / "blobs" / "sha256" / small.layers[0].descriptor.digest.hex
    before = blob.stat().st_mtime_ns, blob.stat().st_ino
    write_layout(second, folder, reference_name="b")
    assert (blob.stat().st_mtime_ns, blob.stat().st_ino) == before
    assert read_layout(folder, "a").digest == small.digest
    assert read_layout(folder, "b").digest == second.digest
    third = other(small, cache, "third")
    write_layout(third, folder, reference_name="a")
    assert read_layout(folder, "a").digest == third.digest
    assert len(json.loads((folder / "index.json").read_bytes())["manifests"]) == 2
    with pytest.raises(ImageError, match="several images"):
        read_layout(folder)
    with pytest.raises(ImageError, match="no image called 'c'") as caught:
        read_layout(folder, "c")
    assert caught.value.hint == "There are: a, b."


def test_images_of_several_platforms_share_a_name(small: Image, tmp_path: Path) -> None:
    arm = replace(small, config=replace(small.config, platform=Platform("linux", "arm64")))
    write_layout([small, arm], tmp_path / "l", reference_name="v1")
    assert read_layout(tmp_path / "l", "v1", platform=Platform("linux", "arm64")).id == arm.id
    assert read_layout(tmp_path / "l", "v1", platform=Platform("linux", "amd64")).id == small.id


def test_refuses_the_only_image_when_it_is_for_another_platform(
    small: Image, tmp_path: Path
) -> None:
    write_layout(small, tmp_path / "l")
    with pytest.raises(ImageError, match="linux/amd64, not linux/arm64"):
        read_layout(tmp_path / "l", platform=Platform("linux", "arm64"))


def test_a_failed_write_leaves_the_layout_as_it_was(
    small: Image, cache: Cache, tmp_path: Path
) -> None:
    folder = tmp_path / "layout"
    write_layout(small, folder, reference_name="a")
    before = sorted(folder.rglob("*")), (folder / "index.json").read_bytes()
    second = other(small, cache)
    broken = replace(second.layers[1], blob=BytesBlob(data=b"short"))
    with pytest.raises(ImageError, match="5 bytes instead of"):
        write_layout(replace(second, layers=(second.layers[0], broken)), folder, reference_name="a")
    assert (sorted(folder.rglob("*")), (folder / "index.json").read_bytes()) == before


def test_everybody_can_read_what_is_written(small: Image, tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        write_layout(small, tmp_path / "l")
    finally:
        os.umask(old)
    files = [path for path in (tmp_path / "l").rglob("*") if path.is_file()]
    assert len(files) == 5
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}


def corrupt_index(folder: Path) -> None:
    (folder / "index.json").write_text("{")


def corrupt_manifest(folder: Path) -> None:
    digest = json.loads((folder / "index.json").read_bytes())["manifests"][0]["digest"]
    path = folder / "blobs" / "sha256" / digest.partition(":")[2]
    path.write_bytes(path.read_bytes().replace(b"2", b"3", 1))


def cut_layer(folder: Path) -> None:
    largest = max((folder / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    os.truncate(largest, 7)


def remove_config(folder: Path) -> None:
    for path in (folder / "blobs/sha256").iterdir():
        if b'"rootfs"' in path.read_bytes():
            path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "no OCI image layout"),
        (lambda folder: (folder / "oci-layout").unlink(), "no OCI image layout"),
        (lambda folder: (folder / "oci-layout").write_text('{"imageLayoutVersion":"2"}'), "1.0.0"),
        (lambda folder: (folder / "index.json").unlink(), "no OCI image layout"),
        (corrupt_index, "valid JSON"),
        (corrupt_manifest, "don't have their digest"),
        (cut_layer, "has 7 bytes"),
        (remove_config, "lacks a blob"),
    ],
    ids=["gone", "no marker", "version 2", "no index", "bad index", "manifest", "layer", "config"],
)
def test_refuses_a_damaged_layout(
    damage, message: str, sample: tuple[Layer, dict[str, bytes]], tmp_path: Path
) -> None:
    folder = tmp_path / "l"
    write_layout(image_of(sample[0]), folder)
    damage(folder)
    with pytest.raises(ImageError, match=message):
        read_layout(folder)


def test_skopeo_copies_it_and_keeps_its_digest(
    sample: tuple[Layer, dict[str, bytes]], tmp_path: Path
) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo isn't installed")
    image = image_of(sample[0])
    write_layout(image, tmp_path / "l", reference_name="v1")
    source = f"oci:{tmp_path}/l:v1"
    inspected = subprocess.run(
        ["skopeo", "inspect", source], check=True, capture_output=True
    ).stdout
    assert json.loads(inspected)["Digest"] == str(image.digest)
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "-q", source, f"oci:{tmp_path}/copy:v1"],
        check=True,
        capture_output=True,
    )
    assert read_layout(tmp_path / "copy", "v1").digest == image.digest
    # skopeo reads and hashes every layer's tar to write this form.
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "-q", source, f"docker-archive:{tmp_path}/d.tar"],
        check=True,
        capture_output=True,
    )
