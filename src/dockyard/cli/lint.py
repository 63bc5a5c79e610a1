"""`dockyard lint`: what is wrong with a Dockerfile and the project around it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import click

from dockyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard.lint.finding import Finding
    from dockyard.lint.run import Selection
    from dockyard.lint.subject import Subject

Format = Literal["text", "json", "sarif", "github"]
_ROUNDS = 5  # Fixes that touch the same lines wait for each other; more never happened.
_COLOURS = {"error": "1;31", "warning": "1;33", "info": "1;36"}


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--select", multiple=True, metavar="RULE", help="Run these rules only (DY2, DY101).")
@click.option("--ignore", multiple=True, metavar="RULE", help="Leave these rules out.")
@click.option("--fix", is_flag=True, help="Carry out the safe fixes, and show what changed.")
@click.option("--diff", "only_diff", is_flag=True, help="Show what --fix would change.")
@click.option("--format", "how", type=click.Choice(get_args(Format)), default="text")
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "info", "never"]),
    default="error",
    show_default=True,
    help="The least severity of findings that makes the exit code 1.",
)
@click.option("--no-hadolint", is_flag=True, help="Don't ask hadolint, even if it is installed.")
@click.option("--rules", "list_rules", is_flag=True, help="List every rule.")
@click.option("--explain", metavar="RULE", help="Explain one rule, with examples.")
def lint(
    *,
    paths: tuple[Path, ...],
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    fix: bool,
    only_diff: bool,
    how: Format,
    as_json: bool,
    fail_on: str,
    no_hadolint: bool,
    list_rules: bool,
    explain: str | None,
) -> int:
    """Look at a project: Dockerfile, .dockerignore, requirements, code, Compose, models.

    PATHS are a project's folder (the current one by default) or Dockerfiles in it. Exits with 1
    when a finding has severity error (see --fail-on), else with 0.
    """
    if list_rules or explain is not None:
        _print_rules(explain)
        return 0
    folder, named = _what(paths)
    selection, ask_hadolint = _selection(folder, select, ignore)
    ask_hadolint = ask_hadolint and not no_hadolint
    findings = _findings(_subject(folder, named), selection, ask_hadolint=ask_hadolint)
    if fix or only_diff:
        machine = as_json or how != "text"
        findings = _fixed(folder, named, selection, findings, write=fix, silent=machine)
    _print(findings, "json" if as_json else how)
    order = ("error", "warning", "info")
    counted = order[: order.index(fail_on) + 1] if fail_on != "never" else ()
    return 1 if any(item.severity in counted for item in findings) else 0


def _what(paths: Sequence[Path]) -> tuple[Path, list[str] | None]:
    """The project's folder, and the Dockerfiles that were named, relative to it."""
    for path in paths:
        if not path.exists():
            raise UsageError(
                "there is no such file or folder",
                where=str(path),
                hint="Give a project's folder, or a Dockerfile.",
            )
    folders = [path for path in paths if path.is_dir()]
    files = [path.resolve() for path in paths if not path.is_dir()]
    if len(folders) > 1:
        raise UsageError("one project at a time", where=str(folders[1]))
    folder = (folders[0] if folders else Path()).resolve()
    if not folders and any(not file.is_relative_to(folder) for file in files):
        folder = files[0].parent
    outside = next((file for file in files if not file.is_relative_to(folder)), None)
    if outside is not None:
        raise UsageError("isn't in the project's folder", where=str(outside))
    return folder, [file.relative_to(folder).as_posix() for file in files] or None


def _subject(folder: Path, named: list[str] | None) -> Subject:
    from dockyard.lint.subject import Subject

    return Subject(folder, dockerfiles=named)


def _selection(
    folder: Path, select: tuple[str, ...], ignore: tuple[str, ...]
) -> tuple[Selection, bool]:
    """What the configuration and the command line say; the command line's select wins."""
    from dockyard.app.config import load_config
    from dockyard.app.lint_config import LintConfig
    from dockyard.lint.run import Selection

    config = load_config(folder)[0].lint or LintConfig.model_validate({})
    selection = Selection(
        select=select or config.select,
        ignore=(*config.ignore, *ignore),
        severity=config.severity,
    )
    selection.check()
    return selection, config.hadolint


