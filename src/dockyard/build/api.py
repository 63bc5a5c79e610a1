"""The build as one call: from a request to images in their targets.

Rules: this module joins the others and decides nothing. Everything that reaches out is given a
cache, a fetcher and a reporter from here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dockyard.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dockyard.build.execute import MadeImage
    from dockyard.build.inputs import Inputs
    from dockyard.build.layer_index import LayerIndex
    from dockyard.build.plan import BuildPlan
    from dockyard.build.request import BuildRequest, Target
    from dockyard.build.savings import TrimSavings
    from dockyard.build.sinks import Loader
    from dockyard.build.workshop import Workshop
    from dockyard.cache import Cache
    from dockyard.oci.digest import Digest
    from dockyard.oci.image import Image
    from dockyard.oci.platform import Platform
    from dockyard.oci.reference import Reference
    from dockyard.oci.registry.api import Registries
    from dockyard.oci.registry.push import Pushed
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
    """The images that were built, one for each platform, and where they went.

    pushed: names in registries; uploaded: bytes of blobs that were sent there.
    """

    images: tuple[BuiltImage, ...]
    targets: tuple[Target, ...]
    pushed: tuple[str, ...] = ()
    uploaded: int = 0

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
            "pushed": list(self.pushed),
            "uploaded": self.uploaded,
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
    request: BuildRequest,
    *,
    cache: Cache | None = None,
    registries: Registries | None = None,
    reporter: Reporter = SILENT,
) -> PlannedProject:
    """Decide what the images will be made of; resolves, but packs nothing."""
    from dockyard.build.execute import known_layers, wheels_on_disk
    from dockyard.build.inputs import platforms_of
    from dockyard.build.savings import trim_savings
    from dockyard.build.workshop import open_workshop

    images = []
    insecure = _insecure_hosts(request, ())
    with open_workshop(request, cache, reporter, registries=registries, insecure=insecure) as shop:
        for platform in platforms_of(request):
            inputs, plan = _planned(request, platform, shop, outputs=())
            savings = trim_savings(
                inputs.lock.wheels,
                wheels_on_disk(inputs.lock.wheels, shop.fetcher),
                on=inputs.config.trim,
                python=inputs.python,
                cache=shop.cache,
            )
            cached = known_layers(plan, inputs, shop=shop)
            images.append(PlannedImage(plan=plan, cached=cached, trim=savings))
    return PlannedProject(images=tuple(images))


def build_project(
    request: BuildRequest,
    *,
    targets: Sequence[Target],
    engine: Loader | None = None,
    cache: Cache | None = None,
    registries: Registries | None = None,
    reporter: Reporter = SILENT,
) -> BuiltProject:
    """Build the project's image for each platform and deliver them to every target.

    When all targets are the engine, only the platform that it takes is built. registries: others
    than those that this machine reaches.
    """
    from dockyard.build.built_images import remember_image
    from dockyard.build.execute import execute
    from dockyard.build.inputs import platforms_of
    from dockyard.build.sinks import check_target, for_engine
    from dockyard.build.workshop import open_workshop

    outputs = [target.path for target in targets if target.path is not None]
    platforms = platforms_of(request)
    for target in targets:
        check_target(target, platforms)
    pushed = pushed_to(request, targets)
    if engine is not None and not outputs and not pushed and len(platforms) > 1:
        platforms = (for_engine(platforms, engine),)
        reporter.note(f"Building for {platforms[0]} alone, which the engine takes")
    made: list[MadeImage] = []
    built = []
    insecure = _insecure_hosts(request, pushed)
    with open_workshop(request, cache, reporter, registries=registries, insecure=insecure) as shop:
        shop = replace(shop, index=_layer_index(request, pushed, shop))
        for platform in platforms:
            inputs, plan = _planned(request, platform, shop, outputs=outputs)
            if engine is not None:
                # Asked before the work begins: an engine that isn't there is known now.
                engine.known_layers()
            for warning in plan.warnings:
                reporter.warn(f"{platform}: {warning}" if len(platforms) > 1 else warning)
            made.append(execute(plan, inputs, shop=shop))
            remember_image(made[-1].image, shop.cache)
            built.append(BuiltImage(image=made[-1].image, plan=plan))
        references = built[0].plan.references
        done = _deliver(made, targets, pushed, references=references, loader=engine, shop=shop)
    return BuiltProject(
        images=tuple(built),
        targets=tuple(targets),
        pushed=tuple(reference.familiar() for reference in pushed),
        uploaded=sum(each.sizes["uploaded"] for each in done),
    )


def pushed_to(request: BuildRequest, targets: Sequence[Target]) -> tuple[Reference, ...]:
    """Under which names of registries the image will be; raises UsageError where one says none."""
    from dockyard.build.inputs import read_config
    from dockyard.build.request import registry_reference

    found: list[Reference] = []
    for target in targets:
        if target.kind != "registry":
            continue
        if target.reference is not None:
            found.append(target.reference)
            continue
        config, _ = read_config(request)
        name = config.name or request.folder.absolute().name
        names = request.tags or [f"{name}:{tag}" for tag in config.tags]
        found += [registry_reference(each) for each in names]
    return tuple(dict.fromkeys(found))


def _insecure_hosts(request: BuildRequest, pushed: Sequence[Reference]) -> set[str]:
    """The registries that the request names, if plain HTTP is allowed with them."""
    from dockyard.build.base_source import base_reference
    from dockyard.build.inputs import read_config

    if not request.insecure:
        return set()
    config, _ = read_config(request)
    base = base_reference(config.base)
    return {reference.domain for reference in (*pushed, *([base] if base else []))}


def _layer_index(
    request: BuildRequest, pushed: Sequence[Reference], shop: Workshop
) -> LayerIndex | None:
    """The layer index beside the first place that is pushed to, unless it is turned off."""
    from dockyard.build.inputs import read_config

    config, _ = read_config(request)
    if not pushed or not config.layer_index:
        return None
    from dockyard.build.layer_index import LayerIndex, index_path
    from dockyard.oci.reference import Reference

    place = f"{pushed[0].domain}/{index_path(config.layer_index, pushed[0])}"
    repository = shop.registries.repository(Reference.parse(place))
    return LayerIndex(repository=repository, reporter=shop.reporter)


def _deliver(
    made: Sequence[MadeImage],
    targets: Sequence[Target],
    pushed: Sequence[Reference],
    *,
    references: Sequence[str],
    loader: Loader | None,
    shop: Workshop,
) -> tuple[Pushed, ...]:
    from dockyard.build.sinks import deliver, for_engine

    images = [each.image for each in made]
    for target in targets:
        if target.kind == "registry":
            continue
        taken = {image.platform for image in images}
        if target.kind == "docker" and loader is not None:
            taken = {for_engine([image.platform for image in images], loader)}
        deliver(
            [
                _with_bytes(image, target, loader, shop) if image.platform in taken else image
                for image in images
            ],
            target,
            references=references,
            loader=loader,
            reporter=shop.reporter,
        )
    return _push(made, pushed, shop) if pushed else ()


def _with_bytes(image: Image, target: Target, loader: Loader | None, shop: Workshop) -> Image:
    """The image with the layers on this machine that the target will ask for."""
    from dockyard.build.sinks import known_prefix
    from dockyard.oci.registry.pull import pull_layers

    known = known_prefix(image, loader.known_layers()) if target.kind == "docker" and loader else ()
    return pull_layers(image, shop.cache, skip=known, reporter=shop.reporter)


def _push(
    made: Sequence[MadeImage], pushed: Sequence[Reference], shop: Workshop
) -> tuple[Pushed, ...]:
    """Push the image, then enter what is new of it into the layer index."""
    from dockyard.build.describe import layer_titles
    from dockyard.oci.registry.push import ImagesSource, push_references

    index, mounts = shop.index, {}
    if index is not None:
        layers = [layer for each in made for layer in each.image.layers]
        mounts = {layer.descriptor.digest: [index.repository.path] for layer in layers}
    source = ImagesSource.of([each.image for each in made])
    with shop.reporter.task(f"Pushing {pushed[0].familiar()}"):
        done = push_references(
            shop.registries,
            source,
            source.root,
            pushed,
            mounts=mounts,
            titles={key: value for each in made for key, value in layer_titles(each.image).items()},
            cache=shop.cache,
            reporter=shop.reporter,
        )
    if index is not None:
        fresh = {job.key: (job, layer) for each in made for job, layer in each.fresh}
        index.add(list(fresh.values()), from_path=pushed[0].path)
    return tuple(done)


def plan_inputs(
    request: BuildRequest, platform: Platform, shop: Workshop
) -> tuple[Inputs, BuildPlan]:
    """What one platform's image is decided from, and the decision."""
    return _planned(request, platform, shop, outputs=())


def _planned(
    request: BuildRequest, platform: Platform, shop: Workshop, *, outputs: Sequence[Path]
) -> tuple[Inputs, BuildPlan]:
    from dockyard.build.compose import plan_image
    from dockyard.build.inputs import gather

    inputs = gather(request, platform, shop=shop, outputs=outputs)
    return inputs, plan_image(inputs, references_of(request, inputs))


def references_of(request: BuildRequest, inputs: Inputs) -> tuple[str, ...]:
    """The image's names: those of the command line, else the configured name and tags."""
    from dockyard.oci.reference import Reference

    if request.tags:
        return tuple(Reference.parse(text).familiar() for text in request.tags)
    name = inputs.detected.name.value
    return tuple(Reference.parse(f"{name}:{tag}").familiar() for tag in inputs.config.tags)
