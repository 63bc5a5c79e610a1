"""The commands of a RUN that are understood without running them, other than pip.

Rules: coreutils' own semantics, as root and with umask 022; a word or option that isn't listed here
refuses the whole RUN, as does a command that isn't in the image. What a command would fail on is an
error here too, since the build would stop.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from dockyard.direct.filesystem import Node
from dockyard.direct.owners import new_mode, parse_owner
from dockyard.files import BytesSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockyard.direct.refusal import Site
    from dockyard.direct.stage import StageState

_MOST_OF_BASE = 200  # Files of the base that a recursive change may copy.


def find_program(stage: StageState, name: str) -> str | None:
    """The path of a program in the stage, found on its PATH; None where it isn't."""
    if "/" in name:
        path = stage.files.resolve(name.strip("/"))
        return name if stage.files.get(path) is not None else None
    for folder in (stage.config.env.get("PATH") or "").split(":"):
        path = posixpath.join(folder or "/", name)
        node = stage.files.get(stage.files.resolve(path.strip("/")))
        if node is not None and node.kind == "file":
            return path
    return None


def run_command(stage: StageState, words: tuple[str, ...], site: Site) -> None:
    """Carry out one command; raises NotUnderstood for one that isn't listed."""
    name = posixpath.basename(words[0])
    method = _COMMANDS.get(name)
    if method is None:
        raise site.refuse(f"what {name!r} does isn't known")
    if name not in _BUILT_IN and find_program(stage, words[0]) is None:
        raise site.fail(f"{words[0]}: the image has no such program")
    method(stage, list(words[1:]), site)


def _options(
    words: list[str], known: str, site: Site, *, valued: str = ""
) -> tuple[set[str], dict[str, str], list[str]]:
    """Split short and long options from the rest; raises NotUnderstood for others."""
    long = {"--parents": "p", "--recursive": "R", "--force": "f", "--verbose": "v", "--mode": "m"}
    long |= {"--symbolic": "s", "--no-dereference": "n"}
    found: set[str] = set()
    values: dict[str, str] = {}
    rest: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            rest += waiting
            break
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            letter = long.get(name, "")
            if letter and letter in valued and equals:
                values[letter] = value
            elif letter and letter in known and not equals:
                found.add(letter)
            else:
                raise site.refuse(f"the option {word} isn't understood")
        elif word.startswith("-") and len(word) > 1 and not word[1:].isdigit():
            letters = word[1:]
            if letters[0] in valued:
                values[letters[0]] = letters[1:] or (waiting.pop(0) if waiting else "")
            elif all(letter in known for letter in letters):
                found.update(letters)
            else:
                raise site.refuse(f"the option {word} isn't understood")
        else:
            rest.append(word)
    if not rest:
        raise site.fail("the command names no file")
    return found, values, rest


def _place(stage: StageState, path: str) -> str:
    """The path in the image, its folders' links followed, its own last component not."""
    absolute = stage.absolute(path).strip("/")
    folder, name = posixpath.split(absolute)
    return posixpath.join(stage.files.resolve(folder), name)


def _mkdir(stage: StageState, words: list[str], site: Site) -> None:
    found, values, paths = _options(words, "pv", site, valued="m")
    mode = 0o755
    if "m" in values:
        chosen = new_mode(values["m"], 0o777, folder=True)
        if chosen is None:
            raise site.refuse(f"the mode {values['m']} isn't understood")
        mode = chosen
    for path in paths:
        place = stage.files.resolve(stage.absolute(path).strip("/"))
        node = stage.files.get(place)
        if node is not None:
            if "p" in found and node.kind == "directory":
                continue
            raise site.fail(f"mkdir: {path} is there already")
        folder = posixpath.dirname(place)
        if "p" not in found and not stage.files.is_folder(folder):
            raise site.fail(f"mkdir: there is no folder to make {path} in", "Use mkdir -p.")
        stage.files.make_folders(folder)
        stage.files.put(place, Node(kind="directory", mode=mode))


def _touch(stage: StageState, words: list[str], site: Site) -> None:
    _, _, paths = _options(words, "", site)
    for path in paths:
        place = stage.files.resolve(stage.absolute(path).strip("/"))
        if stage.files.get(place) is not None:
            continue  # Only its time changes, and times aren't kept.
        if not stage.files.is_folder(posixpath.dirname(place)):
            raise site.fail(f"touch: there is no folder for {path}")
        stage.files.put(place, Node(kind="file", mode=0o644, source=BytesSource(b"")))


