# ruff: noqa: E501 -- the operations read better in whole lines
"""Does a package still work after trimming? For each package of the trim table.

    python bench/trim.py --cache DIR [--only NAME]

Rules:
- The package and what it needs are installed twice, untrimmed and trimmed, from Dockyard's entries,
  into a venv on disk; every module that imports in the one must import in the other, except the
  trimmed ones; then a real operation runs in the trimmed one.
- --cache is a folder of wheels that holds the packages and all they need
  (`pip download -d DIR numpy scipy …`); nothing is downloaded here.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from dockyard.wheels.install import InstalledWheel, Venv, install_wheel, venv_entries
from dockyard.wheels.trim import trimmable

HERE = Path(__file__).parent

# Distribution -> (module, what to do with it). The walk over all modules is left out where
# importing everything needs what isn't there (a GPU, a display) or takes minutes.
OPERATIONS = {
    "numpy": ("numpy", "import numpy as np; a = np.random.default_rng(0).normal(size=(50, 50));"
              "assert np.allclose(np.linalg.inv(a) @ a, np.eye(50));"
              "import numpy.testing; numpy.testing.assert_allclose(np.fft.ifft(np.fft.fft(a)), a)"),
    "scipy": ("scipy", "from scipy import optimize, sparse, stats; import scipy.linalg as l;"
              "assert optimize.minimize(lambda x: (x - 3) ** 2, 0.0).x.round(3) == 3;"
              "assert l.svdvals([[3, 0], [0, 4]]).tolist() == [4, 3];"
              "assert abs(stats.norm.cdf(0) - 0.5) < 1e-9; sparse.eye(3).tocsr() @ [1, 2, 3]"),
    "pandas": ("pandas", "import io, pandas as pd; d = pd.read_csv(io.StringIO('a,b\\n1,x\\n2,y'));"
               "assert d.groupby('b').a.sum()['y'] == 2; import pandas.testing as t;"
               "t.assert_frame_equal(d, d.copy()); pd.to_datetime('2024-02-29')"),
    "scikit-learn": ("sklearn", "from sklearn import datasets, ensemble, linear_model;"
                     "x, y = datasets.load_digits(return_X_y=True);"
                     "m = ensemble.RandomForestClassifier(20, random_state=0).fit(x[:900], y[:900]);"
                     "assert m.score(x[900:], y[900:]) > 0.8;"
                     "linear_model.LogisticRegression(max_iter=50).fit(x[:200], y[:200]);"
                     "datasets.load_sample_image"),
    "sympy": ("sympy", "import sympy as s; x = s.symbols('x');"
              "assert s.integrate(s.sin(x), (x, 0, s.pi)) == 2; assert s.solve(x**2 - 4) == [-2, 2]"),
    "networkx": ("networkx", "import networkx as n; g = n.path_graph(5);"
                 "assert n.shortest_path_length(g, 0, 4) == 4; n.minimum_spanning_tree(g); n.greedy_color(g)"),
    "joblib": ("joblib", "import joblib; f = joblib.delayed(abs);"
               "assert joblib.Parallel(2)(f(-i) for i in range(3)) == [0, 1, 2];"
               "import tempfile, os; p = os.path.join(tempfile.mkdtemp(), 'x'); joblib.dump(1, p);"
               "assert joblib.load(p) == 1"),
    "statsmodels": ("statsmodels", "import numpy as np, statsmodels.api as sm;"
                    "x = sm.add_constant(np.arange(9.0)); r = sm.OLS(np.arange(9) * 2 + 1, x).fit();"
                    "assert np.allclose(r.params, [1, 2]); r.summary();"
                    "sm.datasets.longley.load_pandas()"),
    "matplotlib": ("matplotlib", "import matplotlib; matplotlib.use('agg');"
                   "import matplotlib.pyplot as p, io; p.plot([1, 2]); p.title('$x^2$');"
                   "b = io.BytesIO(); p.savefig(b); assert len(b.getvalue()) > 5000;"
                   "from mpl_toolkits.mplot3d import Axes3D; p.figure().add_subplot(projection='3d')"),
    "h5py": ("h5py", "import h5py, tempfile, os; p = os.path.join(tempfile.mkdtemp(), 'x.h5');"
             "f = h5py.File(p, 'w'); f['a'] = range(5); f.close();"
             "assert h5py.File(p)['a'][2] == 2"),
    "pyarrow": ("pyarrow", "import pyarrow as pa, pyarrow.parquet as q, pyarrow.compute as c, io;"
                "t = pa.table({'a': [1, 2, 3]}); b = io.BytesIO(); q.write_table(t, b); b.seek(0);"
                "assert q.read_table(b).equals(t); assert c.sum(t['a']).as_py() == 6;"
                "import pyarrow.dataset, pyarrow.csv"),
    "onnx": ("onnx", "from onnx import helper as h, checker, shape_inference, TensorProto as T;"
             "v = h.make_tensor_value_info; n = h.make_node('Relu', ['x'], ['y']);"
             "g = h.make_graph([n], 'g', [v('x', T.FLOAT, [2])], [v('y', T.FLOAT, [2])]);"
             "m = h.make_model(g); checker.check_model(m); shape_inference.infer_shapes(m);"
             "import numpy as np; from onnx.reference import ReferenceEvaluator as R;"
             "assert R(m).run(None, {'x': np.float32([-1, 2])})[0].tolist() == [0, 2]"),
    "torch": ("", "import torch, torch.nn as n; m = n.Sequential(n.Linear(4, 8), n.ReLU(), n.Linear(8, 1));"
              "x = torch.randn(16, 4); m(x).sum().backward(); assert m[0].weight.grad is not None;"
              "torch.jit.trace(m, x)(x); torch.export.export(m, (x,));"
              "e = torch.compile(m)(x); assert torch.allclose(e, m(x), atol=1e-5);"
              "import torch.utils.data, torch.optim, torch.distributed, torch.testing;"
              "torch.testing.assert_close(x, x)"),
    "tensorflow-cpu": ("", "import tensorflow as tf, numpy as np;"
                       "m = tf.keras.Sequential([tf.keras.layers.Dense(3), tf.keras.layers.Dense(1)]);"
                       "m.compile('adam', 'mse'); m.fit(np.ones((8, 2)), np.ones(8), verbose=0);"
                       "f = tf.function(lambda a: a * 2, jit_compile=True);"
                       "assert f(tf.constant(2.0)) == 4; m.predict(np.ones((1, 2)), verbose=0)"),
}  # fmt: skip

WALK = """
import contextlib, importlib, io, json, os, pkgutil, sys, warnings
warnings.simplefilter("ignore")
sys.argv = ["x"]
os.chdir(os.environ["SCRATCH"])
found = []
def walk(name):
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            module = importlib.import_module(name)
    except BaseException:
        return
    found.append(name)
    for below in pkgutil.iter_modules(getattr(module, "__path__", [])):
        if below.name not in ("tests", "test", "__main__", "conftest"):
            walk(f"{name}.{below.name}")
