"""The formats of model files: how each is recognised, what it needs to run, what loading it risks.

Rules:
- The content decides where suffixes are shared (`.pt` is TorchScript, an exported program, or a
  pickle); a format is told without importing a framework or running anything of the file.
- `requirements` is what an image needs for a lone model file; a project that depends on one of
  `providers` already has what it needs, in the version it wants.
- Only the standard library is imported: the builder reads this table too.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format of model files.

    name: of the module in this package that loads it; modules: what that imports; executes: what a
    file of it does when it is loaded, "" for nothing; such a format is refused unless the operator
    trusts the file.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    requirements: tuple[str, ...]
    modules: tuple[str, ...]
    providers: tuple[str, ...] = ()
    executes: str = ""


ONNX = Format(
    name="onnx",
    title="ONNX",
    suffixes=(".onnx",),
    requirements=("onnxruntime>=1.18",),
    modules=("onnxruntime",),
    providers=("onnxruntime", "onnxruntime-gpu"),
)
TORCH_EXPORT = Format(
    name="torch_export",
    title="an exported PyTorch program",
    suffixes=(".pt2",),
    requirements=("torch>=2.5",),
    modules=("torch",),
    providers=("torch",),
)
TORCHSCRIPT = Format(
    name="torchscript",
    title="TorchScript",
    suffixes=(".pt", ".pth", ".torchscript", ".ts"),
    requirements=("torch>=2.5",),
    modules=("torch",),
    providers=("torch",),
)
TORCH_PICKLE = Format(
    name="torch_pickle",
    title="a pickled PyTorch module",
    suffixes=(".pt", ".pth"),
    requirements=("torch>=2.5",),
    modules=("torch",),
    providers=("torch",),
    executes="unpickling it runs whatever code the file names",
)
KERAS = Format(
    name="keras",
    title="Keras",
    suffixes=(".keras", ".h5", ".hdf5"),
    requirements=("keras>=3.9", "jax"),
    modules=("keras",),
    providers=("tensorflow", "tensorflow-cpu", "keras"),
)
SAVED_MODEL = Format(
    name="saved_model",
    title="TensorFlow SavedModel",
    suffixes=(),
    requirements=(
        "tensorflow-cpu>=2.16; platform_machine == 'x86_64'",
        "tensorflow>=2.16; platform_machine != 'x86_64'",
    ),
    modules=("tensorflow",),
    providers=("tensorflow", "tensorflow-cpu"),
)
JAX = Format(
    name="jax_export",
    title="an exported JAX function",
    suffixes=(".jax", ".jaxexport"),
    requirements=("jax>=0.4.34",),
    modules=("jax",),
    providers=("jax",),
)
SKOPS = Format(
    name="sklearn",
    title="scikit-learn (skops)",
    suffixes=(".skops",),
    requirements=("scikit-learn>=1.4", "skops>=0.11"),
    modules=("sklearn", "skops"),
    providers=("skops",),
)
PICKLE = Format(
    name="sklearn",
    title="a pickle",
    suffixes=(".joblib", ".pkl", ".pickle"),
    requirements=("scikit-learn>=1.4", "joblib"),
    modules=("sklearn", "joblib"),
    providers=("scikit-learn",),
    executes="unpickling it runs whatever code the file names",
)

FORMATS = (
    *(ONNX, TORCH_EXPORT, TORCHSCRIPT, TORCH_PICKLE, KERAS),
    *(SAVED_MODEL, JAX, SKOPS, PICKLE),
)
SUFFIXES = tuple(dict.fromkeys(suffix for each in FORMATS for suffix in each.suffixes))


class UnknownFormat(ValueError):
    """Neither name nor content is that of a model that can be served; the text says what it is."""


def format_of(path: Path) -> Format:
    """Tell a model's format; raises UnknownFormat, with what the file is, or OSError."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return SAVED_MODEL
        raise UnknownFormat("the folder holds no saved_model.pb, so it is no SavedModel")
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        start = file.read(8)
    if suffix in (".pt", ".pth", ".pt2", ".torchscript", ".ts"):
        return _of_torch(path, start)
    if suffix in (".h5", ".hdf5"):
        if start != _HDF5:
            raise UnknownFormat("it isn't an HDF5 file, which its name says it is")
        return KERAS
    if suffix in (".keras", ".skops") and not start.startswith(_ZIP):
        raise UnknownFormat(f"it isn't a zip, which a {suffix} file is")
    for each in FORMATS:
        if suffix in each.suffixes:
            return each
    raise UnknownFormat(f"its name doesn't end in {_listed(SUFFIXES)}")


def _of_torch(path: Path, start: bytes) -> Format:
    if not start.startswith(_ZIP):
        if start.startswith(b"\x80"):
            return TORCH_PICKLE  # As torch.save wrote before version 1.6.
        raise UnknownFormat("it is neither a zip nor a pickle, as PyTorch's files are")
    try:
        with zipfile.ZipFile(path) as archive:
            inside = {name.partition("/")[2] or name for name in archive.namelist()}
            flat = set(archive.namelist())
    except (zipfile.BadZipFile, OSError) as error:
        raise UnknownFormat(f"it is a damaged zip: {error}") from error
    if "constants.pkl" in inside:
        return TORCHSCRIPT
    if "models/model.json" in inside or "serialized_exported_program.json" in inside | flat:
        return TORCH_EXPORT
    if "data.pkl" in inside:
        return TORCH_PICKLE
    raise UnknownFormat("it is a zip, but not one that PyTorch writes")


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}"
