"""`pip install` in a RUN: what pip would install into the stage's Python, without running it.

Rules:
- The pip that the stage's PATH finds says where: its first line names the interpreter, whose folder
  decides. Debian's own Python, which pip refuses to touch, is refused.
- uv resolves, for the base's Python and C library, with what the stage has installed already; what
  is there in another version is removed by its RECORD, as pip does. Indexes are the user's own, and
  those that the line names.
- The files are those that pip writes, INSTALLER included; bytecode is compiled by the base's own
  interpreter, with hashes instead of times. pip's cache isn't kept, whatever the options say.
"""

from __future__ import annotations

import csv
import hashlib
import io
import posixpath
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from dockyard.direct.commands import find_program
from dockyard.direct.filesystem import Node
from dockyard.errors import BuildError
from dockyard.files import SliceSource, file_entry
from dockyard.wheels.venv import Venv

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.build.image_base import BaseImageFacts
    from dockyard.cache import Cache
    from dockyard.direct.refusal import Site
    from dockyard.direct.stage import StageState
    from dockyard.fetch import Fetcher
    from dockyard.files import FileEntry
    from dockyard.oci.image import Image
    from dockyard.progress import Reporter
    from dockyard.wheels.install import InstalledWheel
    from dockyard.wheels.lock import Lock
    from dockyard.wheels.provided import ProvidedDistribution

_SILENT = frozenset(
    {
        *("--no-cache-dir", "-q", "--quiet", "-v", "--verbose", "--no-input", "-qq"),
        *("--disable-pip-version-check", "--no-warn-script-location", "--prefer-binary"),
        *("--root-user-action=ignore", "--no-compile", "--progress-bar=off"),
    }
)
_SILENT_VALUED = frozenset(
    {"--default-timeout", "--timeout", "--retries", "--root-user-action", "--progress-bar"}
)
_INDEXES = {
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
}
_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix(Venv):
    """Where a Python's packages lie. program: the interpreter as its scripts name it."""

    program: str
    is_venv: bool

    @property
    def interpreter(self) -> str:
        """The absolute path of the interpreter."""
        return self.program

    @property
    def own_paths(self) -> frozenset[str]:
        """The interpreter's own names."""
        major = self.python.partition(".")[0]
        return frozenset(f"{self.bin}/python{end}" for end in ("", major, self.python))

    def schemes(self, name: str) -> Mapping[str, str]:
        """The folders of the install schemes; headers lie elsewhere than in an environment."""
        found = {
            "purelib": self.site_packages,
            "platlib": self.site_packages,
            "headers": f"{self.root}/include/site/python{self.python}/{name}",
            "scripts": self.bin,
            "data": self.root,
        }
        if not self.is_venv:
            found["headers"] = f"{self.root}/include/python{self.python}/{name}"
        return found


