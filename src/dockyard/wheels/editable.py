"""Projects that stay where they are: `-e .`, workspace members, and the project itself.

What a user expects of `pip install -e .` is kept: `import mypkg` works from anywhere, its
console scripts are there, and importlib.metadata knows its version. The code itself is not
packed twice: it is part of the app's layer, so that a changed line changes only that. What is
installed is a wheel made here, without running the project's build backend, that holds

- a .pth file with the folder in the image that holds the project's packages ("/app/src"),
- its dist-info: METADATA, entry_points.txt, direct_url.json with "editable": true.

Rules:
- Equal projects give equal bytes, on any host and in any folder.
- A project with compiled extensions can't be used in place: it is built like any local source.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import io
import re
import tomllib
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockyard.errors import ResolveError
from dockyard.wheels.direct_url import directory_direct_url
from dockyard.wheels.lock import EditableProject, Lock, LockedWheel

if TYPE_CHECKING:
    from dockyard.cache import Cache

_COMPILING = ("maturin", "scikit_build_core", "mesonpy", "setuptools_rust", "skbuild", "pybind11")


def own_project(pyproject: Path) -> EditableProject | None:
    """The project that this pyproject.toml describes, or None when it isn't one to install."""
    document = _document(pyproject)
    project = document.get("project")
    uv = document.get("tool", {}).get("uv", {})
    if not isinstance(project, dict) or "name" not in project or uv.get("package") is False:
        return None
    return EditableProject(
        name=_canonical(str(project["name"])),
        version=_version(pyproject.parent, document),
        path=pyproject.parent.absolute(),
    )


def needs_compiler(folder: Path) -> bool:
    """Whether the project in this folder has compiled extensions, as far as its files tell."""
    build = _document(folder / "pyproject.toml").get("build-system", {})
    named = " ".join([str(build.get("build-backend", "")), *map(str, build.get("requires", []))])
    if any(word in named.replace("-", "_") for word in _COMPILING):
        return True
    setup = folder / "setup.py"
    return setup.is_file() and "ext_modules" in setup.read_text("utf-8", errors="replace")


def editable_wheel(project: EditableProject, *, app: str, cache: Cache) -> LockedWheel:
    """Make the small wheel that installs `project` in place.

    app: the project's folder in the image, such as "app" or "app/libs/mypkg". The wheel goes
    into the cache.
    """
    folder = project.path
    document = _document(folder / "pyproject.toml")
    version = project.version or _version(folder, document) or "0"
    stem = re.sub(r"[-_.]+", "_", project.name).lower()
    info = f"{stem}-{version}.dist-info"
    roots = [
        f"/{app.strip('/')}" + (f"/{part}" if part else "") for part in _roots(folder, document)
    ]
    files = {
        f"__editable__.{stem}.pth": "".join(f"{root}\n" for root in roots),
        f"{info}/METADATA": _metadata(project.name, version, document),
        f"{info}/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: dockyard\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    if entry_points := _entry_points(folder, document):
        files[f"{info}/entry_points.txt"] = entry_points
    data = _pack(files, f"{info}/RECORD")
    with cache.writing_blob() as out:
        out.write(data)
    return LockedWheel(
        name=project.name,
        version=version,
        filename=f"{stem}-{version}-py3-none-any.whl",
        sha256=out.hexdigest,
        size=out.size,
        url=str(cache.blob_path(out.hexdigest)),
        requested=project.requested,
        direct_url=directory_direct_url(project.name, editable=True, app=app),
    )


def _roots(folder: Path, document: dict[str, Any]) -> list[str]:
    """The folders below the project's that hold its packages, "" for itself."""
    tool = document.get("tool", {})
    setuptools = tool.get("setuptools", {})
    found: list[str] = []
    if isinstance(setuptools.get("package-dir"), dict):
        found += [value for key, value in setuptools["package-dir"].items() if key == ""]
    packages = setuptools.get("packages", {})
    if isinstance(packages, dict):
        found += [str(item) for item in packages.get("find", {}).get("where", [])]
    wheel = tool.get("hatch", {}).get("build", {}).get("targets", {}).get("wheel", {})
    found += [str(Path(item).parent) for item in wheel.get("packages", [])]
    for package in tool.get("poetry", {}).get("packages", []):
        if isinstance(package, dict) and "from" in package:
            found.append(str(package["from"]))
    setup = configparser.RawConfigParser()
    if (folder / "setup.cfg").is_file():
        try:
            setup.read_string((folder / "setup.cfg").read_text("utf-8"))
        except (configparser.Error, UnicodeDecodeError):
            setup.clear()
        if setup.has_section("options.packages.find"):
            where = setup.get("options.packages.find", "where", fallback="")
            found += [where.strip()] if where.strip() else []
    if not found:
        found = ["src"] if (folder / "src").is_dir() else [""]
    cleaned = ["" if part in (".", "./") else part.strip("/").removeprefix("./") for part in found]
    return [part for part in dict.fromkeys(cleaned) if ".." not in Path(part).parts]


def _metadata(name: str, version: str, document: dict[str, Any]) -> str:
    """METADATA with what programs ask for at run time."""
    project = document.get("project", {})
    lines = ["Metadata-Version: 2.1", f"Name: {project.get('name', name)}", f"Version: {version}"]
    if isinstance(project.get("description"), str):
        lines.append(f"Summary: {' '.join(project['description'].split())}")
    if "requires-python" in project:
        lines.append(f"Requires-Python: {project['requires-python']}")
    lines += [f"Requires-Dist: {item}" for item in project.get("dependencies", [])]
    for extra, items in sorted(project.get("optional-dependencies", {}).items()):
        lines.append(f"Provides-Extra: {extra}")
        for item in items:
            wanted, _, marker = str(item).partition(";")
            both = f"({marker.strip()}) and " if marker.strip() else ""
            lines.append(f'Requires-Dist: {wanted.strip()} ; {both}extra == "{extra}"')
    return "\n".join(lines) + "\n"


def _entry_points(folder: Path, document: dict[str, Any]) -> str:
    """entry_points.txt, from [project], Poetry's table or setup.cfg."""
    project = document.get("project", {})
    sections: dict[str, dict[str, str]] = {}
    for key, section in (("scripts", "console_scripts"), ("gui-scripts", "gui_scripts")):
        if project.get(key):
            sections[section] = project[key]
    sections |= project.get("entry-points", {})
    poetry = document.get("tool", {}).get("poetry", {})
    if scripts := poetry.get("scripts"):
        plain = {key: value for key, value in scripts.items() if isinstance(value, str)}
        sections.setdefault("console_scripts", plain)
    text = "".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in sorted(items.items())) + "\n"
        for name, items in sorted(sections.items())
    )
    setup_cfg = folder / "setup.cfg"
    if not text and setup_cfg.is_file():
        found = re.search(
            r"^\[options\.entry_points\]\n(.*?)(?=^\[|\Z)",
            setup_cfg.read_text("utf-8", errors="replace"),
            re.MULTILINE | re.DOTALL,
        )
        for line in (found[1] if found else "").splitlines():
            if line.strip() and not line[0].isspace():
                text += f"[{line.partition('=')[0].strip()}]\n"
            elif line.strip():
                text += line.strip() + "\n"
    return text


