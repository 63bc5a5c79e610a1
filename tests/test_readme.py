"""The two READMEs say the same: what can be compared without knowing both languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")


def heading_levels(text: str) -> list[int]:
    """The levels of the headings, outside of code."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [len(marks) for marks in re.findall(r"^(#+) ", prose, flags=re.MULTILINE)]


def code_blocks(text: str) -> list[str]:
    """The blocks of code, without their comments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s*#.*", "", block) for block in blocks]


def inline_code(text: str) -> set[str]:
    """Commands, options and file names in the running text."""
    return set(re.findall(r"`([^`\n]+)`", text))


def table_commands(text: str) -> list[str]:
    """The first column of the tables."""
    return re.findall(r"^\| (`[^|]+`) \|", text, flags=re.MULTILINE)


def links(text: str) -> set[str]:
    """The targets of the links, other than the twin."""
    return set(re.findall(r"\]\(([^)]+)\)", text)) - {"README.md", "README.zh-CN.md"}


@pytest.mark.parametrize("part", [heading_levels, code_blocks, inline_code, table_commands, links])
def test_twin_has_the_same(part: object) -> None:
    assert callable(part)
    english = part(ENGLISH)
    assert english
    assert part(CHINESE) == english


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["english", "chinese"])
def test_links_lead_to_files(text: str) -> None:
    targets = [target for target in links(text) if "://" not in target]
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_each_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)`", ENGLISH)) <= targets
