"""Everything a plan is decided from: the project, what it depends on, and what it stands on.

Rules:
- This is where a build reaches out before it packs: the project's folder, the index, the mirror.
- What was resolved is kept in the cache or in pylock.toml, so that unchanged inputs reach nothing.
- Of the Pythons a base offers, the next older is tried when the newest has no wheels for a
  requirement and the project doesn't say which it wants.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dockyard.build.foundation import (
    DebianFoundation,
    check_replaced,
    debian_pythons,
    image_foundation,
    is_debian,
)
from dockyard.build.plan import Decision
from dockyard.errors import BuildError, ResolveError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dockyard.app.config import AppConfig, ConfigOrigin
    from dockyard.app.detect import DependencySource, Detected
    from dockyard.app.entries import AppEntries
    from dockyard.build.foundation import Foundation
    from dockyard.build.image_base import BaseImageFacts
    from dockyard.build.request import BuildRequest
    from dockyard.build.workshop import Workshop
    from dockyard.debian.mirror import Mirror
    from dockyard.files import FileEntry
    from dockyard.oci.digest import Digest
    from dockyard.oci.image import Image
    from dockyard.oci.platform import Platform
    from dockyard.wheels.lock import Lock, LockedWheel
    from dockyard.wheels.pylock import LockFile
    from dockyard.wheels.requirement import DependencySource as Source
    from dockyard.wheels.requirement import SourceKind
    from dockyard.wheels.resolve import ResolveRequest
    from dockyard.wheels.settings import IndexSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What one platform's plan is decided from.

    server: the files of Dockyard's own server, where it serves.
    """

    config: AppConfig
    detected: Detected
    app: AppEntries
    platform: Platform
    python: str
    foundation: Foundation
    lock: Lock
    server: tuple[FileEntry, ...]
    decisions: tuple[Decision, ...]
    warnings: tuple[str, ...]


def read_config(request: BuildRequest) -> tuple[AppConfig, ConfigOrigin]:
    """The folder's configuration, with what the command line changes of it."""
    from dockyard.app.config import ConfigOrigin, load_config, parse_config
    from dockyard.app.ignore import project_root

    config, origin = load_config(project_root(request.folder))
    if request.overrides:
        names = {key.replace("_", "-"): value for key, value in request.overrides.items()}
        changed = parse_config(names, ConfigOrigin(name="command line"))
        update = {key: getattr(changed, key) for key in changed.model_fields_set}
        config = config.model_copy(update=update)
    return config, origin


def platforms_of(request: BuildRequest) -> tuple[Platform, ...]:
    """The platforms to build for: the request's, else the configured ones, else this host's."""
    from dockyard.oci.platform import Platform

    if request.platforms:
        return request.platforms
    config, _ = read_config(request)
    configured = tuple(dict.fromkeys(map(Platform.parse, config.platforms)))
    return configured or (Platform.host(),)


def resolve_for_lock(
    request: BuildRequest, platform: Platform, *, shop: Workshop
) -> tuple[Foundation, Lock]:
    """What a lock is written from: the base, and the resolution with its document."""
    gathering, minors = begin(request, platform, shop)
    gathering.locking = True
    foundation, lock, _ = gathering.first_that_resolves(minors)
    return foundation, lock


def stale_lock_reasons(request: BuildRequest, platform: Platform, *, shop: Workshop) -> list[str]:
    """Why the project's pylock.toml isn't current for this platform; empty when it is."""
    gathering, minors = begin(request, platform, shop)
    return gathering.stale_reasons(minors[0])


def begin(
    request: BuildRequest, platform: Platform, shop: Workshop, outputs: Sequence[Path] = ()
) -> tuple[_Gathering, Sequence[str]]:
    """Look at the project; also the Pythons to try, the best first."""
    from dockyard.app.detect import choose_python, detect

    config, origin = read_config(request)
    detected = detect(request.folder, config, origin, outputs=outputs)
    gathering = _Gathering(request, platform, config, detected, shop)
    offered = debian_pythons(config.base)
    if not is_debian(config.base):
        offered = gathering.image_pythons()
    choice = choose_python(detected.python, offered, base=config.base or "the base")
    gathering.why_python = str(choice)
    return gathering, (choice.value.minor, *choice.value.fallback)


