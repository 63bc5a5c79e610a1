"""The options of `dockyard run`, and the specification that they come to.

Rules: an option means what it means to `docker run`. They are read before anything is built or
asked, so that a typing error costs nothing. None stands for "nothing was said".
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dockyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dockyard.engine.api import EngineInfo, LocalImage
    from dockyard.engine.spec import ContainerSpec, Volume

_OPTIONS = (
    click.option(
        "-p",
        "--publish",
        multiple=True,
        metavar="[ADDRESS:][PORT:]PORT",
        help="Publish a port. Default: the image's ports, on 127.0.0.1.",
    ),
    click.option("--no-publish", is_flag=True, help="Publish no port."),
    click.option(
        "-v",
        "--volume",
        multiple=True,
        metavar="SOURCE:PATH[:ro]",
        help="Mount a folder or a named volume.",
    ),
    click.option(
        "--mount",
        multiple=True,
        metavar="type=…,source=…,target=…",
        help="Mount a folder (bind), a volume or a tmpfs.",
    ),
    click.option("--tmpfs", multiple=True, metavar="PATH[:OPTIONS]", help="Mount memory there."),
    click.option(
        "--secret",
        multiple=True,
        metavar="NAME=FILE",
        help="Let it read a file at /run/secrets/NAME.",
    ),
    click.option(
        "-e",
        "--env",
        multiple=True,
        metavar="NAME[=VALUE]",
        help="Set a variable, or pass it on from here.",
    ),
    click.option(
        "--env-file",
        multiple=True,
        type=click.Path(path_type=Path),
        help="Read variables from a file, as Docker does.",
    ),
    click.option(
        "--gpus", metavar="GPUS", help="all, a number of free ones, device=0,1, UUIDs, CDI names."
    ),
    click.option(
        "--gpu-memory", metavar="SIZE", help="Free memory that a GPU must have, such as 20GiB."
    ),
    click.option("--wait", is_flag=True, help="Wait until enough GPUs are free."),
    click.option("--cpus", metavar="NUMBER", help="Limit of its CPUs, such as 1.5."),
    click.option("-m", "--memory", metavar="SIZE", help="Limit of its memory, such as 4g."),
    click.option(
        "--pids-limit", type=int, metavar="NUMBER", help="Limit of its processes; -1: none."
    ),
    click.option(
        "--shm-size",
        metavar="SIZE",
        help="Size of /dev/shm, which data loaders use.  [default: 1g]",
    ),
    click.option(
        "--network", metavar="NAME", help="bridge, host, none, or a network that you made."
    ),
    click.option(
        "--network-alias", multiple=True, metavar="NAME", help="A further name on its network."
    ),
    click.option("--name", help="Name of the container."),
    click.option("-l", "--label", multiple=True, metavar="NAME=VALUE", help="Label the container."),
    click.option("-u", "--user", help="User in the container. Default: the image's, never root."),
    click.option("-w", "--workdir", help="Working folder in the container."),
    click.option("--entrypoint", metavar="COMMAND", help="Replace the image's entrypoint."),
    click.option(
        "--restart",
        metavar="POLICY",
        help="no, on-failure[:TIMES], unless-stopped or always.",
    ),
    click.option(
        "--init/--no-init",
        default=None,
        help="Run an init that reaps processes and passes signals on.  [default: yes]",
    ),
    click.option(
        "--read-only/--no-read-only",
        default=None,
        help="Make its root read-only; /tmp and what the app writes stay.  [default: yes]",
    ),
    click.option("--cap-add", multiple=True, metavar="NAME", help="Give it a capability."),
    click.option(
        "--cap-drop", multiple=True, metavar="NAME", help="Take a capability.  [default: ALL]"
    ),
    click.option(
        "--security-opt", multiple=True, metavar="OPTION", help="Such as seccomp=FILE or label=…"
    ),
    click.option(
        "--ulimit", multiple=True, metavar="NAME=SOFT[:HARD]", help="Limit each of its processes."
    ),
    click.option("--health-cmd", metavar="COMMAND", help="What asks whether it is well."),
    click.option("--health-interval", metavar="TIME", help="How often, such as 30s."),
    click.option("--health-timeout", metavar="TIME", help="How long one check may take."),
    click.option("--health-start-period", metavar="TIME", help="In which failing is no matter."),
    click.option("--health-retries", type=click.IntRange(min=1), help="Failures to be unhealthy."),
    click.option("--no-healthcheck", is_flag=True, help="Don't run the image's health check."),
    click.option("--platform", metavar="OS/ARCH", help="What the image must be for."),
    click.option("--compat", is_flag=True, help="Docker's own defaults instead of safer ones."),
)


def container_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command the options that say how a container is run."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_options(
    *,
    publish: Sequence[str],
    no_publish: bool,
    volume: Sequence[str],
    mount: Sequence[str],
    tmpfs: Sequence[str],
    secret: Sequence[str],
    env: Sequence[str],
    env_file: Sequence[Path],
    gpus: str | None,
    gpu_memory: str | None,
    wait: bool,
    cpus: str | None,
    memory: str | None,
    pids_limit: int | None,
    shm_size: str | None,
    network: str | None,
    network_alias: Sequence[str],
    label: Sequence[str],
    entrypoint: str | None,
    restart: str | None,
    init: bool | None,
    read_only: bool | None,
    cap_add: Sequence[str],
    cap_drop: Sequence[str],
    security_opt: Sequence[str],
    ulimit: Sequence[str],
    health_cmd: str | None,
    health_interval: str | None,
    health_timeout: str | None,
    health_start_period: str | None,
    health_retries: int | None,
    no_healthcheck: bool,
    platform: str | None,
    compat: bool,
    command: tuple[str, ...] | None,
    **same: Any,
) -> dict[str, Any]:
    """The options as the fields of a ContainerSpec."""
    from dockyard.engine import defaults, spec, words

    if no_publish and publish:
        raise UsageError("--no-publish and -p exclude each other")
    if network_alias and network in (None, "bridge", "host", "none"):
        raise UsageError(
            "only a network that you made knows names",
            hint="dockyard network create NAME, then --network NAME --network-alias …",
        )
    volumes, temporary = _read_mounts(volume, mount, tmpfs)
    wishes: dict[str, Any] = {
        "command": command or None,
        "entrypoint": None if entrypoint is None else tuple(shlex.split(entrypoint)),
        "environment": spec.parse_environment(env, env_file),
        "ports": tuple(spec.parse_port(text) for text in publish),
        "volumes": volumes,
        "tmpfs": temporary,
        "secrets": tuple(words.parse_secret(text) for text in secret),
        "gpus": spec.parse_gpu_options(gpus, gpu_memory, wait=wait),
        "labels": words.parse_labels(label),
        "network": network,
        "aliases": tuple(network_alias),
        "memory": None if memory is None else spec.parse_size(memory),
        "cpus": None if cpus is None else spec.parse_cpus(cpus),
        "processes": pids_limit,
        "cap_add": tuple(cap_add),
        "cap_drop": tuple(cap_drop),
        "ulimits": tuple(words.parse_ulimit(text) for text in ulimit),
        "health": words.parse_health(
            command=health_cmd,
            interval=health_interval,
            timeout=health_timeout,
            start_period=health_start_period,
            retries=health_retries,
            none=no_healthcheck,
        ),
        "read_only": (not compat) if read_only is None else read_only,
        "init": (not compat) if init is None else init,
        "security_options": _read_security(security_opt, compat=compat),
        **same,
    }
    if restart is not None:
        wishes["restart"] = words.parse_restart(restart)
    if platform is not None:
        from dockyard.oci.platform import Platform

        wishes["platform"] = Platform.parse(platform)
    if shm_size is not None:
        wishes["shm_size"] = spec.parse_size(shm_size)
    elif compat:
        wishes["shm_size"] = defaults.DOCKERS_SHM_SIZE
    return wishes


def finish_spec(
    spec: ContainerSpec, image: LocalImage, info: EngineInfo, *, compat: bool
) -> ContainerSpec:
    """Add the defaults that depend on the image and the engine."""
    from dockyard.engine.defaults import harden

    return spec if compat else harden(spec, image, info)


def _read_mounts(
    volumes: Sequence[str], mounts: Sequence[str], tmpfs: Sequence[str]
) -> tuple[tuple[Volume, ...], dict[str, str]]:
    from dockyard.engine import spec, words

    found: list[Volume] = [spec.parse_volume(text) for text in volumes]
    temporary: dict[str, str] = {}
    for text in tmpfs:
        path, _, options = text.partition(":")
        if not path.startswith("/"):
            raise UsageError(f"the tmpfs {text!r} has no absolute path", hint="Write /PATH.")
        temporary[path] = options
    for text in mounts:
        mount = words.parse_mount(text)
        if isinstance(mount, tuple):
            temporary[mount[0]] = mount[1]
        else:
            found.append(mount)
    return tuple(found), temporary


def _read_security(options: Sequence[str], *, compat: bool) -> tuple[str, ...]:
    """Security options as the engine takes them: a seccomp profile as its text, not its file."""
    read: list[str] = []
    for option in options:
        name, _, value = option.partition("=")
        if name == "seccomp" and value not in ("", "unconfined", "builtin"):
            try:
                value = Path(value).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError("the seccomp profile can't be read", where=value) from error
            option = f"seccomp={value}"
        read.append(option)
    named = any(option.startswith("no-new-privileges") for option in read)
    return tuple(read) if compat or named else ("no-new-privileges", *read)
