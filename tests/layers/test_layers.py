"""What fills an image: hidden files, duplicates, packages, sums, the picture."""

from __future__ import annotations

import io
import json
import tarfile
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockyard.cli.main import run_command_line
from dockyard.errors import ImageError
from dockyard.files import BytesSource
from dockyard.layers.kinds import SPARE, kind_of
from dockyard.layers.read import read_contents
from dockyard.layers.treemap import by_folder, html, squarified, svg
from dockyard.layers.weigh import weigh
from dockyard.oci.archive import write_archive
from dockyard.oci.config import ImageConfig
from dockyard.oci.descriptor import OCI_LAYER, Descriptor
from dockyard.oci.digest import Digest
from dockyard.oci.image import Image
from dockyard.oci.layer import Layer

RECORD = "torch/a.py,sha256=x,1\ntorch/lib/libtorch.so,,\n../../../bin/torchrun,,\n"
SITE = "opt/venv/lib/python3.12/site-packages"


def layer(files: dict[str, bytes | None], created_by: str) -> Layer:
    """A plain tar of files; None makes a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            if data is None:
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            else:
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    data = out.getvalue()
    digest = Digest.of(data)
    return Layer(
        descriptor=Descriptor(media_type=OCI_LAYER, digest=digest, size=len(data)),
        diff_id=digest,
        uncompressed_size=len(data),
        blob=BytesSource(data),
        created_by=created_by,
    )


def image(*layers: dict[str, bytes | None]) -> Image:
    made = Image(config=ImageConfig())
    for number, files in enumerate(layers, 1):
        made = made.append(layer(files, f"RUN step {number} <b>"))
    return made


BIG = bytes(range(256)) * 40
IMAGE = image(
    {
        "usr/bin/python3.12": BIG + b"p",
        "etc/a": b"old",
        "srv/one": BIG + b"1",
        "srv/deep/two": BIG + b"2",
        "root/.cache/pip/x.whl": BIG + b"c",
        "var/lib/dpkg/info/libc6:amd64.list": b"/.\n/lib/libc.so.6\n",
        "usr/lib/libc.so.6": BIG + b"l",
    },
    {
        "etc/a": b"newer",
        "srv/.wh.one": b"",
        "srv/deep/.wh..wh..opq": b"",
        "srv/deep/three": b"kept",
        f"{SITE}/torch-2.4.0.dist-info/RECORD": RECORD.encode(),
        f"{SITE}/torch/a.py": b"x = 1\n",
        f"{SITE}/torch/__pycache__/a.cpython-312.pyc": b"code",
        f"{SITE}/torch/lib/libtorch.so": BIG,
        "opt/venv/bin/torchrun": b"#!",
        "srv/copy": BIG,
    },
)


@pytest.fixture(scope="module")
def contents():
    return read_contents(IMAGE)


def test_hidden_files_and_duplicates_are_known(contents):
    states = {(item.path, item.layer): item.state for item in contents.held}
    assert states["etc/a", 0] == "replaced"
    assert states["etc/a", 1] == "kept"
    assert states["srv/one", 0] == "deleted"
    assert states["srv/deep/two", 0] == "deleted"
    assert states["srv/deep/three", 1] == "kept"
    assert states[f"{SITE}/torch/lib/libtorch.so", 1] == "kept"
    assert states["srv/copy", 1] == "duplicate"
    assert not any(".wh." in path for path, _ in states)


def test_a_folder_replaced_by_a_file_hides_what_was_in_it():
    found = read_contents(image({"a/b/c": b"1", "a/d": b"2"}, {"a": b"3"}))
    assert {item.path: item.state for item in found.held} == {
        "a/b/c": "replaced",
        "a/d": "replaced",
        "a": "kept",
    }


def test_packages_are_told_from_records_and_dpkg(contents):
    owners = {item.path: item.package for item in contents.held}
    assert owners[f"{SITE}/torch/a.py"] == "torch 2.4.0"
    assert owners[f"{SITE}/torch/__pycache__/a.cpython-312.pyc"] == "torch 2.4.0"
    assert owners["opt/venv/bin/torchrun"] == "torch 2.4.0"
    assert owners["usr/lib/libc.so.6"] == "libc6"
    assert owners["etc/a"] == ""


def test_the_sums_add_up_and_no_byte_is_spare_twice(contents):
    weights = weigh(IMAGE, contents)
    whole = sum(item.size for item in contents.held)
    assert weights.size == whole
    assert sum(layer.size for layer in weights.layers) == whole
    assert sum(kind.size for kind in weights.kinds) == whole
    spare = {item.name: item.size for item in weights.spare}
    big = len(BIG)
    assert spare == {
        "deleted or replaced": 2 * (big + 1) + 3,
        "duplicates": big,
        "caches": big + 1,
    }
    assert weights.spare_size < whole
    assert weights.layers[0].hidden == spare["deleted or replaced"]


# path, kind
KINDS = [
    (f"{SITE}/nvidia/cudnn/lib/libcudnn.so.9", "CUDA libraries"),
    (f"{SITE}/torch/lib/libtorch_cuda.so", "CUDA libraries"),
    (f"{SITE}/torch/lib/libtorch_cpu.so", "libraries"),
    ("usr/local/cuda-12.4/bin/nvcc", "CUDA libraries"),
    (f"{SITE}/a/__pycache__/b.cpython-312.pyc", "bytecode"),
    (f"{SITE}/numpy/tests/test_a.py", "tests"),
    (f"{SITE}/torch/include/ATen/A.h", "headers and static libraries"),
    ("usr/lib/libm.a", "headers and static libraries"),
    ("root/.cache/pip/http/a", "caches"),
    ("var/lib/apt/lists/deb_main", "caches"),
    ("app/.git/objects/ab", "version control"),
    ("usr/share/doc/a/copyright", "documentation"),
    (f"{SITE}/a-1.dist-info/METADATA", "package information"),
    ("app/model.safetensors", "models"),
    ("app/app.py", "code"),
    ("usr/bin/env", "programs"),
    ("etc/passwd", "other"),
]


@pytest.mark.parametrize(("path", "kind"), KINDS)
def test_a_path_says_what_kind_it_is(path, kind):
    assert kind_of(path, 5_000_000) == kind


def test_a_damaged_layer_is_named():
    broken = image({"a": b"1"})
    good = broken.layers[0]
    from dataclasses import replace

    cut = replace(good, blob=BytesSource(b"no tar at all" * 100))
    with pytest.raises(ImageError):
        read_contents(replace(broken, layers=(cut,)))


@given(st.lists(st.floats(min_value=1, max_value=1e6), min_size=1, max_size=60))
def test_rectangles_are_as_large_as_what_they_stand_for(sizes):
    ordered = sorted(sizes, reverse=True)
    found = squarified(ordered, (0, 0, 1200, 700))
    total = sum(ordered)
    assert len(found) == len(ordered)
    for size, (x, y, width, height) in zip(ordered, found, strict=True):
        assert width * height == pytest.approx(size / total * 1200 * 700, rel=1e-3, abs=0.05)
        assert -0.05 <= x <= x + width <= 1200.05
        assert -0.05 <= y <= y + height <= 700.05


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.outside += [v or "" for k, v in attributes if k in ("src", "href", "onclick")]


def test_the_page_stands_alone_and_escapes_what_the_image_says(contents):
    page = html(contents, weigh(IMAGE, contents), name="a<script>b")
    parser = _Links()
    parser.feed(page)
    assert parser.outside == []
    assert "script" not in parser.tags
    assert parser.tags.count("svg") == 3
    assert "&lt;b&gt;" in page


def test_the_picture_is_valid_svg_even_of_nothing(contents):
    root = ElementTree.fromstring(svg(by_folder(contents), title="x & y"))
    assert root.tag.endswith("svg")
    empty = read_contents(image({"a": b""}))
    assert ElementTree.fromstring(svg(by_folder(empty), title="")) is not None


def test_the_command_tells_and_writes(tmp_path, capsys):
    path = tmp_path / "image.tar"
    with path.open("wb") as file:
        write_archive(IMAGE, file, ["a:1"])
    page = tmp_path / "page.html"
    assert run_command_line(["layers", f"archive:{path}", "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert "RUN step 2" in out
    assert "torch 2.4.0" in out
    assert "could go" in out
    assert page.read_text().startswith("<!doctype html>")
    assert run_command_line(["layers", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["spare"]["size"] == weigh(IMAGE, read_contents(IMAGE)).spare_size
    assert {part["name"] for part in report["spare"]["parts"]} <= set(SPARE)
    assert run_command_line(["layers", f"archive:{path}", "--svg", "/nowhere/x.svg"]) == 2
