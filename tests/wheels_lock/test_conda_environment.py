"""environment.yml, as far as pip can install it."""

from __future__ import annotations

from pathlib import Path

import pytest
from lock_project import Project, versions

from dockyard.errors import ResolveError
from dockyard.wheels.conda import read_environment

REAL = """\
name: digits
channels:
  - pytorch
  - conda-forge
dependencies:
  - python=3.11.4
  - pip
  - numpy=1.26
  - conda-forge::scikit-learn>=1.3,<2
  - pandas==2.1.4
  - scipy=1.11.4=py311h64a7726_0
  - pytorch          # renamed
  - pytorch-cuda=12.1
  - pip:
      - alpha<2
      - "beta[x]; python_version > '3'"
prefix: /home/someone/miniconda3/envs/digits
"""


def read(tmp_path: Path, text: str):
    path = tmp_path / "environment.yml"
    path.write_text(text)
    return read_environment(path)


def test_a_real_file_becomes_requirements(tmp_path: Path) -> None:
    found = read(tmp_path, REAL)
    assert found.requirements.splitlines() == [
        "numpy==1.26.*",
        "scikit-learn>=1.3,<2",
        "pandas==2.1.4",
        "scipy==1.11.4",
        "torch",
        "alpha<2",
        "beta[x]; python_version > '3'",
    ]
    assert found.lines == (8, 9, 10, 11, 12, 15, 16)
    assert found.python == "3.11"
    assert [note.split(":")[1] for note in found.notes] == ["7", "13"]


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        pytest.param(
            "dependencies:\n  - r-base\n  - gdal=3\n", "r-base, gdal", 2, id="not on PyPI"
        ),
        pytest.param("dependencies: {a: b}\n", "one item per line", 1, id="a mapping"),
        pytest.param("dependencies:\n  - {a: b}\n", "isn't understood", 2, id="an inline mapping"),
        pytest.param(
            "dependencies:\n  - conda:\n    - a\n", "isn't understood", 2, id="other tool"
        ),
        pytest.param("dependencies:\n\t- numpy\n", "tabs", 2, id="tabs"),
        pytest.param("dependencies:\n  - numpy=x y z\n", "version", 2, id="version"),
        pytest.param("dependencies:\n  - python=three\n", "Python version", 2, id="Python"),
    ],
)
def test_what_pip_cant_install_is_refused_by_line(
    tmp_path: Path, text: str, what: str, line: int
) -> None:
    with pytest.raises(ResolveError) as caught:
        read(tmp_path, text)
    assert what in caught.value.what
    assert caught.value.where == f"environment.yml:{line}"


def test_it_is_resolved_and_messages_name_its_lines(project: Project) -> None:
    text = "dependencies:\n  - python=3.11\n  - pip\n  - pip:\n    - alpha<2\n"
    project.write("environment.yml", text)
    lock = project.resolve("environment.yml")
    assert versions(lock) == {"alpha": "1.0"}
    assert lock.wheels[0].requested
    project.write("environment.yml", text + "    - nosuch\n")
    with pytest.raises(ResolveError) as caught:
        project.resolve("environment.yml")
    assert caught.value.where == "environment.yml:6"
