"""What a pickle would import, found without importing it; also in pickles inside zips.

Rules:
- A pickle is a program for a small stack machine; whatever it names by a global it can call. So
  the globals decide, and they are read by running that machine with an inert object in the place
  of each global: nothing is imported and nothing of the pickle's choosing is called. The machine
  has no branches, so what it names here is all it can name.
- What can't be read to its end is refused too: a reader that stops early must not be a way in.
- Of tensors, only the constructors that PyTorch writes for plain ones are known to be harmless.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DEPTH = 4  # Zips inside zips that are looked into.
_LARGEST = 256 << 20  # Bytes of one pickle; weights lie beside the pickle, never in it.
_PROTO = b"\x80"

_BUILTINS = ("builtins", "__builtin__")

# torch/_utils.py and torch/_weights_only_unpickler.py: what a plain state dictionary consists of.
TENSOR_GLOBALS = frozenset(
    {
        "collections.OrderedDict",
        # Plain containers, as protocol 2 writes them.
        "_codecs.encode",
        *(f"{module}.{name}" for module in _BUILTINS for name in ("bytearray", "complex", "set")),
        "torch.Size",
        "torch.Tensor",
        "torch.device",
        "torch._tensor._rebuild_from_type_v2",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
        "torch.storage.UntypedStorage",
        *(
            f"torch.{kind}Storage"
            for kind in (
                *("BFloat16", "Bool", "Byte", "Char", "ComplexDouble", "ComplexFloat", "Double"),
                *("Float", "Half", "Int", "Long", "QInt8", "QInt32", "QUInt8", "Short"),
            )
        ),
        *(
            f"torch.{kind}"
            for kind in (
                *("bfloat16", "bool", "complex64", "complex128", "float16", "float32", "float64"),
                *("int8", "int16", "int32", "int64", "uint8", "strided"),
            )
        ),
    }
)


class UnreadablePickle(ValueError):
    """A pickle that can't be read to its end, so that nothing can be said about it."""


class _Inert:
    """Stands for anything a pickle names: can be made, called and filled, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        return None

    def __setstate__(self, state: Any) -> None:
        return None

    def __setitem__(self, key: Any, value: Any) -> None:
        return None

    def __call__(self, *_: Any, **__: Any) -> _Inert:
        return _Inert()

    def append(self, item: Any) -> None:
        """Take an item as a list would."""

    def extend(self, items: Any) -> None:
        """Take items as a list would."""

    def add(self, item: Any) -> None:
        """Take an item as a set would."""


class _Reader(pickle.Unpickler):
    """Runs a pickle with inert objects, and remembers what it named."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.named: set[str] = set()

    def find_class(self, module: str, name: str, /) -> Any:
        """Remember a global; give an inert class for it."""
        self.named.add(f"{module}.{name}")
        return type("Named", (_Inert,), {})

    def persistent_load(self, pid: Any, /) -> Any:
        """Give an inert object for what lies outside of the pickle, such as a tensor's storage."""
        return _Inert()


def globals_of(data: bytes) -> frozenset[str]:
    """Every global ("module.name") that unpickling `data` would import.

    Raises UnreadablePickle when that can't be said.
    """
    reader = _Reader(data)
    try:
        reader.load()
    except RecursionError as error:
        raise UnreadablePickle("it is nested too deeply") from error
    except Exception as error:  # A pickle can raise anything, of any type, on purpose.
        raise UnreadablePickle(f"{type(error).__name__}: {error}") from error
    return frozenset(reader.named)


def pickles_in(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (place, content) of each pickle in a file: itself, or those in a zip, at any depth.

    Raises UnreadablePickle for zips nested deeper than anyone needs, and pickles of a size that
    no pickle of a model has.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from _in_zip(archive, path.name, 1)
        return
    with path.open("rb") as file:
        if file.read(1) == _PROTO:
            file.seek(0)
            yield path.name, file.read()


def _in_zip(archive: zipfile.ZipFile, place: str, depth: int) -> Iterator[tuple[str, bytes]]:
    if depth > _DEPTH:
        raise UnreadablePickle(f"{place} has zips inside zips, more than {_DEPTH} deep")
    for info in archive.infolist():
        inner = f"{place}/{info.filename}"
        with archive.open(info) as file:
            start = file.read(4)
        named = info.filename.lower().endswith((".pkl", ".pickle"))
        if start == b"PK\x03\x04":
            with archive.open(info) as file, zipfile.ZipFile(io.BytesIO(file.read())) as nested:
                yield from _in_zip(nested, inner, depth + 1)
        elif named or _may_be_pickle(start):
            if info.file_size > _LARGEST:
                if named:
                    raise UnreadablePickle(f"{inner} is larger than any pickle of a model")
                continue
            data = archive.read(info)
            if named or _ends_as_pickle(data):
                yield inner, data


def _may_be_pickle(start: bytes) -> bool:
    """Whether bytes begin as protocol 2 to 5 does: PROTO and its number."""
    return (
        start[:1] == _PROTO and 2 <= start[1:2][0] <= pickle.HIGHEST_PROTOCOL
        if start[1:]
        else False
    )


def _ends_as_pickle(data: bytes) -> bool:
    return data.rstrip(b"\0").endswith(b".")
