"""Conda's environment.yml, as far as every package in it can be had from PyPI.

Rules:
- Only the shape that `conda env export --from-history` and people write is read: scalars, and
  lists of strings with one nested `pip:` list. Anything else is refused with its line.
- A conda name is taken as a PyPI name only where both are known to be the same software; all
  others are refused by name, for guessing here would install something else.
- Versions: "=1.2" is conda's "1.2.*"; "==1.2" is exact; ranges are as in PEP 440; a third part
  (build string) is dropped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dockyard.errors import ResolveError

# Packages whose name on conda-forge or defaults isn't the one on PyPI.
_RENAMED = {
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "tensorflow-base": "tensorflow",
    "opencv": "opencv-python-headless",
    "py-opencv": "opencv-python-headless",
    "libopencv": "opencv-python-headless",
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "dataclasses-json": "dataclasses-json",
    "pytables": "tables",
    "python-flatbuffers": "flatbuffers",
    "faiss-cpu": "faiss-cpu",
    "sentence-transformers": "sentence-transformers",
    "ruamel.yaml": "ruamel.yaml",
    "xgboost-cpu": "xgboost",
    "py-xgboost": "xgboost",
    "py-xgboost-cpu": "xgboost",
    "pytorch-lightning": "pytorch-lightning",
    "huggingface_hub": "huggingface-hub",
    "uvicorn-standard": "uvicorn[standard]",
}
_SAME_NAMES = """
    absl-py accelerate aiohttp albumentations altair bokeh boto3 catboost certifi click cython
    dask datasets diffusers einops evaluate fastapi filelock flask fsspec gensim gradio grpcio
    gunicorn h5py httpx imageio jax jaxlib jinja2 joblib jsonschema keras librosa lightgbm
    lightning lmdb lxml matplotlib mlflow networkx nltk numba numexpr numpy omegaconf onnx
    onnxruntime openpyxl optuna orjson packaging pandas peft pillow plotly polars protobuf psutil
    pyarrow pydantic pymongo python-dateutil python-dotenv pytz pyyaml redis regex requests rich
    safetensors scikit-image scikit-learn scipy seaborn sentencepiece setuptools shapely six
    soundfile spacy sqlalchemy statsmodels streamlit sympy tensorboard tensorflow threadpoolctl
    tiktoken timm tokenizers toml torchaudio torchmetrics torchvision tornado tqdm transformers
    typer typing-extensions typing_extensions uvicorn wandb xarray xgboost yarl zstandard
"""
_SAME = frozenset(_SAME_NAMES.split())
# Part of the image anyway, or brought by the wheels themselves.
_BROUGHT = {
    "pip": "the image needs no pip",
    "wheel": "the image needs no wheel",
    "ca-certificates": "it is part of the base",
    "openssl": "it is part of the base",
    "tzdata": "it is part of the base",
    "libstdcxx-ng": "it is part of the base",
    "libgcc-ng": "it is part of the base",
    "cudatoolkit": "CUDA comes in wheels",
    "cuda-toolkit": "CUDA comes in wheels",
    "cudnn": "CUDA comes in wheels",
    "nccl": "CUDA comes in wheels",
    "pytorch-cuda": "CUDA comes in wheels",
    "pytorch-mutex": "CUDA comes in wheels",
    "cpuonly": 'write accelerator = "cpu" for this',
}
_SPEC = re.compile(r"^(?:[\w./:-]+::)?([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*(.*)$")
_ITEM = re.compile(r"^(\s*)-\s+(.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class CondaEnvironment:
    """What an environment.yml means for pip.

    requirements: the text of a requirements file; lines: for each of its lines the line in
    environment.yml; python: the version it asks for ("3.11"); notes: what was left out and why.
    """

    requirements: str
    lines: tuple[int, ...]
    python: str | None
    notes: tuple[str, ...]


def read_environment(path: Path) -> CondaEnvironment:
    """Read an environment.yml; raises ResolveError for what can't be had from PyPI."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ResolveError(
            f"{path.name} can't be read", where=str(path), hint="Name a readable text file."
        ) from error
    conda, pip = _dependencies(path, text)
    requirements: list[tuple[int, str]] = []
    python = None
    notes = []
    foreign = []
    for number, item in conda:
        found = _SPEC.match(item)
        if found is None:
            raise _shape(path, number, f"{item!r} is no package")
        name, version = found[1].lower(), found[2].strip()
        if name == "python":
            python = _python(version, path, number)
        elif name in _BROUGHT:
            notes.append(f"{path.name}:{number}: {name} is left out: {_BROUGHT[name]}")
        elif name in _RENAMED or name in _SAME:
            specifier = _specifier(version, path, number)
            requirements.append((number, _RENAMED.get(name, name) + specifier))
        else:
            foreign.append((number, name))
    if foreign:
        names = ", ".join(name for _, name in foreign)
        raise ResolveError(
            f"packages from conda that aren't known to be the same on PyPI: {names}",
            where=f"{path.name}:{foreign[0][0]}",
            hint="Move them to the pip: list under their PyPI names, or to apt in dockyard.toml.",
        )
    requirements += pip
    return CondaEnvironment(
        requirements="".join(f"{line}\n" for _, line in requirements),
        lines=tuple(number for number, _ in requirements),
        python=python,
        notes=tuple(notes),
    )


