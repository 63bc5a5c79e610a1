"""Source distributions, repositories and local folders, built to wheels on this host.

Rules:
- `uv build` runs the project's own backend with a Python of the target's minor version. Where the
  host has none, or its architecture is another, only a wheel that runs anywhere ("none-any")
  is accepted.
- A wheel with compiled code must not need a newer glibc than the base has: the libraries in it
  are looked at, for its tag ("linux_x86_64") doesn't say.
- A local folder is copied first: a build never writes into the user's project.
- The result is kept under the source's hash, so that each source is built once per Python and
  architecture. Dates inside are fixed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dockyard.errors import ResolveError
from dockyard.fetch import Download, Fetcher
from dockyard.progress import SILENT
from dockyard.wheels.complaints import Context, translate
from dockyard.wheels.credentials import Credentials, without_credentials
from dockyard.wheels.direct_url import source_direct_url
from dockyard.wheels.elf import needed_glibc
from dockyard.wheels.lock import Lock, LockedSource, LockedWheel
from dockyard.wheels.requirement import DependencySource, Requirements
from dockyard.wheels.settings import IndexSettings
from dockyard.wheels.solver import Solver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.cache import Cache
    from dockyard.progress import Reporter
    from dockyard.wheels.target import Target

_VERSION = 1  # of what is kept in the cache; part of every key
_RECORD = "built-wheels"
_LEFT_OUT = frozenset(
    {".venv", "venv", "__pycache__", "node_modules", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
)
# 1980-01-01, the oldest date that a zip can hold.
_EPOCH = "315532800"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python that builds; matches: whether it is of the target's minor version."""

    path: Path
    matches: bool


def build_sources(
    lock: Lock,
    *,
    settings: IndexSettings,
    cache: Cache,
    reporter: Reporter = SILENT,
    offline: bool = False,
    python: Path | None = None,
) -> Lock:
    """Build the lock's sources; the returned lock has wheels only.

    python: an interpreter of the target's minor version that runs on this host; None: one is
    looked for. Raises ResolveError for a source that can't be had, built, or used on the target.
    """
    if not lock.sources:
        return lock
    solver = Solver(settings=settings, cache=cache, offline=offline)
    wheels = list(lock.wheels)
    interpreter: Interpreter | None = None
    for source in lock.sources:
        content = _folder_hash(Path(source.url)) if source.form == "directory" else ""
        key = _key(source, lock.target, content)
        with cache.lock(f"build-{key}"):
            wheel = _kept(source, key, cache)
            if wheel is None:
                interpreter = interpreter or _interpreter(lock.target, solver, python)
                with reporter.task(f"Building {source.name} from source"):
                    wheel = _build(source, lock.target, interpreter, solver, reporter)
                record = {"sha256": wheel.sha256, "filename": wheel.filename, "size": wheel.size}
                cache.write_record(_RECORD, key, record)
        wheels.append(wheel)
    return replace(lock, wheels=tuple(sorted(wheels, key=lambda w: w.name)), sources=())


def _key(source: LockedSource, target: Target, content: str) -> str:
    identity = source.sha256 or source.commit or content or without_credentials(source.url)
    values = [
        _VERSION,
        source.form,
        source.name,
        identity,
        source.subdirectory,
        target.minor,
        target.architecture,
        target.glibc,
    ]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _kept(source: LockedSource, key: str, cache: Cache) -> LockedWheel | None:
    record = cache.read_record(_RECORD, key)
    if record is None or not cache.has_blob(record["sha256"]):
        return None
    return _locked(source, record["filename"], record["sha256"], record["size"], cache)


def _locked(
    source: LockedSource, filename: str, sha256: str, size: int, cache: Cache
) -> LockedWheel:
    return LockedWheel(
        name=source.name,
        version=filename.split("-")[1],
        filename=filename,
        sha256=sha256,
        size=size,
        url=str(cache.blob_path(sha256)),
        requested=source.requested,
        direct_url=source_direct_url(source),
    )


