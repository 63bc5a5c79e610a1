"""A package index made on the spot: small wheels and sdists in a `simple/` folder (PEP 503)."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

BUILD_BACKEND = '''
"""A PEP 517 backend that needs nothing: it packs {name} as it is."""
import base64, hashlib, os, zipfile

NAME, VERSION, TAG = {name!r}, {version!r}, {tag!r}

def get_requires_for_build_wheel(config_settings=None):
    return []

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    filename = f"{{NAME}}-{{VERSION}}-{{TAG}}.whl"
    info = f"{{NAME}}-{{VERSION}}.dist-info"
    files = {{
        f"{{NAME}}/__init__.py": f"__version__ = {{VERSION!r}}\\n",
        f"{{info}}/METADATA": {metadata!r},
        f"{{info}}/WHEEL": f"Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: {{TAG}}\\n",
    }}
    record = ""
    with zipfile.ZipFile(os.path.join(wheel_directory, filename), "w") as out:
        for path, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            record += f"{{path}},sha256={{digest.rstrip(b'=').decode()}},{{len(text)}}\\n"
            out.writestr(path, text)
        out.writestr(f"{{info}}/RECORD", record + f"{{info}}/RECORD,,\\n")
    return filename

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return build_wheel(wheel_directory)
'''


def metadata(
    name: str, version: str, requires: list[str], extras: list[str], requires_python: str = ""
) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Python: {requires_python}"] if requires_python else []
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    lines += [f"Requires-Dist: {require}" for require in requires]
    return "\n".join(lines) + "\n"


def wheel_bytes(
    name: str,
    version: str,
    tag: str,
    requires: list[str],
    extras: list[str],
    files: dict[str, str],
    requires_python: str = "",
) -> bytes:
    stem = name.replace("-", "_")
    info = f"{stem}-{version}.dist-info"
    contents = {
        f"{stem}/__init__.py": f"__version__ = {version!r}\n",
        **files,
        f"{info}/METADATA": metadata(name, version, requires, extras, requires_python),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = ""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for path, text in contents.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            record += f"{path},sha256={digest.rstrip(b'=').decode()},{len(text)}\n"
            out.writestr(zipfile.ZipInfo(path), text)
        out.writestr(zipfile.ZipInfo(f"{info}/RECORD"), record + f"{info}/RECORD,,\n")
    return buffer.getvalue()


def source_files(
    name: str, version: str, requires: list[str] | None = None, tag: str = "py3-none-any"
) -> dict[str, str]:
    """The files of a project that builds, offline, a wheel with this tag."""
    stem = name.replace("-", "_")
    text = metadata(name, version, requires or [], [])
    backend = BUILD_BACKEND.format(name=stem, version=version, tag=tag, metadata=text)
    dependencies = "".join(f'  "{require}",\n' for require in requires or [])
    return {
        "pyproject.toml": f'[build-system]\nrequires = []\nbuild-backend = "backend"\n'
        f'backend-path = ["."]\n\n[project]\nname = "{name}"\nversion = "{version}"\n'
        f"dependencies = [\n{dependencies}]\n",
        "backend.py": backend,
        f"{stem}/__init__.py": f"__version__ = {version!r}\n",
        "PKG-INFO": text,
    }


def sdist_bytes(name: str, version: str, requires: list[str], tag: str = "py3-none-any") -> bytes:
    stem = f"{name.replace('-', '_')}-{version}"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as out:
        for path, text in source_files(name, version, requires, tag).items():
            entry = tarfile.TarInfo(f"{stem}/{path}")
            entry.size = len(text.encode())
            out.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def write_project(folder: Path, name: str, version: str, **more: object) -> Path:
    """Write a project that `source_files` describes."""
    for path, text in source_files(name, version, **more).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


@dataclass
class TinyIndex:
    """An index below `root`; `url` is its file:// address."""

    root: Path
    names: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return (self.root / "simple").as_uri()

    def wheel(
        self,
        name: str,
        version: str,
        *,
        requires: list[str] | None = None,
        extras: list[str] | None = None,
        tag: str = "py3-none-any",
        files: dict[str, str] | None = None,
        requires_python: str = "",
    ) -> Path:
        filename = f"{name.replace('-', '_')}-{version}-{tag}.whl"
        data = wheel_bytes(
            name, version, tag, requires or [], extras or [], files or {}, requires_python
        )
        return self._add(name, filename, data)

    def sdist(
        self,
        name: str,
        version: str,
        *,
        requires: list[str] | None = None,
        tag: str = "py3-none-any",
    ) -> Path:
        filename = f"{name.replace('-', '_')}-{version}.tar.gz"
        return self._add(name, filename, sdist_bytes(name, version, requires or [], tag))

    def add(self, name: str, wheel: Path) -> Path:
        """Offer a wheel that is already there."""
        return self._add(name, wheel.name, wheel.read_bytes())

    def _add(self, name: str, filename: str, data: bytes) -> Path:
        files = self.root / "files"
        files.mkdir(parents=True, exist_ok=True)
        path = files / filename
        path.write_bytes(data)
        page = self.root / "simple" / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        old = page.read_text() if page.exists() else "<!DOCTYPE html>\n"
        sha256 = hashlib.sha256(data).hexdigest()
        page.write_text(old + f'<a href="../../files/{filename}#sha256={sha256}">{filename}</a>\n')
        return path
