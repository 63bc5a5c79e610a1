"""Requirements that dockyard.toml lists: resolved with the files it names, and locked with them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from build_ground import Ground

pytestmark = pytest.mark.network


@pytest.fixture
def listed(ground: Ground) -> Ground:
    """A project whose configuration lists a package and a file that names another."""
    for name in ("gamma", "delta", "epsilon"):
        ground.index.wheel(name, "1.0")
    (ground.project / "requirements.txt").unlink()
    (ground.project / "needs").mkdir()
    (ground.project / "needs" / "base.txt").write_text("-r more.txt\ngamma\n")
    (ground.project / "needs" / "more.txt").write_text("delta\n")
    configure(ground, "alpha", "needs/base.txt")
    return ground


def configure(ground: Ground, *requirements: str) -> None:
    text = f'requirements = {json.dumps(requirements)}\ncommand = ["python", "app.py"]\n'
    (ground.project / "dockyard.toml").write_text(text)


def packages(ground: Ground, *args: object) -> list[str]:
    code, out, err = ground.build("--dry-run", "--json", *args)
    assert code == 0, err
    (image,) = json.loads(out)["images"]
    (wheels,) = [layer["origin"] for layer in image["layers"] if layer["kind"] == "wheels"]
    return [word.split()[0] for word in wheels.split(", ")]


def test_packages_and_files_are_taken_together(listed: Ground) -> None:
    assert packages(listed) == ["alpha", "beta", "delta", "gamma"]
    _, out, _ = listed.build("--dry-run")
    assert "needs/base.txt, alpha" in out
    configure(listed, "epsilon", "gamma>=1")
    assert packages(listed) == ["epsilon", "gamma"]


def test_a_lock_is_current_until_the_list_or_its_files_change(
    listed: Ground, tmp_path: Path
) -> None:
    assert listed.run("lock", listed.project)[0] == 0
    assert listed.run("lock", listed.project, "--check")[0] == 0
    assert packages(listed, "--locked") == ["alpha", "beta", "delta", "gamma"]
    # Nor does a lock depend on where the project lies.
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(listed.project, elsewhere)
    assert listed.run("lock", elsewhere, "--check")[0] == 0
    configure(listed, "alpha", "epsilon", "needs/base.txt")
    code, _, err = listed.run("lock", listed.project, "--check")
    assert code == 1
    assert "epsilon (`requirements`:2) isn't in it" in err
    code, _, err = listed.build("--dry-run", "--locked")
    assert code == 1
    assert "epsilon" in err
    code, _, err = listed.build("--dry-run")
    assert code == 0
    assert "pylock.toml isn't current" in err
    assert packages(listed) == ["alpha", "beta", "delta", "epsilon", "gamma"]
    # What is listed no more is a change too.
    configure(listed, "needs/base.txt")
    assert listed.run("lock", listed.project, "--check")[0] == 1
    configure(listed, "alpha", "needs/base.txt")
    assert listed.run("lock", listed.project, "--check")[0] == 0
    (listed.project / "needs" / "more.txt").write_text("delta\nepsilon\n")
    code, _, err = listed.run("lock", listed.project, "--check")
    assert code == 1
    assert "epsilon" in err
    assert "more.txt:2" in err


def test_a_requirements_file_beside_the_list_is_no_part_of_it(listed: Ground) -> None:
    (listed.project / "requirements.txt").write_text("epsilon\n")
    assert listed.run("lock", listed.project)[0] == 0
    assert listed.run("lock", listed.project, "--check")[0] == 0
    assert "epsilon" not in packages(listed, "--locked")


def test_a_listed_package_that_does_not_exist_is_named(listed: Ground) -> None:
    configure(listed, "alpha", "no-such-thing")
    code, _, err = listed.build("--dry-run")
    assert code == 1
    assert "no-such-thing" in err
    assert "`requirements`:2" in err
