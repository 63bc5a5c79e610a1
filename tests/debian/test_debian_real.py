"""The real archive: a base is resolved, unpacked, run from its folder, and run in an engine."""

from __future__ import annotations

import gzip
import io
import os
import platform
import subprocess
import tarfile

import pytest

from dockyard.cache import Cache
from dockyard.debian.assembly import base_entries
from dockyard.debian.base import resolve_apt, resolve_base
from dockyard.debian.contents import SUITES
from dockyard.debian.ldcache import triplet
from dockyard.debian.mirror import find_mirror
from dockyard.debian.package import fetch_packages
from dockyard.fetch import Fetcher
from dockyard.files import with_parents

pytestmark = [
    pytest.mark.network,
    pytest.mark.slow,
    pytest.mark.skipif(find_mirror() is None, reason="no Debian mirror is known here"),
]

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
MODULES = (
    "ssl, ctypes, sqlite3, lzma, bz2, zlib, hashlib, uuid, curses, zoneinfo, multiprocessing, "
    "readline, decimal, socket, mimetypes"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("debian") / "cache")


@pytest.fixture(scope="module", params=sorted(SUITES))
def real(request, cache):
    """Return (base, its entries with parents) for this machine's architecture."""
    architecture = MACHINES.get(platform.machine())
    if architecture is None:
        pytest.skip("no base is made for this machine's architecture")
    fetcher, mirror = Fetcher(cache), find_mirror()
    base = resolve_base(
        python=request.param,
        architecture=architecture,
        shell=True,
        fetcher=fetcher,
        cache=cache,
        mirror=mirror,
    )
    debs = fetch_packages(base.packages, mirror=mirror, fetcher=fetcher)
    return base, with_parents(base_entries(base, debs, cache=cache).base)


def content(entry):
    return b"".join(bytes(chunk) for chunk in entry.source.chunks())


@pytest.fixture(scope="module")
def folder(real, tmp_path_factory):
    """Return the base, unpacked."""
    root = tmp_path_factory.mktemp("root")
    for entry in real[1]:
        path = root / entry.path
        if entry.kind == "directory":
            path.mkdir()
        elif entry.kind == "symlink":
            path.symlink_to(entry.target)
        else:
            path.write_bytes(content(entry))
            path.chmod(entry.mode)
    return root


@pytest.fixture(scope="module")
def packed(real):
    """Return the base as a gzip'd tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:") as archive:
        for entry in real[1]:
            info = tarfile.TarInfo(entry.path)
            info.mode = entry.mode
            if entry.kind == "file":
                info.size = entry.size
                archive.addfile(info, io.BytesIO(content(entry)))
            else:
                info.type = tarfile.DIRTYPE if entry.kind == "directory" else tarfile.SYMTYPE
                info.linkname = entry.target
                archive.addfile(info)
    return gzip.compress(out.getvalue(), 6, mtime=0)


def test_is_at_most_30_mb_compressed(packed):
    assert len(packed) <= 30_000_000


def test_python_runs_from_the_unpacked_folder(real, folder):
    base, _ = real
    libraries = folder / "usr/lib" / triplet(base.architecture)
    (loader,) = libraries.glob("ld-linux*")
    command = [loader, "--library-path", libraries, folder / f"usr/bin/python{base.python}"]
    program = f"import sys, {MODULES}; print(sys.prefix, ssl.OPENSSL_VERSION)"
    result = subprocess.run(
        [*command, "-c", program],
        env={"PYTHONHOME": str(folder / "usr"), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{folder}/usr OpenSSL 3.")


def test_every_library_finds_those_it_needs(real, folder):
    """No library of the base needs one that was left out."""
    base, entries = real
    libraries = folder / "usr/lib" / triplet(base.architecture)
    (loader,) = libraries.glob("ld-linux*")
    missing = {}
    for entry in entries:
        if entry.kind != "file" or ".so" not in entry.path or "gconv" in entry.path:
            continue
        path = folder / entry.path
        if path.read_bytes()[:4] != b"\x7fELF" or path == loader:
            continue
        result = subprocess.run(
            [loader, "--library-path", libraries, "--list", path], capture_output=True, text=True
        )
        lines = [line for line in result.stdout.splitlines() if "not found" in line]
        if result.returncode or lines:
            missing[entry.path] = lines or result.stderr
    assert missing == {}


def test_the_usual_packages_can_be_added(real, cache):
    base, _ = real
    fetcher, mirror = Fetcher(cache), find_mirror()
    names = ["libgl1", "libglib2.0-0", "libsndfile1", "libgomp1", "curl"]
    apt = resolve_apt(names, base, fetcher=fetcher, cache=cache, mirror=mirror)
    debs = fetch_packages([*base.packages, *apt], mirror=mirror, fetcher=fetcher)
    above = {entry.path for entry in with_parents(base_entries(base, debs, apt, cache=cache).apt)}
    assert "usr/bin/curl" in above
    assert f"usr/lib/{triplet(base.architecture)}/libGL.so.1" in above
    assert not any(path.startswith(f"usr/lib/python{base.python}") for path in above)


@pytest.mark.docker
def test_runs_in_an_engine(real, packed, tmp_path):
    base, _ = real
    name = f"dockyard-test-base:{base.suite}"
    (tmp_path / "base.tar.gz").write_bytes(packed)
    program = (
        f"import locale, pwd, {MODULES}; locale.setlocale(locale.LC_ALL, 'C.UTF-8'); "
        "zoneinfo.ZoneInfo('Europe/Berlin'); "
        "print(len(ssl.create_default_context().get_ca_certs()), pwd.getpwuid(10001).pw_dir)"
    )
    run = ["docker", "run", "--rm", "--network=none", "--read-only", "-u", "10001", name]
    subprocess.run(
        ["docker", "import", tmp_path / "base.tar.gz", name], check=True, capture_output=True
    )
    try:
        result = subprocess.run([*run, "python3", "-c", program], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        count, home = result.stdout.split()
        assert int(count) > 100
        assert home == "/home/app"
        result = subprocess.run(
            [*run, "sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME; ldconfig -p | wc -l"],
            capture_output=True,
            text=True,
        )
        codename, libraries = result.stdout.split()
        assert codename == base.suite
        assert int(libraries) > 30
    finally:
        subprocess.run(["docker", "rmi", "-f", name], check=False, capture_output=True)
