"""What an engine's refusals mean: its own words in, one EngineError with the next step out.

Rules: data, not code: the first pattern that is found in the message wins. The messages are those
of Docker 20.10 to 28 and of Podman 4 and 5; an unknown one is passed on as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockyard.engine.spec import ContainerSpec

# Docker's words, for the engine in memory.
GPUS_MISSING = 'could not select device driver "" with capabilities: [[gpu]]'
PORT_TAKEN = "Bind for {} failed: port is already allocated"
NAME_TAKEN = 'Conflict. The container name "/{}" is already in use by container "{}".'
STILL_RUNNING = "You cannot remove a running container {}. Stop the container first."
NOT_RUNNING = "Cannot kill container: {0}: Container {0} is not running"
NO_CONTAINER = "No such container: {}"
NO_IMAGE = "No such image: {}"
NO_NETWORK = "network {} not found"
NETWORK_TAKEN = "network with name {} already exists"
NETWORK_IN_USE = "error while removing network: network {} id x has active endpoints"
NO_VOLUME = "get {}: no such volume"
VOLUME_IN_USE = "remove {}: volume is in use - [{}]"
READ_ONLY = "container rootfs is marked read-only"
VOLUME_TAKEN = "a volume named {} exists already"
VOLUME_TAKEN_HINT = "Use it, choose another name, or remove it: dockyard volume rm {}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meaning:
    """what and hint may name the pattern's groups."""

    pattern: str
    what: str
    hint: str


