"""The constant that an expression in the project's code stands for, where one can be told.

Rules: nothing is run. Understood are literals, names and class attributes that are assigned once,
environment variables with their defaults (the image's own variables win), argparse defaults, paths
put together with os.path, pathlib and f-strings, and `__file__`, which is where the file will be in
the image. Everything else is None.
"""

from __future__ import annotations

import ast
import posixpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Constant = str | int | float | bool
_DEPTH = 24
_SAME = frozenset({"abspath", "realpath", "normpath", "fspath", "resolve", "absolute", "as_posix"})
_CASTS = frozenset({"int", "str", "Path", "PurePath", "PosixPath", "PurePosixPath", "float"})


def dotted(node: ast.expr) -> str:
    """The dotted name of an expression: "os.environ.get"; "" for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])


class Resolver:
    """Resolves the expressions of one file."""

    def __init__(self, tree: ast.Module, file: str, variables: Mapping[str, str]) -> None:
        """file: where the file will be in the image; variables: the image's environment."""
        self._file = file
        self._variables = variables
        self._names: dict[str, ast.expr | None] = {}
        self._options: dict[str, ast.expr | None] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                self._assign(node.targets[0], node.value)
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                self._assign(node.target, node.value)
            elif isinstance(node, ast.Call) and dotted(node.func).endswith(".add_argument"):
                self._option(node)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        name = ""
        if isinstance(target, ast.Name):
            name = target.id
        elif isinstance(target, ast.Attribute):
            name = "." + target.attr
        if name:
            # Assigned twice: which one counts can't be told without running the code.
            self._names[name] = None if name in self._names else value

    def _option(self, node: ast.Call) -> None:
        default = next((item.value for item in node.keywords if item.arg == "default"), None)
        for argument in node.args:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                name = argument.value.lstrip("-").replace("-", "_")
                if argument.value.startswith("--") and default is not None:
                    self._options[name] = None if name in self._options else default

    def text(self, node: ast.expr | None) -> str | None:
        """The string that an expression stands for."""
        value = self.constant(node)
        return value if isinstance(value, str) else None

    def number(self, node: ast.expr | None) -> int | None:
        """The whole number that an expression stands for, also if it is written in a string."""
        value = self.constant(node)
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def constant(self, node: ast.expr | None, depth: int = 0) -> Constant | None:
        """The constant that an expression stands for, or None."""
        if node is None or depth > _DEPTH:
            return None
        depth += 1
        match node:
            case ast.Constant(value=value):
                return value if isinstance(value, str | int | float) else None
            case ast.Name(id="__file__"):
                return self._file
            case ast.Name(id=name):
                return self.constant(self._names.get(name), depth)
            case ast.BoolOp(op=ast.Or(), values=values):
                found = [self.constant(value, depth) for value in values]
                return next((value for value in found if value), found[-1])
            case ast.IfExp(body=body, orelse=orelse):
                one, other = self.constant(body, depth), self.constant(orelse, depth)
                return one if one is not None and one == other else None
            case ast.BinOp(left=left, op=ast.Div() | ast.Add() as operator, right=right):
                return self._joined(left, right, depth, path=isinstance(operator, ast.Div))
            case ast.JoinedStr(values=values):
                return self._formatted(values, depth)
            case ast.Attribute():
                return self._attribute(node, depth)
            case ast.Subscript(value=value, slice=index):
                return self._item(value, index, depth)
            case ast.Call():
                return self._call(node, depth)
        return None

    def _joined(
        self, left: ast.expr, right: ast.expr, depth: int, *, path: bool
    ) -> Constant | None:
        one, other = self.constant(left, depth), self.constant(right, depth)
        if isinstance(one, str) and isinstance(other, str):
            return posixpath.join(one, other) if path else one + other
        return None

    def _formatted(self, values: list[ast.expr], depth: int) -> str | None:
        parts = []
        for value in values:
            inner = value.value if isinstance(value, ast.FormattedValue) else value
            found = self.constant(inner, depth)
            if found is None:
                return None
            parts.append(str(found))
        return "".join(parts)

    def _attribute(self, node: ast.Attribute, depth: int) -> Constant | None:
        if node.attr == "parent":
            path = self.constant(node.value, depth)
            return posixpath.dirname(path) if isinstance(path, str) else None
        if node.attr in self._options:
            return self.constant(self._options[node.attr], depth)
        for name in ("." + node.attr, node.attr):
            if name in self._names:
                return self.constant(self._names[name], depth)
        return None

    def _item(self, value: ast.expr, index: ast.expr, depth: int) -> Constant | None:
        if dotted(value) in ("os.environ", "environ"):
            name = self.constant(index, depth)
            return self._variables.get(name) if isinstance(name, str) else None
        if isinstance(value, ast.Attribute) and value.attr == "parents":
            path, number = self.constant(value.value, depth), self.constant(index, depth)
            if isinstance(path, str) and isinstance(number, int) and 0 <= number < _DEPTH:
                for _ in range(number + 1):
                    path = posixpath.dirname(path)
                return path
        return None

    def _call(self, node: ast.Call, depth: int) -> Constant | None:
        name = dotted(node.func)
        last = node.func.attr if isinstance(node.func, ast.Attribute) else name
        if (variable := environment_read(node)) is not None:
            key, default = variable
            known = self.constant(key, depth)
            if isinstance(known, str) and known in self._variables:
                return self._variables[known]
            return self.constant(default, depth)
        if last in _CASTS and node.args:
            found = [self.constant(argument, depth) for argument in node.args]
            if last == "int":
                return self._whole(found[0])
            if len(found) == 1:
                return found[0]
            paths = [part for part in found if isinstance(part, str)]
            return posixpath.join(*paths) if len(paths) == len(found) else None
        if name.endswith("path.join") or last == "joinpath":
            arguments = list(node.args)
            if last == "joinpath" and isinstance(node.func, ast.Attribute):
                arguments.insert(0, node.func.value)
            parts = [self.constant(argument, depth) for argument in arguments]
            texts = [part for part in parts if isinstance(part, str)]
            return posixpath.join(*texts) if texts and len(texts) == len(parts) else None
        if name.endswith("path.dirname") and len(node.args) == 1:
            path = self.constant(node.args[0], depth)
            return posixpath.dirname(path) if isinstance(path, str) else None
        if last in _SAME:
            inner = node.args[0] if node.args else None
            if inner is None and isinstance(node.func, ast.Attribute):
                inner = node.func.value
            path = self.constant(inner, depth)
            return posixpath.normpath(path) if isinstance(path, str) else None
        if last == "with_name" and isinstance(node.func, ast.Attribute) and node.args:
            path, other = self.constant(node.func.value, depth), self.constant(node.args[0], depth)
            if isinstance(path, str) and isinstance(other, str):
                return posixpath.join(posixpath.dirname(path), other)
        return None

    @staticmethod
    def _whole(value: Constant | None) -> int | None:
        if isinstance(value, str) and value.strip().isdecimal():
            return int(value)
        return int(value) if isinstance(value, int | float) else None


def environment_read(node: ast.expr) -> tuple[ast.expr, ast.expr | None] | None:
    """(name, default) of os.environ.get(…), os.getenv(…); None for anything else."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    if dotted(node.func) not in ("os.environ.get", "environ.get", "os.getenv", "getenv"):
        return None
    default = node.args[1] if len(node.args) > 1 else None
    for item in node.keywords:
        if item.arg == "default":
            default = item.value
    return node.args[0], default
