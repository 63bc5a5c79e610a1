"""Carrying a plan out: fetch, unfold, pack, and put the image together.

Rules:
- Nothing is fetched or read that a known layer makes unnecessary.
- Whether two wheels clash is asked of the files themselves, once per set of wheels.
- The image depends on the plan and on the bytes it names, never on what was cached.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dockyard.build.foundation import DebianFoundation
from dockyard.build.pack import LayerJob, make_layers, tree_key
from dockyard.build.store import LayerStore, layer_key
from dockyard.errors import BuildError
from dockyard.fetch import Download, local_path
from dockyard.oci.config import EPOCH
from dockyard.oci.image import Image
from dockyard.progress import SILENT
from dockyard.wheels.venv import Venv, venv_entries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from dockyard.build.inputs import Inputs
    from dockyard.build.plan import BuildPlan, PlannedLayer
    from dockyard.cache import Cache
    from dockyard.debian.assembly import BaseFiles
    from dockyard.fetch import Fetcher
    from dockyard.files import FileEntry
    from dockyard.progress import Reporter
    from dockyard.wheels.install import InstalledWheel
    from dockyard.wheels.lock import LockedWheel


def execute(
    plan: BuildPlan, inputs: Inputs, *, cache: Cache, fetcher: Fetcher, reporter: Reporter
) -> Image:
    """Make the planned image; its layers can be streamed from then on."""
    return _Execution(plan, inputs, cache, fetcher, reporter).run()


def known_layers(
    plan: BuildPlan, inputs: Inputs, *, cache: Cache, fetcher: Fetcher
) -> tuple[bool, ...]:
    """Which of the plan's layers need no packing; in the plan's order."""
    return _Execution(plan, inputs, cache, fetcher, SILENT).known()


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

    def __init__(
        self,
        plan: BuildPlan,
        inputs: Inputs,
        cache: Cache,
        fetcher: Fetcher,
        reporter: Reporter,
    ) -> None:
        self.plan = plan
        self.inputs = inputs
        self.cache = cache
        self.fetcher = fetcher
        self.reporter = reporter
        self.venv = Venv(python=plan.python)
        self.compression = inputs.config.compression
        self.paths: dict[str, Path] = {}

    def known(self) -> tuple[bool, ...]:
        """Which of the plan's layers the cache has; fetches nothing."""
        self.paths = wheels_on_disk(self.inputs.lock.wheels, self.fetcher)
        store = LayerStore(cache=self.cache, archives=self.paths)
        if self.inputs.config.prefer and len(self.paths) < len(self.inputs.lock.wheels):
            # What a preference takes away is known only from the wheels.
            return tuple(False for _ in self.plan.layers)
        jobs = [self._job(layer) for layer in self.plan.layers]
        return tuple(store.find(job.key, created_by="") is not None for job in jobs)

    def run(self) -> Image:
        """Make every layer and put them onto the base."""
        self._fetch_wheels()
        self._check_clashes()
        store = LayerStore(cache=self.cache, archives=self.paths)
        jobs = [self._job(layer) for layer in self.plan.layers]
        layers = make_layers(
            jobs, store=store, compression=self.compression, reporter=self.reporter
        )
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

    def _fetch_wheels(self) -> None:
        wheels = self.inputs.lock.wheels
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

    @cached_property
    def _installed(self) -> dict[str, InstalledWheel]:
        """Every wheel as it lies in the image, clashes settled, by SHA-256."""
        from dockyard.wheels.clash import settle_clashes

        wheels = self.inputs.lock.wheels
        installed = [self._install(wheel) for wheel in wheels]
        settled = settle_clashes(installed, prefer=self.inputs.config.prefer)
        self.cache.write_record("clash-free", self._clash_key, True)
        return {wheel.sha256: tree for wheel, tree in zip(wheels, settled, strict=True)}

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

    def _check_clashes(self) -> None:
        """Look for clashes, unless this very set of wheels is known to have none."""
        if not self.cache.read_record("clash-free", self._clash_key):
            _ = self._installed

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
        key = layer_key(
            "wheels",
            wheels=facts,
            python=self.plan.python,
            venv=self.venv.root,
            trim=self._trim_version(layer),
            compression=self.compression,
        )
        return self._as_job(layer, key, lambda: self._wheel_entries(layer.wheels))

    def _trim_version(self, layer: PlannedLayer) -> Any:
        """What trimming does to the layer; None where it does nothing, so that it is shared."""
        if not self.inputs.config.trim:
            return None
        from dockyard.wheels.trim import TRIM_VERSION, trimmable

        return TRIM_VERSION if any(trimmable(wheel.name) for wheel in layer.wheels) else None

    def _wheel_entries(self, wheels: Sequence[LockedWheel]) -> list[FileEntry]:
        from dockyard.wheels.clash import merge_entries

        return merge_entries([self._installed[wheel.sha256] for wheel in wheels])

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

    def _as_job(
        self, layer: PlannedLayer, key: str, entries: Callable[[], Sequence[FileEntry]]
    ) -> LayerJob:
        return LayerJob(
            key=key,
            title=layer.title,
            created_by=layer.created_by,
            size=layer.size or 0,
            entries=entries,
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
        key = layer_key(
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

        return self._as_job(layer, key, entries)

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
            return unpacked_python(foundation.image, foundation.interpreter, cache=self.cache)

    def _bytecode_job(self, layer: PlannedLayer) -> LayerJob:
        from dockyard.build.startup import bytecode_entries, bytecode_version, import_facts

        key = layer_key(
            "bytecode",
            method=bytecode_version(),
            mode=self.inputs.config.bytecode,
            base=self._base_key,
            wheels=sorted(wheel.sha256 for wheel in self.inputs.lock.wheels),
            trim=self.inputs.config.trim,
            prefer=sorted(self.inputs.config.prefer),
            command=[*(self.plan.config.entrypoint or ()), *(self.plan.config.cmd or ())],
            imports=import_facts(self.inputs.app.code),
            compression=self.compression,
        )

        def entries() -> list[FileEntry]:
            return bytecode_entries(
                root=self._unpacked_base(),
                installed=list(self._installed.values()),
                app=self.inputs.app.code,
                command=(*(self.plan.config.entrypoint or ()), *(self.plan.config.cmd or ())),
                workdir=self.inputs.config.workdir,
                mode=self.inputs.config.bytecode,
                python=self.plan.python,
                architecture=self.plan.platform.architecture,
                cache=self.cache,
                reporter=self.reporter,
            )

        return self._as_job(layer, key, entries)
