"""Merging layers, and finding what is wrong with them."""

import hashlib
import io
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from oci_samples import as_layer, image_of

from dockyard.cache import Cache
from dockyard.errors import ImageError
from dockyard.files import directory_entry, file_entry, symlink_entry, with_parents
from dockyard.oci.descriptor import OCI_LAYER, Descriptor
from dockyard.oci.digest import Digest
from dockyard.oci.image import Image
from dockyard.oci.layer import BytesBlob, Layer, pack_layer
from dockyard.oci.tree import list_layer, read_tree
from dockyard.oci.verify import verify_image, verify_layer


def raw_layer(*members: tuple[str, str, Any]) -> Layer:
    """A plain tar layer of (name, type, content or target), as another tool could make it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, value in members:
            info = tarfile.TarInfo(name)
            info.type = {
                "file": tarfile.REGTYPE,
                "folder": tarfile.DIRTYPE,
                "symlink": tarfile.SYMTYPE,
                "hardlink": tarfile.LNKTYPE,
                "device": tarfile.CHRTYPE,
            }[kind]
            if kind == "file":
                info.size = len(value)
                tar.addfile(info, io.BytesIO(value))
            else:
                info.linkname = value or ""
                tar.addfile(info)
    data = out.getvalue()
    return Layer(
        descriptor=Descriptor(media_type=OCI_LAYER, digest=Digest.of(data), size=len(data)),
        diff_id=Digest.of(data),
        uncompressed_size=len(data),
        blob=BytesBlob(data=data),
    )


def paths(image: Image) -> list[str]:
    return list(read_tree(image).files)


BASE = raw_layer(
    ("./", "folder", None),
    ("./etc/", "folder", None),
    ("./etc/os-release", "file", b"ID=debian\n"),
    ("etc/passwd", "file", b"root"),
    ("usr/bin/", "folder", None),
    ("usr/bin/python3.11", "file", b"elf"),
    ("usr/bin/python3", "symlink", "python3.11"),
    ("usr/bin/py", "hardlink", "./usr/bin/python3.11"),
    ("bin", "symlink", "usr/bin"),
    ("etc/absolute", "symlink", "/usr/../usr/bin/python3"),
    ("etc/loop", "symlink", "loop"),
    ("etc/nowhere", "symlink", "/missing"),
)


@pytest.mark.parametrize(
    ("above", "gone"),
    [
        ([("etc/.wh.passwd", "file", b"")], {"etc/passwd"}),
        (
            [("./usr/.wh.bin", "file", b"")],
            {"usr/bin", "usr/bin/python3.11", "usr/bin/python3", "usr/bin/py"},
        ),
        (
            [("usr/bin/new", "file", b"1"), ("usr/bin/.wh..wh..opq", "file", b"")],
            {"usr/bin/python3.11", "usr/bin/python3", "usr/bin/py"},
        ),
        ([("usr/bin", "file", b"1")], {"usr/bin/python3.11", "usr/bin/python3", "usr/bin/py"}),
        ([("usr/bin/", "folder", None)], set()),
        ([("etc/.wh.pass", "file", b"")], set()),
        ([("etc/.wh.passwd", "file", b""), ("etc/passwd", "file", b"new")], set()),
    ],
    ids=["file", "folder", "opaque", "file over folder", "folder again", "prefix", "replaced"],
)
def test_whiteouts_and_replacements_hide_what_is_below(
    above: Sequence[tuple[str, str, Any]], gone: set[str]
) -> None:
    before = set(paths(image_of(BASE)))
    after = paths(image_of(BASE, raw_layer(*above)))
    assert before - set(after) == gone
    assert after == sorted(after)
    assert not any(".wh." in path for path in after)


def test_an_opaque_root_empties_the_image() -> None:
    assert paths(image_of(BASE, raw_layer((".wh..wh..opq", "file", b""), ("a", "file", b"")))) == [
        "a"
    ]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("etc/os-release", b"ID=debian\n"),
        ("/etc/os-release", b"ID=debian\n"),
        ("usr/bin/python3", b"elf"),
        ("bin/python3", b"elf"),
        ("bin/py", b"elf"),
        ("etc/absolute", b"elf"),
        ("etc/../../bin/./python3.11", b"elf"),
        ("etc/loop", None),
        ("etc/nowhere", None),
        ("etc", None),
        ("missing/file", None),
    ],
)
def test_reads_a_file_as_a_container_would(path: str, content: bytes | None) -> None:
    assert read_tree(image_of(BASE)).read(path) == content


def test_reads_and_hashes_the_version_of_the_top_layer(cache: Cache) -> None:
    top = pack_layer(with_parents([file_entry("etc/os-release", b"ID=other\n")]), cache=cache)
    tree = read_tree(image_of(BASE, as_layer(top, cache)))
    assert tree.files["etc/os-release"].layer == 1
    assert tree.read("etc/os-release") == b"ID=other\n"
    assert tree.sha256(["etc/os-release", "usr/bin/py", "usr/bin/python3.11", "bin", "gone"]) == {
        "etc/os-release": hashlib.sha256(b"ID=other\n").hexdigest(),
        "usr/bin/py": hashlib.sha256(b"elf").hexdigest(),
        "usr/bin/python3.11": hashlib.sha256(b"elf").hexdigest(),
    }
    with pytest.raises(ImageError, match="more than the 3"):
        tree.read("etc/os-release", max_size=3)


def test_lists_a_layer_of_ours(sample: tuple[Layer, dict[str, bytes]]) -> None:
    layer, contents = sample
    files = list_layer(layer)
    assert {path: entry.size for path, entry in files.items() if entry.kind == "file"} == {
        path: len(data) for path, data in contents.items()
    }
    assert files["bin"].target == "usr/bin"
    assert files["opt/lib/big.so"].mode == 0o755


# Verification --------------------------------------------------------------------------------


def test_finds_nothing_wrong_with_what_we_make(
    sample: tuple[Layer, dict[str, bytes]], cache: Cache
) -> None:
    entries = with_parents(
        [file_entry("a/b", b"x"), directory_entry("tmp", mode=0o1777), symlink_entry("c", "a/b")]
    )
    for compression in ("gzip", "zstd"):
        packed = pack_layer(entries, cache=cache, compression=compression)
        assert verify_image(image_of(sample[0], as_layer(packed, cache))) == []


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([("a", "file", b""), ("a", "file", b"")], "'a' is there twice"),
        ([("b", "file", b""), ("a", "file", b"")], "'a' is out of order"),
        ([("a/b", "file", b"")], "'a/b' comes without its folder"),
        ([("../a", "file", b"")], "the path '../a' climbs out"),
        ([("/a", "file", b"")], "the path '/a' is absolute"),
        ([("a\\b", "file", b"")], "holds a character"),
        ([(".wh.a", "file", b"")], "deletions"),
        ([("a", "device", None)], "neither file, folder nor symbolic link"),
        ([("a", "hardlink", "b")], "neither file, folder nor symbolic link"),
        ([("a", "file", b"")], "has a time of its own"),
    ],
)
def test_finds_what_is_wrong_in_a_layer(members: Any, problem: str) -> None:
    problems = verify_layer(raw_layer(*members))
    assert any(problem in found for found in problems), problems


def test_asks_less_of_other_peoples_layers() -> None:
    layer = raw_layer((".wh.a", "file", b""), ("z/.wh..wh..opq", "file", b""), ("b", "file", b""))
    assert verify_layer(layer, ours=False) == []
    climbing = raw_layer(("z/../../b", "file", b""))
    assert len(verify_layer(climbing, ours=False)) == 1


def test_finds_wrong_digests_sizes_and_damage(sample: tuple[Layer, dict[str, bytes]]) -> None:
    layer, _ = sample
    wrong = Digest.of(b"wrong")
    data = b"".join(layer.blob.chunks())
    flipped = (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
    )
    for bad, problem in [
        (replace(layer, diff_id=wrong), "diff ID"),
        (replace(layer, descriptor=replace(layer.descriptor, digest=wrong)), "its digest is"),
        (replace(layer, descriptor=replace(layer.descriptor, size=1)), "bytes, not 1"),
        (replace(layer, uncompressed_size=1), "its tar has"),
        (replace(layer, blob=BytesBlob(data=data[:-1])), "ends early"),
        (replace(layer, blob=BytesBlob(data=flipped)), "its digest is"),
        (replace(layer, blob=BytesBlob(data=b"no gzip" * 99)), "damaged"),
    ]:
        problems = verify_layer(bad)
        assert any(problem in found for found in problems), problems


def test_finds_documents_that_disagree(sample: tuple[Layer, dict[str, bytes]]) -> None:
    image = image_of(sample[0])
    config = replace(image.config, diff_ids=(Digest.of(b"x"),), history=image.config.history * 2)
    whats = [problem.what for problem in verify_image(replace(image, config=config))]
    assert "the configuration's diff IDs aren't those of the layers" in whats
    assert "the history doesn't match the layers one to one" in whats
