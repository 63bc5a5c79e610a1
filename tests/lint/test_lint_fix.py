"""Safe fixes: what they change, that nothing else changes, and that they end."""

from __future__ import annotations

import pytest
from lint_projects import TODAY, findings_of, write_example

from dockyard.errors import ProjectError
from dockyard.lint.fix import plan_fixes, write_changes
from dockyard.lint.rule import Zeros, all_rules
from dockyard.lint.run import Selection, run_rules
from dockyard.lint.subject import Subject


def fixed(folder, files, *select):
    changes = plan_fixes(folder, findings_of(folder, files, *select))
    write_changes(folder, changes)
    return changes


# rule, Dockerfile before, after
FIXES = [
    (
        "DY207",
        "FROM a\nRUN pip \\\n  install  flask==3\n",
        "FROM a\nRUN pip \\\n  install --no-cache-dir  flask==3\n",
    ),
    (
        "DY101",
        "FROM a\nCOPY . .\nENV A=1\nRUN pip install -r requirements.txt\n# end\nCMD x\n",
        "FROM a\nCOPY requirements.txt ./\nENV A=1\nRUN pip install -r requirements.txt\nCOPY . .\n"
        "# end\nCMD x\n",
    ),
    ("DY403", "FROM a\nCMD python 'my app.py'\n", 'FROM a\nCMD ["python", "my app.py"]\n'),
    (
        "DY405",
        "FROM a\nhealthcheck \\\n CMD x\n",
        "FROM a\nhealthcheck --start-period=120s \\\n CMD x\n",
    ),
]


@pytest.mark.parametrize(("rule", "before", "after"), FIXES, ids=[row[0] for row in FIXES])
def test_a_fix_changes_just_that(tmp_path, rule, before, after):
    files = {"Dockerfile": before, "requirements.txt": "flask==3.0.0\n", "app.py": ""}
    fixed(tmp_path, files, rule)
    assert (tmp_path / "Dockerfile").read_text() == after
    again = run_rules(Subject(tmp_path, today=TODAY), Selection(select=(rule,)))
    assert again == ()


# Dockerfile: what makes moving the COPY, or another form of the command, no safe fix
UNSAFE = [
    ("DY101", "FROM a\nCOPY . .\nRUN ./prepare\nRUN pip install -r requirements.txt\n"),
    ("DY101", "FROM a\nCOPY . .\nRUN pip install -r requirements.txt && ./setup\n"),
    ("DY101", "FROM a\nCOPY --chown=1 . .\nRUN pip install -r requirements.txt\n"),
    ("DY101", "FROM a\nCOPY . .\nRUN pip install -r requirements.txt -e .\n"),
    ("DY403", "FROM a\nCMD python app.py --port $PORT\n"),
    ("DY403", 'FROM a\nSHELL ["/bin/bash", "-c"]\nCMD python app.py\n'),
]


@pytest.mark.parametrize(("rule", "text"), UNSAFE)
def test_what_might_change_the_meaning_is_left_to_people(tmp_path, rule, text):
    files = {"Dockerfile": text, "requirements.txt": "flask==3.0.0\n", "app.py": ""}
    found = findings_of(tmp_path, files, rule)
    assert found
    assert plan_fixes(tmp_path, found) == ()


def test_a_missing_dockerignore_is_written_and_an_existing_one_goes_on(tmp_path):
    files = {"Dockerfile": "FROM a\nCOPY . /app\n", ".git/x": Zeros(2_000_000)}
    (change,) = fixed(tmp_path, files, "DY102")
    assert (change.path, change.before) == (".dockerignore", None)
    assert change.diff().startswith("--- /dev/null\n+++ b/.dockerignore\n")
    (change,) = fixed(tmp_path, {**files, ".dockerignore": "*.log"}, "DY102")
    assert (tmp_path / ".dockerignore").read_text() == "*.log\n.git\n"


def test_dos_line_ends_and_modes_stay(tmp_path):
    path = tmp_path / "Dockerfile"
    path.write_bytes(b"FROM a\r\nRUN pip install flask==3\r\n")
    path.chmod(0o600)
    fixed(tmp_path, {}, "DY207")
    assert path.read_bytes() == b"FROM a\r\nRUN pip install --no-cache-dir flask==3\r\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["Dockerfile"]


def test_refuses_to_write_over_what_changed_meanwhile(tmp_path):
    changes = plan_fixes(tmp_path, findings_of(tmp_path, "FROM a\nRUN pip install a==1\n", "DY207"))
    (tmp_path / "Dockerfile").write_text("FROM other\n")
    with pytest.raises(ProjectError, match="changed meanwhile"):
        write_changes(tmp_path, changes)
    assert (tmp_path / "Dockerfile").read_text() == "FROM other\n"


@pytest.mark.parametrize("rule", all_rules(), ids=lambda rule: rule.id)
def test_fixing_ends_and_silences_what_it_fixed(tmp_path, rule):
    write_example(tmp_path, rule.bad)
    for _ in range(4):
        found = run_rules(Subject(tmp_path, today=TODAY))
        changes = plan_fixes(tmp_path, found)
        if not changes:
            break
        write_changes(tmp_path, changes)
    assert not any(item.edits for item in run_rules(Subject(tmp_path, today=TODAY)))