def gather(
    request: BuildRequest, platform: Platform, *, shop: Workshop, outputs: Sequence[Path] = ()
) -> Inputs:
    """Look at the project, choose a Python and a base, and resolve what it depends on."""
    from dockyard.app.entries import app_entries
    from dockyard.build.server import has_server, server_entries

    gathering, minors = begin(request, platform, shop, outputs)
    config, detected = gathering.config, gathering.detected
    foundation, lock, failures = gathering.first_that_resolves(minors)
    python = lock.python
    why = gathering.why_python
    if failures:
        why = f"Python {minors[0]} would be newer, but: {failures[0]}"
    app = app_entries(
        detected.project,
        workdir=detected.workdir.value,
        models=detected.models.value,
        writable=[decision.value for decision in detected.writable],
    )
    decisions = [
        Decision(subject=what, value=value, why=reason)
        for what, value, reason in detected.decisions()
        if what != "python"
    ]
    decisions.insert(1, Decision(subject="python", value=python, why=why))
    decisions.insert(1, Decision(subject="base", value=str(foundation), why=_base_reason(config)))
    decisions.insert(
        3,
        Decision(
            subject="packages",
            value=f"{len(lock.wheels)} {'wheel' if len(lock.wheels) == 1 else 'wheels'}",
            why=gathering.how_resolved,
        ),
    )
    if lock.from_base:
        names = ", ".join(f"{item.name} {item.version}" for item in lock.from_base)
        decisions.insert(4, Decision(subject="from base", value=names, why="the base has them"))
    return Inputs(
        config=config,
        detected=detected,
        app=app,
        platform=platform,
        python=python,
        foundation=foundation,
        lock=lock,
        # Whoever depends on Dockyard itself has the server from there.
        server=server_entries(python)
        if has_server(detected) and all(wheel.name != "dockyard" for wheel in lock.wheels)
        else (),
        decisions=tuple(decisions),
        warnings=(*detected.warnings, *_unmet(detected, lock, foundation)),
    )


def _unmet(detected: Detected, lock: Lock, foundation: Foundation) -> list[str]:
    """What the code imports and no package brings."""
    from dockyard.app.detect import unmet_imports

    names = [wheel.name for wheel in lock.wheels] + [item.name for item in foundation.provided]
    unmet = unmet_imports(names, detected.imports)
    return [
        f"{where} imports what the package {package} has, and nothing depends on that: add it to "
        f"{detected.dependencies.value.title}"
        for package, where in unmet.items()
    ]


def base_folder(request: BuildRequest) -> Path:
    """Where a base's relative path starts: here on the command line, else the project's folder."""
    from pathlib import Path

    from dockyard.app.ignore import project_root

    return Path.cwd() if "base" in request.overrides else project_root(request.folder)


def _base_reason(config: AppConfig) -> str:
    return "as configured" if config.base else "the Debian suite that has this Python"


