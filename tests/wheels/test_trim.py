"""Trimming: what goes, what stays, and that real packages still work.

`bench/trim.py` does the last for the whole table, with every module imported before and after.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest
from wheel_maker import make_wheel, tree, write_tree

from dockyard.files import with_parents
from dockyard.wheels.clash import merge_entries
from dockyard.wheels.install import Venv, install_wheel, venv_entries
from dockyard.wheels.trim import trim_reason, trimmable

SITE = "opt/venv/lib/python3.11/site-packages"
VENV = Venv()

TRIMMED = [
    ("numpy", "numpy/linalg/tests/test_linalg.py", "tests"),
    ("numpy", "numpy/__init__.pyi", "stubs"),
    ("numpy", "numpy/_core/include/numpy/ndarraytypes.h", "headers"),
    ("numpy", "numpy/random/lib/libnpyrandom.a", "static"),
    ("numpy", "numpy/__init__.pxd", "Cython"),
    ("scipy", "scipy/stats/tests/data/x.npy", "tests"),
    ("pandas", "pandas/tests/frame/test_api.py", "tests"),
    ("scikit-learn", "sklearn/utils/tests/test_x.py", "tests"),
    ("torch", "torch/share/cmake/Torch/TorchConfig.cmake", "CMake"),
    ("torch", "torch/_C/__init__.pyi", "stubs"),
    ("tensorflow-cpu", "tensorflow/include/Eigen/Core", "headers"),
    ("onnx", "onnx/backend/test/data/node/test_abs/model.onnx", "tests"),
]

KEPT = [
    ("numpy", "numpy/testing/__init__.py"),
    ("numpy", "numpy/_core/_multiarray_tests.so"),
    ("numpy", "numpy-2.4.6.dist-info/licenses/tests/LICENSE.txt"),
    ("numpy", "numpy.libs/libscipy_openblas.so"),
    ("pandas", "pandas/_testing/__init__.py"),
    ("pandas", "pandas/testing.py"),
    ("scikit-learn", "sklearn/datasets/data/digits.csv.gz"),
    ("scikit-learn", "sklearn/utils/estimator_checks.py"),
    ("sympy", "sympy/testing/runtests.py"),
    ("matplotlib", "matplotlib/mpl-data/matplotlibrc"),
    ("torch", "torch/include/torch/torch.h"),
    ("torch", "torch/testing/_comparison.py"),
    ("tensorflow-cpu", "tensorflow/python/tests/x.py"),
    # not in the table
    ("requests", "requests/tests/test_x.py"),
    ("scikit-image", "skimage/io/__init__.pyi"),
    ("nvidia-cuda-runtime-cu12", "nvidia/cuda_runtime/include/cuda.h"),
    ("triton", "triton/backends/nvidia/include/cuda.h"),
]


@pytest.mark.parametrize(("name", "path", "reason"), TRIMMED)
def test_trims_what_a_running_app_never_reads(name: str, path: str, reason: str) -> None:
    found = trim_reason(name, f"{SITE}/{path}", VENV)
    assert found is not None
    assert reason.lower() in found.lower()


@pytest.mark.parametrize(("name", "path"), KEPT)
def test_keeps_what_may_be_read(name: str, path: str) -> None:
    assert trim_reason(name, f"{SITE}/{path}", VENV) is None


def test_keeps_what_lies_outside_site_packages() -> None:
    assert trim_reason("numpy", "opt/venv/share/numpy/tests/x", VENV) is None
    assert not trimmable("requests")


def test_trimmed_files_leave_record_too_and_are_counted(tmp_path: Path) -> None:
    path = make_wheel(
        tmp_path,
        {"numpy/__init__.py": b"", "numpy/tests/test_a.py": b"x" * 100, "numpy/a.pyi": b"y" * 11},
        name="numpy",
    )
    whole = install_wheel(path, VENV, requested=False)
    less = install_wheel(path, VENV, requested=False, trim=True)
    gone = set(tree(whole.entries)) - set(tree(less.entries))
    assert gone == set(less.trimmed) == {f"{SITE}/numpy/tests/test_a.py", f"{SITE}/numpy/a.pyi"}
    assert (whole.trimmed_bytes, less.trimmed_bytes) == (0, 111)
    record = tree(less.entries)[f"{SITE}/numpy-1.0.dist-info/RECORD"].decode()
    listed = {row[0] for row in csv.reader(io.StringIO(record, ""))}
    assert {f"{SITE}/{name}" for name in listed} == set(tree(less.entries))


USE = """
import io, warnings
import numpy as np, pandas as pd
from scipy import linalg, optimize, stats
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
a = np.random.default_rng(0).normal(size=(30, 30))
assert np.allclose(linalg.inv(a) @ a, np.eye(30))
assert optimize.minimize(lambda x: (x - 3) ** 2, 0.0).x.round(3) == 3
assert pd.read_csv(io.StringIO("a,b\\n1,x\\n2,y")).groupby("b").a.sum()["y"] == 2
warnings.simplefilter("ignore")
x, y = load_digits(return_X_y=True)
assert LogisticRegression(max_iter=100).fit(x[:900], y[:900]).score(x[900:], y[900:]) > 0.85
print("works")
"""


@pytest.mark.network
@pytest.mark.slow
def test_numpy_scipy_pandas_and_scikit_learn_work_after_trimming(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "-d"]
    subprocess.run([*command, wheels, "scikit-learn", "pandas"], check=True)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    root = tmp_path / "venv"
    venv = Venv(root=str(root).lstrip("/"), python=version)
    installed = [
        install_wheel(path, venv, requested=True, trim=True) for path in sorted(wheels.iterdir())
    ]
    saved = {wheel.name: wheel.trimmed_bytes for wheel in installed}
    assert all(saved[name] > 5e6 for name in ("numpy", "scipy", "pandas", "scikit-learn"))
    base = str(Path(sys.executable).resolve())
    entries = [*venv_entries(venv, base_python=base), *merge_entries(installed)]
    write_tree(with_parents(entries), Path("/"))
    done = subprocess.run(
        [root / "bin" / "python", "-c", USE], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.stdout == "works\n", done.stderr
