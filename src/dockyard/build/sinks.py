"""Where a finished image goes: an engine, an OCI layout's folder, an archive's file.

Rules:
- A target is written whole or not at all: a file under its name is complete.
- An engine isn't sent the layers that it has: those are left out from the bottom of the chain.
- Of several platforms a layout takes all, under one index; an engine takes its own; an archive,
  which engines read as one image, takes none.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from dockyard.errors import BuildError, DockyardError
from dockyard.files import CHUNK
from dockyard.oci.archive import write_archive
from dockyard.oci.chain import shared_depth

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from dockyard.build.request import Target
    from dockyard.oci.digest import Digest
    from dockyard.oci.image import Image
    from dockyard.oci.platform import Platform
    from dockyard.progress import Reporter


class LoaderInfo(Protocol):
    """What is asked of an engine's own platform."""

    @property
    def architecture(self) -> str:
        """Such as "amd64"."""


class Loader(Protocol):
    """The part of an engine that takes images."""

    @property
    def info(self) -> LoaderInfo:
        """Which engine it is."""

    def known_layers(self) -> frozenset[tuple[str, ...]]:
        """The chain of diff IDs, bottom first, of every image that the engine has."""

    def load(self, chunks: Iterable[bytes | memoryview]) -> tuple[str, ...]:
        """Load a tar of images, streamed."""


def check_target(target: Target, platforms: Sequence[Platform]) -> None:
    """Raise BuildError when the target can't take images for all these platforms."""
    if target.kind == "archive" and len(platforms) > 1:
        raise BuildError(
            f"an archive holds one image, and this project has {len(platforms)} platforms: "
            f"{', '.join(map(str, platforms))}",
            where=str(target),
            hint=f"Choose one with --platform {platforms[0]}, or write all with -o oci:DIR.",
        )


def for_engine(platforms: Sequence[Platform], loader: Loader) -> Platform:
    """Which of the platforms an engine takes: its own, or the only one."""
    own = [each for each in platforms if each.architecture == loader.info.architecture]
    if own or len(platforms) == 1:
        return own[0] if own else platforms[0]
    raise BuildError(
        f"the engine runs linux/{loader.info.architecture}, and the project has only "
        f"{', '.join(map(str, platforms))}",
        hint=f"Choose one with --platform {platforms[0]}, or write all with -o oci:DIR.",
    )


def deliver(
    images: Sequence[Image],
    target: Target,
    *,
    references: Sequence[str],
    loader: Loader | None,
    reporter: Reporter,
) -> None:
    """Write the image, of one platform or several, to the target under these names ("name:tag").

    A registry isn't a target here: images are pushed to it by `oci.registry.push`.
    """
    if target.kind == "docker":
        if loader is None:
            raise BuildError(
                "no engine was given to load the image into",
                hint="Start Docker or Podman, or write a file with -o archive:FILE.tar.",
            )
        chosen = for_engine([image.platform for image in images], loader)
        image = next(image for image in images if image.platform == chosen)
        if len(images) > 1:
            reporter.note(f"The engine takes the image for {chosen}")
        load_into(loader, image, references=references, reporter=reporter)
        return
    assert target.path is not None
    if target.kind == "oci":
        _write_layout(images, target.path, references=references, reporter=reporter)
    else:
        check_target(target, [image.platform for image in images])
        _write_archive(images[0], target.path, references=references, reporter=reporter)


def load_into(
    loader: Loader, image: Image, *, references: Sequence[str], reporter: Reporter
) -> None:
    """Load the image into an engine, leaving out the layers that it has.

    When another process removes those in the meantime the engine refuses; then all are sent.
    """
    known = known_prefix(image, loader.known_layers())
    try:
        _load(loader, image, references=references, omit=known, reporter=reporter)
    except DockyardError:
        if not known:
            raise
        _load(loader, image, references=references, omit=(), reporter=reporter)


def known_prefix(image: Image, chains: Iterable[Sequence[str]]) -> tuple[Digest, ...]:
    """The image's lowest layers that the best of these chains begins with."""
    best = shared_depth([str(layer.diff_id) for layer in image.layers], chains)
    return tuple(layer.diff_id for layer in image.layers[:best])


def _load(
    loader: Loader,
    image: Image,
    *,
    references: Sequence[str],
    omit: Sequence[Digest],
    reporter: Reporter,
) -> None:
    total = sum(layer.descriptor.size for layer in image.layers if layer.diff_id not in omit)
    with reporter.task("Loading into the engine", total=total) as task:

        def counted() -> Iterator[bytes]:
            for chunk in _archive_chunks(image, references, omit):
                task.advance(len(chunk))
                yield chunk

        loader.load(counted())


def _archive_chunks(
    image: Image, references: Sequence[str], omit: Sequence[Digest]
) -> Iterator[bytes]:
    """Turn what is written into what can be iterated, through a pipe and a thread."""
    reader, writer = os.pipe()
    failed: list[BaseException] = []

    def write() -> None:
        try:
            with os.fdopen(writer, "wb", buffering=CHUNK) as out:
                write_archive(image, out, references=references, omit=omit)
        except BrokenPipeError:
            pass  # The reader stopped, and says why.
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=write, name="archive")
    thread.start()
    try:
        with os.fdopen(reader, "rb", buffering=0) as source:
            while data := source.read(CHUNK):
                yield data
    finally:
        thread.join()
    if failed:
        raise failed[0]


def _write_layout(
    images: Sequence[Image], folder: Path, *, references: Sequence[str], reporter: Reporter
) -> None:
    from dockyard.oci.layout import write_layout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        total = sum(image.size for image in images)
        with reporter.task(f"Writing {folder}", total=total) as task:
            for number, reference in enumerate(references or [None]):
                advance = task.advance if number == 0 else lambda amount: None
                write_layout(images, folder, reference_name=reference, advance=advance)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _write_archive(
    image: Image, path: Path, *, references: Sequence[str], reporter: Reporter
) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with reporter.task(f"Writing {path}", total=image.size) as task:
            with temporary.open("wb", buffering=CHUNK) as out:
                write_archive(image, out, references=references)
            task.advance(image.size)
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> BuildError:
    return BuildError(
        f"the image can't be written: {error.strerror}",
        where=str(path),
        hint="Free some space there, or name another place with -o.",
    )
