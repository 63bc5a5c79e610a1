"""Which files of the project are models: they get a layer of their own.

Rules: suffixes decide, and for the ambiguous ones the size or what lies beside them; a folder in
SavedModel's or Hugging Face's layout counts whole. A pointer of Git LFS in place of a model is an
error: an image made of it can't work.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING

from dockyard.app.detect.decision import Decision
from dockyard.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from dockyard.app.config import AppConfig
    from dockyard.app.detect.facts import Code
    from dockyard.app.ignore import Project, ProjectFile

_SUFFIXES = (
    *(".h5", ".hdf5", ".keras", ".pt", ".pth", ".pt2", ".ptl", ".torchscript", ".onnx", ".tflite"),
    *(".safetensors", ".joblib", ".pkl", ".pickle", ".skops", ".gguf", ".ggml", ".ckpt", ".npz"),
    *(".pb", ".ubj", ".cbm", ".bst", ".pdmodel", ".pdiparams", ".engine", ".plan", ".mar"),
    *(".onnx_data", ".onnx.data", ".msgpack", ".spm", ".mlmodel", ".litertlm"),
)
# Also used for things that are no models.
_IF_LARGE = (".bin", ".data", ".weights", ".model", ".npy", ".params")
_LARGE = 1 << 20
_HF_WEIGHTS = (".safetensors", ".bin", ".gguf", ".msgpack", ".h5", ".onnx", ".pt")
_HF_CONFIGS = frozenset({"config.json", "model_index.json", "adapter_config.json"})
_LFS = b"version https://git-lfs.github.com/spec/v1"
_LFS_SIZE = 1024


def is_model(path: str, size: int) -> bool:
    """Whether a file by itself is a model."""
    name = posixpath.basename(path).lower()
    if name.endswith(_SUFFIXES) or ".ckpt.data-" in name or ".ckpt.index" in name:
        return True
    return name.endswith(_IF_LARGE) and size >= _LARGE


def detect_models(project: Project) -> Decision[tuple[str, ...]]:
    """Return the paths of model files; raises ProjectError for Git LFS pointers."""
    folders = _model_folders(project.files)
    chosen = [
        file
        for file in project.files
        if is_model(file.path, file.size)
        or any(file.path.startswith(folder + "/") for folder in folders)
    ]
    _refuse_pointers(chosen)
    if not chosen:
        return Decision(value=(), why="no file has the suffix of a model")
    size = sum(file.size for file in chosen)
    what = chosen[0].path if len(chosen) == 1 else f"{len(chosen)} files"
    why = f"{what}, {_megabytes(size)}: a layer apart, so that code changes don't move it"
    return Decision(value=tuple(file.path for file in chosen), why=why, where=chosen[0].path)


def only_models(
    project: Project, models: Decision[tuple[str, ...]], served: str, config: AppConfig
) -> tuple[Project, Decision[tuple[str, ...]]]:
    """The project without what a served model doesn't need: models, and what `include` names."""
    from dockyard.app.dockerignore import PathPatterns

    inside = [
        file.path
        for file in project.files
        if file.path == served or file.path.startswith(f"{served}/")
    ]
    chosen = tuple(sorted({*models.value, *inside}))
    wanted = PathPatterns([(text, "include") for text in config.include])
    kept = tuple(file for file in project.files if file.path in chosen or wanted.matches(file.path))
    return replace(project, files=kept), replace(models, value=chosen)


def named_models(
    root: Path, code: Code, variables: Mapping[str, str], words: Iterable[str], *, workdir: str
) -> list[str]:
    """Model files and folders that the code, variables or command name and that are there.

    Returns paths relative to the project. They are kept although git-ignored.
    """
    wanted: set[str] = set()
    for module in code.modules.values():
        folder = posixpath.dirname(module.path)
        for fact in module.strings:
            wanted.update(_inside(fact.text, workdir, ("", folder)))
    for text in (*variables.values(), *words):
        wanted.update(_inside(text, workdir, ("",)))
    return sorted(path for path in wanted if _is_there(root, path))


def _inside(text: str, workdir: str, folders: Iterable[str]) -> Iterable[str]:
    """The project's paths that a text may mean."""
    if "\0" in text or "://" in text or len(text) > 300:
        return
    if text.startswith("/"):
        below = text.startswith(workdir.rstrip("/") + "/")
        folders, text = ("",), text[len(workdir.rstrip("/")) + 1 :] if below else ""
    for folder in folders:
        path = posixpath.normpath(posixpath.join(folder, text)) if text else ""
        if path and path != "." and not path.startswith(("..", "/", ".git/")):
            yield path


def _is_there(root: Path, path: str) -> bool:
    try:
        absolute = root / path
        if absolute.is_dir():
            with os.scandir(absolute) as entries:
                return any(
                    entry.is_file() and is_model(entry.name, entry.stat().st_size)
                    for entry in entries
                )
        return absolute.is_file() and is_model(path, absolute.stat().st_size)
    except (OSError, ValueError):
        return False


def _model_folders(files: Iterable[ProjectFile]) -> frozenset[str]:
    """Folders in SavedModel's layout or Hugging Face's, without the project's own."""
    beside: dict[str, set[str]] = {}
    for file in files:
        folder, _, name = file.path.rpartition("/")
        if folder:
            beside.setdefault(folder, set()).add(name)
    return frozenset(
        folder
        for folder, names in beside.items()
        if "saved_model.pb" in names
        or (_HF_CONFIGS & names and any(name.endswith(_HF_WEIGHTS) for name in names))
        or "model_index.json" in names
    )


def _refuse_pointers(files: Iterable[ProjectFile]) -> None:
    pointers = []
    for file in files:
        if file.kind == "file" and 0 < file.size < _LFS_SIZE:
            try:
                with file.absolute.open("rb") as stream:
                    if stream.read(len(_LFS)) == _LFS:
                        pointers.append(file.path)
            except OSError:
                continue
    if pointers:
        more = f" and {len(pointers) - 5} more" if len(pointers) > 5 else ""
        raise ProjectError(
            f"{', '.join(pointers[:5])}{more}: Git LFS left a pointer where the model should be",
            where=pointers[0],
            hint="Fetch the files: git lfs pull",
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"
