"""What a running app never reads, for the packages that are known to bear its absence.

Rules:
- Nothing is trimmed by pattern alone: a package is in the table with what may go and why, and
  `bench/trim.py` imports all its modules and uses it afterwards. Where it is unsure, the package
  isn't in it: numba, say, imports its tests from numba.cuda.testing.
- Never trimmed: `.dist-info` (licences, versions), anything outside site-packages, and headers of
  packages that compile at run time (torch for torch.compile, triton, cupy, the nvidia-* wheels),
  stubs of packages that read their own at run time (lazy_loader: scikit-image, librosa).
- The table is part of a layer's content: a change to it needs a new TRIM_VERSION.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dockyard.wheels.venv import Venv

TRIM_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: str  # matched against the whole path below site-packages
    reason: str


def _tests(*packages: str) -> _Rule:
    tops = "|".join(re.escape(package) for package in packages)
    return _Rule(rf"(?:{tops})/(?:.*/)?tests?/.*", "its own tests")


def _suffix(reason: str, suffixes: str, *packages: str) -> _Rule:
    tops = "|".join(re.escape(package) for package in packages)
    return _Rule(rf"(?:{tops})/.*\.(?:{suffixes})", reason)


def _stubs(*packages: str) -> _Rule:
    return _suffix("type stubs, read by type checkers only", "pyi", *packages)


def _cython(*packages: str) -> _Rule:
    return _suffix(
        "Cython sources, read when other packages are compiled", "pxd|pyx|pxi", *packages
    )


def _headers(*packages: str) -> _Rule:
    return _suffix("C headers, read when other packages are compiled", "h|hpp|inc", *packages)


def _static(*packages: str) -> _Rule:
    return _suffix("static libraries, read by linkers only", "a|lib", *packages)


_TABLE: Final[dict[str, tuple[_Rule, ...]]] = {
    # Headers go too: numpy's C API is found through them only when an extension is compiled. Numba
    # and jax bring their own; torch's inductor includes torch's.
    "numpy": (
        _tests("numpy"),
        _stubs("numpy"),
        _cython("numpy"),
        _headers("numpy"),
        _static("numpy"),
    ),
    "scipy": (_tests("scipy"), _stubs("scipy"), _cython("scipy"), _headers("scipy")),
    # pandas.testing and pandas._testing are no tests and stay
    "pandas": (_tests("pandas"), _stubs("pandas")),
    # sklearn.utils.estimator_checks is public and stays; so do datasets/data and images
    "scikit-learn": (_tests("sklearn"), _cython("sklearn"), _headers("sklearn")),
    # sympy.testing is imported by sympy itself and stays
    "sympy": (_tests("sympy"),),
    "networkx": (_tests("networkx"),),
    "joblib": (_tests("joblib"),),
    "statsmodels": (_tests("statsmodels"), _cython("statsmodels")),
    "matplotlib": (_tests("matplotlib", "mpl_toolkits"), _stubs("matplotlib", "mpl_toolkits")),
    "h5py": (_tests("h5py"),),
    # pyarrow/src and include are what extensions compile against
    "pyarrow": (
        _tests("pyarrow"),
        _cython("pyarrow"),
        _headers("pyarrow"),
        _Rule(r"pyarrow/src/.*", "C++ sources, read when other packages are compiled"),
    ),
    # Only onnx.backend.test's own runner reads these
    "onnx": (
        _Rule(r"onnx/backend/test/data/.*", "its own tests"),
        _tests("onnx/test"),
        _headers("onnx"),
        _Rule(r"onnx/.*\.(?:cc|cpp)", "C++ sources, read when other packages are compiled"),
        _stubs("onnx"),
    ),
    # torch/include stays: torch.compile builds C++ against it
    "torch": (
        _stubs("torch"),
        _Rule(r"torch/share/cmake/.*", "CMake files, read when other packages are compiled"),
        _static("torch"),
        _Rule(r"torch/bin/(?:test_|.*_test$|protoc).*", "test programs and a compiler"),
    ),
    # Custom ops are compiled against these; nothing at run time is
    "tensorflow": (_Rule(r"tensorflow/include/.*", "C headers, read when ops are compiled"),),
    "tensorflow-cpu": (_Rule(r"tensorflow/include/.*", "C headers, read when ops are compiled"),),
}


def trimmable(name: str) -> bool:
    """Whether the distribution `name` (normalized) is in the table at all."""
    return name in _TABLE


def trim_reason(name: str, path: str, venv: Venv) -> str | None:
    """Return why a file of distribution `name` may be left out, None if it must stay.

    path: as in the image.
    """
    prefix = f"{venv.site_packages}/"
    if name not in _TABLE or not path.startswith(prefix):
        return None
    below = path[len(prefix) :]
    for pattern, reason in _patterns(name):
        if pattern.fullmatch(below):
            return reason
    return None


@cache
def _patterns(name: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(rule.pattern, re.DOTALL), rule.reason) for rule in _TABLE[name])
