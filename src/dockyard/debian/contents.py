"""What a base is made of, and what is left out of packages, each with its reason.

Rules: a dependency is dropped only where nothing but maintainer scripts uses it, or where the
part that uses it is dropped too; a path is dropped only where no running program reads it.
Copyright files stay: licences ask for it.
"""

from __future__ import annotations

import re

from dockyard.errors import DebianError

# What each suite offers as its default Python, and the only one it has.
SUITES = {"3.11": "bookworm", "3.13": "trixie"}
ARCHITECTURES = ("amd64", "arm64")

_EVERYWHERE = {
    "adduser": "only maintainer scripts make users",
    "cdebconf": "only maintainer scripts ask questions",
    "debconf": "only maintainer scripts ask questions",
    "debconf-2.0": "only maintainer scripts ask questions",
    "dpkg": "nothing is installed in an image",
    "init-system-helpers": "no services are started",
    "install-info": "info pages are left out",
    "libpython3-stdlib": "the base has one Python, without the default's package",
    "lsb-base": "no services are started",
    "python3": "the base has one Python, without the default's package",
    "python3-minimal": "the base has one Python, without the default's package",
    "sysvinit-utils": "no services are started",
    "ucf": "its one effect, copying a configuration file, is made without it",
    "usr-is-merged": "the base is merged",
    "usrmerge": "the base is merged",
    "x11-common": "only folders for the sockets of an X server",
}
# (package, dependency): reason.
_EDGES = {
    ("base-files", "awk"): "for its script; busybox has one",
    ("ca-certificates", "openssl"): "for hash links; the bundle is generated",
    ("libpython3.11-stdlib", "libnsl2"): "for the nis module, which is left out",
    ("libpython3.11-stdlib", "libtirpc3"): "for the nis module, which is left out",
    ("openssh-client", "passwd"): "for its script's group",
}

_DROPPED = re.compile(
    r"""
      usr/share/doc/(?!.*/copyright$).+/.+   # documentation
    | usr/share/(?:man|info|help|gtk-doc|doc-base|lintian|linda|bug|menu|reportbug|apport)/.*
    | usr/share/(?:bash-completion|zsh|fish)/.*
    | usr/share/locale/.*                    # translations of messages
    | usr/share/base-files/.*|usr/share/libc-bin/.*  # templates for scripts
    | usr/share/zoneinfo/(?:posix|right)/.*  # the same zones again
    | usr/share/ca-certificates/.*           # all of them are in the bundle
    | etc/(?:init\.d|cron\.[a-z]+|logrotate\.d)/.+  # nothing starts services
    | (?:usr/)?lib/systemd/system/.*
    | usr/lib/python3\.\d+/(?:test|idlelib|tkinter|turtledemo|pydoc_data)/.*
    | usr/lib/python3\.\d+/(?:distutils|lib2to3|sqlite3|unittest|ctypes)/tests?/.*
    | usr/lib/python3\.\d+/lib-dynload/(?:nis|_test|_ctypes_test|xxlimited|_xxtestfuzz)[^/]*
    | usr/lib/python3\.\d+/sitecustomize\.py # a link to a file of a crash reporter
    | (?:.*/)?__pycache__/.*                 # bytecode is the build's affair
    """,
    re.VERBOSE,
)


def suite_of(python: str) -> str:
    """Return the suite that has this Python ("3.11"); raises DebianError naming those there are."""
    try:
        return SUITES[python]
    except KeyError:
        pass
    known = " and ".join(f"{version} ({suite})" for version, suite in SUITES.items())
    raise DebianError(
        f"no Debian base has Python {python}",
        hint=f"There are {known}. For another one name a base image, "
        f'such as base = "python:{python}-slim".',
    )


def check_architecture(architecture: str) -> None:
    """Raise DebianError unless bases exist for this architecture."""
    if architecture not in ARCHITECTURES:
        raise DebianError(
            f"no Debian base is made for {architecture}",
            hint=f"Choose one of {', '.join(ARCHITECTURES)}, or name a base image.",
        )


def root_packages(python: str, *, shell: bool) -> list[str]:
    """Return the packages whose closure a base is."""
    names = [
        f"python{python}",
        "base-files",  # os-release and the licences
        "ca-certificates",
        "libc-bin",  # the C.UTF-8 locale; ldconfig -p for ctypes.util.find_library
        "libgomp1",  # OpenMP, which many wheels expect of the system
        "libstdc++6",
        "media-types",
        "ncurses-base",  # terminal descriptions
        "netbase",  # /etc/services and /etc/protocols
        "tzdata",
        "zlib1g",
    ]
    if python == "3.11":
        names.append("python3-distutils")  # a package of its own, in the library until 3.11
    if shell:
        names.append("busybox")
    return names


def is_excluded(asker: str, name: str) -> bool:
    """Whether the dependency of `asker` on `name` is taken as met."""
    return name in _EVERYWHERE or (asker, name) in _EDGES


def is_dropped(path: str) -> bool:
    """Whether the file at `path` is left out of images."""
    return _DROPPED.fullmatch(path) is not None
