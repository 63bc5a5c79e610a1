"""The command line's frame: lazy commands, one place for errors, exit codes, what is drawn."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from dockyard.cli import output
from dockyard.cli.main import COMMANDS, LazyGroup, run_command_line
from dockyard.errors import ConfigError, DockyardError

HEAVY = ("pydantic", "httpx", "docker", "rich", "uv", "pysequoia", "requests", "packaging")


@pytest.mark.parametrize("line", [["--version"], ["--help"], ["-h"], ["nothing"]])
def test_imports_nothing_heavy_for(line):
    code = (
        "import sys; from dockyard.cli.main import run_command_line; "
        f"run_command_line({line!r}); print([m for m in {HEAVY!r} if m in sys.modules], "
        "[m for m in sys.modules if m.startswith('dockyard.cli.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] ['dockyard.cli.main']"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_tables_line_is_the_commands_own(name):
    target, line = COMMANDS[name]
    module, _, attribute = target.partition(":")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert len(line) <= 62
    assert run_command_line([name, "--help"]) == 0


@pytest.fixture
def failing(monkeypatch):
    """A command that raises what the test says."""

    def install(error):
        def fail():
            raise error

        monkeypatch.setitem(COMMANDS, "fail", ("somewhere:fail", "Fails."))
        command = click.command()(fail)
        monkeypatch.setattr(LazyGroup, "get_command", lambda *_: command)
        return run_command_line(["fail"])

    return install


def test_an_error_says_what_where_and_what_next(failing, capsys):
    error = ConfigError("no such key 'prots'", where="dockyard.toml:3", hint="Write ports.")
    assert failing(error) == 2
    assert capsys.readouterr().err == (
        "error: no such key 'prots'\n  dockyard.toml:3\n  Write ports.\n"
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DockyardError("no"), 1),
        (KeyboardInterrupt(), 130),
        (SystemExit(143), 143),
        (click.UsageError("wrong"), 2),
        (click.Abort(), 130),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_end_has_its_exit_code(failing, error, code, capsys):
    assert failing(error) == code
    assert "Traceback" not in capsys.readouterr().err


def test_a_bug_shows_its_traceback(failing):
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert run_command_line(["rnu"]) == 2
    assert "Did you mean run?" in capsys.readouterr().err


class Terminal:
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("environment", "colour"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_only_on_terminals_that_want_it(monkeypatch, environment, colour):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert output.use_colour(Terminal()) is colour
    with Path(os.devnull).open() as stream:
        assert not output.use_colour(stream)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (594_200_000, "594.2 MB"),
     (3_100_000_000, "3.1 GB"), (5e12, "5000.0 GB")],
)  # fmt: skip
def test_sizes_are_written_for_people(size, text):
    assert output.format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.123, "0.12 s"), (5.44, "5.4 s"), (125, "2 min 5 s")]
)
def test_times_are_written_for_people(seconds, text):
    assert output.format_seconds(seconds) == text


def test_without_a_terminal_a_task_is_one_line_at_its_end(capsys, monkeypatch):
    monkeypatch.setattr(output, "_QUICK", 0)
    with output.open_reporter() as reporter:
        with reporter.task("fetching torch", total=2000) as task:
            task.advance(500)
            task.describe("fetching numpy")
            task.advance(1500)
            assert capsys.readouterr().err == ""
        monkeypatch.setattr(output, "_QUICK", 60)
        with reporter.task("too quick to mention", total=1) as task:
            task.advance(1)
        reporter.note("done")
        reporter.warn("slow")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("fetching numpy: 2.0 kB in ")
    assert lines[1:] == ["done", "warning: slow"]


def test_quiet_leaves_only_warnings(capsys):
    with output.open_reporter(quiet=True) as reporter:
        with reporter.task("fetching", total=10) as task:
            task.advance(10)
        reporter.note("done")
        reporter.warn("slow")
    assert capsys.readouterr() == ("", "warning: slow\n")


def test_a_terminal_gets_bars_that_leave_no_trace():
    script = (
        "import sys, time; from dockyard.cli.output import open_reporter\n"
        "with open_reporter() as r:\n"
        "    with r.task('fetching torch', total=100) as t:\n"
        "        t.advance(50); time.sleep(0.3); r.note('[half] way')\n"
        "    sys.stderr.write('AFTER\\n'); sys.stderr.flush(); time.sleep(0.3)\n"
        "    r.warn('[careful]')\n"
    )
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execv(sys.executable, [sys.executable, "-c", script])
    seen = b""
    try:
        while data := os.read(terminal, 4096):
            seen += data
    except OSError:
        pass  # Linux: the other side was closed.
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    before, after = seen.split(b"AFTER")
    assert b"fetching torch" in before
    assert b"[half] way" in before
    assert b"fetching torch" not in after
    assert b"[careful]" in after


def test_tables_are_aligned_and_never_cut(capsys):
    rows = [["torch", "594.2 MB"], ["数字", "1.0 kB"], ["x" * 200, "1 B"]]
    output.print_table(["name", "size"], rows, right="size")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "SIZE"]
    assert lines[1] == "torch" + " " * 195 + "  594.2 MB"
    assert lines[2] == "数字" + " " * 196 + "    1.0 kB"
    assert lines[3].startswith("x" * 200)
