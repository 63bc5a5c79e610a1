"""Maintainer scripts: which of them a package can do without, and what is done in their stead.

Rules:
- No script is ever run. A script that does nothing on a fresh install of an image is recognised
  by its lines; of the others only those named in FINE are accepted, each with its reason; any
  other package is refused by name.
- Two effects are made without running anything: alternatives (update-alternatives --install with
  literal arguments), and configuration files that ucf copies into place.
- A trigger is the business of the package that is interested in it, which FINE accounts for.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.errors import DebianError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.debian.deb import Deb

FINE: tuple[tuple[str, str], ...] = (
    ("base-files|base-passwd", "its folders, users and groups are generated"),
    ("bash|dash", "sh exists already"),
    ("ca-certificates", "the bundle is generated from its certificates"),
    ("coreutils", "links touch for old scripts"),
    ("debianutils", "/etc/shells matters to logins only"),
    ("fontconfig-config", "only chooses hinting; fontconfig's own defaults hold"),
    ("fontconfig", "makes a cache that fontconfig makes at first use too"),
    ("fonts-urw-base35|poppler-data", "only tells an obsolete font map of Ghostscript"),
    ("gawk|gcc|binutils|pkg-config|pkgconf(-bin)?", "cleans up after old versions"),
    ("git|libgcrypt20|libgssapi-krb5-2|libsensors5|perl", "acts on upgrades only"),
    ("hicolor-icon-theme|adwaita-icon-theme", "an icon cache is optional"),
    ("init-system-helpers|lsb-base|sysvinit-utils", "no services are started in an image"),
    ("libc-bin", "nsswitch.conf and ld.so.cache are generated"),
    ("libc6|libselinux1|libreadline8t64", "checks upgrades, and restarts services"),
    ("libgdk-pixbuf-2.0-0", "see NOTES"),
    ("libglib2.0-0(t64)?", "see NOTES"),
    ("libibverbs1", "makes a group for device files only"),
    ("libpam0g|libpam-modules", "restarts services, and keeps old passwords"),
    ("imagemagick-[67][.]q16|less|xz-utils", "only offers alternatives"),
    ("unzip|zip", "only tells mailcap"),
    ("javascript-common", "only tells web servers where the scripts are"),
    ("locales", "see NOTES"),
    (r"postgresql-(client-)?(\d+|common)|ssl-cert", "see NOTES"),
    ("prometheus", "see NOTES"),
    ("libpaper[12](t64)?", "A4 and letter are known without /etc/papersize"),
    (r"libpython3\.\d+-(minimal|stdlib)|python3\.\d+(-minimal)?", "compiles bytecode"),
    ("python3-(distutils|lib2to3)", "compiles bytecode"),
    ("netbase", "/etc/networks is of no use in a container"),
    ("openssh-client", "its group only keeps others from tracing ssh-agent"),
    ("openssl", "links /etc/ssl, which is generated"),
    ("procps", "see ALTERNATIVES"),
    ("readline-common", "see COPIES"),
    ("shared-mime-info", "see NOTES"),
    ("tzdata", "/etc/localtime is generated"),
    ("x11-common|xfonts-utils", "only for an X server"),
)
NOTES = {
    "libgdk-pixbuf-2.0-0": "GdkPixbuf reads PNG and JPEG; other loaders aren't registered",
    "libglib2.0-0": "GLib settings schemas and gio modules aren't compiled",
    "libglib2.0-0t64": "GLib settings schemas and gio modules aren't compiled",
    "locales": "no locale is generated; C.UTF-8 needs none",
    "postgresql-common": "no cluster and no user postgres are made; run initdb as the image's user",
    "prometheus": "no user prometheus is made; /etc/prometheus is as the package ships it",
    "ssl-cert": "no certificate is made",
    "shared-mime-info": "the shared MIME database isn't compiled",
}
COPIES = {"readline-common": (("usr/share/readline/inputrc", "etc/inputrc"),)}

# debhelper's snippets that have no effect on a fresh, stopped root file system.
_HARMLESS = frozenset(
    f"dh_{name}"
    for name in (
        *("apparmor", "bugfiles", "fontconfig", "icons", "installalternatives", "installcron"),
        *("installdeb", "installdebconf", "installdocs", "installemacsen", "installinfo"),
        *("installinit", "installlogcheck", "installlogrotate", "installmenu", "installmime"),
        *("installsystemd", "installsystemduser", "installtmpfiles", "installudev", "installwm"),
        *("installxfonts", "lintian", "makeshlibs", "pypy", "python2", "python3"),
        *("strip", "systemd_enable", "systemd_start", "ucf", "usrlocal"),
    )
)
_SNIPPET = re.compile(
    r"^# Automatically added by (\w+)[^\n]*\n(.*?)^# End automatically added section[^\n]*$",
    re.MULTILINE | re.DOTALL,
)
_LOOP = re.compile(
    r"""^[ \t]* for [ ] (\w+) [ ] in [ ] ([\w.+ -]+?) [ \t]* (?:;|\n) [ \t]* do [ \t]* \n
    (.*?) ^[ \t]* done [ \t]* $""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_TEST = r"""(?:!\s*)?(?:
      \[\s[^`]*?\]
    | test\s[^`;&|]*
    | dpkg\s--compare-versions\s[^`;&|]*
    | (?:which|command\s-v)\s[\w./-]+(?:\s*\d?>\s*/dev/null|\s*2>&1|\s*>/dev/null)*
)"""
_NEUTRAL = re.compile(
    rf"""(?:
      set\s[-+]\w+ | exit(?:\s\d+)? | return(?:\s\d+)? | : | true | shift | umask\s\d+
    | then | else | fi | done | do | esac | \}} | ;; | export\s\w+=\w+
    | case\s+["'\w$@*]+\s+in
    | [\w|*"'<>-]+\)(?:\s*(?::|true)?\s*;;)?
    | (?:el)?if\s{_TEST}(?:\s*(?:&&|\|\|)\s*{_TEST})*\s*(?:;\s*then)?
    | (?:echo|printf)\s(?:[^`|;&<>]|\\`|[12]?>&2)*
    | \w+=["'\w./+-]*
    | update-alternatives\s+(?:--quiet\s+)?--(?:remove|remove-all|list)\s[^`;&]*
    )\s*;?""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Alternative:
    """A name that several packages may serve; links and paths without a leading slash."""

    link: str
    name: str
    path: str
    priority: int
    slaves: tuple[tuple[str, str, str], ...] = ()


ALTERNATIVES = {"procps": (Alternative("usr/bin/w", "w", "usr/bin/w.procps", 50),)}


@dataclass(frozen=True, slots=True)
class Effects:
    """What is done in place of a package's scripts; copies: (from, to); notes: for the user."""

    alternatives: tuple[Alternative, ...] = ()
    copies: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def effects_of(deb: Deb) -> Effects:
    """Return what stands for the scripts of `deb`.

    Raises DebianError naming the package, and the line, when a script would matter.
    """
    alternatives = list(ALTERNATIVES.get(deb.name, ()))
    copies = list(COPIES.get(deb.name, ()))
    shipped = {entry.path for entry in deb.entries}
    fine = any(re.fullmatch(pattern, deb.name) for pattern, _ in FINE)
    for script in ("preinst", "postinst"):
        text = _expanded(deb.control.get(script, ""))
        for line in text.splitlines():
            alternative = _alternative(line)
            if alternative is not None:
                alternatives.append(alternative)
            copies += [copy for copy in _ucf(line) if copy[0] in shipped]
        left = next(_remaining(text), None)
        if left is not None and not fine:
            raise DebianError(
                f"the package {deb.name} needs its {script} script, and no script is run",
                where=f"{deb.name} {deb.version}: {left[:120]}",
                hint="Leave it out of apt, or use a base image that has it (base = …).",
            )
    if deb.name not in NOTES and any(
        entry.path.startswith("usr/share/glib-2.0/schemas/") and entry.path.endswith(".xml")
        for entry in deb.entries
    ):
        raise DebianError(
            f"the package {deb.name} has GLib settings that a program must compile",
            where=f"{deb.name} {deb.version}",
            hint="Leave it out of apt, or use a base image that has it (base = …).",
        )
    note = NOTES.get(deb.name)
    return Effects(tuple(alternatives), tuple(copies), (note,) if note else ())


def _expanded(text: str) -> str:
    """Join continued lines, and unroll loops over literal words."""
    text = re.sub(r"\\\n", " ", text)

    def unroll(match: re.Match[str]) -> str:
        name, words, body = match.groups()
        reference = re.compile(rf"\$(?:{name}\b|\{{{name}\}})")
        return "".join(reference.sub(word, body) for word in words.split())

    return _LOOP.sub(unroll, text)


def _remaining(text: str) -> Iterator[str]:
    """Yield the lines that may have an effect."""
    text = _SNIPPET.sub(lambda match: "" if match[1] in _HARMLESS else match[0], text)
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#") or _alternative(line) or _ucf(line):
            continue
        if not _NEUTRAL.fullmatch(line):
            yield line


def _command(line: str, name: str) -> list[str]:
    """Return the literal arguments of the command `name`, or nothing."""
    line = re.split(r"\|\||;|&&", line.strip())[0]
    if not line.startswith(name + " ") or "$" in line or "`" in line:
        return []
    try:
        return shlex.split(line, comments=True)[1:]
    except ValueError:
        return []


def _alternative(line: str) -> Alternative | None:
    words = [word for word in _command(line, "update-alternatives") if word != "--quiet"]
    if len(words) < 5 or words[0] != "--install" or not words[4].isdigit():
        return None
    slaves = []
    rest = words[5:]
    while len(rest) >= 4 and rest[0] == "--slave":
        slaves.append((rest[1].lstrip("/"), rest[2], rest[3].lstrip("/")))
        rest = rest[4:]
    if rest:
        return None
    return Alternative(
        words[1].lstrip("/"), words[2], words[3].lstrip("/"), int(words[4]), tuple(slaves)
    )


def _ucf(line: str) -> list[tuple[str, str]]:
    words = [word for word in _command(line, "ucf") if not word.startswith("-")]
    return [(words[0].lstrip("/"), words[1].lstrip("/"))] if len(words) == 2 else []
