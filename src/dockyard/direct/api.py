"""A Dockerfile as an image, in one call and without an engine.

Rules: the whole file is looked at before anything is fetched: a line that isn't understood is named
at once. Only the stages that the target needs are built. Raises NotUnderstood for what an engine
could do, DockerfileError for what nobody could.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dockyard.direct.context import read_context
from dockyard.direct.filesystem import FileSystem
from dockyard.direct.pip import Workshop, install, pip_words, read_command
from dockyard.direct.refusal import Site
from dockyard.direct.stage import DEFAULT_PATH, StageState
from dockyard.dockerfile.parse import parse
from dockyard.dockerfile.stages import needed_stages, read_stages
from dockyard.dockerfile.words import expand
from dockyard.errors import DockerfileError
from dockyard.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from dockyard.cache import Cache
    from dockyard.direct.context import Context
    from dockyard.dockerfile.stages import Stage
    from dockyard.dockerfile.syntax import Document, Instruction
    from dockyard.fetch import Fetcher
    from dockyard.oci.image import Image
    from dockyard.oci.platform import Platform
    from dockyard.progress import Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfileRequest:
    """A Dockerfile to build. folder: the context; dockerfile: its path; target: a stage's name.

    find_base: the image that FROM names.
    """

    folder: Path
    dockerfile: Path
    platform: Platform
    find_base: Callable[[str], Image]
    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    offline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltDockerfile:
    """An image, and what differs from what an engine would make, one line each."""

    image: Image
    notes: tuple[str, ...]


def read_dockerfile(request: DockerfileRequest) -> tuple[Document, tuple[Stage, ...], Stage]:
    """The file, its stages, and the one to build; raises DockerfileError."""
    name = request.dockerfile.name
    try:
        text = request.dockerfile.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DockerfileError(
            f"can't be read: {error.strerror or error}", where=str(request.dockerfile)
        ) from None
    document = parse(text, name=name).check()
    stages = read_stages(document, build_args=request.build_args)
    target = stages[-1]
    if request.target:
        named = [s for s in stages if request.target.lower() in (s.name.lower(), str(s.index))]
        if not named:
            raise DockerfileError(f"there is no stage {request.target}", where=name)
        target = named[-1]
    return document, stages, target


def check_understood(request: DockerfileRequest) -> None:
    """Raise NotUnderstood for a line that can be told to be too much, before anything is done."""
    document, stages, target = read_dockerfile(request)
    if "syntax" in document.directives and not _is_standard(document.directives["syntax"]):
        raise Site(document.name, stages[0].origin).refuse(
            f"its frontend is {document.directives['syntax']}"
        )
    for stage in needed_stages(stages, target):
        for step in stage.steps:
            made = step.instruction
            site = Site(document.name, made)
            if made.keyword == "ONBUILD":
                raise site.refuse("triggers for other builds aren't understood")
            if made.keyword == "RUN" and (made.flags or made.heredocs):
                what = f"--{made.flags[0].name}" if made.flags else "a here-document"
                raise site.refuse(f"{what} isn't understood")
            if made.keyword == "RUN" and made.words is None and not step.script().simple:
                raise site.refuse("it needs a shell: only commands joined by && are understood")


def _is_standard(syntax: str) -> bool:
    return syntax.rpartition("@")[0].endswith("docker/dockerfile") or syntax.startswith(
        ("docker/dockerfile:1", "docker.io/docker/dockerfile:1")
    )


def build_dockerfile(
    request: DockerfileRequest, *, cache: Cache, fetcher: Fetcher, reporter: Reporter = SILENT
) -> BuiltDockerfile:
    """Build the image; raises NotUnderstood or DockerfileError, and what fetching raises."""
    check_understood(request)
    return _Build(request, cache, fetcher, reporter).run()


class _Build:
    def __init__(
        self, request: DockerfileRequest, cache: Cache, fetcher: Fetcher, reporter: Reporter
    ) -> None:
        self.request = request
        self.cache = cache
        self.fetcher = fetcher
        self.reporter = reporter
        self.document, self.stages, self.target = read_dockerfile(request)
        self.context: Context = read_context(request.folder, request.dockerfile.name)
        self.states: dict[int, StageState] = {}
        self.bases: dict[int, Image] = {}

    def run(self) -> BuiltDockerfile:
        for stage in needed_stages(self.stages, self.target):
            self.build_stage(stage)
        final = self.states[self.target.index]
        image = self.bases[self.target.index]
        return BuiltDockerfile(image=self.packed(final, image), notes=tuple(final.notes))

    def build_stage(self, stage: Stage) -> None:
        state = self.begin(stage)
        self.states[stage.index] = state
        for step in stage.steps:
            if step.keyword == "RUN":
                self.run_line(state, step.instruction, self.bases[stage.index])
            else:
                state.apply(step.instruction)

    def begin(self, stage: Stage) -> StageState:
        """A stage as FROM leaves it."""
        site = Site(self.document.name, stage.origin)
        if stage.platform is not None and stage.platform != str(self.request.platform):
            raise site.refuse(f"it is for {stage.platform}, not for {self.request.platform}")
        named = {
            key: self.states[other.index]
            for other in self.stages[: stage.index]
            if other.index in self.states
            for key in (other.name.lower(), str(other.index))
        }
        if stage.parent is not None:
            above = self.states[stage.parent.index]
            self.bases[stage.index] = self.bases[stage.parent.index]
            files, config = above.files.copy(), above.config
            layers, notes = list(above.layers), list(above.notes)
        else:
            image = self.open_base(stage, site)
            self.bases[stage.index] = image
            files, config = self.files_of(image), image.config
            layers, notes = [], []
        if "PATH" not in config.env:
            config = replace(config, env={"PATH": DEFAULT_PATH} | dict(config.env))
        return StageState(
            name=stage.name,
            file=self.document.name,
            escape=self.document.escape,
            files=files,
            config=config,
            context=self.context,
            build_args=self.request.build_args,
            outer_args=self.outer_args(),
            stages=named,
            layers=layers,
            notes=notes,
        )

    def open_base(self, stage: Stage, site: Site) -> Image:
        from dockyard.oci.config import ImageConfig
        from dockyard.oci.image import Image

        if stage.image is None:
            raise site.fail(
                f"{stage.written} names no image", "Give its arguments: --build-arg NAME=VALUE."
            )
        if stage.image == "scratch":
            return Image(config=ImageConfig(platform=self.request.platform))
        image = self.request.find_base(stage.image)
        if image.config.more_config.get("OnBuild"):
            raise site.refuse(f"{stage.image} has ONBUILD triggers")
        return image

    def files_of(self, image: Image) -> FileSystem:
        if not image.layers:
            return FileSystem(None)
        from dockyard.oci.tree import read_tree

        with self.reporter.task("Listing the base's files"):
            return FileSystem(read_tree(image))

    def outer_args(self) -> dict[str, str]:
        """The arguments before the first FROM."""
        found: dict[str, str] = {}
        for made in self.document.instructions:
            if made.keyword == "FROM":
                break
            if made.keyword == "ARG":
                name, equals, raw = made.rest.partition("=")
                value = self.request.build_args.get(name)
                if value is None and equals:
                    value = expand(raw, found, self.document.escape, missing="")
                if value is not None:
                    found[name] = value
        return found

    def run_line(self, state: StageState, made: Instruction, image: Image) -> None:
        from dockyard.direct.commands import run_command

        site = state.site(made)
        script = state.script(made)
        lower = frozenset(state.files.nodes)
        for command in script.commands:
            texts = tuple(word.text for word in command.words)
            if command.assignments or not texts:
                raise site.refuse("variables in front of a command aren't understood")
            pip = pip_words(texts)
            if pip is not None:
                program, words = pip
                read_command(words, site)
                install(state, program, words, site, self.workshop(image))
                continue
            if not state.is_root:
                raise site.refuse("commands of another user than root aren't understood")
            run_command(state, texts, site)
        state.layer(made, lower)

    def workshop(self, image: Image) -> Workshop:
        from dockyard.build.image_base import read_base

        return Workshop(
            root=self.request.folder,
            image=image,
            facts=read_base(image, cache=self.cache, reporter=self.reporter),
            architecture=self.request.platform.architecture,
            cache=self.cache,
            fetcher=self.fetcher,
            reporter=self.reporter,
            offline=self.request.offline,
        )

    def packed(self, state: StageState, base: Image) -> Image:
        from dockyard.build.execute import created_time
        from dockyard.oci.layer import BlobFile, Layer, pack_layer

        created = created_time()
        image = base.with_config(replace(state.config, created=created))
        for made in state.layers:
            size = sum(entry.size for entry in made.entries)
            with self.reporter.task(f"Packing {made.created_by[:60]}", total=size) as task:
                # The bytes themselves are kept: a context may change while the image is used.
                packed = pack_layer(
                    made.entries,
                    cache=self.cache,
                    advance=task.advance,
                    archive=lambda path: None,
                )
            layer = Layer(
                descriptor=packed.descriptor,
                diff_id=packed.diff_id,
                uncompressed_size=packed.uncompressed_size,
                blob=BlobFile(path=self.cache.blob_path(packed.content)),
                created_by=made.created_by,
            )
            image = image.append(layer, created=created)
        return image
