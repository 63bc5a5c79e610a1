"""`dockyard lint`, as the command line runs it."""

from __future__ import annotations

import json

import pytest

from dockyard.cli.main import run_command_line

DOCKERFILE = 'FROM python:3.12-slim\nRUN pip install flask==3.0.0\nUSER app\nCMD ["x"]\n'


def lint(capsys, *words) -> tuple[int, str, str]:
    code = run_command_line(["lint", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def project(tmp_path):
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    return tmp_path


def test_says_what_it_costs_and_how_to_fix_it(project, capsys):
    code, out, _ = lint(capsys, project, "--no-hadolint")
    assert code == 0
    assert "Dockerfile:2:9: warning DY207 [pip-cache-kept]" in out
    assert "costs: a second copy" in out
    assert "1 finding: 1 warning. --fix carries out 1 of the fixes." in out


def test_a_clean_project_is_told_so(project, capsys):
    assert lint(capsys, project, "--fix", "--no-hadolint")[0] == 0
    code, out, _ = lint(capsys, project, "--no-hadolint")
    assert (code, out) == (0, "Nothing to say: every rule is content.\n")


@pytest.mark.parametrize(("least", "code"), [("error", 0), ("warning", 1), ("never", 0)])
def test_the_exit_code_goes_by_the_least_severity(project, capsys, least, code):
    assert lint(capsys, project, "--no-hadolint", "--fail-on", least)[0] == code


def test_an_error_exits_with_1(project, capsys):
    (project / "Dockerfile").write_text("FROM a\nENV API_KEY=abc123\nUSER a\n")
    assert lint(capsys, project, "--no-hadolint")[0] == 1


def test_shows_the_difference_and_writes_only_when_asked(project, capsys):
    out = lint(capsys, project, "--diff", "--no-hadolint")[1]
    assert "+RUN pip install --no-cache-dir flask==3.0.0" in out
    assert (project / "Dockerfile").read_text() == DOCKERFILE
    out = lint(capsys, project, "--fix", "--no-hadolint")[1]
    assert "+RUN pip install --no-cache-dir flask==3.0.0" in out
    assert "--no-cache-dir" in (project / "Dockerfile").read_text()


@pytest.mark.parametrize("words", [("--json",), ("--format", "sarif"), ("--json", "--fix")])
def test_what_a_program_reads_is_json_and_nothing_else(project, capsys, words):
    assert isinstance(json.loads(lint(capsys, project, *words)[1]), dict)


def test_the_configuration_selects_ignores_and_weighs(project, capsys):
    (project / "dockyard.toml").write_text(
        '[lint]\nselect = "DY2"\nhadolint = false\nseverity = { pip-cache-kept = "error" }\n'
    )
    assert lint(capsys, project)[0] == 1
    assert lint(capsys, project, "--ignore", "DY207")[0] == 0
    assert lint(capsys, project, "--select", "DY4")[0] == 0


# the text of [lint], what the message says
WRONG = [
    ("select = 3", "must be a string in quotes"),
    ('ignore = "§"', "is no rule"),
    ('severity = { DY101 = "fatal" }', '"error", "warning" or "info"'),
    ("selct = []", "did you mean `select`"),
    ('select = "DY999"', "is no rule"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_refuses_wrong_settings(project, capsys, text, says):
    (project / "dockyard.toml").write_text(f"[lint]\n{text}\n")
    code, _, err = lint(capsys, project)
    assert code == 2
    assert says in err


def test_names_a_dockerfile_or_refuses_what_is_not_there(project, capsys):
    other = project / "other.Dockerfile"
    other.write_text("FROM python:3.7-slim\nUSER a\n")
    code, out, _ = lint(capsys, other, "--no-hadolint")
    assert (code, out.count("other.Dockerfile:")) == (0, 1)
    assert "Dockerfile:2:9" not in out
    code, _, err = lint(capsys, project / "nothing")
    assert code == 2
    assert "no such file" in err


def test_lists_and_explains_the_rules(capsys):
    assert "DY207" in lint(capsys, "--rules")[1]
    assert "# DY207:" in lint(capsys, "--explain", "pip-cache-kept")[1]
    assert lint(capsys, "--explain", "DY999")[0] == 2
