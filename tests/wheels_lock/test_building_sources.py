"""Source code built to wheels by the real uv, and projects that stay in the app."""

from __future__ import annotations

import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from lock_project import Project, versions
from tiny_index import TinyIndex, write_project

from dockyard.errors import ResolveError
from dockyard.wheels.editable import editable_wheel, install_editables, own_project
from dockyard.wheels.elf import needed_glibc
from dockyard.wheels.lock import Lock
from dockyard.wheels.sdist import build_sources

THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
CPYTHON = "cp" + THIS_PYTHON.replace(".", "")


def build(project: Project, lock: Lock, **more: object) -> Lock:
    settings = project.request().settings
    return build_sources(
        lock, settings=settings, cache=project.cache, reporter=project.heard, **more
    )


def names_in(lock: Lock, name: str) -> dict[str, str]:
    wheel = next(wheel for wheel in lock.wheels if wheel.name == name)
    with zipfile.ZipFile(wheel.url) as archive:
        return {entry: archive.read(entry).decode() for entry in archive.namelist()}


def test_a_source_distribution_becomes_a_wheel_once(project: Project, index: TinyIndex) -> None:
    index.sdist("onlysource", "1.0", requires=["beta"])
    lock = project.requirements("onlysource\n")
    built = build(project, lock)
    assert versions(built) == {"beta": "2.0", "onlysource": "1.0"}
    assert built.sources == ()
    wheel = built.wheels[1]
    assert wheel.requested
    assert wheel.direct_url is None
    assert Path(wheel.url) == project.cache.blob_path(wheel.sha256)
    assert build(project, lock) == built
    assert sum("Building" in task for task in project.heard.tasks) == 1


def test_a_pure_source_crosses_architectures(
    project: Project, index: TinyIndex, foreign_architecture: str
) -> None:
    index.sdist("pure", "1.0")
    lock = project.requirements("pure\n", architecture=foreign_architecture)
    assert versions(build(project, lock)) == {"pure": "1.0"}


def test_a_compiled_source_does_not_cross_architectures(
    project: Project, index: TinyIndex, foreign_architecture: str
) -> None:
    index.sdist("native", "1.0", tag=f"{CPYTHON}-{CPYTHON}-linux_x86_64")
    lock = project.requirements("native\n", architecture=foreign_architecture, python=THIS_PYTHON)
    with pytest.raises(ResolveError, match="runs only here") as caught:
        build(project, lock)
    assert f"linux/{foreign_architecture}" in str(caught.value)


def test_a_compiled_source_is_used_natively(
    project: Project, index: TinyIndex, host_architecture: str
) -> None:
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[host_architecture]
    index.sdist("native", "1.0", tag=f"{CPYTHON}-{CPYTHON}-linux_{machine}")
    lock = project.requirements("native\n", architecture=host_architecture, python=THIS_PYTHON)
    assert build(project, lock).wheels[0].filename.endswith(f"linux_{machine}.whl")


def test_a_compiled_source_needs_the_targets_python(
    project: Project, index: TinyIndex, host_architecture: str
) -> None:
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[host_architecture]
    index.sdist("native", "1.0", tag=f"cp37-cp37m-linux_{machine}")
    lock = project.requirements("native\n", architecture=host_architecture, python="3.7")
    with pytest.raises(ResolveError, match=r"no Python 3\.7 to build it with"):
        build(project, lock)


def test_a_build_that_fails_shows_its_last_words(project: Project) -> None:
    folder = write_project(project.root / "broken", "broken", "1.0")
    backend = folder / "backend.py"
    backend.write_text(backend.read_text() + "\nraise RuntimeError('no compiler in sight')\n")
    lock = project.requirements("./broken\n")
    with pytest.raises(ResolveError, match="broken can't be built from source") as caught:
        build(project, lock)
    assert "no compiler in sight" in str(caught.value)


def test_a_local_folder_is_built_again_when_it_changes(project: Project) -> None:
    folder = write_project(project.root / "local", "local", "1.0")
    before = sorted(folder.rglob("*"))
    first = build(project, project.requirements("./local\n"))
    assert sorted(folder.rglob("*")) == before
    assert first.wheels[0].direct_url == {"dir_info": {}, "url": "file:///local"}
    write_project(folder, "local", "1.1")
    assert versions(build(project, project.resolve())) == {"local": "1.1"}


def test_a_repository_is_built_at_its_commit(project: Project) -> None:
    repository = write_project(project.root.parent / "repository", "fromgit", "2.0")

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        command = ["git", "-C", str(repository), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "one")
    git("tag", "v2")
    commit = git("rev-parse", "HEAD")
    write_project(repository, "fromgit", "3.0")
    git("commit", "-qam", "two")
    lock = project.requirements(f"fromgit @ git+file://{repository}@v2\n")
    assert lock.sources[0].commit == commit
    wheel = build(project, lock).wheels[0]
    assert (wheel.name, wheel.version) == ("fromgit", "2.0")
    assert wheel.direct_url == {
        "url": f"file://{repository}",
        "vcs_info": {"vcs": "git", "commit_id": commit, "requested_revision": "v2"},
    }


SRC_LAYOUT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "My.App"
version = "1.2"
dependencies = ["alpha<2"]

[project.optional-dependencies]
wide = ["gamma ; python_version > '3'"]

