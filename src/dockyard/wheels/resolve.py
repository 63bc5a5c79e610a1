"""From what a project asks for to exact wheels for one platform.

Rules:
- uv resolves, for the target's Python, architecture and glibc. On another platform it builds
  nothing at first; a source distribution is considered only when no wheel will do.
- Equal inputs are resolved once: the answer is kept in the cache until `upgrade` asks for a new
  one or a local file of it is gone.
- When the index can't be reached, what uv has cached is tried, and said.
- A lock file that no longer fits is named with the reason, and the requirements are resolved
  anew; a fitting one is taken as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dockyard.errors import ResolveError
from dockyard.fetch import local_path
from dockyard.progress import SILENT
from dockyard.wheels.accelerator import (
    TORCH_FAMILY,
    cuda_packages,
    local_cpu_builds,
    torch_for_cpu,
    torch_with_cuda,
)
from dockyard.wheels.provided import (
    against_base,
    broken_by,
    held,
    preferences,
    stub_folder,
    without_provided,
)
from dockyard.wheels.pylock import LockFile, parse_document, preferences_text, read_pylock
from dockyard.wheels.requirement import DependencySource, Requirements, read_source
from dockyard.wheels.select import demanded_hashes, select_lock
from dockyard.wheels.settings import IndexSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard.cache import Cache
    from dockyard.progress import Reporter
    from dockyard.wheels.complaints import Complaint, Context
    from dockyard.wheels.lock import EditableProject, Lock
    from dockyard.wheels.provided import ProvidedDistribution
    from dockyard.wheels.solver import Solver
    from dockyard.wheels.target import Target

Accelerator = Literal["auto", "cpu", "cuda"]

_VERSION = 1  # of what is kept in the cache; part of every key
_RECORD = "resolutions"
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveRequest:
    """What is to be resolved.

    root: the folder that becomes /app (editable projects must lie in it); loose: what a pylock.toml
    as the source must agree with, None: what it names itself; upgrade: resolve anew and take the
    newest; interpreter: a Python that uv may run, None for Dockyard's own; provided: what the base
    has already.
    """

    source: DependencySource
    target: Target
    root: Path
    loose: DependencySource | None = None
    settings: IndexSettings = field(default_factory=IndexSettings)
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    accelerator: Accelerator = "auto"
    upgrade: bool = False
    interpreter: Path | None = None
    provided: tuple[ProvidedDistribution, ...] = ()


def resolve(
    request: ResolveRequest,
    *,
    cache: Cache,
    reporter: Reporter = SILENT,
    offline: bool = False,
    prefer: LockFile | None = None,
    remember: bool = True,
) -> Lock:
    """Resolve; `prefer` names versions to keep where they still fit; remember: for later builds.

    Raises ResolveError: one message that says what can't be had, where it was asked for, and
    what to do.
    """
    if request.source.kind == "pylock.toml":
        return _from_pylock(request, cache=cache, reporter=reporter, offline=offline)
    requirements = read_source(request.source, extras=request.extras, groups=request.groups)
    for note in requirements.notes:
        reporter.note(note)
    return _Resolution(request, requirements, cache, reporter, offline, prefer).lock(remember)


def input_hash(request: ResolveRequest, requirements: Requirements) -> str:
    """SHA-256 (hexadecimal) of what the project asks for: what makes a committed lock stale.

    Not in it: the platform (a lock file names its own) and the machine's index settings, for a
    mirror on another machine must not make a lock stale.
    """
    values = [
        _VERSION,
        requirements.digest(),
        request.target.minor,
        sorted(request.extras),
        sorted(request.groups),
        request.accelerator,
    ]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _from_pylock(
    request: ResolveRequest, *, cache: Cache, reporter: Reporter, offline: bool
) -> Lock:
    from dockyard.wheels.stale import loose_source, stale_reasons

    lock_file = read_pylock(request.source.path)
    loose = request.loose or loose_source(lock_file, request.root)
    if loose is not None:
        again = replace(request, source=loose)
        reasons = stale_reasons(lock_file, again)
        if reasons or request.upgrade:
            for reason in reasons:
                reporter.warn(f"{lock_file.path.name} isn't current: {reason}")
            if reasons:
                reporter.warn(f"{loose.path.name} is resolved instead; `dockyard lock` updates it.")
            return resolve(again, cache=cache, reporter=reporter, offline=offline, prefer=lock_file)
    requirements = None
    if loose is not None:
        requirements = read_source(loose, extras=request.extras, groups=request.groups)
    requested = lock_file.tool.get("requested")
    names = requirements.names if requirements else frozenset()
    if isinstance(requested, list):
        names = frozenset(str(name) for name in requested)
    credentials = request.settings.credentials
    if requirements:
        credentials += requirements.credentials
    lock = select_lock(
        lock_file.document,
        target=request.target,
        requested=names,
        credentials=credentials,
        inputs=str(lock_file.tool.get("inputs", "")),
        where=lock_file.path.name,
        root=request.root,
        extras=request.extras,
        groups=request.groups,
        demanded=demanded_hashes(requirements) if requirements else None,
        extra=lock_file.tool,
    )
    lock = replace(lock, editables=_with_project(lock, loose))
    return without_provided(lock, request.provided)


def _translated(text: str, context: Context) -> Complaint:
    from dockyard.wheels.complaints import translate

    return translate(text, context)


class _Resolution:
    """One request on its way to a lock."""

    def __init__(
        self,
        request: ResolveRequest,
        requirements: Requirements,
        cache: Cache,
        reporter: Reporter,
        offline: bool,
        prefer: LockFile | None,
    ) -> None:
        self.request = request
        self.requirements = requirements
        self.cache = cache
        self.reporter = reporter
        self.prefer = None if request.upgrade else prefer
        settings = request.settings
        if requirements.names_index:
            # As for pip, the file's own index takes the place of the configured one.
            settings = replace(settings, index_url=None)
        self.settings = settings
        self.credentials = settings.credentials + requirements.credentials
        self.folder = request.source.path.absolute().parent
        self.offline = offline
        self.inputs = input_hash(request, requirements)
        self.notes: list[str] = list(requirements.notes)
        self.held: list[ProvidedDistribution] = []
        self.overridden: list[str] = []
        if request.provided:
            self.held, self.overridden = held(request.provided, requirements, request.target)

    def lock(self, remember: bool) -> Lock:
        key = self._key()
        with self.cache.lock(f"resolution-{key}"):
            if not self.request.upgrade:
                record = self.cache.read_record(_RECORD, key)
                if record is not None and _files_exist(record["document"]):
                    self.notes = list(record["notes"])
                    for note in self.notes:
                        if note not in self.requirements.notes:
                            self.reporter.warn(note)
                    return self._select(record["document"])
            with self.reporter.task(f"Resolving {self.request.source.path.name}"):
                lock = self._accelerated()
            if remember:
                self.cache.write_record(
                    _RECORD, key, {"document": lock.document, "notes": list(lock.notes)}
                )
        return lock

    def _key(self) -> str:
        target = self.request.target
        values = [
            self.inputs,
            str(self.folder),
            target.python,
            target.architecture,
            target.glibc,
            self.settings.fingerprint(),
            sorted((k, sorted(v)) for k, v in self.prefer.versions.items())
            if self.prefer
            else None,
            [item.to_record() for item in self.request.provided],
        ]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()

    def _accelerated(self) -> Lock:
        """Resolve, and again until the accelerator that was asked for is in it."""
        for note in self.overridden:
            self._note(note)
        lock = self._resolve()
        for note in broken_by(lock, self.request.provided, self.request.target):
            self._note(note)
        wanted = self.request.accelerator
        if wanted == "cpu" and (torch := torch_with_cuda(lock.wheels)) is not None:
            lock = self._for_cpu(torch.version)
        if wanted == "cuda" and not cuda_packages([*lock.wheels, *lock.from_base]):
            lock = self._for_cuda(lock)
        left = cuda_packages(lock.wheels)
        if wanted == "cpu" and left:
            self._note(f'accelerator = "cpu", but these packages bring CUDA: {", ".join(left)}')
        return replace(lock, notes=tuple(self.notes))

    def _for_cpu(self, version: str) -> Lock:
        """Resolve with torch's CPU build, from the configured places or PyTorch's own index."""
        public = version.partition("+")[0]
        local = local_cpu_builds("torch", self.settings, self.request.target)
        for candidate in dict.fromkeys([f"{public}+cpu", *local[:_TRIES]]):
            try:
                lock = self._resolve(constraints=[f"torch=={candidate}"])
            except ResolveError:
                continue
            return self._family_for_cpu(lock, candidate)
        if self.requirements.source.kind == "uv.lock":
            raise ResolveError(
                f"uv.lock pins torch {version}, which brings CUDA",
                where=self.request.source.path.name,
                hint="Point torch to a CPU index in [tool.uv.sources] and run `uv lock`.",
            )
        try:
            return self._resolve(backend="cpu")
        except ResolveError as error:
            raise ResolveError(
                f"torch {version} brings CUDA, and its CPU build can't be had: the configured "
                f"indexes don't have torch {public}+cpu, and PyTorch's own index failed "
                f"({error.what.partition(':')[0]})",
                where=self.requirements.locate("torch") or self.request.source.path.name,
                hint="Add a place that has it to find-links or extra-index-url in pip's settings, "
                'or set accelerator = "auto".',
            ) from error

    def _family_for_cpu(self, lock: Lock, torch: str) -> Lock:
        """The same for torchvision and torchaudio, as far as their CPU builds can be had."""
        constraints = [f"torch=={torch}"]
        for wheel in lock.wheels:
            if wheel.name not in TORCH_FAMILY or "+cpu" in wheel.version:
                continue
            local = local_cpu_builds(wheel.name, self.settings, self.request.target)
            for candidate in dict.fromkeys([f"{wheel.version}+cpu", *local[:_TRIES]]):
                try:
                    lock = self._resolve(constraints=[*constraints, f"{wheel.name}=={candidate}"])
                except ResolveError:
                    continue
                constraints.append(f"{wheel.name}=={candidate}")
                break
            else:
                self._note(f"{wheel.name} {wheel.version} may be a build for CUDA")
        return lock

    def _for_cuda(self, lock: Lock) -> Lock:
        """Resolve without torch's CPU builds, if those were chosen."""
        excluded: list[str] = []
        while (torch := torch_for_cpu(lock.wheels)) is not None and len(excluded) < _TRIES:
            excluded.append(f"torch!={torch.version}")
            try:
                lock = self._resolve(constraints=excluded)
            except ResolveError:
                break
            if cuda_packages(lock.wheels):
                return lock
        if any(wheel.name == "torch" for wheel in lock.wheels):
            raise ResolveError(
                'accelerator = "cuda", but torch comes without CUDA from the configured indexes',
                where=self.requirements.locate("torch") or self.request.source.path.name,
                hint="Name an index that has its CUDA build, or set the accelerator to auto.",
            )
        self._note('accelerator = "cuda", but no wheel brings CUDA: the base must have it')
        return lock

    def _resolve(self, *, constraints: Sequence[str] = (), backend: str | None = None) -> Lock:
        """One resolution, held to the base's frameworks; an error says when they are the cause."""
        pins = [f"{item.name}=={item.version}" for item in self.held]
        try:
            return self._attempt([*constraints, *pins], backend)
        except ResolveError as error:
            if not pins:
                raise
            try:
                free = self._attempt(constraints, backend)
            except ResolveError:
                raise error from None
            raise against_base(free, self.held, self.request.source.path.name) from error

    def _attempt(self, constraints: Sequence[str], backend: str | None) -> Lock:
        """One resolution, with the second chances that need no decision."""
        if self.requirements.source.kind == "uv.lock":
            return self._select(self._export())
        build = self.request.target.native
        found = self._compile(constraints, backend, build=build, solver=self.solver)
        if not isinstance(found, dict) and found.kind == "network" and not self.solver.offline:
            offline = replace(self.solver, offline=True)
            again = self._compile(constraints, backend, build=build, solver=offline)
            if isinstance(again, dict):
                self._note(f"{found.error.what}; resolved from what was cached before")
                found = again
        if not isinstance(found, dict) and found.kind == "source-only" and not build:
            again = self._compile(constraints, backend, build=True, solver=self.solver)
            found = again if isinstance(again, dict) else found
        if not isinstance(found, dict) and found.kind == "missing":
            # Looking at all indexes alike, uv passes over one that refuses access in silence.
            again = self._compile(
                constraints, backend, build=build, solver=self.solver, strategy="first-index"
            )
            found = again if not isinstance(again, dict) and again.kind == "refused" else found
        if not isinstance(found, dict):
            raise found.error
        return self._select(found)

    def _compile(
        self,
        constraints: Sequence[str],
        backend: str | None,
        *,
        build: bool,
        solver: Solver,
        strategy: str | None = None,
    ) -> dict[str, Any] | Complaint:
        """Run `uv pip compile`; return the document, or the complaint."""
        request, source = self.request, self.request.source
        arguments = [
            "pip",
            "compile",
            "-" if self.requirements.stdin is not None else source.path.name,
        ]
        arguments += ["--format", "pylock.toml", "--no-header", "--quiet"]
        arguments += ["--python", solver.interpreter(), "--python-version", request.target.python]
        arguments += ["--python-platform", request.target.uv_platform]
        arguments += self.settings.arguments(strategy=strategy)
        for extra in request.extras:
            arguments += ["--extra", extra]
        for group in request.groups:
            arguments += ["--group", f"{source.path.name}:{group}"]
        if not build:
            arguments.append("--no-build")
        if request.upgrade:
            arguments.append("--upgrade")
        if backend:
            arguments += ["--torch-backend", backend]
        with tempfile.TemporaryDirectory(
            dir=self.cache.root / "tmp", prefix=f"{os.getpid()}-"
        ) as scratch:
            if constraints:
                file = Path(scratch, "constraints.txt")
                file.write_text("".join(f"{line}\n" for line in constraints))
                arguments += ["--constraints", str(file)]
            folder = self.folder
            preferred = self._preferred()
            if preferred is not None:
                # uv keeps the versions of an output file that exists.
                file = Path(scratch, "pylock.toml")
                file.write_text(preferred, encoding="utf-8")
                arguments += ["--output-file", str(file)]
            answer = solver.run(
                arguments,
                folder=folder,
                stdin=self.requirements.stdin,
                variables=self._base_links(),
            )
            if answer.status:
                return _translated(answer.complaint, self._context())
            base = Path(scratch) if preferred is not None else folder
            text = file.read_text(encoding="utf-8") if preferred is not None else answer.output
            return parse_document(text, base, source.path.name)

    def _preferred(self) -> str | None:
        """The versions to keep where they fit: an earlier lock's, or else the base's."""
        if self.prefer is not None:
            return preferences_text(self.prefer)
        return preferences(self.request.provided) if self.request.provided else None

    def _base_links(self) -> dict[str, str]:
        """The variable by which uv sees the base's distributions beside what is configured."""
        if not self.request.provided:
            return {}
        folder = str(stub_folder(self.request.provided, self.cache))
        configured = self.settings.environment(os.environ).get("UV_FIND_LINKS")
        return {"UV_FIND_LINKS": f"{configured},{folder}" if configured else folder}

    def _export(self) -> dict[str, Any]:
        """Read uv.lock by way of `uv export`, which needs no network."""
        source = self.request.source
        arguments = ["export", "--frozen", "--format", "pylock.toml", "--no-header", "--quiet"]
        arguments += ["--no-default-groups", "--python", self.solver.interpreter()]
        for extra in self.request.extras:
            arguments += ["--extra", extra]
        for group in self.request.groups:
            arguments += ["--group", group]
        answer = self.solver.run(arguments, folder=self.folder)
        if answer.status:
            raise _translated(answer.complaint, self._context()).error
        document = parse_document(answer.output, self.folder, source.path.name)
        self._compare_with_project(document)
        return document

    def _compare_with_project(self, document: dict[str, Any]) -> None:
        """Say what pyproject.toml asks for and uv.lock doesn't have."""
        from dockyard.wheels.stale import unmet_requirements

        request = self.request
        pyproject = self.folder / "pyproject.toml"
        if not pyproject.is_file():
            return
        beside = DependencySource(kind="pyproject.toml", path=pyproject)
        asked = read_source(beside, extras=request.extras, groups=request.groups)
        versions = LockFile(path=request.source.path, document=document).versions
        for reason in unmet_requirements(asked, versions, request.target):
            self._note(f"uv.lock isn't current (`uv lock` updates it): {reason}")

    def _select(self, document: dict[str, Any]) -> Lock:
        request = self.request
        lock = select_lock(
            document,
            target=request.target,
            requested=self.requirements.names,
            credentials=self.credentials,
            inputs=self.inputs,
            where=request.source.path.name,
            root=request.root,
            extras=request.extras,
            groups=request.groups,
            demanded=demanded_hashes(self.requirements),
            extra=self._table(),
            notes=self.notes,
        )
        asked = {line.local.resolve() for line in self.requirements.lines if line.local}
        sources = tuple(
            replace(source, requested=source.requested or Path(source.url) in asked)
            for source in lock.sources
        )
        lock = replace(lock, sources=sources, editables=_with_project(lock, request.source))
        return without_provided(lock, request.provided)

    def _table(self) -> dict[str, Any]:
        """What [tool.dockyard] says of this resolution."""
        request = self.request
        path = request.source.path.absolute()
        root = request.root.absolute()
        return {
            "source": path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name,
            "requested": sorted(self.requirements.names),
            "extras": list(request.extras) or None,
            "groups": list(request.groups) or None,
            "accelerator": request.accelerator,
        }

    @cached_property
    def solver(self) -> Solver:
        """How uv is run: not even imported while the answer is remembered."""
        from dockyard.wheels.solver import Solver

        return Solver(
            settings=self.settings,
            cache=self.cache,
            offline=self.offline,
            python=self.request.interpreter,
        )

    def _context(self) -> Context:
        from dockyard.wheels.complaints import Context

        return Context(
            requirements=self.requirements,
            target=self.request.target,
            credentials=self.credentials,
            folder=self.folder,
        )

    def _note(self, text: str) -> None:
        text = self.credentials.redact(text)
        self.notes.append(text)
        self.reporter.warn(text)


def _with_project(lock: Lock, source: DependencySource | None) -> tuple[EditableProject, ...]:
    """The lock's editable projects, and the project itself when it is one that installs."""
    if source is None or source.kind != "pyproject.toml":
        return lock.editables
    from dockyard.wheels.editable import own_project

    own = own_project(source.path)
    if own is None or any(project.name == own.name for project in lock.editables):
        return lock.editables
    return tuple(sorted((*lock.editables, own), key=lambda project: project.name))


def _files_exist(document: dict[str, Any]) -> bool:
    """Whether the local files that a kept resolution names are still there."""
    for package in document["packages"]:
        places = [*package.get("wheels", ())]
        places += [package[key] for key in ("sdist", "archive", "directory") if key in package]
        for place in places:
            file = Path(place["path"]) if "path" in place else local_path(place.get("url", ""))
            if file is not None and not file.exists():
                return False
    return True