def _version(folder: Path, document: dict[str, Any]) -> str | None:
    """The version, where it stands in a file: running the project's build isn't worth it."""
    project = document.get("project", {})
    if isinstance(project.get("version"), str):
        return str(project["version"])
    tool = document.get("tool", {})
    if isinstance(tool.get("poetry", {}).get("version"), str):
        return str(tool["poetry"]["version"])
    places = [tool.get("hatch", {}).get("version", {}).get("path")]
    dynamic = tool.get("setuptools", {}).get("dynamic", {}).get("version", {})
    if isinstance(dynamic.get("attr"), str):
        module = dynamic["attr"].rpartition(".")[0].replace(".", "/")
        places += [
            f"{root}{module}{end}" for root in ("", "src/") for end in (".py", "/__init__.py")
        ]
    if isinstance(dynamic.get("file"), str):
        file = folder / dynamic["file"]
        if file.is_file():
            return file.read_text("utf-8", errors="replace").strip() or None
    for place in filter(None, places):
        file = folder / place
        if file.is_file() and (
            found := re.search(
                r"^(?:__version__|VERSION)\s*(?::[^=]+)?=\s*['\"]([^'\"]+)['\"]",
                file.read_text("utf-8", errors="replace"),
                re.MULTILINE,
            )
        ):
            return found[1]
    return None


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ResolveError(
            f"the project's pyproject.toml can't be read: {error}",
            where=str(path),
            hint="Mend the file.",
        ) from error


def _pack(files: dict[str, str], record: str) -> bytes:
    """A wheel of these files: stored, not compressed, so that no compressor matters."""
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
        lines.append(f"{path},sha256={digest.rstrip(b'=').decode()},{len(text.encode())}")
    contents = {**files, record: "\n".join([*lines, f"{record},,"]) + "\n"}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for path, text in contents.items():
            entry = zipfile.ZipInfo(path)
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            out.writestr(entry, text)
    return buffer.getvalue()


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def install_editables(lock: Lock, *, root: Path, app: str, cache: Cache) -> Lock:
    """Return the lock with a small wheel for each editable project.

    root: the folder that becomes `app` ("app") in the image.
    """
    wheels = list(lock.wheels)
    for project in lock.editables:
        inside = project.path.resolve().relative_to(root.resolve()).as_posix()
        place = app.strip("/") if inside == "." else f"{app.strip('/')}/{inside}"
        wheels.append(editable_wheel(project, app=place, cache=cache))
    return replace(lock, wheels=tuple(sorted(wheels, key=lambda w: w.name)), editables=())
