"""Where models are found: a single file or class, or a folder `NAME/VERSION/…`.

Rules: a model's folder may have a `model.toml` with `versions`, `aliases`, the queue's settings,
and options for the loader. Versions are folders; numbers count as numbers, so that 10 is after 9.
Hidden files are none. Nothing here loads.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from dockyard_serve.errors import LoadError
from dockyard_serve.model import Source
from dockyard_serve.repository import Wish, Wishes
from dockyard_serve.settings import QueueSettings

CONFIG = "model.toml"
_QUEUE_KEYS = {field.name for field in fields(QueueSettings)}
_MODULE = re.compile(r"[\w.]+:\w+(\.\w+)*")


@dataclass(frozen=True, slots=True)
class SingleModel:
    """One model, from a file, a folder, or `module:Class`."""

    source: Source
    queue: QueueSettings

    def names(self) -> Sequence[str]:
        return [self.source.name]

    def wishes(self, name: str) -> Wishes:
        stamp = "" if self.source.path is None else _stamp(self.source.path)
        return Wishes(
            versions=[Wish(source=self.source, queue=self.queue, stamp=stamp)], aliases={}
        )


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder of models; `template` gives threads and options to each source."""

    root: Path
    template: Source
    queue: QueueSettings

    def names(self) -> Sequence[str]:
        return [path.name for path in _folders(self.root) if _folders(path)]

    def wishes(self, name: str) -> Wishes:
        folder = self.root / name
        config = _read_config(folder / CONFIG)
        numbers = _chosen(
            [path.name for path in _folders(folder)], config.pop("versions", "latest"), folder
        )
        aliases = config.pop("aliases", {})
        if not isinstance(aliases, dict) or not all(str(v) in numbers for v in aliases.values()):
            raise LoadError(
                "`aliases` must name versions that are served", where=str(folder / CONFIG)
            )
        queue = replace(
            self.queue, **{key: config.pop(key) for key in _QUEUE_KEYS if key in config}
        )
        options = {**self.template.options, **config}
        return Wishes(
            versions=[
                Wish(
                    source=replace(
                        self.template,
                        name=name,
                        version=number,
                        path=_content(folder / number),
                        options=options,
                    ),
                    queue=queue,
                    stamp=_stamp(folder / number),
                )
                for number in numbers
            ],
            aliases={alias: str(number) for alias, number in aliases.items()},
        )


def find_place(
    model: str, *, name: str | None, threads: int, options: Mapping[str, Any], queue: QueueSettings
) -> SingleModel | ModelFolder:
    """What `model` names; raises LoadError if there is nothing."""
    path = Path(model)
    template = Source(name=name or "model", threads=threads, options=options)
    if not path.exists():
        if _MODULE.fullmatch(model):
            spec_name = name or model.rpartition(":")[2].lower()
            return SingleModel(replace(template, name=spec_name, spec=model), queue)
        raise LoadError(
            "there is no such file or folder",
            where=model,
            hint="Name a model file, a folder of models, or module:Class.",
        )
    if path.is_dir() and not (path / "saved_model.pb").exists():
        place = ModelFolder(path, template, queue)
        if place.names():
            return place
        if not any(entry.is_file() for entry in path.iterdir()):
            raise LoadError(
                "the folder holds no models",
                where=model,
                hint="Put them in as NAME/VERSION/file, such as digits/1/model.onnx.",
            )
        path = _content(path)
    return SingleModel(replace(template, name=name or path.stem, path=path.resolve()), queue)


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(
        entry
        for entry in path.iterdir()
        if entry.is_dir() and not entry.name.startswith((".", "__"))
    )


def _by_number(version: str) -> tuple[int, int, str]:
    return (1, int(version), "") if version.isascii() and version.isdigit() else (0, 0, version)


def _chosen(present: Sequence[str], policy: Any, folder: Path) -> list[str]:
    """The versions that a policy asks for, from the newest."""
    newest_first = sorted(present, key=_by_number, reverse=True)
    if policy == "all":
        return newest_first
    if policy == "latest":
        return newest_first[:1]
    if isinstance(policy, int) and not isinstance(policy, bool) and policy > 0:
        return newest_first[:policy]
    if isinstance(policy, list) and policy:
        named = [str(version) for version in policy]
        missing = [version for version in named if version not in present]
        if missing:
            raise LoadError(f"there is no version {missing[0]}", where=str(folder))
        return [version for version in newest_first if version in named]
    raise LoadError(
        '`versions` must be "latest", "all", a number of versions, or a list of them',
        where=str(folder / CONFIG),
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise LoadError(f"can't be read: {error}", where=str(path)) from error


def _content(folder: Path) -> Path:
    """What a version's folder holds: itself as a SavedModel, or its one model file."""
    if (folder / "saved_model.pb").exists():
        return folder
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    named = [entry for entry in entries if entry.stem == "model" and entry.suffix != ".toml"]
    candidates = named or [entry for entry in entries if entry.is_file()] or entries
    # Weights beside an ONNX graph have its name and one more suffix.
    first = [
        entry
        for entry in candidates
        if not any(entry.name.startswith(other.name) for other in candidates if other is not entry)
    ]
    if len(first) != 1:
        raise LoadError(
            f"the version's folder has {len(first)} files that could be its model",
            where=str(folder),
            hint="Leave one, or name it model.onnx (or as its format has it).",
        )
    return first[0]


def _stamp(path: Path) -> str:
    """What tells a changed file: sizes and times of everything below."""
    entries = [path, *sorted(path.rglob("*"))] if path.is_dir() else [path]
    stats = [(entry, os.stat(entry)) for entry in entries if entry.exists()]  # noqa: PTH116
    return ";".join(f"{entry.name}:{stat.st_size}:{stat.st_mtime_ns}" for entry, stat in stats)
