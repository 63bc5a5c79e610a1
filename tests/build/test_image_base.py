"""What is taken from another image: its Pythons, its C library, and the files its Python needs."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dockyard.build.image_base import need_glibc, read_base, unpacked_python
from dockyard.errors import BuildError
from dockyard.oci.config import ImageConfig
from dockyard.oci.descriptor import OCI_LAYER, Descriptor
from dockyard.oci.digest import Digest
from dockyard.oci.image import Image
from dockyard.oci.layer import BytesBlob, Layer
from dockyard.progress import SILENT

if TYPE_CHECKING:
    from dockyard.cache import Cache

PYTHON = "usr/local/bin/python3.12"
LIBRARY = "usr/local/lib/python3.12"


def layer(*files: tuple[str, bytes | str], kind: bytes = tarfile.SYMTYPE) -> Layer:
    """A layer of files (bytes) and links (text); a path that starts with ./ is as good."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, content in files:
            member = tarfile.TarInfo(path)
            if isinstance(content, str):
                member.type, member.linkname = kind, content
                archive.addfile(member)
            else:
                member.size, member.mode = len(content), 0o755 if "bin/" in path else 0o600
                archive.addfile(member, io.BytesIO(content))
    data = out.getvalue()
    return Layer(
        descriptor=Descriptor(media_type=OCI_LAYER, digest=Digest.of(data), size=len(data)),
        diff_id=Digest.of(data),
        uncompressed_size=None,
        blob=BytesBlob(data=data),
        created_by="",
    )


def image_of(*layers: Layer) -> Image:
    image = Image(config=ImageConfig())
    for each in layers:
        image = image.append(each)
    return image


LIBC = b"\x7fELF...GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n..."

BELOW = (
    ("lib", "usr/lib"),
    ("usr/lib/x86_64-linux-gnu/libc.so.6", LIBC),
    ("usr/lib/x86_64-linux-gnu/libm.so.6", b"old"),
    ("usr/lib/git-core/git", b"not needed"),
    ("usr/share/doc/python", b"not needed"),
    (PYTHON, b"interpreter"),
    ("usr/local/bin/python3", "python3.12"),
    ("usr/local/lib/libpython3.12.so.1.0", b"library"),
    (f"{LIBRARY}/os.py", b"first"),
    (f"{LIBRARY}/gone.py", b"taken away"),
    (f"{LIBRARY}/json/old.py", b"hidden"),
    (f"{LIBRARY}/site-packages/pip/__init__.py", b"not needed"),
)
ABOVE = (
    (f"./{LIBRARY}/os.py", b"second"),
    (f"{LIBRARY}/.wh.gone.py", b""),
    (f"{LIBRARY}/json/.wh..wh..opq", b""),
    (f"{LIBRARY}/json/__init__.py", b"json"),
    ("usr/lib/x86_64-linux-gnu/.wh.libm.so.6", b""),
)


@pytest.fixture
def image() -> Image:
    linked = layer((f"{LIBRARY}/same.py", PYTHON), kind=tarfile.LNKTYPE)
    return image_of(layer(*BELOW), layer(*ABOVE), linked)


def test_the_merged_files_that_python_needs_are_unpacked(image: Image, cache: Cache) -> None:
    root = unpacked_python(image, PYTHON, cache=cache)
    files = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert files == {
        "usr/lib/x86_64-linux-gnu/libc.so.6": LIBC,
        PYTHON: b"interpreter",
        "usr/local/lib/libpython3.12.so.1.0": b"library",
        f"{LIBRARY}/os.py": b"second",
        f"{LIBRARY}/json/__init__.py": b"json",
        f"{LIBRARY}/same.py": b"interpreter",
    }
    assert (root / "lib").readlink() == Path("usr/lib")
    assert (root / "usr/local/bin/python3").readlink() == Path("python3.12")
    assert (root / PYTHON).stat().st_mode & 0o777 == 0o755
    assert (root / LIBRARY / "os.py").stat().st_mode & 0o777 == 0o644


def test_nothing_lands_outside_through_names_or_links(cache: Cache, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    image = image_of(
        layer(("usr/local/lib", str(outside)), (PYTHON, b"python")),
        layer((f"{LIBRARY}/evil.py", b"x"), (f"../../{LIBRARY}/climbs.py", b"y")),
    )
    root = unpacked_python(image, PYTHON, cache=cache)
    assert list(outside.iterdir()) == []
    assert (root / LIBRARY / "evil.py").read_bytes() == b"x"
    assert (root / LIBRARY / "climbs.py").read_bytes() == b"y"


def test_pythons_and_glibc_are_read_once(
    image: Image, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_base(image, cache=cache, reporter=SILENT)
    assert first.pythons == {"3.12": PYTHON}
    assert need_glibc(first) == "2.36"
    monkeypatch.setattr("dockyard.oci.tree.open_tar", None)
    assert read_base(image, cache=cache, reporter=SILENT) == first


def test_the_python_in_usr_local_goes_before_the_systems(cache: Cache) -> None:
    image = image_of(
        layer(("usr/bin/python3.12", b""), (PYTHON, b""), ("opt/x/bin/python3.9", b""))
    )
    facts = read_base(image, cache=cache, reporter=SILENT)
    assert facts.pythons == {"3.12": PYTHON, "3.9": "opt/x/bin/python3.9"}
    with pytest.raises(BuildError, match="no GNU C library"):
        need_glibc(facts)
