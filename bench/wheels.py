"""The oracle: for each wheel of wheels.txt, is Dockyard's tree the one that pip writes?

    python bench/wheels.py --cache DIR [--list bench/wheels.txt] [--only NAME] [--update]

Rules:
- pip installs into a real venv (made by `python -m venv`), so that scripts and the `.data` schemes
  are true; Dockyard installs for a venv at the same path and says "pip" in INSTALLER. Then nothing
  needs to be normalized: paths, bytes, executable bits and RECORD must be equal.
- The one difference on purpose: `__pycache__` folders that a wheel ships are left out of both
  sides, with their lines in RECORD.
- Every byte of every file is compared, with the hashes of RECORD checked on the way.
- Wheels are downloaded as pip's configuration says and kept in --cache; each installation is
  deleted before the next. --update writes the versions that pip downloads today into the list.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name, parse_wheel_filename

from dockyard.errors import DockyardError
from dockyard.files import DeflatedSource, SliceSource
from dockyard.wheels.install import InstalledWheel, Venv, install_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One row of the table."""

    name: str
    version: str
    tag: str
    files: int
    size: int
    features: str
    differences: tuple[str, ...]
    pip_seconds: float
    dockyard_seconds: float


def pip(*arguments: str, **environment: str) -> None:
    """Run pip; its output is shown only when it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"pip {' '.join(arguments)} failed:\n{done.stderr}")


def find_wheel(cache: Path, name: str, version: str) -> Path | None:
    """Return the wheel of a pinned distribution if the cache holds it."""
    for path in cache.glob("*.whl"):
        found, found_version, _, _ = parse_wheel_filename(path.name)
        if found == name and version in ("", str(found_version), found_version.public):
            return path
    return None


def fetch(cache: Path, pin: str) -> Path:
    """Return the wheel for `name==version`, downloaded if need be."""
    name, _, version = pin.partition("==")
    name = canonicalize_name(name)
    path = find_wheel(cache, name, version)
    if path is None:
        pip("download", "--no-deps", "--only-binary=:all:", "-d", str(cache), pin)
        path = find_wheel(cache, name, version)
    if path is None:
        raise SystemExit(f"pip downloaded no wheel for {pin}")
    return path


def make_venv(path: Path) -> Venv:
    """Make an empty venv on disk and return it as Dockyard names it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path)], check=True)
    version = ".".join(platform.python_version_tuple()[:2])
    return Venv(root=str(path).lstrip("/"), python=version)


def files_below(root: Path) -> set[str]:
    """Return all that isn't a directory below root, as absolute paths; links aren't followed."""
    return {
        str(Path(folder) / name)
        for folder, folders, names in os.walk(root)
        for name in (*names, *(f for f in folders if (Path(folder) / f).is_symlink()))
    }


def install_with_pip(wheel: Path, pin: str, venv: Path) -> None:
    """Install one wheel by name and version, so that pip writes REQUESTED and no direct_url."""
    with tempfile.TemporaryDirectory(dir=venv.parent) as folder:
        (Path(folder) / wheel.name).symlink_to(wheel)
        pip(
            f"--python={venv}/bin/python", "install", "--no-compile", "--no-deps", "--no-index",
            f"--find-links={folder}", "--no-warn-script-location", pin,
            PIP_CONFIG_FILE=os.devnull,
        )  # fmt: skip


def compare(installed: InstalledWheel, venv: Venv, written: set[str]) -> Iterator[str]:
    """Yield each difference between Dockyard's entries and the files that pip wrote."""
    theirs = {path for path in written if "/__pycache__/" not in path}
    ours = {f"/{entry.path}": entry for entry in installed.entries}
    yield from (f"only pip writes {path}" for path in sorted(theirs - set(ours)))
    yield from (f"only Dockyard writes {path}" for path in sorted(set(ours) - theirs))
    record = f"{installed.metadata.dist_info}/RECORD"
    dropped = {
        os.path.relpath(path, f"/{venv.site_packages}") for path in written if path not in theirs
    }
    for path in sorted(theirs & set(ours)):
        entry = ours[path]
        assert entry.source is not None
        file = Path(path)
        if entry.path == f"{venv.site_packages}/{record}" and dropped:
            text = file.read_bytes().decode()
            kept = [row for row in csv.reader(io.StringIO(text, "")) if row[0] not in dropped]
            out = io.StringIO(newline="")
            csv.writer(out).writerows(kept)
            if b"".join(entry.source.chunks()) != out.getvalue().encode():
                yield f"RECORD differs: {path}"
        elif not same_bytes(entry.source.chunks(), file):
            yield f"bytes differ: {path}"
        if bool(file.stat().st_mode & 0o111) != bool(entry.mode & 0o111):
            yield f"executable bit differs: {path}"
        if isinstance(entry.source, DeflatedSource | SliceSource) and entry.source.sha256:
            with file.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").digest()
            if found != entry.source.sha256:
                yield f"RECORD's hash is wrong: {path}"


