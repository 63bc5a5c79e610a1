"""Carrying a plan out: fetch, unfold, pack, and put the image together.

Rules:
- Nothing is fetched or read that a known layer makes unnecessary; a registry's index knows more
  than this machine (see `layer_index`).
- Whether two wheels clash is asked of the files themselves, once per set of wheels.
- The image depends on the plan and on the bytes it names, never on what was cached.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dockyard.build.foundation import DebianFoundation
from dockyard.build.pack import LayerJob, make_layers, tree_key
from dockyard.build.store import LayerStore, key_of, layer_inputs, layer_key
from dockyard.errors import BuildError
from dockyard.fetch import Download, local_path
from dockyard.oci.config import EPOCH
from dockyard.oci.image import Image
from dockyard.progress import SILENT
from dockyard.wheels.venv import Venv, venv_entries

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from dockyard.build.inputs import Inputs
    from dockyard.build.layer_entry import LayerEntry
    from dockyard.build.plan import BuildPlan, Compiles, PlannedLayer
    from dockyard.build.workshop import Workshop
    from dockyard.debian.assembly import BaseFiles
    from dockyard.fetch import Fetcher
    from dockyard.files import FileEntry
    from dockyard.oci.layer import Layer
    from dockyard.wheels.install import InstalledWheel
    from dockyard.wheels.lock import LockedWheel


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeImage:
    """An image, and what the layer index may have or get of its layers.

    fresh: layers that the index lacks, each with its job.
    """

    image: Image
    fresh: tuple[tuple[LayerJob, Layer], ...] = ()


def execute(plan: BuildPlan, inputs: Inputs, *, shop: Workshop) -> MadeImage:
    """Make the planned image; its layers can be streamed from then on."""
    return _Execution(plan, inputs, shop).run()


def known_layers(plan: BuildPlan, inputs: Inputs, *, shop: Workshop) -> tuple[bool, ...]:
    """Which of the plan's layers need no packing; in the plan's order."""
    return _Execution(plan, inputs, replace(shop, reporter=SILENT)).known()


def wheels_on_disk(wheels: Sequence[LockedWheel], fetcher: Fetcher) -> dict[str, Path]:
    """Where those wheels are that needn't be fetched, by their SHA-256 (hexadecimal)."""
    found: dict[str, Path] = {}
    for wheel in wheels:
        path = fetcher.cached(wheel.sha256) or local_path(wheel.url)
        if path is not None and path.exists():
            found[wheel.sha256] = path
    return found


