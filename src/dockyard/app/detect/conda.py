"""Conda's environment.yml as requirements, where all of it can be installed from wheels.

Rules: only the part of YAML that such files use is read - a top-level mapping, a list below
`dependencies`, a list below its `pip:` item - and anything else is refused with its line. Names
that differ between Conda and PyPI are translated; packages that aren't on PyPI are refused by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dockyard.errors import ProjectError

_RENAMED = {
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "tensorflow-gpu": "tensorflow",
    "tensorflow-base": "tensorflow",
    "py-opencv": "opencv-python-headless",
    "opencv": "opencv-python-headless",
    "py-xgboost": "xgboost",
    "py-xgboost-cpu": "xgboost",
    "msgpack-python": "msgpack",
    "pillow-simd": "pillow",
    "python-flatbuffers": "flatbuffers",
    "matplotlib-base": "matplotlib",
    "dask-core": "dask",
    "huggingface_hub": "huggingface-hub",
    "uvicorn-standard": "uvicorn[standard]",
    "pytables": "tables",
    "gensim-base": "gensim",
    "faiss-cpu": "faiss-cpu",
    "jaxlib": "jaxlib",
}
# Left out: the image brings its own, or wheels bring them.
_BROUGHT = frozenset(
    {
        *("python", "pip", "setuptools", "wheel", "mkl", "blas", "libblas", "openblas", "nomkl"),
        *("cpuonly", "pytorch-cuda", "cudatoolkit", "cuda-version", "cuda-toolkit", "cudnn"),
        *("ca-certificates", "certifi-ca", "openssl", "zlib", "sqlite", "readline", "tk", "xz"),
        *("bzip2", "libffi", "ncurses", "tzdata", "libgcc-ng", "libstdcxx-ng", "libgomp", "nccl"),
        *("pytorch-mutex", "llvm-openmp", "intel-openmp", "ld_impl_linux-64", "_libgcc_mutex"),
        *("_openmp_mutex", "libuuid", "ipykernel-base", "cuda"),
    }
)
_NOT_ON_PYPI = {
    "ffmpeg": 'apt = ["ffmpeg"]',
    "git": 'apt = ["git"]',
    "graphviz": 'apt = ["graphviz"]',
    "faiss": "faiss-cpu under `pip:`",
    "faiss-gpu": "faiss-cpu under `pip:`",
    "gcc": "wheels, which need no compiler",
    "gxx": "wheels, which need no compiler",
    "compilers": "wheels, which need no compiler",
    "gdal": "rasterio under `pip:`, which brings GDAL",
    "nodejs": "a base image that has Node.js",
    "openjdk": 'apt = ["default-jre-headless"]',
    "r-base": "a base image that has R",
    "cmake": "wheels, which need no compiler",
}
_SPEC = re.compile(r"(?:[\w.-]+::)?([A-Za-z0-9_.-]+)(\[[^\]]*\])?\s*(.*)")
_CUDA = frozenset({"pytorch-cuda", "cudatoolkit", "cuda-version", "cuda-toolkit", "cudnn", "cuda"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CondaEnvironment:
    """What an environment.yml says. requirements: (PEP 508, line); python: (specifier, line)."""

    name: str | None
    requirements: tuple[tuple[str, int], ...]
    python: tuple[str, int] | None
    cuda: int | None


def parse_environment(text: str, *, where: str) -> CondaEnvironment:
    """Read an environment.yml; raises ProjectError that names the line."""
    name: str | None = None
    found: list[tuple[str, int]] = []
    python: tuple[str, int] | None = None
    cuda: int | None = None
    refused: list[str] = []
    section, pip_indent = "", -1
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = _without_comment(raw)
        if not line.strip() or line.strip() in ("---", "..."):
            continue
        indent = len(line) - len(line.lstrip(" "))
        body = line.strip()
        place = f"{where}:{number}"
        if "\t" in line[: indent + 1]:
            raise ProjectError("is indented with a tab, which YAML refuses", where=place)
        if indent == 0 and not body.startswith("- "):
            key, colon, value = body.partition(":")
            if not colon:
                raise ProjectError(f"{body!r} isn't understood", where=place, hint=_HINT)
            section, pip_indent = key.strip(), -1
            if section == "name":
                name = _scalar(value) or None
            if section == "dependencies" and value.strip() not in ("", "[]"):
                raise ProjectError("dependencies must be a list, one a line", where=place)
            continue
        if section != "dependencies":
            continue
        if not body.startswith("- "):
            raise ProjectError(f"{body!r} isn't understood", where=place, hint=_HINT)
        item = _scalar(body[2:])
        if pip_indent >= 0 and indent > pip_indent:
            if item.startswith("-"):
                raise ProjectError(
                    f"the pip option {item!r} isn't read from environment.yml",
                    where=place,
                    hint="Put the pip packages into a requirements.txt.",
                )
            found.append((item, number))
            continue
        pip_indent = -1
        if item.replace(" ", "") == "pip:":
            pip_indent = indent
            continue
        match = _SPEC.fullmatch(item)
        if match is None:
            raise ProjectError(f"{item!r} is no package", where=place, hint=_HINT)
        package, extras, version = match[1].lower(), match[2] or "", match[3].strip()
        if package == "python":
            python = (_specifier(version, place), number)
        cuda = number if package in _CUDA else cuda
        if package in _NOT_ON_PYPI:
            refused.append(f"{place}: {package} has no wheel; take {_NOT_ON_PYPI[package]}")
        elif package not in _BROUGHT and not package.startswith(("lib", "cuda-", "_")):
            renamed = _RENAMED.get(package, package)
            found.append((renamed + extras + _specifier(version, place), number))
        elif package.startswith("lib") and package not in _BROUGHT:
            if package in ("librosa", "libsvm", "libcst", "libclang", "librt", "libtorrent"):
                found.append((package + extras + _specifier(version, place), number))
            else:
                refused.append(f"{place}: {package} is a library of Conda's, not on PyPI")
    if refused:
        raise ProjectError(
            "\n".join(refused),
            hint="Only packages with wheels can be installed: change these, or write a "
            "requirements.txt.",
        )
    return CondaEnvironment(name=name, requirements=tuple(found), python=python, cuda=cuda)


_HINT = "environment.yml is read as Conda exports it; anything else goes into a requirements.txt."


def _without_comment(line: str) -> str:
    match = re.search(r"(?:^|\s)#", line)
    return line[: match.start()] if match else line


def _scalar(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].strip()
    return text


def _specifier(version: str, where: str) -> str:
    """Conda's version as PEP 440's: "=1.2" -> "==1.2.*", "=1.2=build" -> "==1.2.*"."""
    version = version.replace(" ", "")
    if not version or version == "*":
        return ""
    parts = []
    for part in version.split(","):
        match = re.fullmatch(r"(==|=|>=|<=|!=|<|>|~=)?([0-9][0-9A-Za-z.!+*_]*)(=.*)?", part)
        if match is None:
            raise ProjectError(f"the version {version!r} isn't understood", where=where, hint=_HINT)
        operator, number = match[1] or "==", match[2]
        number = number.rstrip("*").rstrip(".")
        if operator == "=" or (match[2].endswith("*") and operator in ("==", "!=")):
            sign = "!=" if operator == "!=" else "=="
            parts.append(f"{sign}{number}.*" if not match[3] else f"=={number}")
        else:
            parts.append(operator + number)
    return ",".join(parts)
