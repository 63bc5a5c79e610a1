"""Installing a wheel: from the archive to the entries that pip would have written.

Rules:
- The oracle is `pip install --no-compile` into a venv: the same paths, bytes, executable bits and
  RECORD (`bench/wheels.py` compares). The differences, each on purpose: INSTALLER says dockyard;
  shipped `__pycache__` folders are dropped, because their timestamps can't be right in an image;
  and what pip doesn't look at is refused: hashes that RECORD contradicts, links, devices, paths
  that layers reserve, files that would replace the venv's own.
- Nothing is unpacked: an entry points at its stream in the wheel. Only files that installation
  makes or changes (scripts, the metadata it adds) are held in memory.
- Where a wheel puts two files at one path, the later scheme wins, in pip's order: the root,
  the `.data` schemes, scripts, generated files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dockyard.errors import FileTreeError, WheelError
from dockyard.files import FileEntry, check_path, file_entry
from dockyard.wheels.metadata import WheelMetadata, read_metadata
from dockyard.wheels.record import Row, check_member, content_row, format_record, parse_record
from dockyard.wheels.scripts import (
    is_placeholder,
    is_wrapper,
    parse_entry_points,
    plan_scripts,
    script_text,
    with_interpreter,
)
from dockyard.wheels.splice import Member, WheelFile, read_wheel
from dockyard.wheels.trim import trim_reason
from dockyard.wheels.venv import Venv, venv_entries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["InstalledWheel", "Venv", "install_wheel", "venv_entries"]

INSTALLER = "dockyard"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledWheel:
    """A wheel as it lies in the image.

    name: normalized; entries: regular files only, sorted by path; unlisted: files that the wheel's
    RECORD doesn't name; trimmed: path -> why it was left out; trimmed_bytes: their size.
    """

    name: str
    version: str
    filename: str
    sha256: str | None
    metadata: WheelMetadata
    entries: tuple[FileEntry, ...]
    unlisted: tuple[str, ...] = ()
    trimmed: Mapping[str, str] = field(default_factory=dict)
    trimmed_bytes: int = 0

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries)


def install_wheel(
    wheel: Path,
    venv: Venv,
    *,
    requested: bool,
    direct_url: Mapping[str, Any] | None = None,
    trim: bool = False,
    filename: str | None = None,
    sha256: str | None = None,
    installer: str = INSTALLER,
) -> InstalledWheel:
    """Return the entries that installing `wheel` into `venv` makes.

    requested: the user named it, rather than another package; direct_url: the content of
    direct_url.json (PEP 610) for what came from a URL; trim: leave out what a running app never
    reads; filename: the wheel's own name if the file is kept under another. Raises WheelError.

    Hashes that RECORD gives are attached to the entries' sources: who packs them checks them.
    """
    archive = read_wheel(wheel, filename=filename, sha256=sha256)
    members = {member.name: member for member in archive.members if not member.is_dir}
    metadata = read_metadata(archive, members)
    plan = _Plan(archive, members, metadata, venv)
    plan.place_members()
    plan.place_scripts()
    plan.place_metadata(requested=requested, direct_url=direct_url, installer=installer)
    if trim:
        plan.trim()
    plan.place_record()
    return plan.result()


class _Plan:
    """The tree of one wheel while it grows; paths as in the image, and as RECORD writes them."""

    def __init__(
        self,
        archive: WheelFile,
        members: Mapping[str, Member],
        metadata: WheelMetadata,
        venv: Venv,
    ) -> None:
        self._archive = archive
        self._members = members
        self._metadata = metadata
        self._venv = venv
        self._where = archive.filename
        self._schemes = venv.schemes(metadata.name)
        self._own_paths = venv.own_paths
        self._entries: dict[str, FileEntry] = {}
        self._installed: dict[str, str] = {}
        self._changed: dict[str, Row] = {}
        self._generated: list[str] = []
        self._left_out: set[str] = set()
        self._trimmed: dict[str, str] = {}
        self._trimmed_bytes = 0
        self._record_name = f"{metadata.dist_info}/RECORD"
        record = self._read(self._record_name)
        if record is None:
            raise WheelError(
                "the wheel has no RECORD", where=self._where, hint="Pin another version of it."
            )
        self._rows = parse_record(record, where=self._where)
        text = self._read(f"{metadata.dist_info}/entry_points.txt") or b""
        try:
            self._entry_points = parse_entry_points(text.decode(), where=self._where)
        except UnicodeDecodeError as error:
            raise WheelError(
                "entry_points.txt is not UTF-8", where=self._where, hint="Pin another version."
            ) from error

    def place_members(self) -> None:
        """Place what the wheel ships."""
        rows = {row[0]: row for row in self._rows}
        later: list[Member] = []
        scripts: list[Member] = []
        for member in self._members.values():
            parts = member.name.split("/", 2)
            if not parts[0].endswith(".data"):
                self._place(member, self._venv.site_packages, member.name, rows)
            elif len(parts) > 2 and parts[1] == "scripts":
                scripts.append(member)
            else:
                later.append(member)
        for member in later:
            self._place_data(member, rows)
        for member in scripts:
            if not is_wrapper(member.name.rpartition("/")[2], self._entry_points):
                self._place_data(member, rows, script=True)

    def place_scripts(self) -> None:
        """Place a script for each entry point."""
        for point in plan_scripts(self._entry_points, python=self._venv.python, where=self._where):
            data = script_text(point, self._venv.interpreter, where=self._where)
            self._generate(f"{self._venv.bin}/{point.name}", data, executable=True)

    def place_metadata(
        self, *, requested: bool, direct_url: Mapping[str, Any] | None, installer: str
    ) -> None:
        """Place the files that tell where the distribution came from."""
        folder = f"{self._venv.site_packages}/{self._metadata.dist_info}"
        self._generate(f"{folder}/INSTALLER", f"{installer}\n".encode())
        if direct_url is not None:
            text = json.dumps(dict(direct_url), sort_keys=True)
            self._generate(f"{folder}/direct_url.json", text.encode())
        if requested:
            self._generate(f"{folder}/REQUESTED", b"")

    def trim(self) -> None:
        """Leave out what a running app never reads."""
        for path, entry in list(self._entries.items()):
            reason = trim_reason(self._metadata.name, path, self._venv)
            if reason is not None:
                self._trimmed[path] = reason
                self._trimmed_bytes += entry.size
                self._left_out.add(self._record_path(path))
                del self._entries[path]

    def place_record(self) -> None:
        """Place RECORD, which lists all the rest."""
        # Read back, as pip does: of two scripts with one name there is only the later one.
        generated = []
        for path in self._generated:
            source = self._entries[path].source
            data = b"".join(source.chunks()) if source is not None else b""
            generated.append(content_row(self._record_path(path), data))
        data = format_record(
            self._rows,
            installed=self._installed,
            changed=self._changed,
            generated=generated,
            left_out=self._left_out,
        )
        path = f"{self._venv.site_packages}/{self._record_name}"
        self._entries[path] = file_entry(path, data)

    def result(self) -> InstalledWheel:
        """Return the finished tree."""
        listed = {row[0] for row in self._rows}
        unlisted = (
            name for name in self._installed if name not in listed and name != self._record_name
        )
        return InstalledWheel(
            name=self._metadata.name,
            version=self._metadata.version,
            filename=self._archive.filename,
            sha256=self._archive.sha256,
            metadata=self._metadata,
            entries=tuple(sorted(self._entries.values(), key=lambda entry: entry.path.split("/"))),
            unlisted=tuple(unlisted),
            trimmed=self._trimmed,
            trimmed_bytes=self._trimmed_bytes,
        )

    def _place_data(self, member: Member, rows: Mapping[str, Row], *, script: bool = False) -> None:
        _, _, below = member.name.partition("/")
        scheme, _, path = below.partition("/")
        folder = self._schemes.get(scheme)
        if folder is None or not path:
            raise WheelError(
                f"{member.name!r} is in no install scheme; there are {', '.join(self._schemes)}",
                where=self._where,
                hint="The wheel is broken; pin another version of it.",
            )
        self._place(member, folder, path, rows, script=script)

    def _place(
        self,
        member: Member,
        folder: str,
        path: str,
        rows: Mapping[str, Row],
        *,
        script: bool = False,
    ) -> None:
        target = f"{folder}/{path}"
        recorded = self._record_path(target)
        self._installed[member.name] = recorded
        if "__pycache__" in path.split("/")[:-1]:
            self._left_out.add(recorded)
            return
        if member.name == self._record_name:
            return
        sha256 = check_member(self._archive, member, rows.get(member.name))
        source = self._archive.source(member, sha256=sha256)
        if script and is_placeholder(_head(source.chunks())):
            data = with_interpreter(self._archive.read(member), self._venv.interpreter)
            self._changed[recorded] = content_row(recorded, data)
            self._put(file_entry(target, data, executable=member.executable))
        else:
            self._put(file_entry(target, source, executable=member.executable))

    def _generate(self, path: str, data: bytes, *, executable: bool = False) -> None:
        self._generated.append(path)
        self._put(file_entry(path, data, executable=executable))

    def _put(self, entry: FileEntry) -> None:
        path = entry.path
        lib64 = f"{self._venv.root}/lib64/"
        if path.startswith(lib64):  # a link to lib in every venv
            path = f"{self._venv.root}/lib/{path.removeprefix(lib64)}"
            entry = FileEntry(path=path, mode=entry.mode, source=entry.source)
        try:
            check_path(path, where=self._where)
        except FileTreeError as error:
            raise WheelError(error.what, where=self._where, hint=error.hint) from error
        if path in self._own_paths:
            raise WheelError(
                f"it would replace /{path}, which belongs to the Python environment",
                where=self._where,
                hint="The wheel can't be installed in a venv; leave it out.",
            )
        self._entries[path] = entry

    def _record_path(self, path: str) -> str:
        """Return `path` as RECORD writes it: relative to site-packages."""
        base = self._venv.site_packages
        if path.startswith(f"{base}/"):
            return path[len(base) + 1 :]
        ours, theirs = path.split("/"), base.split("/")
        shared = 0
        while shared < min(len(ours), len(theirs)) and ours[shared] == theirs[shared]:
            shared += 1
        return "/".join([".."] * (len(theirs) - shared) + ours[shared:])

    def _read(self, name: str) -> bytes | None:
        member = self._members.get(name)
        return self._archive.read(member) if member is not None else None


def _head(chunks: Any) -> bytes:
    return bytes(next(chunks, b"")[:8])
