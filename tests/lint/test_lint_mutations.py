"""100,000 lines of Dockerfiles made by mutation: no rule crashes, none hangs."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

from lint_projects import TODAY

from dockyard.lint.rule import all_rules, files_of
from dockyard.lint.run import run_rules
from dockyard.lint.subject import DockerfileView, Subject

LINES = 100_000
_NOISE = [
    "\\",
    "\n",
    '"',
    "'",
    "$",
    "${",
    "}",
    "<<EOF",
    "&&",
    "|",
    ";",
    "#",
    "--x=",
    "[",
    "]",
    "é",
    "\0",
]


class _Many(Subject):
    """A subject whose Dockerfiles are texts in memory."""

    def __init__(self, folder, texts):
        super().__init__(folder, today=TODAY)
        self.dockerfiles = tuple(
            DockerfileView(self, f"{number}.Dockerfile", text) for number, text in enumerate(texts)
        )


def seeds() -> list[str]:
    return [
        text
        for rule in all_rules()
        for example in (rule.bad, rule.good, rule.fixed)
        for path, text in files_of(example).items()
        if path == "Dockerfile" and isinstance(text, str)
    ]


def mutated(chance: random.Random, known: list[str]) -> str:
    """Lines of several Dockerfiles, some of them damaged."""
    lines = [line for _ in range(8) for line in chance.choice(known).splitlines()]
    chance.shuffle(lines)
    lines.insert(0, "FROM python:3.12")
    for _ in range(chance.randrange(12)):
        at = chance.randrange(len(lines))
        line = lines[at]
        cut = chance.randrange(len(line) + 1)
        how = chance.randrange(4)
        if how == 0:
            lines[at] = line[:cut] + chance.choice(_NOISE) + line[cut:]
        elif how == 1:
            lines[at] = line[:cut]
        elif how == 2:
            lines[at] = line + " \\"
        else:
            other = chance.choice(lines)
            lines[at] = line[:cut] + other[chance.randrange(len(other) + 1) :]
    return "\n".join(lines) + "\n"


def test_no_mutation_makes_a_rule_crash_or_hang(tmp_path):
    chance = random.Random(7)
    known = seeds()
    texts: list[str] = []
    lines = 0
    while lines < LINES:
        texts.append(mutated(chance, known))
        lines += texts[-1].count("\n")
    with ThreadPoolExecutor(1) as pool:
        # A rule that hangs fails here, instead of stopping all tests.
        found = pool.submit(run_rules, _Many(tmp_path, texts)).result(timeout=300)
    assert {item.rule for item in found} >= {"DY001", "DY101", "DY207", "DY401", "DY701"}