def _findings(subject: Subject, selection: Selection, *, ask_hadolint: bool) -> tuple[Finding, ...]:
    from dockyard.lint.hadolint import find_hadolint, run_hadolint, without_doubles
    from dockyard.lint.run import run_rules

    ours = run_rules(subject, selection)
    program = find_hadolint() if ask_hadolint and subject.dockerfiles else None
    if program is None:
        return ours
    paths = [view.path for view in subject.dockerfiles]
    theirs, problem = run_hadolint(program, subject.folder, paths)
    if problem:
        click.echo(f"warning: {problem}", err=True)
    return run_rules(subject, selection, more=without_doubles(theirs, ours))


def _fixed(
    folder: Path,
    named: list[str] | None,
    selection: Selection,
    findings: tuple[Finding, ...],
    *,
    write: bool,
    silent: bool,
) -> tuple[Finding, ...]:
    """Show, and carry out if `write`, what can be fixed; return what is left."""
    from dockyard.lint.fix import plan_fixes, write_changes

    for _ in range(_ROUNDS if write else 1):
        changes = plan_fixes(folder, findings)
        if not changes:
            break
        for change in changes:
            click.echo(change.diff(), nl=False, err=silent)
        if write:
            write_changes(folder, changes)
            theirs = any(item.source == "hadolint" for item in findings)
            findings = _findings(_subject(folder, named), selection, ask_hadolint=theirs)
    return findings


def _print(findings: tuple[Finding, ...], how: Format) -> None:
    from dockyard.lint.report import to_github, to_json, to_sarif

    if how == "json":
        print(json.dumps(to_json(findings), indent=2, ensure_ascii=False))
    elif how == "sarif":
        print(json.dumps(to_sarif(findings), indent=2, ensure_ascii=False))
    elif how == "github":
        print(to_github(findings), end="")
    else:
        _print_text(findings)


def _print_text(findings: tuple[Finding, ...]) -> None:
    from dockyard.cli.output import use_colour

    colour = use_colour(sys.stdout)
    for item in findings:
        severity: str = item.severity
        if colour:
            severity = f"\033[{_COLOURS[severity]}m{severity}\033[0m"
        name = f" [{item.name}]" if item.source == "dockyard" else ""
        print(f"{item.file}:{item.line}:{item.column}: {severity} {item.rule}{name} {item.message}")
        if item.cost is not None:
            print(f"    costs: {item.cost.text}")
        if item.fix:
            print(f"    fix:   {item.fix}")
    print(_summary(findings))


def _summary(findings: tuple[Finding, ...]) -> str:
    if not findings:
        return "Nothing to say: every rule is content."
    counts = {
        name: sum(item.severity == name for item in findings)
        for name in ("error", "warning", "info")
    }
    words = [
        f"{count} {name}{'s' if count != 1 and name != 'info' else ''}"
        for name, count in counts.items()
        if count
    ]
    text = f"{len(findings)} finding{'s' if len(findings) != 1 else ''}: {', '.join(words)}."
    fixable = sum(bool(item.edits) for item in findings)
    if fixable:
        text += f" --fix carries out {fixable} of the fixes."
    return text


def _print_rules(explain: str | None) -> None:
    from dockyard.cli.output import print_table
    from dockyard.lint.pages import rule_page
    from dockyard.lint.rule import all_rules

    if explain is None:
        rows = [[rule.id, rule.name, rule.severity, rule.title] for rule in all_rules()]
        print_table(["id", "name", "severity", "finds"], rows, shrink="finds")
        return
    for rule in all_rules():
        if explain.upper() == rule.id or explain == rule.name:
            print(rule_page(rule), end="")
            return
    raise UsageError(f"{explain!r} is no rule", hint="`dockyard lint --rules` lists every rule.")
