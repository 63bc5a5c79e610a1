"""The pages of the rules in docs/rules, made from the rules themselves.

Rules: one page per rule and one that lists all; the same text on every machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockyard.lint.rule import Zeros, all_rules, files_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.lint.rule import Rule

_KINDS = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}


def rule_pages() -> dict[str, str]:
    """Every page's text by its name in docs/rules."""
    pages = {f"{rule.id}.md": rule_page(rule) for rule in all_rules()}
    return {"README.md": _list()} | pages


def rule_page(rule: Rule) -> str:
    """One rule's page."""
    parts = [
        f"# {rule.id}: {rule.title}\n",
        f"`{rule.name}`, severity: {rule.severity}\n",
        f"{rule.why}\n",
        f"**It costs:** {rule.cost}\n",
        "## It finds\n",
        _example(rule.bad),
        "## It says nothing about\n",
        _example(rule.good),
        "## Better\n",
        _example(rule.fixed),
        "## Silencing it\n",
        f"`# dockyard: ignore={rule.id}` on the line or right above it; for the project, in "
        "`dockyard.toml`:\n",
        f'```toml\n[lint]\nignore = ["{rule.id}"]\n```\n',
    ]
    return "\n".join(parts)


def _example(example: str | Mapping[str, str | bytes | Zeros]) -> str:
    parts = []
    for path, content in files_of(example).items():
        if isinstance(content, Zeros):
            parts.append(f"`{path}`, a file of {content.size / 1e6:.0f} MB\n")
        elif isinstance(content, bytes):
            parts.append(f"`{path}`, which begins with the bytes `{content[:8].hex(' ')}`\n")
        else:
            kind = next((name for end, name in _KINDS.items() if path.endswith(end)), "")
            kind = kind or ("dockerfile" if "ockerfile" in path else "")
            parts.append(f"`{path}`:\n\n```{kind}\n{content.rstrip()}\n```\n")
    return "\n".join(parts)


def _list() -> str:
    lines = [
        "# The rules of `dockyard lint`\n",
        "These pages are made from the rules (`scripts/rule-pages`); a test keeps them equal.\n",
        "| id | name | severity | finds |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| [{rule.id}]({rule.id}.md) | `{rule.name}` | {rule.severity} | {rule.title} |"
        for rule in all_rules()
    ]
    return "\n".join(lines) + "\n"
