"""Tensors as the Open Inference Protocol writes them: in JSON and as raw bytes, both ways.

Rules: what a client sent is never trusted: lengths, kinds and ranges are checked, and nothing is
cast silently (no text to numbers, no fractions to integers, no 300 to INT8). Raw tensors are little
endian and row-major; BYTES are elements of a 4-byte length and that many bytes each.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dockyard_serve.errors import InvalidInput, ModelFailed

Array = np.ndarray[Any, np.dtype[Any]]

NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BF16": np.dtype(np.float32),
    "BYTES": np.dtype(np.object_),
}
"""What an array of each datatype is in memory; numpy has no BF16."""

_WIRE_TYPES = {
    name: dtype.newbyteorder("<")
    for name, dtype in NUMPY_TYPES.items()
    if name not in {"BYTES", "BF16"}
} | {"BF16": np.dtype("<u2")}
_LENGTH = struct.Struct("<I")
_FLOATS = frozenset({"FP16", "FP32", "FP64", "BF16"})


def datatype_of(array: Array) -> str:
    """The protocol's name of an array's type: BYTES for text and objects."""
    if array.dtype.kind in "OSU":
        return "BYTES"
    for name, dtype in NUMPY_TYPES.items():
        if dtype == array.dtype:
            return name
    raise ModelFailed(f"the model gave an array of {array.dtype}, which no datatype stands for")


def describe(datatype: str, shape: Iterable[int]) -> str:
    """`FP32 [1, 64]`, for messages."""
    return f"{datatype} {list(shape)}"


def from_json(name: str, datatype: str, shape: Sequence[int], data: Any) -> Array:
    """The tensor that JSON gives as nested lists of this shape, or as one flat list.

    Raises InvalidInput if the elements aren't of the datatype, or too many or too few.
    """
    array = _elements(name, datatype, data)
    wanted = tuple(shape)
    if array.shape == wanted:
        return array
    if array.ndim > 1 or array.size != math.prod(wanted):
        raise InvalidInput(
            f"input {name!r} has data that doesn't fill its shape",
            name=name,
            expected=f"{math.prod(wanted)} elements for shape {list(wanted)}",
            received=f"{array.size} elements, nested as {list(array.shape)}",
        )
    return _shaped(name, array, wanted)


def from_nested(name: str, datatype: str, data: Any) -> Array:
    """The tensor that JSON gives as nested lists, which say the shape too."""
    return _elements(name, datatype, data)


def _elements(name: str, datatype: str, data: Any) -> Array:
    if datatype == "BYTES":
        return _texts(name, data)
    try:
        array = np.array(data)
    except (ValueError, OverflowError, RecursionError):
        raise InvalidInput(
            f"input {name!r} has lists of different lengths beside each other", name=name
        ) from None
    if datatype == "UINT64" and array.dtype.kind in "fO":
        array = _large_integers(array, data)
    kind = array.dtype.kind
    wanted = NUMPY_TYPES[datatype]
    if array.size == 0 and kind == "f":
        return array.astype(wanted)
    if datatype in _FLOATS:
        if kind in "fiu":
            return array.astype(wanted) if datatype != "BF16" else _round_to_bf16(array)
    elif datatype == "BOOL":
        if kind == "b":
            return array
        if kind in "iu" and bool(((array == 0) | (array == 1)).all()):
            return array.astype(wanted)
    elif kind in "iu":
        limits = np.iinfo(wanted)
        if array.dtype == wanted:
            return array
        if int(array.min()) >= limits.min and int(array.max()) <= limits.max:
            return array.astype(wanted)
        raise InvalidInput(
            f"input {name!r} has a number outside of {datatype}",
            name=name,
            expected=f"{limits.min} to {limits.max}",
            received=f"{array.min()} to {array.max()}",
        )
    raise InvalidInput(
        f"input {name!r} has elements that aren't {datatype}",
        name=name,
        expected=datatype,
        received=_kind_in_words(array),
    )


def _large_integers(array: Array, data: Any) -> Array:
    """Integers of 64 bits beside small ones, which numpy makes floats; others stay as they are."""
    exact = np.array(data, dtype=np.object_)
    if all(type(value) is int and 0 <= value < 2**64 for value in exact.reshape(-1)):
        return exact.astype(np.uint64)
    return array


def _kind_in_words(array: Array) -> str:
    words = {"b": "booleans", "i": "integers", "u": "integers", "f": "fractions"}
    return words.get(array.dtype.kind, "text, null, objects, or numbers too large")


def _texts(name: str, data: Any) -> Array:
    """BYTES in JSON are strings, their bytes UTF-8."""
    shape: list[int] = []
    level = data
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    flat: list[bytes] = []

    def gather(value: Any, depth: int) -> None:
        if depth == len(shape):
            if not isinstance(value, str):
                raise InvalidInput(
                    f"input {name!r} has elements that aren't BYTES",
                    name=name,
                    expected="strings",
                    received=type(value).__name__,
                )
            flat.append(value.encode("utf-8", "surrogatepass"))
            return
        if not isinstance(value, list) or len(value) != shape[depth]:
            raise InvalidInput(
                f"input {name!r} has lists of different lengths beside each other", name=name
            )
        for part in value:
            gather(part, depth + 1)

    gather(data, 0)
    return objects(flat).reshape(shape)


def objects(elements: Sequence[bytes]) -> Array:
    """A BYTES tensor of one axis."""
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array


def from_bytes(name: str, datatype: str, shape: Sequence[int], raw: memoryview | bytes) -> Array:
    """The tensor of raw bytes; may be read-only, and a view of `raw`."""
    count = math.prod(shape)
    if datatype == "BYTES":
        elements = _split_elements(name, raw)
        if len(elements) != count:
            raise InvalidInput(
                f"input {name!r} has {len(elements)} elements in its binary data",
                name=name,
                expected=f"{count} elements for shape {list(shape)}",
                received=f"{len(elements)} elements",
            )
        return _shaped(name, objects(elements), shape)
    wire = _WIRE_TYPES[datatype]
    if len(raw) != count * wire.itemsize:
        raise InvalidInput(
            f"input {name!r} has binary data of the wrong size",
            name=name,
            expected=f"{count * wire.itemsize} bytes for {describe(datatype, shape)}",
            received=f"{len(raw)} bytes",
        )
    array: Array = np.frombuffer(raw, dtype=wire)
    if datatype == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    elif datatype == "BOOL":
        # A byte other than 0 and 1 is no boolean that numpy could hold.
        array = array.view(np.uint8) != 0
    elif not array.flags.aligned:
        array = array.copy()
    return _shaped(name, array, shape)


def _shaped(name: str, array: Array, shape: Sequence[int]) -> Array:
    """The array with this shape, which has as many elements."""
    try:
        return array.reshape(shape)
    except ValueError as error:
        raise InvalidInput(
            f"input {name!r} has a shape that no array can have",
            name=name,
            expected="at most 64 axes, and a product of the others that fits into memory",
            received=str(list(shape))[:200],
        ) from error


def _split_elements(name: str, raw: memoryview | bytes) -> list[bytes]:
    view = memoryview(raw)
    elements = []
    at, end = 0, len(view)
    while at < end:
        if end - at < _LENGTH.size:
            raise InvalidInput(f"input {name!r} ends in the middle of an element", name=name)
        (length,) = _LENGTH.unpack_from(view, at)
        at += _LENGTH.size
        if end - at < length:
            raise InvalidInput(
                f"input {name!r} has an element longer than what is left",
                name=name,
                expected=f"at most {end - at} bytes",
                received=f"a length of {length}",
            )
        elements.append(bytes(view[at : at + length]))
        at += length
    return elements


def element_size(datatype: str) -> int | None:
    """Bytes of one element on the wire; None if elements differ."""
    return None if datatype == "BYTES" else _WIRE_TYPES[datatype].itemsize


def to_bytes(datatype: str, array: Array) -> bytes:
    """The raw bytes of a tensor."""
    if datatype == "BYTES":
        pieces: list[bytes] = []
        for element in array.reshape(-1):
            encoded = element_bytes(element)
            pieces += (_LENGTH.pack(len(encoded)), encoded)
        return b"".join(pieces)
    if datatype == "BF16":
        return _bf16_bits(array).tobytes()
    return np.ascontiguousarray(array, dtype=_WIRE_TYPES[datatype]).tobytes()


def to_json(name: str, datatype: str, array: Array) -> Any:
    """The flat list of a tensor, as something orjson writes with OPT_SERIALIZE_NUMPY."""
    if datatype == "BYTES":
        return [_text(name, element) for element in array.reshape(-1)]
    return np.ascontiguousarray(array.reshape(-1))


def to_nested(name: str, datatype: str, array: Array) -> Any:
    """The nested lists of a tensor, as something orjson writes with OPT_SERIALIZE_NUMPY."""
    if datatype == "BYTES":
        texts = np.empty(array.shape, dtype=np.object_)
        texts.reshape(-1)[:] = to_json(name, datatype, array)
        return texts.tolist()
    if array.ndim == 0:
        return array.item()
    return np.ascontiguousarray(array)


def element_bytes(element: Any) -> bytes:
    """One element of a BYTES tensor as its bytes: text is written in UTF-8."""
    if isinstance(element, bytes):
        return element
    return str(element).encode("utf-8", "surrogatepass")


def _text(name: str, element: Any) -> str:
    if not isinstance(element, bytes):
        return str(element)
    try:
        return element.decode()
    except UnicodeDecodeError:
        raise InvalidInput(
            f"output {name!r} isn't text, which JSON could hold; ask for it as binary data",
            name=name,
        ) from None


def all_finite(arrays: Iterable[Array]) -> bool:
    """Whether JSON can hold every number: it has neither NaN nor infinities."""
    return all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in arrays)


def _bf16_bits(array: Array) -> Array:
    """The upper halves of float32s, rounded to nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    quiet = (bits >> 16) | 0x40
    return np.where(np.isnan(array), quiet, rounded).astype("<u2")


def _round_to_bf16(array: Array) -> Array:
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    return (_bf16_bits(narrow).astype(np.uint32) << 16).view(np.float32)
