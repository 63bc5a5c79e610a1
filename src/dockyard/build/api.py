"""The build as one call: from a request to an image in its targets.

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
    from dockyard.build.sinks import Loader
    from dockyard.fetch import Fetcher
    from dockyard.oci.image import Image
    from dockyard.progress import Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """An image that was built, and where it went."""

    image: Image
    plan: BuildPlan
    targets: tuple[Target, ...]

    @property
    def references(self) -> tuple[str, ...]:
        """Its names with tags."""
        return self.plan.references

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for programs."""
        return {
            "references": list(self.references),
            "digest": str(self.image.digest),
            "id": str(self.image.id),
            "platform": str(self.image.platform),
            "size": self.image.size,
            "targets": [str(target) for target in self.targets],
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
class PlannedImage:
    """A plan, and which of its layers the cache has already."""

    plan: BuildPlan
    cached: tuple[bool, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for programs."""
        plan = self.plan
        return {
            "references": list(plan.references),
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


def plan_project(
    request: BuildRequest, *, cache: Cache | None = None, reporter: Reporter = SILENT
) -> PlannedImage:
    """Decide what the image will be made of; resolves, but packs nothing."""
    from dockyard.build.execute import known_layers

    with workshop(request, cache, reporter) as (shop, fetcher):
        inputs, plan = _planned(request, shop, fetcher, reporter, outputs=())
        return PlannedImage(
            plan=plan, cached=known_layers(plan, inputs, cache=shop, fetcher=fetcher)
        )


def build_project(
    request: BuildRequest,
    *,
    targets: Sequence[Target],
    engine: Loader | None = None,
    cache: Cache | None = None,
    reporter: Reporter = SILENT,
) -> BuiltImage:
    """Build the project's image and deliver it to every target."""
    from dockyard.build.execute import execute
    from dockyard.build.sinks import deliver

    outputs = [target.path for target in targets if target.path is not None]
    with workshop(request, cache, reporter) as (shop, fetcher):
        inputs, plan = _planned(request, shop, fetcher, reporter, outputs=outputs)
        for warning in plan.warnings:
            reporter.warn(warning)
        image = execute(plan, inputs, cache=shop, fetcher=fetcher, reporter=reporter)
        for target in targets:
            deliver(image, target, references=plan.references, loader=engine, reporter=reporter)
    return BuiltImage(image=image, plan=plan, targets=tuple(targets))


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
    cache: Cache,
    fetcher: Fetcher,
    reporter: Reporter,
    *,
    outputs: Sequence[Path],
) -> tuple[Inputs, BuildPlan]:
    from dockyard.build.compose import plan_image
    from dockyard.build.inputs import gather, platforms_of

    platform, *more = platforms_of(request)
    if more:
        names = ", ".join(map(str, more))
        reporter.warn(f"only {platform} is built; build the others with --platform: {names}")
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