def same_bytes(chunks: Iterator[bytes | memoryview], file: Path) -> bool:
    """Whether the chunks together are the file's content."""
    with file.open("rb", buffering=0) as opened:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                data = opened.read(len(view))
                if not data or data != view[: len(data)]:
                    return False
                view = view[len(data) :]
        return not opened.read(1)


def features(installed: InstalledWheel, venv: Venv, written: set[str]) -> str:
    """Say in a few words what is special about a wheel."""
    found = []
    site = f"{venv.site_packages}/"
    outside = [entry for entry in installed.entries if not entry.path.startswith(site)]
    scripts = sum(entry.path.startswith(f"{venv.bin}/") for entry in outside)
    headers = sum(entry.path.startswith(f"{venv.root}/include/") for entry in outside)
    data = len(outside) - scripts - headers
    shipped = sum("/__pycache__/" in path for path in written)
    for count, what in (
        (scripts, "scripts"),
        (headers, "headers"),
        (data, "data files"),
        (len(installed.unlisted), "not in RECORD"),
        (shipped, "shipped .pyc dropped"),
    ):
        if count:
            found.append(f"{count} {what}")
    if not installed.metadata.purelib:
        found.insert(0, "platlib")
    return ", ".join(found)


def check(wheel: Path, pin: str, work: Path) -> Result:
    """Install one wheel both ways and compare."""
    name, version, _, _ = parse_wheel_filename(wheel.name)
    folder = work / "venv"
    try:
        venv = make_venv(folder)
        before = files_below(folder)
        start = time.perf_counter()
        install_with_pip(wheel, pin, folder)
        between = time.perf_counter()
        written = files_below(folder) - before
        try:
            planned = time.perf_counter()
            installed = install_wheel(wheel, venv, requested=True, installer="pip")
            seconds = time.perf_counter() - planned
            differences = tuple(compare(installed, venv, written))
            special = features(installed, venv, written)
            size = installed.size
        except DockyardError as error:
            seconds, special, size, differences = 0.0, "", 0, (f"refused: {error}",)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Result(
        name=name,
        version=str(version),
        tag="-".join(wheel.stem.split("-")[-3:]),
        files=len(written),
        size=size,
        features=special,
        differences=differences,
        pip_seconds=between - start,
        dockyard_seconds=seconds,
    )


def table(results: list[Result]) -> str:
    """Return the report in Markdown."""

    def count(feature: str) -> int:
        return sum(feature in result.features for result in results)

    equal = sum(not result.differences for result in results)
    files = sum(result.files for result in results)
    size = sum(result.size for result in results) / 1e9
    lines = [
        "# Wheels: Dockyard's tree against pip's",
        "",
        f"{equal} of {len(results)} wheels are equal file by file (paths, bytes, executable bits, "
        f"RECORD): {files:,} files, {size:.2f} GB. {count('scripts')} bring scripts, "
        f"{count('data files')} data files, {count('headers')} headers, {count('platlib')} are "
        f"compiled. Python {platform.python_version()}, pip {pip_version()}.",
        "",
        "Written by `bench/wheels.py`, which says what is compared and how.",
        "",
        "| name | version | tag | files | MB | special | equal |",
        "|---|---|---|--:|--:|---|---|",
    ]
    lines += [
        f"| {result.name} | {result.version} | {result.tag} | {result.files:,} "
        f"| {result.size / 1e6:.1f} | {result.features} "
        f"| {'yes' if not result.differences else 'NO: ' + '; '.join(result.differences[:3])} |"
        for result in results
    ]
    return "\n".join(lines) + "\n"


def pip_version() -> str:
    """Return the version of the pip that is the oracle."""
    from importlib.metadata import version

    return version("pip")


def main() -> int:
    """Run the comparison; the exit status is 1 when a wheel differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--list", type=Path, default=HERE / "wheels.txt")
    parser.add_argument("--only", action="append")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "wheels.md")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    cache = options.cache.absolute()
    lines = options.list.read_text().splitlines()
    pins = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if options.update:
        pins = [line.partition("==")[0] for line in pins]
    results = []
    kept = []
    with tempfile.TemporaryDirectory(prefix="oracle-") as work:
        for pin in pins:
            if options.only and pin.partition("==")[0] not in options.only:
                continue
            wheel = fetch(cache, pin)
            name, version, _, _ = parse_wheel_filename(wheel.name)
            kept.append(f"{name}=={version.public}")
            result = check(wheel, f"{name}=={version}", Path(work))
            results.append(result)
            mark = "differs" if result.differences else "equal"
            print(f"{mark:8} {result.name} {result.version}  {result.features}", flush=True)
            for difference in result.differences[:10]:
                print(f"         {difference}", flush=True)
    if options.update:
        comments = [line for line in lines if line.startswith("#")]
        options.list.write_text("\n".join([*comments, *sorted(kept)]) + "\n")
    if not options.only:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(table(results))
    return int(any(result.differences for result in results))


if __name__ == "__main__":
    raise SystemExit(main())