_MEANINGS = (
    _Meaning(
        pattern=r"could not select device driver|unknown runtime.*nvidia"
        r"|nvidia-container-runtime.*not found|nvidia-container-cli: initialization error"
        r"|unresolvable CDI devices",
        what="this engine can't hand GPUs to containers",
        hint="Install the NVIDIA driver and the NVIDIA Container Toolkit on the engine's machine, "
        "run `nvidia-ctk runtime configure --runtime=docker` and restart the engine; or run "
        "without --gpus.",
    ),
    _Meaning(
        pattern=r"(?:Bind for (?P<bind>\S+) failed: port is already allocated"
        r"|(?:listen|bind)\w* (?:tcp|udp|sctp)[46]? (?P<listen>\S+): bind: address already in use"
        r"|failed to bind host port (?:for )?(?P<host>[\d.]+:\d+|\[[^]]*\]:\d+).*"
        r"address already in use"
        r"|address already in use)",
        what="the port {bind}{listen}{host} is taken on this machine",
        hint="Stop what listens there, or publish another port: -p 8081:8080.",
    ),
    _Meaning(
        pattern=r"ports? are not available|rootlessport cannot expose privileged port (?P<port>\d+)"
        r"|bind: permission denied",
        what="the port {port} can't be published",
        hint="Ports below 1024 need a privileged engine; publish another: -p 8080:80.",
    ),
    _Meaning(
        pattern=r'container name "?/?(?P<name>[^"\s]+)"? is already in use',
        what="a container named {name} exists already",
        hint="Choose another --name, or remove it: dockyard rm -f {name}",
    ),
    _Meaning(
        pattern=r"no such image:? ?(?:docker\.io/library/)?(?P<image>[^\s\"]*?):?(?:[\s\"]|$)"
        r"|(?P<unknown>\S+): image not known",
        what="the engine has no image {image}{unknown}",
        hint="Build it with `dockyard build`, or get it with `docker pull {image}{unknown}`.",
    ),
    _Meaning(
        pattern=r"no such container:? ?(?P<name>\S*)"
        r"|no container with name or ID \"?(?P<id>[^\"\s]+)",
        what="there is no container {name}{id}",
        hint="List those there are: dockyard ps --all",
    ),
    _Meaning(
        pattern=r"cannot remove (?:a running )?container \"?(?P<name>\S+?)\"?[.: ]",
        what="the container {name} is running",
        hint="Stop it first: dockyard stop {name}",
    ),
    _Meaning(
        pattern=r"container \"?(?P<name>\S+?)\"? is not running|can only kill running containers",
        what="the container {name} isn't running",
        hint="Start it first: dockyard start {name}",
    ),
    _Meaning(
        pattern=r"bind source path does not exist: (?P<path>.+?)\"?$"
        r"|statfs (?P<stat>\S+): no such file or directory",
        what="the folder to mount doesn't exist: {path}{stat}",
        hint="Make it first: mkdir -p {path}{stat}",
    ),
    _Meaning(
        pattern=r"exec(?:: | )\"?(?P<command>[^\":]+)\"?:? .*(?:executable file not found|"
        r"no such file or directory)|executable file [`'\"]?(?P<other>[^`'\"]+)[`'\"]? not found",
        what="the image has no command {command}{other}",
        hint="Check the start command; paths are those in the image.",
    ),
    _Meaning(
        pattern=r"exec format error",
        what="the image's programs are for another kind of processor",
        hint="Build it for this one: dockyard build --platform.",
    ),
    _Meaning(
        pattern=r"container-init binary not found|init binary",
        what="this engine has no init program for containers",
        hint="Install Podman's catatonit, or give --no-init.",
    ),
    _Meaning(
        pattern=r"no space left on device",
        what="the engine's disk is full",
        hint="Make room there: docker system df shows what could go, docker system prune removes.",
    ),
    _Meaning(
        pattern=r"Minimum memory limit allowed is (?P<least>\S+)",
        what="the memory limit is too small: the least is {least}",
        hint="Give --memory more.",
    ),
    _Meaning(
        pattern=r"range of CPUs is from (?P<range>.+?), as there are only",
        what="the CPU limit is out of range: {range}",
        hint="Give --cpus less.",
    ),
    _Meaning(
        pattern=r"unable to find user (?P<user>\S+?):|no matching entries in passwd file",
        what="the image has no user {user}",
        hint="Give --user a number, or a name from the image's /etc/passwd.",
    ),
    _Meaning(
        pattern=r"network (?P<network>\S+) not found|unable to find network with name or ID "
        r"(?P<other>[^\s:]+)",
        what="the engine has no network {network}{other}",
        hint="Make it first: dockyard network create {network}{other}",
    ),
    _Meaning(
        pattern=r"network with name \"?(?P<network>[^\s\"]+)\"? already exists"
        r"|network name (?P<other>\S+) already used",
        what="a network named {network}{other} exists already",
        hint="Use it, choose another name, or remove it: dockyard network rm {network}{other}",
    ),
    _Meaning(
        pattern=r"removing network: network (?P<network>\S+) id \S+ has active endpoints"
        r"|\"?(?P<other>[^\s\"]+)\"? has associated containers with it",
        what="containers are still on the network {network}{other}",
        hint="Remove them first, or take them off: dockyard network disconnect {network}{other} "
        "CONTAINER",
    ),
    _Meaning(
        pattern=r"get (?P<volume>\S+): no such volume|no volume with name \"?(?P<other>[^\s\"]+)",
        what="the engine has no volume {volume}{other}",
        hint="List those there are: dockyard volume ls --all",
    ),
    _Meaning(
        pattern=r"remove (?P<volume>\S+): volume is in use"
        r"|volume (?P<other>\S+) is being used by",
        what="a container uses the volume {volume}{other}",
        hint="Remove the container first; it may be a stopped one: dockyard ps --all",
    ),
    _Meaning(
        pattern=r"could not find the file (?P<path>.+) in container|"
        r"\"(?P<other>/[^\"]*)\" could not be found on container",
        what="there is no {path}{other} in the container",
        hint="Paths in a container are absolute, or below its root.",
    ),
    _Meaning(
        pattern=r"error setting rlimits? .*operation not permitted",
        what="the engine may not raise a process's limits as far as it is set to",
        hint="Lower default_ulimits in the engine's containers.conf (nofile and nproc), or let it "
        "have the capability SYS_RESOURCE.",
    ),
    _Meaning(
        pattern=r"container rootfs is marked read-only",
        what="the container's root is read-only",
        hint="Copy to a mounted folder of it, or run it with --no-read-only.",
    ),
)


def explain(message: str, *, where: str | None = None) -> EngineError:
    """The error that an engine's message means; `where` is the container, image or engine."""
    for meaning in _MEANINGS:
        match = re.search(meaning.pattern, message, re.IGNORECASE | re.DOTALL)
        if match is not None:
            groups = {name: value or "" for name, value in match.groupdict().items()}
            if "name" in groups and not any(groups.values()):
                groups["name"] = where or ""
            what = " ".join(meaning.what.format(**groups).split())
            return EngineError(what, where=where, hint=meaning.hint.format(**groups))
    return EngineError(f"the engine refuses: {_first_line(message)}", where=where)


