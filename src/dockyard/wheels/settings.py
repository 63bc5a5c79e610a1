"""Where wheels come from: the settings of pip and of uv, made into one run of uv.

Rules:
- uv reads its own configuration; pip's is added where uv's is silent about that kind of setting.
- pip looks at all its indexes alike, so uv is told to as well ("unsafe-best-match"), unless its
  own configuration names extra indexes or a strategy.
- URLs that may hold credentials reach uv through the environment, never through its arguments,
  which other users of the machine can read.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dockyard.wheels.credentials import Credentials, without_credentials
from dockyard.wheels.pip_config import read_pip
from dockyard.wheels.uv_config import UvConfig, read_uv

if TYPE_CHECKING:
    from collections.abc import Mapping

# Variables of uv that can't change what is resolved.
_IRRELEVANT = frozenset(
    {
        "UV_CACHE_DIR",
        "UV_NO_PROGRESS",
        "UV_HTTP_TIMEOUT",
        "UV_HTTP_RETRIES",
        "UV_CONCURRENT_DOWNLOADS",
        "UV_CONCURRENT_BUILDS",
        "UV_CONCURRENT_INSTALLS",
        "UV_LINK_MODE",
        "UV_PYTHON",
        "UV_PYTHON_DOWNLOADS",
        "UV_OFFLINE",
        "UV_PROJECT_ENVIRONMENT",
        "UV_RUN_RECURSION_DEPTH",
        "UV",
    }
)
_TRUE = ("1", "true", "yes", "on", "y", "t")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class IndexSettings:
    """Indexes, constraints and certificates, as pip and uv are configured on this machine.

    URLs may hold credentials; `redacted()` is what may be shown. timeout: seconds.
    """

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    constraints: tuple[str, ...] = ()
    cert: Path | None = None
    client_cert: Path | None = None
    trusted_hosts: tuple[str, ...] = ()
    timeout: float | None = None
    proxy: str | None = None
    prereleases: bool = False
    keyring: bool = False
    uv: UvConfig = field(default_factory=UvConfig)
    uv_variables: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"IndexSettings({'; '.join(self.redacted())})"

    @property
    def credentials(self) -> Credentials:
        """The credentials of all these URLs."""
        urls = [self.index_url or "", *self.extra_index_urls, *self.find_links, self.proxy or ""]
        return Credentials.of([*urls, *self.uv.urls])

    def arguments(self, *, building: bool = False, strategy: str | None = None) -> list[str]:
        """uv's arguments for these settings, without credentials.

        building: those of `uv build`; strategy: how to look at several indexes, None as pip does.
        """
        found: list[str] = []
        if self.no_index:
            found.append("--no-index")
        for constraint in () if building else self.constraints:
            found += ["--constraints", constraint]
        for host in self.trusted_hosts:
            found += ["--allow-insecure-host", host]
        if self.prereleases:
            found += ["--prerelease", "allow"]
        if strategy or not (self.uv.extra_index or self.uv.index_strategy):
            found += ["--index-strategy", strategy or "unsafe-best-match"]
        if self.keyring:
            found += ["--keyring-provider", "subprocess"]
        return found

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The variables that uv runs with: `environ`, completed by these settings."""
        env = dict(environ)
        if self.index_url and not self.uv.default_index:
            env["UV_DEFAULT_INDEX"] = self.index_url
        if self.extra_index_urls and not self.uv.extra_index:
            env["UV_INDEX"] = " ".join(self.extra_index_urls)
        if self.find_links and not self.uv.find_links:
            env["UV_FIND_LINKS"] = ",".join(_link(link) for link in self.find_links)
        if self.cert:
            env.setdefault("SSL_CERT_FILE", str(self.cert))
        if self.client_cert:
            env.setdefault("SSL_CLIENT_CERT", str(self.client_cert))
        if self.timeout:
            env.setdefault("UV_HTTP_TIMEOUT", str(max(1, round(self.timeout))))
        if self.proxy:
            for name in ("HTTP_PROXY", "HTTPS_PROXY"):
                if not env.get(name.lower()):
                    env.setdefault(name, self.proxy)
        return env

    def redacted(self) -> tuple[str, ...]:
        """The settings as lines fit for a plan, without credentials."""
        lines = []
        if self.no_index:
            lines.append("no index")
        elif self.index_url:
            lines.append(f"index {self.index_url}")
        lines += [f"extra index {url}" for url in self.extra_index_urls]
        lines += [f"find-links {link}" for link in self.find_links]
        lines += [f"constraints {file}" for file in self.constraints]
        lines += [f"uv's configuration {file}" for file in self.uv.files]
        return tuple(without_credentials(line) for line in lines)

    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) over everything here that can change a resolution."""
        digest = hashlib.sha256()
        values = [
            *self.redacted(),
            str(self.prereleases),
            *(f"{name}={without_credentials(value)}" for name, value in self.uv_variables),
        ]
        digest.update(json.dumps(values).encode())
        for file in (*map(Path, self.constraints), *self.uv.files):
            try:
                digest.update(hashlib.sha256(file.read_bytes()).digest())
            except OSError:
                digest.update(b"absent")
        return digest.hexdigest()


def gather_settings(
    folder: Path, environ: Mapping[str, str] | None = None, *, cwd: Path | None = None
) -> IndexSettings:
    """Gather the settings for a project in `folder`, from pip's and uv's configuration.

    Relative paths in pip's settings are, as for pip, relative to the current folder (`cwd`).
    Raises ResolveError when a configuration file can't be read.
    """
    environ = os.environ if environ is None else environ
    here = Path.cwd() if cwd is None else cwd
    pip = read_pip(environ)
    return IndexSettings(
        index_url=pip.get("index-url") or None,
        extra_index_urls=tuple(pip.get("extra-index-url", "").split()),
        find_links=tuple(_located(word, here) for word in pip.get("find-links", "").split()),
        no_index=pip.get("no-index", "").strip().lower() in _TRUE,
        constraints=tuple(_located(word, here) for word in pip.get("constraint", "").split()),
        cert=_path(pip.get("cert"), here),
        client_cert=_path(pip.get("client-cert"), here),
        trusted_hosts=tuple(pip.get("trusted-host", "").split()),
        timeout=_seconds(pip.get("timeout")),
        proxy=pip.get("proxy") or None,
        prereleases=pip.get("pre", "").strip().lower() in _TRUE,
        keyring=pip.get("keyring-provider", "").strip().lower() in ("subprocess", "import"),
        uv=read_uv(environ, folder.absolute()),
        uv_variables=tuple(
            sorted(
                (name, value)
                for name, value in environ.items()
                if name.startswith("UV_") and name not in _IRRELEVANT and "PASSWORD" not in name
            )
        ),
    )


def _located(word: str, here: Path) -> str:
    if "://" in word or word.startswith("file:"):
        return word
    return str((here / Path(word).expanduser()).resolve())


def _path(text: str | None, here: Path) -> Path | None:
    return here / Path(text).expanduser() if text else None


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _link(link: str) -> str:
    """A find-links entry as UV_FIND_LINKS takes it: its values are divided by commas."""
    if "," not in link:
        return link
    return link.replace(",", "%2C") if "://" in link else Path(link).as_uri().replace(",", "%2C")
