"""Which files of the project go into the image.

Rules, the first that applies decides:
1. `.git`, Dockyard's own files, sockets, pipes and devices never go in (the last three are errors).
2. What `include` of the configuration matches goes in.
3. What `exclude` matches stays out.
4. What .dockerignore matches stays out (Docker's semantics: see `dockerignore`).
5. Built-in: version control, virtual environments (a folder with pyvenv.cfg), node_modules,
   caches, build outputs, `.env` files and other places of secrets stay out.
6. What a .gitignore matches stays out (Git's semantics: see `gitignore`; nested files count, and
   those above the project up to the repository's root) - except that a model file which the code
   names goes in: weights are git-ignored for their size, not because the app can do without.
- Symbolic links are never followed: one that stays inside the project is a link in the image, one
  that leads out of it is an error. Folders that are left out aren't entered unless a pattern could
  bring back something inside. The result is sorted by path and depends on nothing else.
"""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dockyard.app.dockerignore import PathPatterns, read_dockerignore
from dockyard.app.gitignore import GitPatterns
from dockyard.errors import FileTreeError, ProjectError
from dockyard.files import check_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard.app.config import AppConfig

_NEVER = frozenset({".git", ".hg", ".svn", ".dockyard"})
_OWN_FILES = frozenset({"dockyard.toml", "pylock.toml", "uv.lock", ".dockerignore"})
_FOLDERS = frozenset(
    {
        *("__pycache__", "node_modules", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache"),
        *(".ruff_cache", ".tox", ".nox", ".hypothesis", ".idea", ".vscode", ".github", ".gitlab"),
        *(".eggs", "htmlcov", ".venv", ".dvc", ".pixi", ".devcontainer"),
    }
)
_SECRET_FOLDERS = frozenset({".aws", ".ssh", ".gnupg", ".kube", ".docker"})
_FILES = frozenset(
    {
        *(".gitignore", ".gitattributes", ".gitmodules", ".gitkeep", ".DS_Store", "Thumbs.db"),
        *(".coverage", ".pre-commit-config.yaml", ".editorconfig", ".gitlab-ci.yml"),
        *("Dockerfile", "Containerfile", "docker-compose.yml", "docker-compose.yaml"),
        *("compose.yml", "compose.yaml"),
    }
)
_SUFFIXES = (".pyc", ".pyo", ".swp", "~", ".egg-info", ".dist-info")
_SECRETS = frozenset(
    {
        *(".netrc", ".pypirc", ".git-credentials", ".npmrc", ".htpasswd", "id_rsa", "id_ecdsa"),
        *("id_ed25519", "id_dsa", "kaggle.json", "secrets.toml"),
    }
)
_ENV_SAMPLES = (".example", ".sample", ".template", ".dist", ".defaults")
# What the first entry of an image archive is called, ours or `docker save`'s.
_ARCHIVE_STARTS = (b"oci-layout\0", b"blobs/", b"manifest.json\0", b"index.json\0")
_MOST_NAMED = 10

Kind = Literal["file", "symlink"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFile:
    """One file that goes into the image. path is relative to the project, POSIX."""

    path: str
    absolute: Path
    size: int = 0
    executable: bool = False
    kind: Kind = "file"
    target: str = ""
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The files of a project that go into the image, sorted by path.

    left_out: one line for each thing left out that its owner may not expect (secrets).
    """

    folder: Path
    files: tuple[ProjectFile, ...]
    left_out: tuple[str, ...] = ()

    def paths(self) -> frozenset[str]:
        """The paths of all files."""
        return frozenset(file.path for file in self.files)


def walk_project(
    folder: Path, config: AppConfig, *, keep: Sequence[str] = (), outputs: Sequence[Path] = ()
) -> Project:
    """Return what of a folder goes into the image.

    keep: paths of model files and folders that the code names, kept although git-ignored.
    outputs: what the build writes (archives, layouts), left out. Raises ProjectError for a folder
    that isn't one, a link that leads out, a special file, a name that can't be in an image.
    """
    root = project_root(folder)
    walk = _Walk(root, config, keep, outputs)
    walk.folder("", str(root), walk.git_above(), built_in=False, by_git=False)
    if walk.problems:
        problems = sorted(walk.problems)
        more = len(problems) - _MOST_NAMED
        shown = [*problems[:_MOST_NAMED], *([f"and {more} more"] if more > 0 else [])]
        raise ProjectError(
            "\n".join(shown),
            hint="Change that, or leave it out: `exclude` in dockyard.toml, or .dockerignore.",
        )
    walk.files.sort(key=lambda file: file.path.split("/"))
    return Project(folder=root, files=tuple(walk.files), left_out=tuple(sorted(walk.left_out)))


def project_root(folder: Path) -> Path:
    """Return the absolute path of a project's folder; raises ProjectError if it is none."""
    if not folder.exists():
        raise ProjectError(
            "there is no such folder",
            where=str(folder),
            hint="Give the folder of the project: `dockyard build FOLDER`.",
        )
    if not folder.is_dir():
        raise ProjectError(
            "is a file, not the folder of a project",
            where=str(folder),
            hint=f"Give the folder that it is in: {folder.parent}.",
        )
    return folder.resolve()


@dataclass(frozen=True, slots=True)
class _GitRules:
    """A .gitignore in a folder of the project (`below`, a prefix), or above the project.

    above: for the latter, the project's own path from its folder, as a prefix.
    """

    patterns: GitPatterns
    below: str
    above: str = ""

    def decide(self, path: str, name: str, *, is_folder: bool) -> bool | None:
        relative = self.above + path if self.above else path[len(self.below) :]
        return self.patterns.decide(relative, name, is_folder=is_folder)


class _Walk:
    def __init__(
        self, root: Path, config: AppConfig, keep: Sequence[str], outputs: Sequence[Path]
    ) -> None:
        self.root = root
        self.include = PathPatterns([(text, "include") for text in config.include])
        self.exclude = PathPatterns([(text, "exclude") for text in config.exclude])
        self.docker = PathPatterns([])
        ignore = root / ".dockerignore"
        if ignore.is_file():
            self.docker = read_dockerignore(_read(ignore, ".dockerignore"), where=".dockerignore")
        self.keep = frozenset(keep)
        self.keep_above = frozenset(parent for path in keep for parent in _parents(path))
        self.outputs = frozenset(str(path.absolute()) for path in outputs)
        self.files: list[ProjectFile] = []
        self.left_out: list[str] = []
        self.problems: list[str] = []

    def git_above(self) -> list[_GitRules]:
        """The .gitignore files between the repository's root and the project."""
        rules: list[_GitRules] = []
        folder, inner = self.root, ""
        while not (folder / ".git").exists():
            if folder == folder.parent:
                return []
            folder, inner = folder.parent, f"{folder.name}/{inner}"
            file = folder / ".gitignore"
            if file.is_file():
                rules.insert(0, _GitRules(GitPatterns(_read(file, str(file))), "", inner))
        return rules

    def folder(
        self, prefix: str, path: str, git: list[_GitRules], *, built_in: bool, by_git: bool
    ) -> None:
        try:
            with os.scandir(path) as found:
                entries = list(found)
        except OSError as error:
            self.problems.append(f"{prefix or path}: can't be read: {error.strerror or error}")
            return
        names = {entry.name for entry in entries}
        if prefix and not built_in:
            # A virtual environment, Conda's environment, an image in layout form.
            built_in = not names.isdisjoint(("pyvenv.cfg", "conda-meta", "oci-layout"))
            if built_in and not self.include:
                return
        if ".gitignore" in names:
            text = _read(Path(path, ".gitignore"), prefix + ".gitignore")
            git = [*git, _GitRules(GitPatterns(text), prefix)]
        for entry in entries:
            self.entry(prefix + entry.name, entry, git, built_in=built_in, by_git=by_git)

    def entry(
        self,
        path: str,
        entry: os.DirEntry[str],
        git: list[_GitRules],
        *,
        built_in: bool,
        by_git: bool,
    ) -> None:
        name = entry.name
        if name in _NEVER or path in _OWN_FILES or entry.path in self.outputs:
            return
        is_folder = entry.is_dir(follow_symlinks=False)
        named = bool(self.include) and self.include.matches(path)
        excluded = bool(self.exclude) and self.exclude.matches(path)
        docker = not excluded and bool(self.docker) and self.docker.matches(path)
        built_in = built_in or self.built_in(path, name, entry, is_folder=is_folder, said=named)
        by_git = by_git or _ignored_by_git(git, path, name, is_folder=is_folder)
        if is_folder:
            if not named and (excluded or docker or built_in or by_git):
                reached = bool(self.include) and self.include.reaches_below(path)
                taken_back = not excluded and self.docker.reaches_below(path, negated=True)
                if not reached and (
                    excluded
                    or (docker and not taken_back)
                    or built_in
                    or (by_git and not self.kept(path))
                ):
                    return
            self.folder(path + "/", entry.path, git, built_in=built_in, by_git=by_git)
        elif named or not (excluded or docker or built_in or (by_git and not self.kept(path))):
            self.take(path, entry)

    def kept(self, path: str) -> bool:
        """Whether the code names this model, a folder above it, or something below it."""
        return bool(self.keep) and (
            path in self.keep
            or path in self.keep_above
            or any(parent in self.keep for parent in _parents(path))
        )

    def built_in(
        self, path: str, name: str, entry: os.DirEntry[str], *, is_folder: bool, said: bool
    ) -> bool:
        """Whether the built-in rules leave it out; secrets are noted unless said to go in."""
        if is_folder:
            secret = name in _SECRET_FOLDERS
        else:
            is_env = name == ".env" or (
                name.startswith(".env.") and not name.endswith(_ENV_SAMPLES)
            )
            secret = is_env or name in _SECRETS
        if secret:
            if not said:
                self.left_out.append(f"{path} may hold secrets: left out of the image")
            return True
        if name.endswith(_SUFFIXES):
            return True
        if is_folder:
            return name in _FOLDERS
        if name in _FILES or name.startswith("Dockerfile."):
            return True
        return name.endswith(".tar") and "/" not in path and _is_image_archive(entry.path)

    def take(self, path: str, entry: os.DirEntry[str]) -> None:
        problem = _name_problem(path)
        if problem is not None:
            self.problems.append(problem)
            return
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            self.problems.append(f"{path}: can't be read: {error.strerror or error}")
            return
        if stat.S_ISLNK(status.st_mode):
            self.link(path, entry)
        elif not stat.S_ISREG(status.st_mode):
            kind = _special(status.st_mode)
            self.problems.append(f"{path}: is {kind}, which an image can't hold")
        elif not os.access(entry.path, os.R_OK):
            self.problems.append(f"{path}: can't be read: permission denied")
        else:
            self.files.append(
                ProjectFile(
                    path=path,
                    absolute=Path(entry.path),
                    size=status.st_size,
                    executable=bool(status.st_mode & 0o100),
                    mtime_ns=status.st_mtime_ns,
                )
            )

    def link(self, path: str, entry: os.DirEntry[str]) -> None:
        target = os.readlink(entry.path)  # noqa: PTH115 - the text of the link, as it stands
        real = os.path.realpath(entry.path)
        above = self.root / posixpath.dirname(path)
        if not Path(real).is_relative_to(self.root):
            self.problems.append(f"{path}: links to {target}, out of the project")
            return
        # The way there must stay inside, too: the image has nothing around the project.
        way = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if way.startswith(("/", "../")):
            target = os.path.relpath(real, above)
        self.files.append(
            ProjectFile(path=path, absolute=Path(entry.path), kind="symlink", target=target)
        )


def _ignored_by_git(git: list[_GitRules], path: str, name: str, *, is_folder: bool) -> bool:
    for rules in reversed(git):
        decided = rules.decide(path, name, is_folder=is_folder)
        if decided is not None:
            return decided
    return False


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts))]


def _name_problem(path: str) -> str | None:
    try:
        path.encode("utf-8")
        check_path(path, where=path)
    except UnicodeEncodeError:
        return f"{path!r}: the name isn't UTF-8"
    except FileTreeError as error:
        return f"{error.what}"
    return None


def _special(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device"


def _is_image_archive(path: str) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - os.scandir gives strings
            return file.read(32).startswith(_ARCHIVE_STARTS)
    except OSError:
        return False


def _read(path: Path, where: str) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ProjectError(f"can't be read: {error.strerror or error}", where=where) from None
