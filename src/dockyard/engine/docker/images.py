"""The images of Docker and Podman."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import docker.errors

from dockyard.engine.docker.answers import image_names, read_image
from dockyard.engine.docker.link import Linked, Source, message_of, translated
from dockyard.engine.refusals import explain
from dockyard.engine.state import HistoryLine, LocalImage
from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from docker import APIClient

_INSPECTORS = 4  # Requests at once; more don't make the engine quicker.


class DockerImages(Linked):
    """The images of an engine."""

    def __init__(self, api: APIClient, *, address: str = "127.0.0.1") -> None:
        super().__init__(api, address=address)
        self._seen: dict[str, LocalImage] = {}

    def load(self, chunks: Iterable[bytes | memoryview]) -> tuple[str, ...]:
        """Load a docker-archive or OCI-layout tar, streamed; return the names or ids loaded."""
        source = Source(chunks)
        loaded: list[str] = []
        with translated("loading the image", source):
            # A time limit can't be told: the engine unpacks layers before it says a word.
            response = self._request("POST", "/images/load", data=iter(source), stream=True)
            if not response.ok:
                raise EngineError(
                    f"the engine can't load the image: {_load_failure(message_of(response))}",
                    where=str(self.info),
                )
            for line in response.iter_lines():
                text = _load_answer(line, str(self.info))
                if text.startswith("Loaded image"):
                    loaded.append(text.partition(": ")[2].strip())
        if not loaded:
            raise EngineError(
                "the engine loaded nothing", where=str(self.info), hint="Is it an image archive?"
            )
        return tuple(loaded)

    def image(self, reference: str) -> LocalImage | None:
        """The image with this name or id, or None."""
        with translated(reference):
            try:
                value: Any = self._api.inspect_image(reference)  # type: ignore[no-untyped-call]
                return read_image(value)
            except docker.errors.NotFound:
                return None

    def images(self) -> tuple[LocalImage, ...]:
        """All images, newest first."""
        with translated("listing images"):
            listed = self._api.images()
            # An id is the hash of a config, so its layers never change; its names do.
            missing = [entry["Id"] for entry in listed if entry["Id"] not in self._seen]
            with ThreadPoolExecutor(_INSPECTORS) as pool:
                for image in pool.map(self.image, missing):
                    if image is not None:
                        self._seen[image.id] = image
        newest = sorted(listed, key=lambda entry: -int(entry.get("Created") or 0))
        found = dict.fromkeys(entry["Id"] for entry in newest)
        names = {entry["Id"]: image_names(entry) for entry in listed}
        return tuple(
            replace(self._seen[number], references=names[number])
            for number in found
            if number in self._seen
        )

    def known_layers(self) -> frozenset[tuple[str, ...]]:
        """The layer chain of every image; empty where archives must hold every layer."""
        if not self.info.partial_loads:
            return frozenset()
        return frozenset(image.layers for image in self.images() if image.layers)

    def history(self, reference: str) -> tuple[HistoryLine, ...]:
        """The image's layers, bottom first: what made each, and its unpacked bytes."""
        with translated(reference):
            lines: Any = self._api.history(reference)  # type: ignore[no-untyped-call]
        return tuple(
            HistoryLine(created_by=str(line.get("CreatedBy") or ""), size=int(line["Size"] or 0))
            for line in reversed(lines)
        )

    def save(self, reference: str) -> Iterator[bytes]:
        """The image as a docker-archive tar, streamed."""
        with translated(reference):
            yield from self._api.get_image(reference, chunk_size=1 << 20)

    def tag(self, image: str, reference: str) -> None:
        """Give the image another name."""
        name, _, tag = reference.rpartition(":")
        if not name or "/" in tag:
            name, tag = reference, "latest"
        with translated(image):
            self._api.tag(image, name, tag)

    def remove_image(self, reference: str, *, force: bool = False) -> None:
        """Remove a name, and the image with its last one; absent ones are no error."""
        with translated(reference):
            try:
                self._api.remove_image(reference, force=force)
            except docker.errors.NotFound:
                return


def _load_answer(line: bytes, engine: str) -> str:
    try:
        value = json.loads(line) if line else {}
    except ValueError:
        return ""
    if message := value.get("error") or (value.get("errorDetail") or {}).get("message"):
        error = explain(str(message), where=engine)
        if error.hint is None:
            raise EngineError(
                f"the engine can't load the image: {_load_failure(str(message))}", where=engine
            )
        raise error
    return str(value.get("stream") or "")


def _load_failure(message: str) -> str:
    """Podman lists every format that it tried; the line about ours says most."""
    lines = [line.strip(" *") for line in message.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("docker-archive:")]
    return (ours or lines or ["no reason given"])[0].removeprefix("docker-archive: ")
