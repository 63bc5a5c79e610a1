"""`dockyard init`, as the command line runs it."""

from pathlib import Path

import pytest

from dockyard.cli.main import run_command_line

APP = "print('hello')\n"


def test_writes_settings_that_the_next_reading_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app.py").write_text(APP)
    assert run_command_line(["init", str(tmp_path)]) == 0
    assert (tmp_path / "dockyard.toml").exists()
    assert run_command_line(["init", str(tmp_path)]) == 2
    assert "--force" in capsys.readouterr().err
    assert run_command_line(["init", "--force", str(tmp_path)]) == 0


def test_refuses_a_second_place_for_the_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "pyproject.toml").write_text('[tool.dockyard]\nname = "mine"\n')
    assert run_command_line(["init", str(tmp_path)]) == 2
    assert "[tool.dockyard]" in capsys.readouterr().err
    assert not (tmp_path / "dockyard.toml").exists()
