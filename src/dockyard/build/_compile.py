"""The program that compiles modules; the base's own interpreter runs its text with `-c`.

It isn't imported by Dockyard. What marshalling writes depends on more than the code: an object
that nothing else refers to is written without the mark "may be referred to again" (FLAG_REF), and
a name may be referred to from anywhere, since names are interned. So every object of a module is
held once more while it is written, and all are marked, whatever was compiled before, in whatever
order, by however many workers. Strings of at most one character are the interpreter's own, and
interned as soon as one module uses one as a name: they all are, from the start. A constant set is
made anew, and so is no longer one object for all functions that have it, if a name in it was
interned before, by whatever module: a module with such sets is compiled twice, so that all were.
What can't be held from here (the tuple of local names) is the compiler's own, made anew for each
module.
PYTHONHASHSEED=0 orders constant sets.

Request (standard input), integers big-endian:  uint32 length of the path, the path,
uint32 length of the source, the source. Answer (standard output): one byte, then for 0 (compiled)
uint32 length and the pyc; 1 means that the source can't be compiled.
"""
# ruff: noqa: ANN001, ANN202

import _frozen_importlib_external as external
import _imp
import gc
import marshal
import sys

Code = type((lambda: None).__code__)


def held(code):
    """Return a list of all objects that marshalling `code` can meet."""
    found = []
    waiting = [code]
    while waiting:
        item = waiting.pop()
        found.append(item)
        if isinstance(item, (tuple, frozenset)):
            waiting.extend(item)
        elif isinstance(item, Code):
            waiting += (item.co_consts, item.co_names, item.co_varnames, item.co_cellvars)
            waiting += (item.co_freevars, item.co_filename, item.co_name)
            waiting += (item.co_qualname, item.co_linetable, item.co_exceptiontable)
    return found


def compiled(path, source):
    # As importlib's SourceLoader.source_to_code does.
    code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    keep = held(code)
    if any(isinstance(item, frozenset) for item in keep):
        # The second time all names in sets are interned already, by the first.
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        keep += held(code)
    data = marshal.dumps(code)
    del keep
    # PEP 552: flags 0b01 is hash-based, with check_source (0b10) unset.
    source_hash = _imp.source_hash(external._RAW_MAGIC_NUMBER, source)
    return external.MAGIC_NUMBER + (1).to_bytes(4, "little") + source_hash + data


def main():
    shared = [sys.intern(text) for text in ("", *map(chr, range(256)))]  # noqa: F841
    gc.disable()  # what compiling leaves behind has no cycles
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while head := stdin.read(4):
        path = stdin.read(int.from_bytes(head, "big")).decode()
        source = stdin.read(int.from_bytes(stdin.read(4), "big"))
        try:
            pyc = compiled(path, source)
        except Exception:
            stdout.write(b"\1")
        else:
            stdout.write(b"\0" + len(pyc).to_bytes(4, "big") + pyc)
        stdout.flush()


main()