@dataclass(slots=True, kw_only=True)
class Asked:
    """What one `pip install` asks for. options: index options as requirements files have them."""

    files: list[str] = field(default_factory=list)
    requirements: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    compiles: bool = True
    upgrades: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What installing needs from outside. root: the context's folder; image: the stage's base."""

    root: Path
    image: Image
    facts: BaseImageFacts
    architecture: str
    cache: Cache
    fetcher: Fetcher
    reporter: Reporter
    offline: bool = False


def pip_words(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]] | None:
    """The program and the words after `pip` of a command; None when it isn't pip's."""
    name = posixpath.basename(words[0])
    if re.fullmatch(r"pip3?(?:\.\d+)?", name):
        return words[0], words[1:]
    if re.fullmatch(r"python3?(?:\.\d+)?", name) and words[1:3] == ("-m", "pip"):
        return words[0], words[3:]
    return None


def read_command(words: tuple[str, ...], site: Site) -> Asked:
    """What `pip WORDS` asks for; raises NotUnderstood for other verbs and options."""
    if not words or words[0] != "install":
        raise site.refuse(f"of pip only install is understood, not {' '.join(words[:1]) or 'this'}")
    asked = Asked()
    waiting = list(words[1:])
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.partition("=")
        if word[:2] in ("-r", "-i", "-f") and len(word) > 2 and word[:2] != "--":
            name, equals, value = word[:2], "=", word[2:]
        if word in _SILENT:
            asked.compiles &= word != "--no-compile"
        elif word in ("-U", "--upgrade"):
            asked.upgrades = True
        elif not word.startswith("-"):
            asked.requirements.append(_requirement(word, site))
        elif name in _SILENT_VALUED or name in _INDEXES or name in ("-r", "--requirement"):
            if not equals:
                if not waiting:
                    raise site.fail(f"pip: {name} needs a value")
                value = waiting.pop(0)
            if name in ("-r", "--requirement"):
                asked.files.append(value)
            elif name in _INDEXES:
                asked.options.append(f"{_INDEXES[name]} {value}")
        else:
            raise site.refuse(f"pip's option {word} isn't understood")
    if not asked.files and not asked.requirements:
        raise site.fail("pip install names nothing to install")
    return asked


def _requirement(word: str, site: Site) -> str:
    try:
        requirement = Requirement(word)
    except InvalidRequirement:
        raise site.refuse(f"{word} is a file or folder, not a package of an index") from None
    if requirement.url is not None:
        raise site.refuse(f"{word} is fetched from an address")
    return word


def install(
    stage: StageState, program: str, words: tuple[str, ...], site: Site, shop: Workshop
) -> None:
    """Carry out `pip install`; changes the stage's files."""
    asked = read_command(words, site)
    if not stage.is_root:
        raise site.refuse("pip runs as another user than root")
    prefix = find_prefix(stage, program, site)
    if shop.facts.pythons.get(prefix.python) is None or shop.facts.glibc is None:
        raise site.refuse(f"the base has no Python {prefix.python} with a GNU C library")
    source = _written(stage, asked, site, shop)
    present = installed_distributions(stage, prefix)
    named = _names(asked, stage)
    kept = [item for name, item in present.items() if not (asked.upgrades and name in named)]
    lock = _resolve(source, prefix, tuple(kept), shop)
    versions = {name: item.version for name, item in present.items()}
    fresh = [wheel for wheel in lock.wheels if versions.get(wheel.name) != wheel.version]
    trees = _fetched(lock, {wheel.name for wheel in fresh}, named, prefix, shop)
    for wheel in fresh:
        if wheel.name in present:
            _uninstall(stage, prefix, wheel.name, site)
    entries = [entry for tree in trees for entry in tree.entries]
    for entry in entries:
        existing = stage.files.get(entry.path)
        if existing is not None and existing.kind == "directory":
            raise site.fail(f"pip: /{entry.path} is a folder")
    if asked.compiles and fresh:
        entries += _compiled(trees, prefix, site, shop)
        recorded = _recorded(trees, prefix)
        entries = [recorded.get(entry.path, entry) for entry in entries]
    for entry in sorted(entries, key=lambda entry: entry.path):
        _put(stage, entry)
    packages = "1 package" if len(fresh) == 1 else f"{len(fresh)} packages"
    stage.notes.append(
        f"{site.where}: {packages} into /{prefix.site_packages}; what pip leaves by running (its "
        "cache, its bytecode) isn't there"
    )


def find_prefix(stage: StageState, program: str, site: Site) -> Prefix:
    """Where the pip that a command means installs to."""
    path = find_program(stage, program)
    if path is None:
        raise site.fail(f"{program}: the image has no such program")
    interpreter = path
    if posixpath.basename(path).startswith("pip"):
        head = (stage.files.read(path.strip("/")) or b"").split(b"\n", 1)[0]
        said = re.fullmatch(rb"#!\s*(/[^\s]+)", head)
        if said is None:
            raise site.refuse(f"{path} doesn't say which Python it is for")
        interpreter = said[1].decode()
    root = posixpath.dirname(posixpath.dirname(interpreter)).strip("/")
    is_venv = stage.files.get(f"{root}/pyvenv.cfg") is not None
    if not is_venv and root == "usr":
        raise site.refuse("it is Debian's own Python, which pip leaves alone")
    versions = [
        match[1]
        for inner in stage.files.nodes
        if (match := re.fullmatch(rf"{re.escape(root)}/lib/python(3\.\d+)/site-packages", inner))
    ]
    if len(versions) != 1:
        raise site.refuse(f"/{root} has no Python of one version")
    if any(
        stage.files.get(f"{root}/lib/python{versions[0]}/{name}") is not None
        for name in ("EXTERNALLY-MANAGED",)
    ):
        raise site.refuse("its Python is managed by another tool (EXTERNALLY-MANAGED)")
    return Prefix(root=root, python=versions[0], program=interpreter, is_venv=is_venv)