def _ln(stage: StageState, words: list[str], site: Site) -> None:
    found, _, names = _options(words, "sfn", site)
    if "s" not in found or len(names) != 2:
        raise site.refuse("only ln -s TARGET NAME is understood")
    target, name = names
    place = _place(stage, name)
    if stage.files.is_folder(place) or name.endswith("/"):
        raise site.refuse("ln into a folder isn't understood")
    if stage.files.get(place) is not None and "f" not in found:
        raise site.fail(f"ln: {name} is there already")
    if not stage.files.is_folder(posixpath.dirname(place)):
        raise site.fail(f"ln: there is no folder for {name}")
    if stage.files.get(place) is not None:
        stage.files.remove(place)
    stage.files.put(place, Node(kind="symlink", mode=0o777, target=target))


def _rm(stage: StageState, words: list[str], site: Site) -> None:
    found, _, paths = _options(words, "rRfv", site)
    for path in paths:
        place = _place(stage, path.rstrip("/"))
        node = stage.files.get(place)
        if not place or place in ("usr", "etc", "bin", "lib"):
            raise site.refuse(f"rm {path} leaves no image")
        if node is None:
            if "f" in found:
                continue
            raise site.fail(f"rm: there is no {path}")
        if node.kind == "directory" and not {"r", "R"} & found:
            raise site.fail(f"rm: {path} is a folder", "Use rm -r.")
        stage.files.remove(place)


def _chmod(stage: StageState, words: list[str], site: Site) -> None:
    # A mode may look like an option: chmod -x, chmod -w.
    if any(word[:1] == "-" and word[1:2] in tuple("rwxXst") for word in words):
        raise site.refuse("a mode that begins with - isn't understood")
    found, _, (text, *paths) = _options(words, "Rv", site)
    for path in _chosen(stage, paths, site, recursive="R" in found):
        node = stage.files.nodes[path]
        if node.kind == "symlink":
            continue
        mode = new_mode(text, node.mode, folder=node.kind == "directory")
        if mode is None:
            raise site.refuse(f"the mode {text} isn't understood")
        if node.kind == "directory" and text.isdigit():
            # GNU chmod leaves a folder's setuid and setgid alone unless they are named.
            mode |= node.mode & 0o6000
        stage.files.change(path, mode=mode)


def _chown(stage: StageState, words: list[str], site: Site) -> None:
    found, _, (text, *paths) = _options(words, "Rv", site)
    if text.endswith(":"):
        raise site.refuse(f"{text!r} asks for a login group")
    owner = parse_owner(text, stage.files, copying=False)
    if owner is None:
        raise site.refuse(f"the image has no user or group {text}")
    for path in _chosen(stage, paths, site, recursive="R" in found):
        node = stage.files.nodes[path]
        gid = node.gid if owner[1] is None else owner[1]
        if node.kind == "file" and node.mode & 0o6000:
            raise site.refuse(f"/{path} is setuid, which chown takes away")
        stage.files.change(path, uid=owner[0], gid=gid)


def _chosen(stage: StageState, paths: list[str], site: Site, *, recursive: bool) -> list[str]:
    """The nodes that a change names, links followed where they are named themselves."""
    if not paths:
        raise site.fail("the command names no file")
    chosen: list[str] = []
    for path in paths:
        place = stage.files.resolve(stage.absolute(path).strip("/"))
        node = stage.files.get(place)
        if node is None or not place:
            raise site.fail(f"there is no {path}")
        inner = stage.files.below(place) if recursive else []
        if any(stage.files.nodes[item].kind == "other" for item in inner):
            raise site.refuse(f"{path} holds devices or pipes")
        chosen += [place, *inner]
    if sum(stage.from_base(path) for path in chosen) > _MOST_OF_BASE:
        raise site.refuse(f"it changes more than {_MOST_OF_BASE} files of the base")
    return chosen


def _nothing(stage: StageState, words: list[str], site: Site) -> None:
    """A command that changes no file."""


def _set(stage: StageState, words: list[str], site: Site) -> None:
    if any(not re.fullmatch(r"-[eux]+", word) for word in words):
        raise site.refuse(f"set {' '.join(words)} isn't understood")


_COMMANDS: dict[str, Callable[[StageState, list[str], Site], None]] = {
    "mkdir": _mkdir,
    "touch": _touch,
    "ln": _ln,
    "rm": _rm,
    "chmod": _chmod,
    "chown": _chown,
    "echo": _nothing,
    "true": _nothing,
    ":": _nothing,
    "set": _set,
}
_BUILT_IN = frozenset({"echo", "true", ":", "set"})
