"""The local engine's folder: images, unpacked layers, containers, volumes.

Layout below the root (`$DOCKYARD_LOCAL`, else `$XDG_DATA_HOME/dockyard/local`, else
`~/.local/share/dockyard/local`), which nobody else may enter:

    images.json            names and the ids that they stand for
    images/<hex>.json      each image's config, byte for byte: its SHA-256 is the image's id
    layers/<hex>/fs        a layer's files, by diff ID; `size` beside it, in bytes
    l/<12 digits>          links to those folders: overlayfs takes one page of options at most
    containers/<id>/       see `record`
    volumes/<name>/        `_data` and labels.json
    tmp/                   what is being unpacked or removed; swept when nobody is at it
    lock, use              advisory locks: changes of images.json; layers in use or being removed

Rules: everything appears under its name whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDERS = ("images", "layers", "l", "containers", "volumes", "tmp")


def default_root() -> Path:
    """The folder that the environment asks for."""
    if named := os.environ.get("DOCKYARD_LOCAL"):
        return Path(named).expanduser().absolute()
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "dockyard" / "local"


class LocalStore:
    """One folder; safe for several processes and threads at once."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()
        try:
            # What images bring, set-user-ID programs too, is for containers only.
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in _FOLDERS:
                (self.root / name).mkdir(exist_ok=True)
        except OSError as error:
            raise unwritable(error, self.root) from error

    def layer(self, diff_id: str) -> Path:
        """The folder of an unpacked layer."""
        return self.root / "layers" / diff_id.removeprefix("sha256:") / "fs"

    def has_layer(self, diff_id: str) -> bool:
        """Whether the layer is here."""
        return self.layer(diff_id).is_dir()

    def layer_size(self, diff_id: str) -> int:
        """The bytes of a layer's files; 0 where it isn't here."""
        try:
            return int((self.layer(diff_id).parent / "size").read_text())
        except (OSError, ValueError):
            return 0

    def short_name(self, diff_id: str) -> str:
        """A layer's link below `l/`, by which mount options stay short."""
        return diff_id.removeprefix("sha256:")[:12]

    def adopt_layer(self, folder: Path, diff_id: str) -> None:
        """Move an unpacked layer (with fs and size) to its place; another's may be there first."""
        final = self.layer(diff_id).parent
        with suppress(OSError):  # ENOTEMPTY: another process has just unpacked the same.
            folder.rename(final)
        link = self.root / "l" / self.short_name(diff_id)
        with suppress(FileExistsError):
            link.symlink_to(f"../layers/{final.name}/fs")

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """Yield a new folder of this file system; what is left of it is removed."""
        folder = Path(tempfile.mkdtemp(dir=self.root / "tmp", prefix=f"{os.getpid()}-"))
        try:
            yield folder
        finally:
            remove_tree(folder)

    @contextmanager
    def using_layers(self) -> Iterator[None]:
        """No layer is removed meanwhile."""
        with (self.root / "use").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    @contextmanager
    def removing_layers(self) -> Iterator[bool]:
        """Yield whether nobody uses layers just now, and nobody begins to meanwhile."""
        with (self.root / "use").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    @contextmanager
    def names(self) -> Iterator[dict[str, str]]:
        """Yield the images' names and ids; what is changed is kept. Others wait."""
        with (self.root / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = self.read_names()
            names = dict(before)
            yield names
            if names != before:
                write_json(self.root / "images.json", names)

    def read_names(self) -> dict[str, str]:
        """The images' names and ids."""
        value = read_json(self.root / "images.json")
        return value if isinstance(value, dict) else {}

    def sweep(self) -> None:
        """Remove what processes left that are gone."""
        for path in (self.root / "tmp").iterdir():
            pid = path.name.partition("-")[0]
            if not (pid.isdigit() and Path(f"/proc/{pid}").exists()):
                remove_tree(path)


def read_json(path: Path) -> Any:
    """A document of ours; None when it is absent or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def write_json(path: Path, value: Any) -> None:
    """Replace a document whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(value, indent=1))
        temporary.replace(path)
    except OSError as error:
        raise unwritable(error, path) from error


def remove_tree(folder: Path) -> None:
    """Remove a folder whatever the modes of what is in it; an absent one is no error."""
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            path = f"{parent}/{name}"
            mode = os.lstat(path).st_mode
            # Overlayfs leaves a folder without any permission; images bring read-only ones.
            if stat.S_ISDIR(mode) and mode & 0o700 != 0o700:
                os.chmod(path, 0o700)  # noqa: PTH101 - many paths, none of them needed as objects
    shutil.rmtree(folder, ignore_errors=True)


def unwritable(error: OSError, where: Path) -> EngineError:
    """What a full or read-only disk means."""
    return EngineError(
        f"the local engine can't write its folder: {error.strerror}",
        where=str(error.filename or where),
        hint="Free some space there, or name another folder in DOCKYARD_LOCAL.",
    )