def installed_distributions(stage: StageState, prefix: Prefix) -> dict[str, ProvidedDistribution]:
    """What the Python's site-packages hold, by name."""
    from dockyard.build.base_packages import read_distribution

    pattern = re.compile(rf"{re.escape(prefix.site_packages)}/[^/]+\.dist-info/METADATA")
    paths = [path for path in stage.files.nodes if pattern.fullmatch(path)]
    in_base = [path for path in paths if stage.from_base(path)]
    texts = stage.files.base.read_all(in_base) if stage.files.base and in_base else {}
    found = {}
    for path in paths:
        data = texts.get(path) if path in texts else stage.files.read(path)
        item = read_distribution(data) if data else None
        if item is not None:
            found[item.name] = item
    return found


def _uninstall(stage: StageState, prefix: Prefix, name: str, site: Site) -> None:
    """Remove a distribution: what its RECORD lists, its bytecode, folders that hold no more."""
    site_packages = prefix.site_packages
    pattern = re.compile(rf"{re.escape(site_packages)}/([^/]+?)-[^/]+\.dist-info/RECORD")
    records = [
        path
        for path in stage.files.nodes
        if (match := pattern.fullmatch(path)) and canonicalize_name(match[1]) == name
    ]
    if len(records) != 1:
        raise site.refuse(f"pip would replace {name}, which has no RECORD")
    text = (stage.files.read(records[0]) or b"").decode("utf-8", "replace")
    tag = f"cpython-{prefix.python.replace('.', '')}"
    gone: set[str] = set()
    for row in csv.reader(text.splitlines()):
        if not row:
            continue
        path = posixpath.normpath(posixpath.join("/", site_packages, row[0])).lstrip("/")
        gone.add(path)
        if path.endswith(".py"):
            folder, file = posixpath.split(path)
            gone.add(posixpath.join(folder, f"__pycache__/{file.removesuffix('.py')}.{tag}.pyc"))
    for path in gone:
        if stage.files.get(path) is not None:
            stage.files.remove(path)
    for folder in sorted({posixpath.dirname(path) for path in gone}, key=len):
        if stage.files.get(folder) is None:
            continue
        left = stage.files.below(folder)
        if all(stage.files.nodes[path].kind == "directory" for path in left):
            stage.files.remove(folder)


def _written(stage: StageState, asked: Asked, site: Site, shop: Workshop) -> Path:
    """A requirements file in the cache that says all that the command does."""
    lines = [
        f"{_INDEXES['--' + name.removeprefix('PIP_').lower().replace('_', '-')]} {value}"
        for name in _VARIABLES
        for value in (stage.variables.get(name) or "").split()
    ]
    lines += asked.options
    for name in asked.files:
        lines.append(f"-r {_file_of(stage, name, site, shop)}")
    lines += asked.requirements
    return _kept(shop, "\n".join(lines) + "\n", "pip install")


def _file_of(stage: StageState, name: str, site: Site, shop: Workshop) -> Path:
    """A file of the image on this machine's disk."""
    place = stage.files.resolve(stage.absolute(name).strip("/"))
    node = stage.files.get(place)
    if node is None or node.kind != "file":
        raise site.fail(f"pip: there is no {name} at this point", "Copy it before this line.")
    if isinstance(node.source, SliceSource) and node.source.path.is_relative_to(shop.root):
        text = node.source.path.read_text(encoding="utf-8", errors="replace")
        if not re.search(r"^\s*-(?:r|c|-requirement|-constraint)", text, re.MULTILINE):
            return node.source.path
        raise site.refuse(f"{name} includes other files")
    data = stage.files.read(place) or b""
    return _kept(shop, data.decode("utf-8", "replace"), posixpath.basename(place))


def _kept(shop: Workshop, text: str, name: str) -> Path:
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = shop.cache.root / "listed" / key / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with shop.cache.temporary() as new:
            new.write_text(text, encoding="utf-8")
            new.replace(path)
    return path


def _resolve(
    source: Path, prefix: Prefix, present: tuple[ProvidedDistribution, ...], shop: Workshop
) -> Lock:
    from dataclasses import replace

    from dockyard.wheels.requirement import DependencySource
    from dockyard.wheels.resolve import ResolveRequest, resolve
    from dockyard.wheels.sdist import build_sources
    from dockyard.wheels.settings import gather_settings
    from dockyard.wheels.target import Target

    assert shop.facts.glibc is not None
    settings = gather_settings(shop.root)
    request = ResolveRequest(
        source=DependencySource(kind="requirements.txt", path=source, folder=shop.root),
        target=Target(python=prefix.python, architecture=shop.architecture, glibc=shop.facts.glibc),
        root=shop.root,
        settings=settings,
        provided=present,
    )
    lock = resolve(request, cache=shop.cache, reporter=shop.reporter, offline=shop.offline)
    if lock.editables:
        raise BuildError("editable projects aren't installed from a Dockerfile", where=source.name)
    if lock.sources:
        lock = build_sources(
            lock,
            settings=settings,
            cache=shop.cache,
            reporter=shop.reporter,
            offline=shop.offline,
        )
    return replace(lock, wheels=tuple(sorted(lock.wheels, key=lambda wheel: wheel.name)))


