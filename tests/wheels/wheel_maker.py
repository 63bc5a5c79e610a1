"""Hand-made wheels, right unless told otherwise, and trees written to disk."""

from __future__ import annotations

import base64
import hashlib
import stat
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dockyard.files import FileEntry

REGULAR = stat.S_IFREG | 0o644
EXECUTABLE = stat.S_IFREG | 0o755


def record_line(name: str, data: bytes, algorithm: str = "sha256") -> str:
    """One line of RECORD."""
    digest = hashlib.new(algorithm, data).digest()
    value = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    quoted = f'"{name}"' if "," in name else name
    return f"{quoted},{algorithm}={value},{len(data)}"


def make_wheel(
    folder: Path,
    files: Mapping[str, bytes] | None = None,
    *,
    name: str = "demo",
    version: str = "1.0",
    tag: str = "py3-none-any",
    modes: Mapping[str, int] | None = None,
    methods: Mapping[str, int] | None = None,
    without: Iterable[str] = (),
    unrecorded: Iterable[str] = (),
    record: Mapping[str, str] | None = None,
    wheel_version: str = "1.0",
    purelib: bool = True,
    metadata: str = "",
    streamed: bool = False,
) -> Path:
    """Write a wheel and return its path.

    files: name -> bytes, beside the metadata, which they may replace; modes: st_mode; methods:
    zip's; without: members left out; unrecorded: left out of RECORD; record: replaced RECORD lines;
    streamed: sizes after the data, as an archiver does that writes to a pipe.
    """
    info = f"{name}-{version}.dist-info"
    content: dict[str, bytes] = {f"{name}/__init__.py": b"value = 42\n"} if files is None else {}
    content |= files or {}
    defaults = {
        f"{info}/METADATA": (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}\n"
        ).encode(),
        f"{info}/WHEEL": (
            f"Wheel-Version: {wheel_version}\nGenerator: hand\n"
            f"Root-Is-Purelib: {str(purelib).lower()}\nTag: {tag}\n"
        ).encode(),
    }
    content = content | defaults | dict(files or {})
    lines = [
        (record or {}).get(key) or record_line(key, value)
        for key, value in content.items()
        if key not in unrecorded and not key.endswith("/")
    ]
    content.setdefault(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,", ""]).encode())
    path = folder / f"{name}-{version}-{tag}.whl"
    with path.open("wb") as file:
        target = _Pipe(file) if streamed else file
        with zipfile.ZipFile(target, "w") as archive:
            for key, value in content.items():
                if key in without:
                    continue
                member = zipfile.ZipInfo(key)
                member.external_attr = (modes or {}).get(key, REGULAR) << 16
                if key.endswith("/"):
                    member.external_attr = (stat.S_IFDIR | 0o755) << 16 | 0x10
                member.compress_type = (methods or {}).get(key, zipfile.ZIP_DEFLATED)
                archive.writestr(member, value)
    return path


class _Pipe:
    """A file that can't seek, so that zipfile writes data descriptors."""

    def __init__(self, file: object) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return self._file.write(data)  # type: ignore[attr-defined]

    def flush(self) -> None:
        self._file.flush()  # type: ignore[attr-defined]


def tree(entries: Iterable[FileEntry]) -> dict[str, bytes]:
    """Path -> bytes of the regular files."""
    return {
        entry.path: b"".join(entry.source.chunks()) for entry in entries if entry.source is not None
    }


def write_tree(entries: Iterable[FileEntry], root: Path) -> None:
    """Write entries below `root`; absolute links stay as they are."""
    for entry in entries:
        path = root / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == "directory":
            path.mkdir(exist_ok=True)
        elif entry.kind == "symlink":
            path.symlink_to(entry.target)
        else:
            assert entry.source is not None
            with path.open("wb") as file:
                for chunk in entry.source.chunks():
                    file.write(chunk)
            path.chmod(entry.mode)
