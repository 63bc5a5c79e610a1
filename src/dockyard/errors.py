"""Every error a user can meet: what happened, where, and what to do next.

    DockyardError                     exit code 1
    ├── UsageError                    exit code 2: the command line is wrong
    ├── ConfigError                   exit code 2: dockyard.toml or [tool.dockyard] is wrong
    ├── ProjectError      (app)       the project can't be understood
    ├── DockerfileError   (dockerfile) a Dockerfile can't be read or built so
    ├── FileTreeError     (files)     an unsafe or clashing path
    ├── CacheError        (cache)     the cache folder can't be used
    ├── FetchError        (fetch)     a download failed or its bytes are wrong
    ├── ImageError        (oci)       an image, layer, reference or layout is invalid
    ├── RegistryError     (oci)       a registry refuses, lies, or can't be reached
    ├── WheelError        (wheels)    a wheel is unsafe, damaged or doesn't fit
    ├── ResolveError      (wheels)    the requirements can't be met
    ├── DebianError       (debian)    a Debian index or package is wrong
    ├── ModelError        (models)    a model file is wrong
    ├── BuildError        (build)     an image can't be built as planned
    ├── EngineError       (engine)    the container engine refuses or is absent
    └── StackError        (stack)     services can't be described, started or reached

Rules: foreign errors are translated at one line, at the edge. The command line catches
only DockyardError; anything else is a bug and shows its traceback.
"""

from __future__ import annotations


class DockyardError(Exception):
    """The base of all errors meant for a user.

    what: one sentence, no final newline; where: file, line, key, URL (without credentials);
    hint: the next step, as an imperative sentence.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        return text if self.hint is None else f"{text}\n{self.hint}"


class UsageError(DockyardError):
    """The command line is wrong."""

    exit_code = 2


class ConfigError(DockyardError):
    """The configuration is wrong; `where` names file, line and key."""

    exit_code = 2


class ProjectError(DockyardError):
    """The project folder can't be understood."""


class DockerfileError(DockyardError):
    """A Dockerfile can't be read, or not be built in the way that was asked for."""


class FileTreeError(DockyardError):
    """A path is unsafe, or two entries claim one path."""


class CacheError(DockyardError):
    """The cache folder can't be read or written."""


class FetchError(DockyardError):
    """A download failed, or its bytes aren't the ones that were asked for."""


class ImageError(DockyardError):
    """An image, layer, reference or layout breaks its specification."""


class RegistryError(DockyardError):
    """A registry refuses, sends what it shouldn't, or can't be reached."""


class WheelError(DockyardError):
    """A wheel is unsafe, damaged, or doesn't fit the image."""


class ResolveError(DockyardError):
    """The requirements can't be met."""


class DebianError(DockyardError):
    """A Debian index or package is wrong or can't be used."""


class ModelError(DockyardError):
    """A model file can't be used."""


class BuildError(DockyardError):
    """An image can't be built as planned."""


class EngineError(DockyardError):
    """The container engine refuses, or none answers."""


class StackError(DockyardError):
    """A stack of services can't be described, started or reached."""
