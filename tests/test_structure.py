"""The rooms keep to themselves: who may import whom, as docs/architecture says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "dockyard"
SERVER = ROOT / "src" / "dockyard_serve"
LARGEST = 24 * 1024  # Bytes in one module: about 600 lines, what a reader holds in mind.

EVERYONE = {"errors", "progress", "__init__"}
EVERYTHING = {"everything"}
MAY_IMPORT = {
    "errors": set(),
    "progress": set(),
    "files": {"inflate"},
    "cache": set(),
    "pieces": set(),
    "inflate": set(),
    "fetch": {"cache"},
    "oci": {"files", "fetch", "cache", "inflate"},
    "wheels": {"files", "fetch", "cache", "inflate"},
    "debian": {"files", "fetch", "cache", "inflate"},
    "dockerfile": set(),
    "app": {"files", "dockerfile"},
    "lint": {"app", "dockerfile"},
    "build": {"app", "files", "fetch", "cache", "pieces", "oci", "wheels", "debian"},
    "layers": {"oci", "app"},
    "direct": {"app", "build", "cache", "dockerfile", "fetch", "files", "oci", "wheels"},
    "engine": {"oci", "app"},
    "stack": {"app", "oci", "dockerfile"},
    "develop": {"app", "cache", "wheels"},
    "cli": EVERYTHING,
}

MODULES = sorted(SOURCE.rglob("*.py"))
SERVER_MODULES = sorted(SERVER.rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def imported_names(text: str) -> set[str]:
    """Every module that the source imports, at its top, in functions, or for type checking."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def imported_rooms(text: str) -> set[str]:
    rooms = set()
    for name in imported_names(text):
        package, *rest = name.split(".")
        if package == "dockyard":
            # `from dockyard import __version__` is the package itself.
            room = rest[0] if rest else "__init__"
            rooms.add("__init__" if room.startswith("__") else room)
    return rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_only_what_its_room_may(path):
    room = room_of(path)
    if room.startswith("__"):
        allowed = {"cli"} if room == "__main__" else set()
    else:
        assert room in MAY_IMPORT, f"{room} isn't in the table of rooms"
        allowed = EVERYONE | MAY_IMPORT[room] | {room}
    if MAY_IMPORT.get(room) is EVERYTHING:
        return
    assert imported_rooms(path.read_text()) <= allowed


@pytest.mark.parametrize(
    "path", MODULES + SERVER_MODULES, ids=lambda path: str(path.relative_to(SOURCE.parent))
)
def test_is_short_and_named_by_what_it_is_about(path):
    assert path.stat().st_size <= LARGEST
    assert path.stem not in {"utils", "util", "common", "helpers", "misc"}
    assert ast.get_docstring(ast.parse(path.read_text())), "a module opens with one sentence"


def test_the_server_in_images_never_imports_dockyard():
    for path in sorted(SERVER.rglob("*.py")):
        names = imported_names(path.read_text())
        assert not [name for name in names if name.split(".")[0] == "dockyard"], path


def test_the_documents_table_is_this_one():
    lines = (ROOT / "docs/architecture/README.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:2] == "| "]
    written = {
        room: {name.strip() for name in rooms.split(",") if name.strip()}
        for room, _, rooms in cells
        if room != "room"
    }
    assert written == MAY_IMPORT


@pytest.mark.parametrize(
    ("text", "rooms"),
    [
        ("import dockyard.build.plan", {"build"}),
        ("from dockyard import build, errors", {"build", "errors"}),
        ("from dockyard import __version__", {"__init__"}),
        ("def f():\n    from dockyard.oci.digest import Digest", {"oci"}),
        ("if TYPE_CHECKING:\n    import dockyard.cli", {"cli"}),
        ("import json, click", set()),
    ],
)
def test_sees_every_way_to_import(text, rooms):
    assert imported_rooms(text) == rooms
