"""Recipes: how to stream a layer's compressed bytes again, without compressing or hashing.

A recipe is a list of steps, each one of
- literal: the next `length` bytes of the recipe's own literals (members compressed when packing);
- slice: `length` bytes of an archive from `offset`, as they are (a wheel's DEFLATE streams);
- stored: the same, wrapped into uncompressed DEFLATE blocks (files that don't compress).

Rules:
- Archives are named by strings that the packer's caller chose, such as a wheel's SHA-256.
- The written form is literals, index, footer. The footer holds the index's length and a SHA-256 of
  all before it, so a damaged or cut recipe is refused, never replayed.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.errors import ImageError
from dockyard.files import CHUNK
from dockyard.oci.gzip import StoredBlocks, stored_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

LITERAL, SLICE, STORED = 0, 1, 2

_MAGIC = b"dockyard-recipe1"
_FOOTER = 8 + 32 + len(_MAGIC)


@dataclass(frozen=True, slots=True)
class Step:
    """One step; archive (an index into the recipe's archives) and offset are 0 for literals."""

    kind: int
    length: int
    archive: int = 0
    offset: int = 0

    @property
    def size(self) -> int:
        """Bytes that this step yields."""
        return stored_size(self.length) if self.kind == STORED else self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Steps, and the literals that they draw on; `size` is the length of what they yield."""

    archives: tuple[str, ...]
    steps: tuple[Step, ...]
    literals: bytes | memoryview
    size: int

    def to_bytes(self) -> bytes:
        """The written form."""
        return b"".join((self.literals, *self._tail()))

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, *, where: str = "recipe") -> Recipe:
        """Read the written form; `data` isn't copied. Raises ImageError if it is damaged."""
        view = memoryview(data)
        footer = bytes(view[-_FOOTER:])
        if len(footer) != _FOOTER or footer[40:] != _MAGIC:
            raise _damaged(where)
        body = view[: len(view) - 32 - len(_MAGIC)]
        length = int.from_bytes(footer[:8], "little")
        if hashlib.sha256(body).digest() != footer[8:40] or length > len(body) - 8:
            raise _damaged(where)
        start = len(body) - 8 - length
        try:
            index = json.loads(bytes(view[start : start + length]))
            archives = tuple(map(str, index["archives"]))
            steps = tuple(Step(*map(int, row)) for row in index["steps"])
        except (ValueError, TypeError, KeyError) as error:
            raise _damaged(where) from error
        used = sum(step.length for step in steps if step.kind == LITERAL)
        sound = all(
            step.kind in (LITERAL, SLICE, STORED)
            and step.length > 0
            and step.offset >= 0
            and 0 <= step.archive < max(1, len(archives))
            for step in steps
        )
        if not sound or used != start:
            raise _damaged(where)
        size = sum(step.size for step in steps)
        return cls(archives=archives, steps=steps, literals=view[:start], size=size)

    @classmethod
    def open(cls, path: Path) -> Recipe:
        """Read the written form from a file; its literals stay on disk until they are needed."""
        try:
            with path.open("rb") as file:
                data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:
            raise _damaged(str(path)) from error
        return cls.from_bytes(data, where=str(path))

    def chunks(self, locate: Callable[[str], Path]) -> Iterator[bytes | memoryview]:
        """Yield the layer's compressed bytes, at most CHUNK at a time.

        locate maps an archive's name to its file. Raises ImageError when one is absent or short.
        """
        literals = memoryview(self.literals)
        position = 0
        for step in self.steps:
            if step.kind == LITERAL:
                end = position + step.length
                for start in range(position, end, CHUNK):
                    yield literals[start : min(start + CHUNK, end)]
                position = end
                continue
            path = locate(self.archives[step.archive])
            blocks = StoredBlocks(step.length) if step.kind == STORED else None
            for data in _read(path, step.offset, step.length):
                if blocks is None:
                    yield data
                else:
                    yield b"".join(blocks.feed(data))

    def _tail(self) -> tuple[bytes, bytes, bytes, bytes]:
        return _close(self.archives, self.steps, hashlib.sha256(self.literals))


class RecipeBuilder:
    """Gathers steps while a layer is packed; the literals themselves go to a file of the caller."""

    def __init__(self) -> None:
        self._archives: dict[str, int] = {}
        self._steps: list[Step] = []
        self._literal = 0
        self.sliced = 0

    def literal(self, length: int) -> None:
        """Add `length` literal bytes."""
        self._literal += length

    def slice(self, archive: str, offset: int, length: int, *, stored: bool = False) -> None:
        """Add bytes of an archive; `stored` wraps them into uncompressed blocks."""
        self._end_literal()
        number = self._archives.setdefault(archive, len(self._archives))
        self._steps.append(Step(STORED if stored else SLICE, length, number, offset))
        self.sliced += length

    def finish(self, literals: Path) -> tuple[Recipe, str]:
        """Turn the file of literals into the recipe's written form; return recipe and SHA-256."""
        self._end_literal()
        with literals.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        tail = _close(tuple(self._archives), self._steps, digest.copy())
        for part in tail:
            digest.update(part)
        with literals.open("ab") as file:
            file.writelines(tail)
        return Recipe.open(literals), digest.hexdigest()

    def _end_literal(self) -> None:
        if self._literal:
            self._steps.append(Step(LITERAL, self._literal))
            self._literal = 0


def _close(
    archives: Sequence[str], steps: Sequence[Step], literals: hashlib._Hash
) -> tuple[bytes, bytes, bytes, bytes]:
    rows = [
        [step.kind, step.length, step.archive, step.offset]
        if step.kind != LITERAL
        else [LITERAL, step.length]
        for step in steps
    ]
    index = json.dumps({"archives": list(archives), "steps": rows}, separators=(",", ":")).encode()
    length = len(index).to_bytes(8, "little")
    literals.update(index)
    literals.update(length)
    return index, length, literals.digest(), _MAGIC


def _read(path: Path, offset: int, length: int) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            while length:
                data = file.read(min(CHUNK, length))
                if not data:
                    raise ImageError(
                        "the archive became shorter than the layer made from it",
                        where=str(path),
                        hint="Remove it and build again, so that it is fetched anew.",
                    )
                length -= len(data)
                yield data
    except OSError as error:
        raise ImageError(
            f"an archive that a layer is made from can't be read: {error.strerror}",
            where=str(path),
            hint="Build again, so that it is fetched anew.",
        ) from error


def _damaged(where: str) -> ImageError:
    return ImageError(
        "the layer's recipe is damaged", where=where, hint="Remove it and build again."
    )
