"""`dockyard build -f`: a Dockerfile becomes an image, without an engine where that can be done."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dockyard.cli.output import format_seconds, format_size
from dockyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dockyard.build.request import Target
    from dockyard.cache import Cache
    from dockyard.cli.soon import EngineSoon
    from dockyard.direct.api import BuiltDockerfile, DockerfileRequest
    from dockyard.oci.image import Image
    from dockyard.oci.platform import Platform
    from dockyard.oci.reference import Reference
    from dockyard.oci.registry.connect import HttpRegistries
    from dockyard.progress import Reporter

Builder = Literal["auto", "direct", "docker", "buildah"]


def build_from_dockerfile(
    folder: Path,
    dockerfile: Path,
    *,
    builder: Builder,
    stage: str,
    build_args: Sequence[str],
    platforms: Sequence[str],
    tags: Sequence[str],
    outputs: Sequence[str],
    insecure: bool,
    offline: bool,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Build a Dockerfile and deliver the image; prints what was built, and by whom."""
    from dockyard.cache import Cache
    from dockyard.cli.build import choose_targets
    from dockyard.direct.api import DockerfileRequest
    from dockyard.oci.platform import Platform
    from dockyard.oci.registry.connect import HttpRegistries

    started = time.monotonic()
    if not folder.is_dir():
        raise UsageError("there is no such folder", where=str(folder))
    path = _find(folder, dockerfile)
    names = [name for item in platforms for name in item.split(",") if name.strip()]
    if len(names) > 1:
        raise UsageError("a Dockerfile is built for one platform at a time", where="--platform")
    platform = Platform.parse(names[0]) if names else Platform.host()
    targets, engine = choose_targets(outputs)
    references = [str(name) for name in _references(folder, tags)]
    arguments = _arguments(build_args)
    cache = Cache()
    hosts = _hosts(path, arguments) if insecure else set()
    with HttpRegistries(cache=cache, insecure=hosts) as registries:
        bases = _Bases(registries, cache, platform, engine, reporter)
        request = DockerfileRequest(
            folder=folder.resolve(),
            dockerfile=path,
            platform=platform,
            find_base=bases.find,
            build_args=arguments,
            target=stage,
            offline=offline,
        )
        with _made(request, builder, cache, reporter) as (image, how):
            _deliver(image, targets, references, engine, registries, cache, reporter)
            facts = _to_json(image, how, references, targets)
    seconds = time.monotonic() - started
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    size = f"{format_size(facts['size'])} compressed, {len(facts['layers'])} layers"
    print(f"Built {', '.join(references)} {how}: {size}, in {format_seconds(seconds)}")
    print(f"  digest  {facts['digest']}")
    for target in targets:
        if target.path is not None:
            print(f"  at      {target.path}")


@contextmanager
def _made(
    request: DockerfileRequest, builder: Builder, cache: Cache, reporter: Reporter
) -> Iterator[tuple[Image, str]]:
    """The image, and how it was made."""
    from dockyard.direct.engines import built_by_engine, read_back
    from dockyard.direct.refusal import NotUnderstood

    if builder == "auto" or builder == "direct":
        try:
            built = _direct(request, cache, reporter)
        except NotUnderstood as refusal:
            if builder == "direct":
                raise
            reporter.note(f"{refusal.where}: {refusal.what}")
        else:
            for note in built.notes:
                reporter.note(note)
            yield built.image, "without an engine"
            return
        asked = None
    else:
        asked = builder
    with (
        built_by_engine(request, builder=asked, reporter=reporter) as build,
        read_back(build, request) as image,
    ):
        yield image, f"with {build.title}"


def _direct(request: DockerfileRequest, cache: Cache, reporter: Reporter) -> BuiltDockerfile:
    from dockyard.direct.api import build_dockerfile
    from dockyard.fetch import Fetcher

    with Fetcher(cache, reporter=reporter, offline=request.offline) as fetcher:
        return build_dockerfile(request, cache=cache, fetcher=fetcher, reporter=reporter)


