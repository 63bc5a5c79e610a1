"""The program that reads import statements; the base's own interpreter runs its text with `-c`.

It isn't imported by Dockyard, and it parses sources but never runs them. One request after
another; integers are big-endian.

Request (standard input): one byte, 1 to look into functions too; uint32 length of the source, the
source. Answer (standard output): uint32 length, and a JSON object:
  imports: [level, module, name or null] that importing the module runs;
  lazy: [level, module, name, the name it is bound to] that only type checkers see, which is where
    packages that import on first use say where their names are;
  names: what the module defines at its top level.
"""
# ruff: noqa: ANN001, ANN202, ANN204

import ast
import gc
import json
import sys


class Module(ast.NodeVisitor):
    def __init__(self, functions):
        self.functions = functions
        self.imports = []
        self.lazy = []
        self.names = []
        self.modules = {}  # the names that this module binds to modules, or to parts of them
        self.checking = False

    def visit_Import(self, node):
        for alias in node.names:
            if not self.checking:
                self.imports.append((0, alias.name, None))
                top = alias.name if alias.asname else alias.name.partition(".")[0]
                self.modules[alias.asname or top] = (0, top)

    def visit_ImportFrom(self, node):
        module = node.module or ""
        for alias in node.names:
            bound = alias.asname or alias.name
            if self.checking:
                self.lazy.append((node.level, module, alias.name, bound))
            else:
                self.imports.append((node.level, module, alias.name))
                self.modules[bound] = (node.level, module + ("." if module else "") + alias.name)

    def visit_If(self, node):
        name = getattr(node.test, "attr", None) or getattr(node.test, "id", None)
        before = self.checking
        self.checking = before or name == "TYPE_CHECKING"
        for child in node.body:
            self.visit(child)
        self.checking = before
        for child in node.orelse:
            self.visit(child)
        self.visit(node.test)

    def visit_FunctionDef(self, node):
        if self.functions:
            self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_Lambda = visit_FunctionDef

    def visit_Call(self, node):
        name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
        if name in ("import_module", "__import__") and node.args:
            value = getattr(node.args[0], "value", None)
            if isinstance(value, str) and not value.startswith("."):
                self.imports.append((0, value, None))
        self.generic_visit(node)

    def visit_Attribute(self, node):
        # `package.part` may be what imports the part.
        bound = self.modules.get(getattr(node.value, "id", None))
        if bound is not None and self.functions:
            self.imports.append((bound[0], bound[1], node.attr))
        self.generic_visit(node)


def read_module(source, functions):
    tree = ast.parse(source)
    module = Module(functions)
    module.visit(tree)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            module.names.append(node.name)
        elif isinstance(node, ast.Assign):
            module.names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return {
        "imports": list(dict.fromkeys(module.imports)),
        "lazy": list(dict.fromkeys(module.lazy)),
        "names": module.names,
    }


def main():
    gc.disable()  # a syntax tree has no cycles, and is gone after each answer
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while head := stdin.read(5):
        source = stdin.read(int.from_bytes(head[1:], "big"))
        try:
            found = read_module(source, head[0] == 1)
        except Exception:
            found = {"imports": [], "lazy": [], "names": []}
        answer = json.dumps(found, separators=(",", ":")).encode()
        stdout.write(len(answer).to_bytes(4, "big") + answer)
        stdout.flush()


main()
