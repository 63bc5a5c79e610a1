"""The plan as `dockyard build --dry-run` prints it: the decisions, then the layers.

Rules: on a terminal every line fits its width, as well as can be; piped, nothing is cut.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from dockyard.cli.output import format_size, is_terminal, print_table, use_colour

if TYPE_CHECKING:
    from dockyard.build.api import PlannedImage, PlannedProject
    from dockyard.build.savings import TrimSavings
    from dockyard.progress import Reporter


_WIDE = 100  # Columns of a terminal; a narrower one has no room for the layers' origins.


def print_plan(project: PlannedProject, *, reporter: Reporter) -> None:
    """Print a plan for people."""
    names = ", ".join(project.references)
    for number, planned in enumerate(project.images):
        if number:
            print()
        print(f"{names} for {planned.plan.platform}\n")
        _print_decisions(planned)
        print()
        _print_layers(planned)
        several = len(project.images) > 1
        for warning in planned.plan.warnings:
            reporter.warn(f"{planned.plan.platform}: {warning}" if several else warning)


def _print_decisions(planned: PlannedImage) -> None:
    lines = [(item.subject, item.value, item.why) for item in planned.plan.decisions]
    lines.append(("trim", *_trim_line(planned.trim)))
    indent = max(len(subject) for subject, _, _ in lines) + 4
    dim, plain = ("\033[2m", "\033[0m") if use_colour(sys.stdout) else ("", "")
    for subject, value, why in lines:
        text = f"{value} — {_without_repetition(value, why)}"
        folded = _fold(text, indent)
        # Dimmed from the dash on, wherever the folding put it.
        folded = folded.replace(" — ", f" {dim}— ", 1) if dim else folded
        print(f"  {subject:<{indent - 2}}{folded}{plain}")


def _fold(text: str, indent: int) -> str:
    """The text in lines that fit the terminal, all but the first indented."""
    if not is_terminal(sys.stdout):
        return text
    width = max(40, shutil.get_terminal_size().columns - indent)
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return ("\n" + " " * indent).join(lines)


def _without_repetition(value: str, why: str) -> str:
    """The reason without an evidence in brackets that is named before it."""
    start, bracket, end = why.rpartition(" (")
    place = end.removesuffix(")")
    if bracket and end.endswith(")") and (place == value or place in start):
        return start
    return why


def _trim_line(trim: TrimSavings) -> tuple[str, str]:
    """What trimming does, and what it saves."""
    value = "on" if trim.on else "off"
    reasons = []
    if trim.saves:
        total = format_size(sum(trim.saves.values()))
        each = ", ".join(f"{name} {format_size(size)}" for name, size in trim.saves.items())
        verb = "leaves" if trim.on else "would leave"
        reasons.append(f"{verb} out {total} of tests, headers and stubs: {each}")
    if trim.unknown:
        names = ", ".join(trim.unknown)
        reasons.append(f"what it saves of {names} is known once fetched")
    return value, "; ".join(reasons) or "no package is among those known to bear it"


def _print_layers(planned: PlannedImage) -> None:
    plan = planned.plan
    rows = [
        [
            layer.title,
            "?" if layer.size is None else format_size(layer.size),
            "cached" if cached else "",
            layer.why,
            layer.origin,
        ]
        for layer, cached in zip(plan.layers, planned.cached, strict=True)
    ]
    headers = ["layer", "size", "cache", "why", "origin"]
    if is_terminal(sys.stdout) and shutil.get_terminal_size().columns < _WIDE:
        headers, rows = headers[:-1], [row[:-1] for row in rows]
        print_table(headers, rows, right="size", shrink="why layer")
    else:
        print_table(headers, rows, right="size", shrink="origin why layer")
    total = sum(layer.size or 0 for layer in plan.layers)
    print(f"\nAbout {format_size(total)} compressed in {len(plan.layers)} layers.")