def created_time() -> str:
    """The image's time of creation: SOURCE_DATE_EPOCH if it is set, else a constant."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "").strip()
    if not text:
        return EPOCH
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(int(text), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError) as error:
        raise BuildError(
            f"SOURCE_DATE_EPOCH is {text!r}, which is no number of seconds",
            hint="Unset it, or set it to seconds since 1970.",
        ) from error


class _Execution:
    """One plan on its way to an image."""

    def __init__(self, plan: BuildPlan, inputs: Inputs, shop: Workshop) -> None:
        self.plan = plan
        self.inputs = inputs
        self.cache = shop.cache
        self.fetcher = shop.fetcher
        self.reporter = shop.reporter
        self.index = shop.index
        self.venv = Venv(python=plan.python)
        self.compression = inputs.config.compression
        self.paths: dict[str, Path] = {}
        self.trees: dict[str, InstalledWheel] = {}
        self._compiling = threading.Lock()
        self._compiled: list[FileEntry] | None = None

    def known(self) -> tuple[bool, ...]:
        """Which of the plan's layers the cache has; fetches nothing."""
        self.paths = wheels_on_disk(self.inputs.lock.wheels, self.fetcher)
        store = LayerStore(cache=self.cache, archives=self.paths)
        if self.inputs.config.prefer and len(self.paths) < len(self.inputs.lock.wheels):
            # What a preference takes away is known only from the wheels.
            return tuple(False for _ in self.plan.layers)
        jobs = [self._job(layer) for layer in self.plan.layers]
        return tuple(store.find(job.key, created_by="") is not None for job in jobs)

    def run(self) -> MadeImage:
        """Make every layer and put them onto the base."""
        wheels = self.inputs.lock.wheels
        if self.inputs.config.prefer or self.index is None:
            self._fetch(wheels)
        else:
            self.paths |= wheels_on_disk(wheels, self.fetcher)
            # What is there is checked, as what is fetched is.
            self._fetch([wheel for wheel in wheels if wheel.sha256 in self.paths])
        store = LayerStore(cache=self.cache, archives=self.paths)
        jobs = [self._job(layer) for layer in self.plan.layers]
        found = {job.key: store.find(job.key, created_by=job.created_by) for job in jobs}
        layers = {key: layer for key, layer in found.items() if layer is not None}
        entries: dict[str, LayerEntry] = {}
        if self.index is not None:
            entries = self.index.look_up(jobs, layers)
            for job in jobs:
                if job.key in entries and job.key not in layers:
                    layer = self.index.layer(entries[job.key], created_by=job.created_by)
                    layers[job.key] = layer
        self._fetch(self._wheels_wanted(jobs, layers, entries))
        self._check_clashes(jobs, entries)
        made = make_layers(
            jobs, store=store, compression=self.compression, reporter=self.reporter, known=layers
        )
        fresh = tuple(
            (job, layer)
            for job, layer in zip(jobs, made, strict=True)
            if job.inputs is not None and job.key not in entries
        )
        return MadeImage(image=self._image(made), fresh=fresh)

    def _image(self, layers: Sequence[Layer]) -> Image:
        created = created_time()
        config = replace(self.plan.config, created=created)
        foundation = self.inputs.foundation
        if isinstance(foundation, DebianFoundation):
            image = Image(config=config)
        else:
            image = foundation.image.with_config(config)
        for layer in layers:
            image = image.append(layer, created=created)
        return image

    # Wheels

    def _fetch(self, wheels: Sequence[LockedWheel]) -> None:
        downloads = [
            Download(
                url=wheel.url,
                sha256=wheel.sha256,
                size=wheel.size,
                title=f"{wheel.name} {wheel.version}",
            )
            for wheel in wheels
        ]
        for wheel, path in zip(wheels, self.fetcher.fetch(downloads), strict=True):
            self.paths[wheel.sha256] = path

    def _wheels_wanted(
        self,
        jobs: Sequence[LayerJob],
        known: Mapping[str, Layer],
        entries: Mapping[str, LayerEntry],
    ) -> list[LockedWheel]:
        """The wheels that aren't here and whose bytes a layer, or the check for clashes, needs."""
        absent = [wheel for wheel in self.inputs.lock.wheels if wheel.sha256 not in self.paths]
        if not absent:
            return []
        wanted: set[str] = set()
        everything = False
        for job, planned in zip(jobs, self.plan.layers, strict=True):
            entry = entries.get(job.key)
            listed = entry is not None and entry.files is not None
            if job.key not in known or not (listed or self._free_of_clashes(jobs, entries)):
                wanted |= {wheel.sha256 for wheel in planned.wheels}
                everything |= planned.kind == "bytecode"
        more = [wheel for wheel in absent if wheel.sha256 not in wanted]
        if everything and more:
            size = sum(wheel.size or 0 for wheel in more)
            what = f"{len(more)} wheels" + (f" ({size / 1e6:.0f} MB)" if size else "")
            self.reporter.note(
                f"The bytecode has to be made anew, for which {what} are fetched; "
                'bytecode = "none" does without'
            )
        return [wheel for wheel in absent if everything or wheel.sha256 in wanted]

    @cached_property
    def _installed(self) -> dict[str, InstalledWheel]:
        """Every wheel as it lies in the image, clashes settled, by SHA-256."""
        from dockyard.wheels.clash import settle_clashes

        wheels = self.inputs.lock.wheels
        installed = [self._tree(wheel) for wheel in wheels]
        settled = settle_clashes(installed, prefer=self.inputs.config.prefer)
        self.cache.write_record("clash-free", self._clash_key, True)
        return {wheel.sha256: tree for wheel, tree in zip(wheels, settled, strict=True)}

    def _tree(self, wheel: LockedWheel) -> InstalledWheel:
        """The wheel as it lies in the image if it clashes with no other."""
        if wheel.sha256 not in self.trees:
            self.trees[wheel.sha256] = self._install(wheel)
        return self.trees[wheel.sha256]

    def _install(self, wheel: LockedWheel) -> InstalledWheel:
        from dockyard.wheels.install import install_wheel

        # A lock names every wheel, and pip marks what is named as requested: so do we, which also
        # keeps a wheel's layer the same whoever depends on it.
        return install_wheel(
            self.paths[wheel.sha256],
            self.venv,
            requested=True,
            direct_url=wheel.direct_url,
            trim=self.inputs.config.trim,
            filename=wheel.filename,
            sha256=wheel.sha256,
        )

    @property
    def _clash_key(self) -> str:
        return layer_key(
            "clash",
            wheels=sorted(wheel.sha256 for wheel in self.inputs.lock.wheels),
            prefer=sorted(self.inputs.config.prefer),
            trim=self.inputs.config.trim,
        )

    def _free_of_clashes(self, jobs: Sequence[LayerJob], entries: Mapping[str, LayerEntry]) -> bool:
        """Whether this very set of wheels is known to have no clash.

        Bytecode in the index was made of all of them, after they had been looked at.
        """
        if self.cache.read_record("clash-free", self._clash_key):
            return True
        return any(job.kind == "bytecode" and job.key in entries for job in jobs)

    def _check_clashes(self, jobs: Sequence[LayerJob], entries: Mapping[str, LayerEntry]) -> None:
        """Look for clashes, in the wheels or in the lists of their files that the index has."""
        if self._free_of_clashes(jobs, entries):
            return
        wheels = self.inputs.lock.wheels
        if all(wheel.sha256 in self.paths for wheel in wheels):
            _ = self._installed
            return
        from dockyard.wheels.clash import clash_error, find_clashes

        assert self.index is not None
        listed = [
            entries[job.key]
            for job, planned in zip(jobs, self.plan.layers, strict=True)
            if any(wheel.sha256 not in self.paths for wheel in planned.wheels)
        ]
        claims = {each.name: each for each in self.index.claims(listed)}
        here = [self._tree(wheel) for wheel in wheels if wheel.sha256 in self.paths]
        names = {each.name for each in here}
        others = [each for name, each in claims.items() if name not in names]
        if clashes := find_clashes([*here, *others]):
            raise clash_error(clashes)
        self.cache.write_record("clash-free", self._clash_key, True)

    def _wheels_job(self, layer: PlannedLayer) -> LayerJob:
        facts: list[Any] = []
        for wheel in layer.wheels:
            fact: dict[str, Any] = {"sha256": wheel.sha256, "name": wheel.filename}
            if wheel.direct_url:
                fact["direct_url"] = wheel.direct_url
            if self.inputs.config.prefer:
                # What a preference takes away makes another layer.
                fact["files"] = [entry.path for entry in self._installed[wheel.sha256].entries]
            facts.append(fact)
        inputs = layer_inputs(
            "wheels",
            wheels=facts,
            python=self.plan.python,
            venv=self.venv.root,
            trim=self._trim_version(layer),
            compression=self.compression,
        )
        return self._known_job(
            layer,
            inputs,
            lambda: self._wheel_entries(layer.wheels),
            claims=lambda: self._trees_of(layer.wheels),
        )

    def _trim_version(self, layer: PlannedLayer) -> Any:
        """What trimming does to the layer; None where it does nothing, so that it is shared."""
        if not self.inputs.config.trim:
            return None
        from dockyard.wheels.trim import TRIM_VERSION, trimmable

        return TRIM_VERSION if any(trimmable(wheel.name) for wheel in layer.wheels) else None

    def _wheel_entries(self, wheels: Sequence[LockedWheel]) -> list[FileEntry]:
        from dockyard.wheels.clash import merge_entries

        return merge_entries(self._trees_of(wheels))

    def _trees_of(self, wheels: Sequence[LockedWheel]) -> list[InstalledWheel]:
        """Wheels as they lie in the image; what a preference takes away is known from all."""
        if self.inputs.config.prefer:
            return [self._installed[wheel.sha256] for wheel in wheels]
        return [self._tree(wheel) for wheel in wheels]

    # Jobs

    def _job(self, layer: PlannedLayer) -> LayerJob:
        match layer.kind:
            case "base" | "apt":
                return self._debian_job(layer)
            case "wheel" | "wheels":
                return self._wheels_job(layer)
            case "bytecode":
                return self._bytecode_job(layer)
            case _:
                key = tree_key(
                    layer.kind, layer.entries, cache=self.cache, compression=self.compression
                )
                return self._as_job(layer, key, lambda: layer.entries)

    def _known_job(
        self,
        layer: PlannedLayer,
        inputs: str,
        entries: Callable[[], Sequence[FileEntry]],
        claims: Callable[[], Sequence[InstalledWheel]] | None = None,
    ) -> LayerJob:
        """A layer whose inputs other machines have too, so that an index may have it."""
        job = self._as_job(layer, key_of(inputs), entries)
        return replace(job, inputs=inputs, claims=claims)

    def _as_job(
        self, layer: PlannedLayer, key: str, entries: Callable[[], Sequence[FileEntry]]
    ) -> LayerJob:
        return LayerJob(
            key=key,
            title=layer.title,
            created_by=layer.created_by,
            size=layer.size or 0,
            entries=entries,
            kind=layer.kind,
        )

    @property
    def _debian(self) -> DebianFoundation:
        foundation = self.inputs.foundation
        assert isinstance(foundation, DebianFoundation)
        return foundation

    @cached_property
    def _base_files(self) -> BaseFiles:
        from dockyard.debian.assembly import base_entries
        from dockyard.debian.package import fetch_packages

        debian = self._debian
        debs = fetch_packages(
            [*debian.base.packages, *debian.apt], mirror=debian.mirror, fetcher=self.fetcher
        )
        files = base_entries(debian.base, debs, debian.apt, cache=self.cache)
        for note in files.notes:
            self.reporter.note(note)
        return files

    def _debian_job(self, layer: PlannedLayer) -> LayerJob:
        debian = self._debian
        added = [package.sha256 for package in debian.apt] if layer.kind == "apt" else []
        inputs = layer_inputs(
            layer.kind,
            base=debian.base.key,
            apt=added,
            venv=[self.venv.root, self.venv.python],
            compression=self.compression,
        )

        def entries() -> list[FileEntry]:
            if layer.kind == "apt":
                return list(self._base_files.apt)
            return [*self._base_files.base, *venv_entries(self.venv)]

        return self._known_job(layer, inputs, entries)

    @property
    def _base_key(self) -> str:
        """What the base's Python depends on."""
        foundation = self.inputs.foundation
        if isinstance(foundation, DebianFoundation):
            return foundation.base.key
        return f"{foundation.image.digest} {foundation.interpreter}"

    def _unpacked_base(self) -> Path:
        """The folder where the base's Python is unpacked."""
        foundation = self.inputs.foundation
        if isinstance(foundation, DebianFoundation):
            from dockyard.build.unpack import unpacked

            return unpacked(
                f"base {self._base_key}", lambda: self._base_files.base, cache=self.cache
            )
        from dockyard.build.image_base import unpacked_python

        with self.reporter.task("Unpacking the base's Python"):
            return unpacked_python(
                foundation.image,
                foundation.interpreter,
                cache=self.cache,
                reporter=self.reporter,
            )

    def _bytecode_job(self, layer: PlannedLayer) -> LayerJob:
        from dockyard.build.server import server_digest, server_modules
        from dockyard.build.startup import bytecode_version, import_facts

        also = server_modules(self.inputs.detected)
        inputs = layer_inputs(
            "bytecode",
            method=bytecode_version(),
            mode=self.inputs.config.bytecode,
            base=self._base_key,
            wheels=sorted(wheel.sha256 for wheel in self.inputs.lock.wheels),
            trim=self.inputs.config.trim,
            prefer=sorted(self.inputs.config.prefer),
            command=[*(self.plan.config.entrypoint or ()), *(self.plan.config.cmd or ())],
            imports=import_facts(self.inputs.app.code),
            # Without a server the key is the one that images had before there was one.
            **({"server": [server_digest(self.inputs.server), *also]} if also else {}),
            **({"compiles": layer.compiles} if layer.compiles != "all" else {}),
            compression=self.compression,
        )

        def entries() -> list[FileEntry]:
            return [
                entry
                for entry in self._bytecode
                if layer.compiles in ("all", self._compiled_with(entry.path))
            ]

        return self._known_job(layer, inputs, entries)

    def _compiled_with(self, path: str) -> Compiles:
        """Which part of a divided bytecode a pyc is in."""
        folder, _, name = path.rpartition("/__pycache__/")
        return "small" if f"{folder}/{name.partition('.')[0]}.py" in self._small_files else "large"

    @cached_property
    def _small_files(self) -> frozenset[str]:
        """The paths of the wheels that share layers."""
        layers = [layer for layer in self.plan.layers if layer.kind == "wheels"]
        trees = [self._installed[wheel.sha256] for layer in layers for wheel in layer.wheels]
        return frozenset(entry.path for tree in trees for entry in tree.entries)

    @property
    def _bytecode(self) -> list[FileEntry]:
        """All bytecode, compiled once; its layers are packed side by side."""
        with self._compiling:
            if self._compiled is None:
                self._compiled = self._compile()
            return self._compiled

    def _compile(self) -> list[FileEntry]:
        from dockyard.build.server import server_modules
        from dockyard.build.startup import bytecode_entries

        return bytecode_entries(
            root=self._unpacked_base(),
            installed=[
                *(entry for tree in self._installed.values() for entry in tree.entries),
                *self.inputs.server,
            ],
            app=self.inputs.app.code,
            command=(*(self.plan.config.entrypoint or ()), *(self.plan.config.cmd or ())),
            workdir=self.inputs.config.workdir,
            mode=self.inputs.config.bytecode,
            python=self.plan.python,
            architecture=self.plan.platform.architecture,
            cache=self.cache,
            reporter=self.reporter,
            also=server_modules(self.inputs.detected),
        )