[project.scripts]
serve = "my_app.cli:main"
"""


def test_an_editable_project_is_importable_from_the_app(project: Project) -> None:
    project.write("pyproject.toml", SRC_LAYOUT)
    project.write("src/my_app/__init__.py", "")
    lock = project.resolve("pyproject.toml")
    installed = install_editables(lock, root=project.root, app="app", cache=project.cache)
    assert installed.editables == ()
    files = names_in(installed, "my-app")
    assert files["__editable__.my_app.pth"] == "/app/src\n"
    assert files["my_app-1.2.dist-info/entry_points.txt"].startswith(
        "[console_scripts]\nserve = my_app.cli:main\n"
    )
    metadata = files["my_app-1.2.dist-info/METADATA"]
    assert "Name: My.App\nVersion: 1.2\n" in metadata
    assert "Requires-Dist: gamma ; (python_version > '3') and extra == \"wide\"" in metadata
    wheel = next(wheel for wheel in installed.wheels if wheel.name == "my-app")
    assert wheel.direct_url == {"dir_info": {"editable": True}, "url": "file:///app"}
    assert wheel.requested


@pytest.mark.parametrize(
    ("files", "root"),
    [
        pytest.param({"pkg/__init__.py": ""}, "/app", id="flat"),
        pytest.param({"src/pkg/__init__.py": ""}, "/app/src", id="src"),
        pytest.param(
            {"tool": '[tool.setuptools.packages.find]\nwhere = ["lib"]\n'}, "/app/lib", id="where"
        ),
        pytest.param(
            {"tool": '[tool.setuptools.package-dir]\n"" = "code"\n'}, "/app/code", id="package-dir"
        ),
        pytest.param(
            {"tool": '[tool.hatch.build.targets.wheel]\npackages = ["python/pkg"]\n'},
            "/app/python",
            id="hatch",
        ),
        pytest.param(
            {"tool": '[[tool.poetry.packages]]\ninclude = "pkg"\nfrom = "py"\n'},
            "/app/py",
            id="poetry",
        ),
        pytest.param(
            {"setup.cfg": "[options.packages.find]\nwhere = s\n"}, "/app/s", id="setup.cfg"
        ),
    ],
)
def test_the_folder_with_the_packages_is_found(
    project: Project, files: dict[str, str], root: str
) -> None:
    text = '[project]\nname = "pkg"\nversion = "1"\n' + files.get("tool", "")
    path = project.write("pyproject.toml", text)
    for name, content in files.items():
        project.write(name, content)
    own = own_project(path)
    assert own is not None
    wheel = editable_wheel(own, app="app", cache=project.cache)
    with zipfile.ZipFile(wheel.url) as archive:
        assert archive.read("__editable__.pkg.pth").decode() == f"{root}\n"


def test_an_editable_project_gives_equal_bytes_anywhere(project: Project, tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        root = tmp_path / name
        root.mkdir()
        (root / "pyproject.toml").write_text(SRC_LAYOUT)
        moved = Project(root, project.cache)
        lock = install_editables(
            moved.resolve("pyproject.toml"), root=root, app="app", cache=project.cache
        )
        digests.add(next(wheel.sha256 for wheel in lock.wheels if wheel.name == "my-app"))
    assert len(digests) == 1


def test_an_editable_project_with_compiled_code_is_built(project: Project) -> None:
    folder = write_project(project.root / "fast", "fast", "1.0")
    (folder / "setup.py").write_text("setup(ext_modules=[Extension('fast._c', ['c.c'])])\n")
    lock = project.requirements("-e ./fast\n")
    assert lock.editables == ()
    assert [source.form for source in lock.sources] == ["directory"]


def elf(*versions: str) -> bytes:
    """A 64-bit ELF file with one section of needed symbol versions."""
    names = b"\0libc.so.6\0" + b"".join(name.encode() + b"\0" for name in versions)
    strings = 64
    verneed = strings + len(names)
    needed = struct.pack("<HHIII", 1, len(versions), 1, 16, 0)
    for position, name in enumerate(versions):
        offset = names.index(b"\0" + name.encode() + b"\0") + 1
        following = 16 if position + 1 < len(versions) else 0
        needed += struct.pack("<IHHII", 0, 0, 2, offset, following)
    table = verneed + len(needed)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + bytes(24) + struct.pack("<Q", table) + bytes(10)
    header += struct.pack("<HHH", 64, 3, 0)
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, strings, len(names), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 0, 0x6FFFFFFE, 0, 0, verneed, len(needed), 1, 1, 4, 0)
    return header + names + needed + sections


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(elf("GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_2.17"), (2, 34), id="the newest"),
        pytest.param(elf("GLIBCXX_3.4", "GCC_3.0"), None, id="other libraries"),
        pytest.param(elf("GLIBC_2.34")[:100], None, id="cut short"),
        pytest.param(b"MZ" + bytes(200), None, id="no ELF"),
        pytest.param(b"", None, id="empty"),
    ],
)
def test_the_needed_glibc_is_read(data: bytes, expected: tuple[int, int] | None) -> None:
    assert needed_glibc(data) == expected


def test_a_real_library_is_read() -> None:
    if sys.platform != "linux":
        pytest.skip("needs ELF")
    import _ssl

    needed = needed_glibc(Path(_ssl.__file__).read_bytes())
    assert needed is not None
    assert needed[0] == 2
    assert needed[1] >= 2


def test_a_wheel_built_against_a_newer_glibc_is_refused(
    project: Project, host_architecture: str
) -> None:
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[host_architecture]
    folder = write_project(
        project.root / "new", "new", "1.0", tag=f"{CPYTHON}-{CPYTHON}-linux_{machine}"
    )
    backend = folder / "backend.py"
    library = elf("GLIBC_2.99")
    backend.write_text(
        backend.read_text().replace(
            'out.writestr(f"{info}/RECORD"', f'out.writestr("new/_c.so", {library!r})\n'
            '        out.writestr(f"{info}/RECORD"',
        )
    )  # fmt: skip
    lock = project.requirements("./new\n", architecture=host_architecture, python=THIS_PYTHON)
    with pytest.raises(ResolveError, match=r"glibc 2\.99, the base has 2\.36"):
        build(project, lock)