def _build(
    source: LockedSource,
    target: Target,
    interpreter: Interpreter,
    solver: Solver,
    reporter: Reporter,
) -> LockedWheel:
    cache = solver.cache
    with tempfile.TemporaryDirectory(dir=cache.root / "tmp", prefix=f"{os.getpid()}-") as name:
        scratch = Path(name)
        place = _prepare(source, scratch, solver, reporter)
        out = scratch / "wheels"
        arguments = ["build", "--wheel", "--out-dir", str(out), "--python", str(interpreter.path)]
        arguments += solver.settings.arguments(building=True)
        answer = solver.run(
            [*arguments, str(place)],
            folder=scratch,
            variables={"SOURCE_DATE_EPOCH": _EPOCH, "PYTHONHASHSEED": "0"},
        )
        found = sorted(out.glob("*.whl"))
        if answer.status or len(found) != 1:
            raise _failed(source, target, answer.complaint, solver.settings.credentials)
        wheel = found[0]
        _check(source, wheel, target, interpreter)
        with cache.writing_blob() as blob:
            blob.write(wheel.read_bytes())
        return _locked(source, wheel.name, blob.hexdigest, blob.size, cache)


def _prepare(source: LockedSource, scratch: Path, solver: Solver, reporter: Reporter) -> Path:
    """Bring the source into `scratch`; return what `uv build` gets."""
    if source.form == "directory":
        folder = scratch / "source" / Path(source.url).name
        try:
            shutil.copytree(source.url, folder, symlinks=True, ignore=_ignored)
        except (OSError, shutil.Error) as error:
            raise ResolveError(
                f"the folder of {source.name} can't be read",
                where=source.url,
                hint="Check that it exists and may be read.",
            ) from error
        return folder
    if source.form == "vcs":
        folder = scratch / "source"
        _clone(source, folder, solver)
        return folder / (source.subdirectory or "")
    if source.sha256 is None:
        raise ResolveError(
            f"no SHA-256 is known for the source of {source.name}",
            where=without_credentials(source.url),
            hint="Use an index or a lock that gives hashes.",
        )
    download = Download(
        url=source.url, sha256=source.sha256, size=source.size, title=f"{source.name} (source)"
    )
    settings = solver.settings
    with Fetcher(
        solver.cache, reporter=reporter, offline=solver.offline, ca_file=settings.cert
    ) as fetcher:
        archive = fetcher.fetch([download])[0]
    named = scratch / (source.filename or f"{source.name}.tar.gz")
    named.symlink_to(archive)
    if not source.subdirectory:
        return named
    folder = scratch / "source"
    if named.suffix == ".zip":
        shutil.unpack_archive(str(named), folder)
    else:
        # zipfile drops ".." itself; tarfile must be told to (PEP 706).
        shutil.unpack_archive(str(named), folder, filter="data")
    inner = [child for child in folder.iterdir() if child.is_dir()]
    return (inner[0] if len(inner) == 1 else folder) / source.subdirectory


def _ignored(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name in _LEFT_OUT or name.endswith(".egg-info")]


def _clone(source: LockedSource, folder: Path, solver: Solver) -> None:
    """Clone with history (versions may come from tags), without blobs that aren't needed."""
    if source.vcs not in (None, "git"):
        raise ResolveError(
            f"{source.name} comes from a {source.vcs} repository, only git is supported",
            hint="Build a wheel of it and name that instead.",
        )
    if not shutil.which("git"):
        raise ResolveError(
            f"{source.name} comes from a git repository, and git isn't installed",
            hint="Install git.",
        )
    url = without_credentials(source.url)
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    for credential in Credentials.of([source.url]).known:
        # By the environment, so that it stands neither in arguments nor in the clone's config.
        scheme, host = credential.origin
        env |= {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{scheme}://{credential.userinfo}@{host}/.insteadOf",
            "GIT_CONFIG_VALUE_0": f"{scheme}://{host}/",
        }
    if solver.offline and not url.startswith(("file:", "/")):
        raise ResolveError(
            f"without a network the repository of {source.name} can't be cloned",
            where=url,
            hint="Build once with a network; after that the cache is enough.",
        )
    steps = (
        ["clone", "--quiet", "--filter=blob:none", "--no-checkout", url, str(folder)],
        ["-C", str(folder), "checkout", "--quiet", source.commit or "HEAD"],
        ["-C", str(folder), "submodule", "--quiet", "update", "--init", "--recursive"],
    )
    for step in steps:
        done = subprocess.run(
            ["git", *step], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith(("fatal", "err"))]
            reason = Credentials.of([source.url]).redact(lines[0] if lines else "git failed")
            raise ResolveError(
                f"the repository of {source.name} can't be cloned: {reason}",
                where=url,
                hint="Check the URL, the revision, and that git on this machine has access.",
            )


