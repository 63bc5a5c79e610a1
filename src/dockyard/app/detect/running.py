"""What running a file comes to: its main block, and the functions that are reached."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from dockyard.app.detect.resolve import dotted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_main(test: ast.expr) -> bool:
    """Whether a condition is `__name__ == "__main__"`."""
    match test:
        case ast.Compare(
            left=ast.Name(id="__name__"),
            ops=[ast.Eq()],
            comparators=[ast.Constant(value="__main__")],
        ):
            return True
        case ast.Compare(
            left=ast.Constant(value="__main__"),
            ops=[ast.Eq()],
            comparators=[ast.Name(id="__name__")],
        ):
            return True
    return False


def main_guard(tree: ast.Module) -> ast.If | None:
    """Return the file's main block."""
    found = (node for node in tree.body if isinstance(node, ast.If) and is_main(node.test))
    return next(found, None)


def functions_called(tree: ast.Module, body: Iterable[ast.stmt]) -> list[ast.FunctionDef]:
    """Return the file's functions that these statements call by name."""
    called = {
        dotted(node.func) for part in body for node in ast.walk(part) if isinstance(node, ast.Call)
    }
    return [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in called]


def idle_functions(tree: ast.Module) -> list[Function]:
    """Return the functions that nothing names when the file is run, and nothing decorates."""
    waiting: dict[str, Function] = {
        node.name: node
        for node in tree.body
        if isinstance(node, Function) and not node.decorator_list
    }
    parts: Sequence[ast.stmt] = [node for node in tree.body if node not in waiting.values()]
    while parts:
        named = {
            node.id
            for part in parts
            for node in ast.walk(part)
            if isinstance(node, ast.Name) and node.id in waiting
        }
        parts = [waiting.pop(name) for name in sorted(named)]
    return list(waiting.values())
