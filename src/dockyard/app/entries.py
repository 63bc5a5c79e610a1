"""The project's files as entries of the image: models apart, so that code changes leave them be.

Rules: files go below the working folder. Places that the app writes to are folders of mode 1777
in the code layer, which is the last: any user may write there, none may take another's files. A
folder named in both layers has the mode of the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.files import FileEntry, SliceSource, directory_entry, file_entry, symlink_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dockyard.app.ignore import Project, ProjectFile

WRITABLE = 0o1777


@dataclass(frozen=True, slots=True, kw_only=True)
class AppEntries:
    """The entries of the model layer and of the code layer, without synthesised parents."""

    models: tuple[FileEntry, ...]
    code: tuple[FileEntry, ...]


def app_entries(
    project: Project, *, workdir: str, models: Iterable[str] = (), writable: Sequence[str] = ()
) -> AppEntries:
    """Return the project's files as entries.

    workdir: absolute path in the image; models: paths in the project, as `Detected.models` has
    them; writable: absolute paths in the image.
    """
    root = workdir.strip("/")
    chosen = frozenset(models)
    apart: list[FileEntry] = []
    code: list[FileEntry] = [directory_entry(root)] if _absolute(root) not in writable else []
    for file in project.files:
        (apart if file.path in chosen else code).append(_entry(root, file))
    code += [directory_entry(path.strip("/"), mode=WRITABLE) for path in dict.fromkeys(writable)]
    return AppEntries(models=tuple(apart), code=tuple(code))


def _absolute(path: str) -> str:
    return "/" + path


def _entry(root: str, file: ProjectFile) -> FileEntry:
    path = f"{root}/{file.path}"
    if file.kind == "symlink":
        return symlink_entry(path, file.target)
    return file_entry(path, SliceSource(file.absolute, file.size), executable=file.executable)