def check_platform(spec: ContainerSpec, architecture: str) -> None:
    """Refuse an image that isn't for the platform that was asked for."""
    if spec.platform is not None and spec.platform.architecture != architecture:
        raise EngineError(
            f"the image is for linux/{architecture}, not for {spec.platform}",
            where=spec.image,
            hint=f"Build it for that one: dockyard build --platform {spec.platform}",
        )


def explain_exit(
    exit_code: int | None,
    log_tail: Sequence[str],
    *,
    oom_killed: bool = False,
    architecture: str,
    foreign: bool = False,
    command: str = "",
) -> tuple[str, str]:
    """Why a container ended before it was ready: a sentence's second half, and the hint or "".

    architecture: the engine's; foreign: whether the image is for another; command: its program.
    """
    text = "\n".join(log_tail)
    if oom_killed:
        return "was killed for using more memory than its limit", "Give --memory more, or none."
    # Podman's init says no more of a command that it can't run, and exits with 1.
    catatonit = re.search(r"catatonit:\d+\): failed to exec pid1: (?P<why>.*)", text)
    # Without a shell to fall back on, exec of a foreign program fails with "No such file" (127).
    unknown = exit_code in (126, 127) or catatonit is not None
    if (foreign and unknown) or re.search(r"exec format error", text, re.I):
        return (
            f"couldn't start: its programs aren't for this processor ({architecture})",
            f"Build it for this one: dockyard build --platform linux/{architecture}",
        )
    found = re.search(r"exec (\S+) failed: No such file", text)
    missing = catatonit is not None and catatonit["why"].startswith("No such file")
    if (exit_code == 127 and found) or missing:
        return (
            f"couldn't start: the image has no command {found[1] if found else command}".rstrip(),
            "Check the start command; paths are those in the image.",
        )
    if exit_code == 126 and (found := re.search(r"exec (\S+) failed: Permission denied", text)):
        return f"couldn't start: {found[1]} isn't executable", "Check the file's mode."
    if exit_code == 137:
        return (
            "was killed (exit code 137)",
            "It may have run out of memory: see the kernel's log on the engine's machine.",
        )
    return f"stopped with exit code {exit_code}", _advice(text)


# What the last lines of a Python program that failed mean, and what to do.
_FAILURES: tuple[tuple[str, str], ...] = (
    (
        r"lib(?:cuda|nvidia-ml)\.so\.1: cannot open shared object file",
        "It looks for NVIDIA's driver: run it with --gpus all, or build it with "
        'accelerator = "cpu".',
    ),
    (
        r"(?P<library>lib[\w.+-]+\.so[\w.]*): cannot open shared object file",
        "It lacks the library {library}: add the Debian package that has it to the image, "
        'probably: apt = ["{package}"] in dockyard.toml.',
    ),
    (
        r"ModuleNotFoundError: No module named '(?P<module>[\w.]+)'",
        "It lacks the module {module}: add the package that has it to the dependencies.",
    ),
    (
        r"(?:Read-only file system|Permission denied): '(?P<path>/[^']*)'",
        "It can't write {path}: let it write below /tmp, or mount a folder there (-v); --compat "
        "runs it as Docker would.",
    ),
    (
        r"KeyError: '(?P<name>[A-Z][A-Z0-9_]+)'",
        "If {name} is a variable of its environment, set it: -e {name}=…",
    ),
)
# Where the package's name isn't made from the library's as Debian's policy says (8.1).
_PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libOpenGL.so.0": "libopengl0",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libodbc.so.2": "unixodbc",
    "libusb-1.0.so.0": "libusb-1.0-0",
}


def _advice(text: str) -> str:
    """What to do about a program whose last lines are `text`; "" where they don't say."""
    for pattern, hint in _FAILURES:
        found = list(re.finditer(pattern, text))
        if found:
            groups = found[-1].groupdict()
            return hint.format(**groups, package=_package(groups.get("library", "")))
    return ""


def _package(library: str) -> str:
    """The Debian package that should have a library: libxcb.so.1 -> libxcb1."""
    name, _, version = library.lower().partition(".so.")
    # A name that ends in a digit is kept apart from the version.
    usual = name + ("-" if name[-1:].isdigit() else "") + version.partition(".")[0]
    return _PACKAGES.get(library, usual)


def _first_line(message: str) -> str:
    line = next((line.strip() for line in message.splitlines() if line.strip()), "no reason given")
    return line.rstrip(".")[:500]
