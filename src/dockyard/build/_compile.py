"""The program that compiles modules; the base's own interpreter runs its text with `-c`.

It isn't imported by Dockyard. What marshalling writes depends on which strings are interned and
how often objects are referred to, so each module is compiled in a child of a parent that does
nothing but fork and wait: a module's bytes can't depend on which others were compiled before it,
in what order, or by how many workers. The child reads its own request, so that the parent never
even holds a source. Only built-in modules are imported.

Request (standard input), integers big-endian:  uint32 length of the path, the path,
uint32 length of the source, the source. Answer (standard output): one byte, then for 0 (compiled)
uint32 length and the pyc; 1 means that the source can't be compiled, 2 that compiling it crashed.
"""
# ruff: noqa: ANN001, ANN202

import _frozen_importlib_external as external
import _imp
import gc
import marshal
import posix
import sys

END = 3


def read(count):
    pieces = []
    while count:
        piece = posix.read(0, min(count, 1 << 20))
        if not piece:
            posix._exit(END)
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def write(data):
    view = memoryview(data)
    while view:
        view = view[posix.write(1, view) :]


def answer():
    path = read(int.from_bytes(read(4), "big")).decode()
    source = read(int.from_bytes(read(4), "big"))
    try:
        # As importlib's SourceLoader.source_to_code does.
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        data = marshal.dumps(code)
    except Exception:
        write(b"\1")
        return
    # PEP 552: flags 0b01 is hash-based, with check_source (0b10) unset.
    source_hash = _imp.source_hash(external._RAW_MAGIC_NUMBER, source)
    pyc = external.MAGIC_NUMBER + (1).to_bytes(4, "little") + source_hash + data
    write(b"\0" + len(pyc).to_bytes(4, "big") + pyc)


def main():
    gc.disable()
    while True:
        child = posix.fork()
        if not child:
            try:
                answer()
                posix._exit(0)
            except BaseException:
                posix._exit(1)
        status = posix.waitstatus_to_exitcode(posix.waitpid(child, 0)[1])
        if status == END:
            return 0
        if status == -11:  # a source that overflows the C stack
            write(b"\2")
        elif status:
            return 1


sys.exit(main())