class _Gathering:
    """One request while its base and its lock are found."""

    def __init__(
        self,
        request: BuildRequest,
        platform: Platform,
        config: AppConfig,
        detected: Detected,
        shop: Workshop,
    ) -> None:
        from dockyard.build.server import server_requirements
        from dockyard.wheels.settings import gather_settings

        self.request = request
        self.platform = platform
        self.config = config
        self.detected = detected
        self.shop = shop
        self.cache = shop.cache
        self.fetcher = shop.fetcher
        self.reporter = shop.reporter
        self.settings: IndexSettings = gather_settings(detected.folder)
        self.why_python = ""
        self.how_resolved = ""
        self.locking = False
        self.server: tuple[str, ...] = server_requirements(
            detected, database=config.stack is not None and config.stack.database is not None
        )

    def first_that_resolves(
        self, minors: Sequence[str]
    ) -> tuple[Foundation, Lock, tuple[str, ...]]:
        """Resolve for the first of these Pythons that can be; and why earlier ones can't.

        When none can, the first one's error is raised: it is the Python that was wanted.
        """
        first: ResolveError | None = None
        for minor in minors:
            try:
                foundation = self._foundation(minor)
                return foundation, self._lock(minor, foundation), (first.what,) if first else ()
            except ResolveError as error:
                first = first or error
        assert first is not None
        raise first

    def _foundation(self, minor: str) -> Foundation:
        if not is_debian(self.config.base):
            assert self.config.base is not None
            image, facts = self._base_image
            return image_foundation(self.config.base, image, facts, minor)
        from dockyard.debian.base import DebianBase, resolve_apt, resolve_base

        mirror = self._mirror()
        pinned = self._pinned_base(minor)
        if pinned is not None:
            base = DebianBase.from_record(pinned)
        else:
            with self.reporter.task("Choosing the base's packages"):
                base = resolve_base(
                    python=minor,
                    architecture=self.platform.architecture,
                    shell=self.config.shell,
                    fetcher=self.fetcher,
                    cache=self.cache,
                    mirror=mirror,
                    upgrade=self.request.upgrade,
                )
        apt = resolve_apt(
            self.config.apt,
            base,
            fetcher=self.fetcher,
            cache=self.cache,
            mirror=mirror,
            upgrade=self.request.upgrade,
        )
        return DebianFoundation(base=base, apt=apt, mirror=mirror)

    @cached_property
    def _base_image(self) -> tuple[Image, BaseImageFacts]:
        """The image that `base` names, and what is known of it."""
        from dockyard.build.base_source import BaseSource
        from dockyard.build.image_base import read_base

        assert self.config.base is not None
        source = BaseSource(
            shop=self.shop,
            folder=base_folder(self.request),
            upgrade=self.request.upgrade,
            offline=self.request.offline,
        )
        image = source.open(self.config.base, self.platform, pinned=self._pinned_image())
        facts = read_base(image, cache=self.cache, reporter=self.reporter, index=self.shop.index)
        return image, facts

    def image_pythons(self) -> tuple[str, ...]:
        """The Pythons of the image that `base` names."""
        _, facts = self._base_image
        if not facts.pythons:
            raise BuildError(
                f"the base {self.config.base} has no Python",
                where="`base`",
                hint="Use an image that has one, or leave `base` out.",
            )
        return tuple(sorted(facts.pythons))

    def _pinned_image(self) -> Digest | None:
        """The digest that pylock.toml has for the base on this platform."""
        from dockyard.oci.digest import Digest

        for key, record in self._locked_bases().items():
            of_platform = key.startswith(f"{self.platform.architecture}-")
            if of_platform and record.get("image") == self.config.base:
                return Digest.parse(str(record.get("digest")))
        return None

    def _earlier_lock(self) -> LockFile | None:
        """The lock whose versions are to be kept when a new one is written."""
        from dockyard.wheels.pylock import read_pylock

        name = self.detected.dependencies.value.lock
        if not self.locking or self.request.upgrade or name is None:
            return None
        return read_pylock(self.detected.folder / name)

    def stale_reasons(self, minor: str) -> list[str]:
        """Why the project's lock isn't current for this Python."""
        foundation = self._foundation(minor)
        return self._stale(self.resolve_request(minor, foundation, locked=True))

    def _stale(self, request: ResolveRequest) -> list[str]:
        from dockyard.wheels.pylock import read_pylock
        from dockyard.wheels.stale import loose_source, stale_reasons

        if request.source.kind != "pylock.toml":
            return []
        lock_file = read_pylock(request.source.path)
        loose = request.loose or loose_source(lock_file, request.root)
        if loose is None:
            return []
        return stale_reasons(lock_file, replace(request, source=loose))

    def _mirror(self) -> Mirror:
        from dockyard.debian.mirror import VARIABLE, find_mirror

        mirror = find_mirror()
        if mirror is None:
            raise BuildError(
                "no Debian mirror is known to take the base from",
                hint=f"Set {VARIABLE} to the URL of a Debian archive, or set `base` to a local "
                "image: oci:DIR or archive:FILE.",
            )
        return mirror

    def _locked_bases(self) -> dict[str, dict[str, Any]]:
        """The bases that pylock.toml names, by platform and Python, if they are to be used."""
        name = self.detected.dependencies.value.lock
        if name is None or self.request.upgrade:
            return {}
        from dockyard.wheels.pylock import read_pylock

        bases = read_pylock(self.detected.folder / name).tool.get("base")
        if not isinstance(bases, dict):
            return {}
        return {key: record for key, record in bases.items() if isinstance(record, dict)}

    def _pinned_base(self, minor: str) -> dict[str, Any] | None:
        """The Debian base that pylock.toml names for this platform and Python."""
        record = self._locked_bases().get(f"{self.platform.architecture}-python{minor}")
        return record if record is not None and record.get("shell") == self.config.shell else None

    def _lock(self, minor: str, foundation: Foundation) -> Lock:
        from dockyard.wheels.lock import Lock
        from dockyard.wheels.resolve import resolve

        source = self.detected.dependencies.value
        if source.kind == "none" and not self.server:
            self.how_resolved = "nothing is needed"
            return Lock(
                python=minor,
                architecture=self.platform.architecture,
                glibc=foundation.glibc,
                wheels=(),
                inputs="",
            )
        request = self.resolve_request(minor, foundation, locked=not self.locking)
        if self.request.locked and (reasons := self._stale(request)):
            raise BuildError(
                f"--locked was asked for, and the lock isn't current: {'; '.join(reasons)}",
                where=request.source.path.name,
                hint="Update it: dockyard lock",
            )
        lock = resolve(
            request,
            cache=self.cache,
            reporter=self.reporter,
            offline=self.request.offline,
            prefer=self._earlier_lock(),
        )
        if lock.sources:
            from dockyard.wheels.sdist import build_sources

            lock = build_sources(
                lock,
                settings=self.settings,
                cache=self.cache,
                reporter=self.reporter,
                offline=self.request.offline,
            )
        in_place: list[LockedWheel] = []
        if lock.editables:
            from dockyard.wheels.editable import editable_wheel

            in_place = [
                editable_wheel(project, app=self._place(project.path), cache=self.cache)
                for project in lock.editables
            ]
        wheels = sorted([*lock.wheels, *in_place], key=lambda wheel: wheel.name)
        if self.server and not self._together(source):
            wheels = self._with_server(wheels, request)
        self._check(wheels, request)
        check_replaced(foundation, wheels)
        self.how_resolved = f"from {request.source.path.name}"
        if self.server:
            listed = f"the server needs {', '.join(self.server)}"
            self.how_resolved = (
                listed if source.kind == "none" else f"from {source.title}; {listed}"
            )
        return replace(lock, python=minor, wheels=tuple(wheels))

    def resolve_request(
        self, minor: str, foundation: Foundation, *, locked: bool
    ) -> ResolveRequest:
        """What is asked of the resolver; `locked`: Dockyard's own pylock.toml may answer."""
        from dockyard.wheels.requirement import DependencySource
        from dockyard.wheels.resolve import ResolveRequest
        from dockyard.wheels.target import Target

        source = self.detected.dependencies.value
        named = self._named(source)
        if locked and source.lock is not None:
            chosen = DependencySource(kind="pylock.toml", path=self.detected.folder / source.lock)
        elif self.request.locked and source.kind not in ("pylock", "uv-lock"):
            raise BuildError(
                "--locked was asked for, and there is no lock",
                where=str(self.detected.folder),
                hint="Make one: dockyard lock",
            )
        else:
            chosen = named
        return ResolveRequest(
            source=chosen,
            target=Target(
                python=minor, architecture=self.platform.architecture, glibc=foundation.glibc
            ),
            root=self.detected.folder,
            # What is listed in the configuration has no file that the lock could name.
            loose=named if named.kind != "pylock.toml" else None,
            settings=self.settings,
            extras=source.extras,
            groups=source.groups,
            accelerator=self.detected.accelerator.value,
            upgrade=self.request.upgrade,
            provided=foundation.provided,
        )

    def _named(self, source: DependencySource) -> Source:
        """What detection found, as the resolver reads it."""
        from dockyard.wheels.requirement import DependencySource

        kinds: dict[str, SourceKind] = {
            "pylock": "pylock.toml",
            "uv-lock": "uv.lock",
            "pyproject": "pyproject.toml",
            "environment": "environment.yml",
        }
        kind = kinds.get(source.kind, "requirements.txt")
        if self.server and self._together(source):
            path = self._stand_in([*source.requirements, *self.server], source.files)
            return DependencySource(kind=kind, path=path, folder=self.detected.folder)
        if source.kind in kinds or (len(source.files) == 1 and not source.requirements):
            return DependencySource(kind=kind, path=self.detected.folder / source.files[0])
        path = self._stand_in(source.requirements, source.files)
        return DependencySource(kind=kind, path=path, folder=self.detected.folder)

    def _together(self, source: DependencySource) -> bool:
        """Whether the server's requirements are resolved with the project's: not with a lock's."""
        return source.kind in ("none", "listed", "requirements")

    def _with_server(
        self, wheels: Sequence[LockedWheel], request: ResolveRequest
    ) -> list[LockedWheel]:
        """The project's wheels as they are, and what the server needs beside them."""
        from dockyard.wheels.requirement import DependencySource
        from dockyard.wheels.resolve import resolve

        pins = "".join(f"{wheel.name}=={wheel.version}\n" for wheel in wheels)
        path = self._stand_in([*self.server, f"-c {self._written(pins, 'the project')}"], ())
        source = DependencySource(kind="requirements.txt", path=path)
        again = replace(request, source=source, loose=None, extras=(), groups=())
        try:
            found = resolve(
                again, cache=self.cache, reporter=self.reporter, offline=self.request.offline
            )
        except ResolveError as error:
            raise BuildError(
                "what the project pins doesn't let the server be added, which needs "
                f"{', '.join(self.server)}: {error.what}",
                where=request.source.path.name,
                hint="Widen those pins, or update the lock.",
            ) from error
        have = {wheel.name for wheel in wheels}
        added = [wheel for wheel in found.wheels if wheel.name not in have]
        return sorted([*wheels, *added], key=lambda wheel: wheel.name)

    def _stand_in(self, requirements: Sequence[str], files: Sequence[str]) -> Path:
        """A requirements file, in the cache, for requirements that the configuration lists."""
        lines = [f"-r {self.detected.folder / name}" for name in files]
        return self._written("\n".join([*requirements, *lines]) + "\n", "`requirements`")

    def _written(self, text: str, name: str) -> Path:
        import hashlib

        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        # Messages name the file and the line, which is the item's number.
        path = self.cache.root / "listed" / key / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.cache.temporary() as new:
                new.write_text(text)
                new.replace(path)
        return path

    def _place(self, folder: Path) -> str:
        """Where a folder of the project lies in the image."""
        inside = folder.resolve().relative_to(self.detected.folder.resolve())
        return f"{self.detected.workdir.value.strip('/')}/{inside.as_posix()}".removesuffix("/.")

    def _check(self, wheels: Sequence[LockedWheel], request: ResolveRequest) -> None:
        from dockyard.wheels.tags import check_fits

        for wheel in wheels:
            check_fits(wheel.filename, request.target)