walk(sys.argv_module)
print(json.dumps(found), file=sys.__stdout__, flush=True)
os._exit(0)
"""


def closure(cache: Path, name: str) -> list[Path]:
    """Return the wheels of `name` and all that it needs, from the cache alone."""
    wheels = {parse_wheel_filename(path.name)[0]: path for path in sorted(cache.glob("*.whl"))}
    found: dict[str, Path] = {}
    todo: list[tuple[str, frozenset[str]]] = [(canonicalize_name(name), frozenset())]
    while todo:
        wanted, extras = todo.pop()
        if wanted in found and not extras:
            continue
        if wanted not in wheels:
            raise SystemExit(f"{name} needs {wanted}, which isn't in {cache}")
        found[wanted] = wheels[canonicalize_name(wanted)]
        installed = install_wheel(found[wanted], Venv(), requested=False)
        for text in installed.metadata.requires_dist:
            requirement = Requirement(text)
            if needed(requirement.marker, extras):
                todo.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return list(found.values())


def needed(marker: Marker | None, extras: frozenset[str]) -> bool:
    """Whether a requirement applies here."""
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, ""))


def write(root: Path, wheels: list[Path], *, trim: bool) -> tuple[Path, list[InstalledWheel]]:
    """Install wheels into a new venv on disk."""
    version = ".".join(platform.python_version_tuple()[:2])
    venv = Venv(root=str(root).lstrip("/"), python=version)
    base = str(Path(sys.executable).resolve())
    installed = [install_wheel(path, venv, requested=True, trim=trim) for path in wheels]
    for entry in [
        *venv_entries(venv, base_python=base),
        *(e for i in installed for e in i.entries),
    ]:
        path = Path("/") / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == "symlink":
            path.symlink_to(entry.target)
        elif entry.kind == "directory":
            path.mkdir(exist_ok=True)
        elif entry.source is not None:
            with path.open("wb") as file:
                for chunk in entry.source.chunks():
                    file.write(chunk)
            path.chmod(entry.mode)
    return root / "bin" / "python", installed


def run(python: Path, code: str, scratch: Path) -> str:
    """Run code in a venv; its output, or SystemExit with what it said."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(scratch), "SCRATCH": str(scratch),
                   "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    done = subprocess.run(
        [python, "-c", code], env=environment, capture_output=True, text=True, check=False,
        cwd=scratch,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{code[:200]}\nfailed with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def check(name: str, cache: Path, work: Path) -> tuple[int, int, int]:
    """Check one package; return bytes before, bytes saved, modules imported."""
    module, operation = OPERATIONS[name]
    wheels = closure(cache, name)
    modules: list[set[str]] = []
    for trim in (False, True):
        shutil.rmtree(work / "venv", ignore_errors=True)
        scratch = work / "scratch"
        scratch.mkdir(exist_ok=True)
        if not trim and not module:
            continue
        python, installed = write(work / "venv", wheels, trim=trim)
        if module:
            code = WALK.replace("sys.argv_module", repr(module))
            modules.append(set(json.loads(run(python, code, scratch).splitlines()[-1])))
    run(python, operation, scratch)
    if module:
        broken = {m for m in modules[0] - modules[1] if not re.search(r"\.tests?(\.|$)", m)}
        if broken:
            raise SystemExit(f"{name}: trimming breaks the import of {sorted(broken)[:10]}")
    (own,) = [wheel for wheel in installed if wheel.name == name]
    return own.size + own.trimmed_bytes, own.trimmed_bytes, len(modules[1]) if module else 0


def main() -> None:
    """Check all packages, print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--only", action="append")
    options = parser.parse_args()
    print("| package | MB | trimmed MB | modules imported |\n|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory(prefix="trim-") as work:
        for name in options.only or OPERATIONS:
            assert trimmable(name)
            size, saved, count = check(name, options.cache.absolute(), Path(work))
            print(f"| {name} | {size / 1e6:.1f} | {saved / 1e6:.1f} | {count or 'not walked'} |",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