def _dependencies(path: Path, text: str) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Return conda's and pip's items with their line numbers."""
    conda: list[tuple[int, str]] = []
    pip: list[tuple[int, str]] = []
    section = ""
    pip_indent: int | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*$", "", raw).rstrip()
        if not line or line in ("---", "..."):
            continue
        if "\t" in line[: len(line) - len(line.lstrip())]:
            raise _shape(path, number, "YAML may not be indented with tabs")
        item = _ITEM.match(line)
        if item is None:
            key, colon, value = line.partition(":")
            if line[0].isspace() or not colon:
                if section == "dependencies":
                    raise _shape(path, number, "this line isn't understood")
                continue
            section, pip_indent = key.strip(), None
            if section == "dependencies" and value.strip() not in ("", "[]"):
                raise _shape(path, number, "dependencies must be one item per line")
            continue
        if section != "dependencies":
            continue
        indent, value = len(item[1]), _unquoted(item[2].strip())
        if pip_indent is not None and indent > pip_indent:
            pip.append((number, value))
        elif value.rstrip() == "pip:":
            pip_indent = indent
        elif value.endswith(":") or value.startswith(("{", "[", "&", "*", "|", ">")):
            raise _shape(path, number, "this item isn't understood")
        else:
            pip_indent = None
            conda.append((number, value))
    return conda, pip


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _specifier(version: str, path: Path, number: int) -> str:
    """Conda's version constraint in PEP 440."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    version = version.strip()
    if version in ("", "*"):
        return ""
    if not re.match(r"[<>=!~]", version):
        version = "=" + "=".join(version.split())
    if exact := re.match(r"^=(?!=)([^=\s,|]+)(?:[=\s]\S+)?$", version):
        value = exact[1].removesuffix("*").removesuffix(".")
        # With a build string the version is complete: conda writes name=version=build.
        built = re.match(r"^=[^=\s]+[=\s]\S+$", version) is not None
        version = f"=={value}" if built else f"=={value}.*"
    version = re.sub(r"^(==[^=\s,]+)[=\s]\S+$", r"\1", version)
    try:
        SpecifierSet(version)
    except InvalidSpecifier as error:
        raise _shape(path, number, f"the version {version!r} isn't understood") from error
    return version


def _python(version: str, path: Path, number: int) -> str | None:
    found = re.search(r"(\d+\.\d+)", version)
    if version and found is None and version != "*":
        raise _shape(path, number, f"the Python version {version!r} isn't understood")
    return found[1] if found and not version.startswith(("<", "!")) else None


def _shape(path: Path, number: int, what: str) -> ResolveError:
    return ResolveError(
        what,
        where=f"{path.name}:{number}",
        hint="Write dependencies as a plain list of name=version, with one nested pip: list.",
    )
