"""The project's Python files, parsed and never imported: calls with their full names.

Rules: imports are undone, so that `from torch import load as l; l(x)` is a call of torch.load. A
file that is no Python for this interpreter gives nothing.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from functools import cached_property

LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Call:
    """A call. name: with its imports undone, or ".method" of something unknown."""

    name: str
    node: ast.Call

    @property
    def method(self) -> str:
        """The last component of the name."""
        return self.name.rpartition(".")[2]

    def keyword(self, name: str) -> ast.expr | None:
        """The value of a keyword argument."""
        return next((item.value for item in self.node.keywords if item.arg == name), None)

    def constant(self, name: str) -> object:
        """The constant of a keyword argument; None for anything else."""
        value = self.keyword(name)
        return value.value if isinstance(value, ast.Constant) else None

    def first(self) -> object:
        """The constant of the first argument; None for anything else."""
        arguments = self.node.args
        return arguments[0].value if arguments and isinstance(arguments[0], ast.Constant) else None

    @property
    def unpacks(self) -> bool:
        """Whether it takes **keywords, which may hold anything."""
        return any(item.arg is None for item in self.node.keywords)


class Module:
    """A Python file that was parsed."""

    def __init__(self, path: str, text: str, tree: ast.Module) -> None:
        self.path = path
        self.text = text
        self.tree = tree

    @cached_property
    def names(self) -> dict[str, str]:
        """What imported names stand for."""
        found: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    found[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        return found

    @cached_property
    def imports(self) -> frozenset[str]:
        """The top-level modules that it imports."""
        return frozenset(name.partition(".")[0] for name in self.names.values())

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """Every call, in the order of the file."""
        made = self.made
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                name = self.full_name(node.func, made)
                if name:
                    found.append(Call(name, node))
        return tuple(sorted(found, key=lambda call: (call.node.lineno, call.node.col_offset)))

    @cached_property
    def made(self) -> dict[str, str]:
        """What was assigned to names, as "flask.Flask()"."""
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                maker = self.full_name(node.value.func, {})
                for target in node.targets:
                    if isinstance(target, ast.Name) and maker:
                        found[target.id] = maker + "()"
        return found

    def full_name(self, node: ast.expr, made: dict[str, str]) -> str:
        """The dotted name of an expression, "" for none."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            first = self.names.get(node.id) or made.get(node.id) or node.id
            return ".".join([first, *reversed(parts)])
        return "." + ".".join(reversed(parts)) if parts else ""


def parse_module(path: str, text: str) -> Module | None:
    """Parse a Python file's text; None when it isn't Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Module(path, text, ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
