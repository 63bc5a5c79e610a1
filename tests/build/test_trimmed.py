"""`trim` in whole builds: what it saves, what it changes, and what it leaves as it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from dockyard.build.savings import trim_savings
from dockyard.cache import Cache
from dockyard.oci.layout import read_layout
from dockyard.oci.tree import read_tree
from dockyard.wheels.lock import LockedWheel

if TYPE_CHECKING:
    from pathlib import Path

    from build_ground import Ground
    from tiny_index import TinyIndex

LARGE = "#" * 5_000_001
SITE = "opt/venv/lib/python3.13/site-packages"


@pytest.fixture
def trimmable(ground: Ground) -> Ground:
    """A project with three large wheels, of which trimming knows one."""
    files = {"numpy/tests/test_all.py": "x" * 1000, "numpy/large.py": LARGE}
    ground.index.wheel("numpy", "1.0", files=files)
    ground.index.wheel("gamma", "1.0", files={"gamma/tests/x.py": "y", "gamma/large.py": LARGE})
    (ground.project / "requirements.txt").write_text("alpha\nnumpy\ngamma\n")
    return ground


def locked(index: TinyIndex, name: str) -> LockedWheel:
    (path,) = (index.root / "files").glob(f"{name}-*.whl")
    return LockedWheel(
        name=name, version="1.0", filename=path.name, sha256=name * 8, size=None, url=str(path)
    )


def test_savings_are_counted_in_the_wheels_that_are_there(
    trimmable: Ground, cache: Cache, tmp_path: Path
) -> None:
    wheels = [locked(trimmable.index, name) for name in ("gamma", "numpy")]
    paths = {wheel.sha256: tmp_path / wheel.url for wheel in wheels}
    savings = trim_savings(wheels, paths, on=False, python="3.13", cache=cache)
    assert savings.to_json() == {"on": False, "saves": {"numpy": 1000}, "unknown": []}
    # The second answer needs no wheel any more: the cache has it.
    paths[wheels[1].sha256] = tmp_path / "gone"
    again = trim_savings(wheels, paths, on=True, python="3.13", cache=cache)
    assert again.saves == {"numpy": 1000}
    unknown = trim_savings(wheels, {}, on=True, python="3.13", cache=cache)
    assert unknown.to_json() == {"on": True, "saves": {}, "unknown": ["numpy"]}


@pytest.mark.network
def test_the_plan_says_what_trimming_saves_or_would(trimmable: Ground) -> None:
    _, out, _ = trimmable.build("--dry-run")
    assert "trim          off — would leave out 1.0 kB of tests, headers and stubs: numpy" in out
    _, out, _ = trimmable.build("--dry-run", "--trim")
    assert "trim          on — leaves out 1.0 kB of tests, headers and stubs: numpy 1.0 kB" in out
    _, out, _ = trimmable.build("--dry-run", "--json", "--trim")
    (image,) = json.loads(out)["images"]
    assert image["trim"] == {"on": True, "saves": {"numpy": 1000}, "unknown": []}
    (trimmable.project / "requirements.txt").write_text("alpha\n")
    _, out, _ = trimmable.build("--dry-run")
    assert "off — no package is among those known to bear it" in out


@pytest.mark.network
def test_trimming_changes_the_layers_of_what_it_knows_and_shares_the_rest(
    trimmable: Ground,
) -> None:
    trimmable.digest("whole", "--bytecode", "none")
    trimmable.digest("trimmed", "--bytecode", "none", "--trim")
    whole = read_layout(trimmable.layout("whole"))
    trimmed = read_layout(trimmable.layout("trimmed"))
    different = [
        before.created_by.split("==")[0]
        for before, after in zip(whole.layers, trimmed.layers, strict=True)
        if before.diff_id != after.diff_id
    ]
    assert different == ["dockyard wheel numpy"]
    gone = set(read_tree(whole).files) - set(read_tree(trimmed).files)
    assert gone == {f"{SITE}/numpy/tests", f"{SITE}/numpy/tests/test_all.py"}
    assert "tests/test_all.py" not in str(
        read_tree(trimmed).read(f"{SITE}/numpy-1.0.dist-info/RECORD")
    )
    trimmable.digest("again", "--bytecode", "none")
    assert read_layout(trimmable.layout("again")).digest == whole.digest