def _interpreter(target: Target, solver: Solver, given: Path | None) -> Interpreter:
    if given is not None:
        return Interpreter(path=given, matches=True)
    if f"{sys.version_info.major}.{sys.version_info.minor}" == target.minor:
        return Interpreter(path=Path(sys.executable), matches=True)
    answer = solver.run(
        ["python", "find", "--no-project", "--system", target.minor], folder=solver.cache.root
    )
    path = answer.output.strip()
    if not answer.status and path:
        return Interpreter(path=Path(path), matches=True)
    return Interpreter(path=Path(sys.executable), matches=False)


def _check(source: LockedSource, wheel: Path, target: Target, interpreter: Interpreter) -> None:
    """Refuse a wheel that wouldn't run in the image; raises ResolveError."""
    from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

    try:
        name, _, _, tags = parse_wheel_filename(wheel.name)
    except InvalidWheelFilename as error:
        raise ResolveError(
            f"the build of {source.name} gave a file that is no wheel: {wheel.name}",
            hint="Tell the package's maintainers.",
        ) from error
    if name != canonicalize_name(source.name):
        raise ResolveError(
            f"the build of {source.name} gave a wheel of {name}",
            hint="Name the package as its project does.",
        )
    anywhere = any(tag.abi == "none" and tag.platform == "any" for tag in tags)
    if not anywhere and not target.native:
        raise ResolveError(
            f"{source.name} has no wheel for linux/{target.architecture}, and what is built from "
            f"its source here runs only here ({wheel.name})",
            hint=f"Build on a linux/{target.architecture} machine, or choose a version that has "
            "a wheel.",
        )
    if not anywhere and not interpreter.matches:
        raise ResolveError(
            f"{source.name} has compiled code, and this machine has no Python {target.minor} to "
            "build it with",
            hint=f"Install Python {target.minor} here, or choose a version that has a wheel.",
        )
    if not tags & frozenset(target.tags()):
        raise ResolveError(
            f"what is built from the source of {source.name} doesn't fit {target}: {wheel.name}",
            hint="Choose a version that has a wheel.",
        )
    have = int(target.glibc.partition(".")[2])
    for file, (_, minor) in _glibc_needs(wheel):
        if minor > have:
            raise ResolveError(
                f"{source.name} was built against this machine's glibc 2.{minor}, the base has "
                f"{target.glibc} ({file})",
                hint="Choose a newer base, build on an older system, or choose a version that "
                "has a wheel.",
            )


def _glibc_needs(wheel: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as file:
                if file.read(4) != b"\x7fELF":
                    continue
            if (needed := needed_glibc(archive.read(entry))) is not None:
                yield entry.filename, needed


def _failed(
    source: LockedSource, target: Target, complaint: str, credentials: Credentials
) -> ResolveError:
    context = Context(
        requirements=Requirements(
            source=DependencySource(kind="requirements.txt", path=Path(source.name))
        ),
        target=target,
        credentials=credentials + Credentials.of([source.url]),
        folder=Path(),
    )
    found = translate(complaint, context).error
    lines = "\n".join(f"  {line}" for line in _last_lines(context.credentials.redact(complaint)))
    return ResolveError(
        f"{source.name} can't be built from source: {found.what.splitlines()[0]}\n{lines}",
        where=without_credentials(source.url),
        hint="Install what its build needs on this machine, or choose a version that has a wheel.",
    )


def _last_lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return [line for line in lines if not line.startswith("hint:")][-10:]


def _folder_hash(folder: Path) -> str:
    """SHA-256 over a folder's files: names, kinds and bytes."""
    digest = hashlib.sha256()
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT | {".git"})
        for name in sorted(files):
            path = Path(parent, name)
            digest.update(os.fsencode(path.relative_to(folder)) + b"\0")
            if path.is_symlink():
                digest.update(os.fsencode(path.readlink()))
            elif path.is_file():
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