class _Bases:
    """The images that FROM names: the engine's own, as with Docker, else the registry's."""

    def __init__(
        self,
        registries: HttpRegistries,
        cache: Cache,
        platform: Platform,
        engine: EngineSoon | None,
        reporter: Reporter,
    ) -> None:
        self.registries = registries
        self.cache = cache
        self.platform = platform
        self.engine = engine
        self.reporter = reporter

    def find(self, name: str) -> Image:
        """The image; raises ImageError or RegistryError when there is none."""
        from dockyard.oci.reference import Reference
        from dockyard.oci.registry.pull import fetch_image, pull_layers

        local = self.from_engine(name)
        if local is not None:
            return local
        reference = Reference.parse(name)
        image = fetch_image(self.registries, reference, self.platform)
        return pull_layers(image, self.cache, reporter=self.reporter)

    def from_engine(self, name: str) -> Image | None:
        """The engine's image of that name, kept in the cache by its id; None without one."""
        from dockyard.engine.connect import find_engine
        from dockyard.errors import EngineError
        from dockyard.oci.archive import read_archive

        try:
            engine = find_engine()
            known = engine.image(name)
        except EngineError:
            return None
        if known is None or known.architecture != self.platform.architecture:
            return None
        path = self.cache.root / "engine-images" / f"{known.id.rpartition(':')[2]}.tar"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.cache.temporary() as new:
                with (
                    new.open("wb") as file,
                    self.reporter.task(f"Reading {name} from the engine", total=known.size) as task,
                ):
                    for chunk in engine.save(name):
                        file.write(chunk)
                        task.advance(len(chunk))
                new.replace(path)
        return read_archive(path)


def _deliver(
    image: Image,
    targets: Sequence[Target],
    references: Sequence[str],
    engine: EngineSoon | None,
    registries: HttpRegistries,
    cache: Cache,
    reporter: Reporter,
) -> None:
    from dockyard.build.sinks import deliver
    from dockyard.oci.reference import Reference
    from dockyard.oci.registry.push import push_images

    for target in targets:
        if target.kind != "registry":
            deliver([image], target, references=references, loader=engine, reporter=reporter)
            continue
        names: list[Reference] = [target.reference] if target.reference is not None else []
        for reference in names or [Reference.parse(name) for name in references]:
            push_images(
                [image],
                registries.repository(reference),
                tags=[reference.tag or "latest"],
                cache=cache,
                reporter=reporter,
            )


def _find(folder: Path, dockerfile: Path) -> Path:
    """The Dockerfile: as it is named, or in the folder."""
    for path in (dockerfile, folder / dockerfile):
        if path.is_file():
            return path.resolve()
    raise UsageError(
        "there is no such Dockerfile",
        where=str(dockerfile),
        hint="Name it from here or from the project's folder.",
    )


def _references(folder: Path, tags: Sequence[str]) -> list[str]:
    from dockyard.app.values import image_name
    from dockyard.oci.reference import Reference

    if tags:
        return [Reference.parse(text).familiar() for text in tags]
    name = "".join(
        letter if letter.isalnum() else "-" for letter in folder.resolve().name.lower()
    ).strip("-")
    try:
        return [f"{image_name(name)}:latest"]
    except ValueError:
        return ["app:latest"]


def _arguments(build_args: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE, or NAME for the environment's value, as Docker takes them."""
    import os

    found = {}
    for text in build_args:
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError("--build-arg needs NAME=VALUE", where=text)
        if equals or name in os.environ:
            found[name] = value if equals else os.environ[name]
    return found


def _hosts(path: Path, arguments: Mapping[str, str]) -> set[str]:
    """The registries that the Dockerfile names."""
    from dockyard.dockerfile.parse import parse
    from dockyard.dockerfile.stages import read_stages
    from dockyard.errors import ImageError
    from dockyard.oci.reference import Reference

    found = set()
    text = path.read_text(encoding="utf-8", errors="replace")
    for stage in read_stages(parse(text), build_args=arguments):
        try:
            found.add(Reference.parse(stage.image or "").domain)
        except ImageError:
            continue
    return found


def _to_json(
    image: Image, how: str, references: Sequence[str], targets: Sequence[Target]
) -> dict[str, Any]:
    return {
        "references": list(references),
        "builder": how,
        "platform": str(image.platform),
        "digest": str(image.digest),
        "id": str(image.id),
        "size": image.size,
        "targets": [str(target) for target in targets],
        "layers": [
            {
                "created_by": layer.created_by,
                "digest": str(layer.descriptor.digest),
                "diff_id": str(layer.diff_id),
                "size": layer.descriptor.size,
            }
            for layer in image.layers
        ],
    }
