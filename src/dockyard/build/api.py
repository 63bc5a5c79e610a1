"""The build as one call: from a request to images in their targets.

Rules: this module joins the others and decides nothing. Everything that reaches out is given a
cache, a fetcher and a reporter from here.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockyard.cache import Cache
from dockyard.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from dockyard.build.inputs import Inputs
    from dockyard.build.plan import BuildPlan
    from dockyard.build.request import BuildRequest, Target
    from dockyard.build.savings import TrimSavings
    from dockyard.build.sinks import Loader
    from dockyard.fetch import Fetcher
    from dockyard.oci.digest import Digest
    from dockyard.oci.image import Image
    from dockyard.oci.platform import Platform
    from dockyard.progress import Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """One platform's image, and the plan that it was made from."""

    image: Image
    plan: BuildPlan

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for programs."""
        return {
            "platform": str(self.image.platform),
            "digest": str(self.image.digest),
            "id": str(self.image.id),
            "size": self.image.size,
            "layers": [
                {
                    "created_by": layer.created_by,
                    "digest": str(layer.descriptor.digest),
                    "diff_id": str(layer.diff_id),
                    "size": layer.descriptor.size,
                }
                for layer in self.image.layers
            ],
            "warnings": list(self.plan.warnings),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltProject:
    """The images that were built, one for each platform, and where they went."""

    images: tuple[BuiltImage, ...]
    targets: tuple[Target, ...]

    @property
    def references(self) -> tuple[str, ...]:
        """Their names with tags."""
        return self.images[0].plan.references

    @property
    def digest(self) -> Digest:
        """What a layout names them by: the manifest, or the index of several platforms."""
        from dockyard.oci.digest import Digest
        from dockyard.oci.layout import image_index

        if len(self.images) == 1:
            return self.images[0].image.digest
        return Digest.of(image_index([built.image for built in self.images]).to_bytes())

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for programs."""
        return {
            "references": list(self.references),
            "digest": str(self.digest),
            "targets": [str(target) for target in self.targets],
            "images": [built.to_json() for built in self.images],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedImage:
    """A plan, which of its layers the cache has already, and what trimming saves."""

    plan: BuildPlan
    cached: tuple[bool, ...]
    trim: TrimSavings

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for programs."""
        plan = self.plan
        return {
            "platform": str(plan.platform),
            "python": plan.python,
            "command": [*(plan.config.entrypoint or ()), *(plan.config.cmd or ())],
            "env": dict(plan.config.env),
            "user": plan.config.user,
            "ports": list(plan.config.exposed_ports),
            "decisions": [
                {"subject": item.subject, "value": item.value, "why": item.why}
                for item in plan.decisions
            ],
            "trim": self.trim.to_json(),
            "layers": [
                {
                    "kind": layer.kind,
                    "title": layer.title,
                    "origin": layer.origin,
                    "size": layer.size,
                    "cached": cached,
                    "why": layer.why,
                }
                for layer, cached in zip(plan.layers, self.cached, strict=True)
            ],
            "warnings": list(plan.warnings),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedProject:
    """What would be built, for each platform."""

    images: tuple[PlannedImage, ...]

    @property
    def references(self) -> tuple[str, ...]:
        """The images' names with tags."""
        return self.images[0].plan.references

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for programs."""
        return {
            "references": list(self.references),
            "images": [planned.to_json() for planned in self.images],
        }


def plan_project(
    request: BuildRequest, *, cache: Cache | None = None, reporter: Reporter = SILENT
) -> PlannedProject:
    """Decide what the images will be made of; resolves, but packs nothing."""
    from dockyard.build.execute import known_layers, wheels_on_disk
    from dockyard.build.inputs import platforms_of
    from dockyard.build.savings import trim_savings

    images = []
    with workshop(request, cache, reporter) as (shop, fetcher):
        for platform in platforms_of(request):
            inputs, plan = _planned(request, platform, shop, fetcher, reporter, outputs=())
            savings = trim_savings(
                inputs.lock.wheels,
                wheels_on_disk(inputs.lock.wheels, fetcher),
                on=inputs.config.trim,
                python=inputs.python,
                cache=shop,
            )
            cached = known_layers(plan, inputs, cache=shop, fetcher=fetcher)
            images.append(PlannedImage(plan=plan, cached=cached, trim=savings))
    return PlannedProject(images=tuple(images))


def build_project(
    request: BuildRequest,
    *,
    targets: Sequence[Target],
    engine: Loader | None = None,
    cache: Cache | None = None,
    reporter: Reporter = SILENT,
) -> BuiltProject:
    """Build the project's image for each platform and deliver them to every target.

    When all targets are the engine, only the platform that it takes is built.
    """
    from dockyard.build.execute import execute
    from dockyard.build.inputs import platforms_of
    from dockyard.build.sinks import check_target, deliver, for_engine

    outputs = [target.path for target in targets if target.path is not None]
    platforms = platforms_of(request)
    for target in targets:
        check_target(target, platforms)
    if engine is not None and not outputs and len(platforms) > 1:
        platforms = (for_engine(platforms, engine),)
        reporter.note(f"Building for {platforms[0]} alone, which the engine takes")
    built = []
    with workshop(request, cache, reporter) as (shop, fetcher):
        for platform in platforms:
            inputs, plan = _planned(request, platform, shop, fetcher, reporter, outputs=outputs)
            if engine is not None:
                # Asked before the work begins: an engine that isn't there is known now.
                engine.known_layers()
            for warning in plan.warnings:
                reporter.warn(f"{platform}: {warning}" if len(platforms) > 1 else warning)
            image = execute(plan, inputs, cache=shop, fetcher=fetcher, reporter=reporter)
            built.append(BuiltImage(image=image, plan=plan))
        for target in targets:
            deliver(
                [each.image for each in built],
                target,
                references=built[0].plan.references,
                loader=engine,
                reporter=reporter,
            )
    return BuiltProject(images=tuple(built), targets=tuple(targets))


@contextmanager
def workshop(
    request: BuildRequest, cache: Cache | None, reporter: Reporter
) -> Iterator[tuple[Cache, Fetcher]]:
    """The cache and the fetcher of one build."""
    from dockyard.fetch import Fetcher

    shop = cache or Cache()
    shop.sweep()
    with Fetcher(shop, reporter=reporter, offline=request.offline) as fetcher:
        yield shop, fetcher


def _planned(
    request: BuildRequest,
    platform: Platform,
    cache: Cache,
    fetcher: Fetcher,
    reporter: Reporter,
    *,
    outputs: Sequence[Path],
) -> tuple[Inputs, BuildPlan]:
    from dockyard.build.compose import plan_image
    from dockyard.build.inputs import gather

    inputs = gather(
        request, platform, outputs=outputs, cache=cache, fetcher=fetcher, reporter=reporter
    )
    return inputs, plan_image(inputs, references_of(request, inputs))


def references_of(request: BuildRequest, inputs: Inputs) -> tuple[str, ...]:
    """The image's names: those of the command line, else the configured name and tags."""
    from dockyard.oci.reference import Reference

    if request.tags:
        return tuple(Reference.parse(text).familiar() for text in request.tags)
    name = inputs.detected.name.value
    return tuple(Reference.parse(f"{name}:{tag}").familiar() for tag in inputs.config.tags)