def _names(asked: Asked, stage: StageState) -> frozenset[str]:
    """The packages that are asked for by name, which pip marks as REQUESTED."""
    words = list(asked.requirements)
    for name in asked.files:
        data = stage.files.read(stage.absolute(name).strip("/")) or b""
        words += data.decode("utf-8", "replace").splitlines()
    found = set()
    for word in words:
        match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", word)
        if match:
            found.add(canonicalize_name(match[1]))
    return frozenset(found)


def _fetched(
    lock: Lock, wanted: set[str], named: frozenset[str], prefix: Prefix, shop: Workshop
) -> list[InstalledWheel]:
    from dockyard.fetch import Download
    from dockyard.wheels.clash import settle_clashes
    from dockyard.wheels.install import install_wheel

    wheels = [wheel for wheel in lock.wheels if wheel.name in wanted]
    downloads = [
        Download(
            url=wheel.url,
            sha256=wheel.sha256,
            size=wheel.size,
            title=f"{wheel.name} {wheel.version}",
        )
        for wheel in wheels
    ]
    paths = shop.fetcher.fetch(downloads)
    trees = [
        install_wheel(
            path,
            prefix,
            requested=wheel.name in named,
            direct_url=wheel.direct_url,
            filename=wheel.filename,
            sha256=wheel.sha256,
            installer="pip",
        )
        for wheel, path in zip(wheels, paths, strict=True)
    ]
    return list(settle_clashes(trees, prefer=()))


def _modules(tree: InstalledWheel, prefix: Prefix) -> list[FileEntry]:
    """The files that pip compiles: the modules in site-packages."""
    below = prefix.site_packages + "/"
    return [
        entry
        for entry in tree.entries
        if entry.path.endswith(".py") and entry.path.startswith(below)
    ]


def _recorded(trees: list[InstalledWheel], prefix: Prefix) -> dict[str, FileEntry]:
    """Each wheel's RECORD with its bytecode in it, as pip writes it."""
    tag = f"cpython-{prefix.python.replace('.', '')}"
    found = {}
    for tree in trees:
        entry = next(item for item in tree.entries if item.path.endswith(".dist-info/RECORD"))
        assert entry.source is not None
        text = b"".join(entry.source.chunks()).decode("utf-8")
        rows = [tuple(row) for row in csv.reader(text.splitlines()) if row]
        for module in _modules(tree, prefix):
            folder, name = posixpath.split(module.path[len(prefix.site_packages) + 1 :])
            pyc = f"__pycache__/{name.removesuffix('.py')}.{tag}.pyc"
            rows.append((posixpath.join(folder, pyc), "", ""))
        out = io.StringIO()
        csv.writer(out).writerows(sorted(rows))
        found[entry.path] = file_entry(entry.path, out.getvalue().encode())
    return found


def _compiled(
    trees: list[InstalledWheel], prefix: Prefix, site: Site, shop: Workshop
) -> list[FileEntry]:
    """The bytecode of the installed modules, as pip's own compiling would leave it."""
    from dockyard.build.bytecode import CompileUnit, compile_modules, find_base_python
    from dockyard.build.host import why_not_runnable
    from dockyard.build.image_base import unpacked_python

    reason = why_not_runnable(shop.architecture)
    if reason is not None:
        raise site.refuse(f"the base's Python can't compile here ({reason})")
    units = [
        CompileUnit(path=entry.path, source=entry.source)
        for tree in trees
        for entry in _modules(tree, prefix)
        if entry.source is not None
    ]
    interpreter = shop.facts.pythons[prefix.python]
    with shop.reporter.task("Unpacking the base's Python"):
        root = unpacked_python(shop.image, interpreter, cache=shop.cache)
    base = find_base_python(root, python=prefix.python, architecture=shop.architecture)
    with shop.reporter.task(f"Compiling {len(units)} modules"):
        return compile_modules(base, units, cache=shop.cache)


def _put(stage: StageState, entry: FileEntry) -> None:
    path = posixpath.join(
        stage.files.resolve(posixpath.dirname(entry.path)), posixpath.basename(entry.path)
    )
    stage.files.make_folders(posixpath.dirname(path))
    stage.files.put(path, Node(kind="file", mode=entry.mode, source=entry.source))
