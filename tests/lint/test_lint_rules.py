"""Every rule: its bad example triggers it, the good and the fixed one don't."""

from __future__ import annotations

from pathlib import Path

import pytest
from lint_projects import findings_of

from dockyard.lint.pages import rule_pages
from dockyard.lint.rule import all_rules

RULES = all_rules()
PAGES = Path(__file__).parents[2] / "docs" / "rules"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_bad_example_triggers_the_rule(tmp_path, rule):
    found = findings_of(tmp_path, rule.bad, rule.id)
    assert {item.rule for item in found} == {rule.id}
    for item in found:
        assert item.message
        assert item.line >= 1
        assert item.column >= 1
        assert (tmp_path / item.file).is_file()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
@pytest.mark.parametrize("kind", ["good", "fixed"])
def test_the_good_and_the_fixed_example_pass(tmp_path, rule, kind):
    assert findings_of(tmp_path, getattr(rule, kind), rule.id) == ()


def test_ids_and_names_are_unique_and_ids_have_one_form():
    assert len({rule.id for rule in RULES}) == len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.id.startswith("DY") and len(rule.id) == 5 for rule in RULES)


def test_the_pages_in_the_docs_are_made_from_the_rules():
    written = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    assert written == rule_pages()
