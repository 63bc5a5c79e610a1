"""Write a stack as a Compose file that a person would be glad to read.

Rules (the Compose specification): no `version`; what all services share is said once, as an
extension field that they merge; ports in quotes, commands as lists on one line; defaults aren't
written. The same stack gives the same text.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from dockyard.stack.parts import Check, Service, Stack

BUILT = "x-dockyard"
"""The extension field of a service whose image Dockyard builds: {build: FOLDER}."""

MARK = "# Written by `dockyard compose`"
"""How the first line of a Compose file begins that Dockyard wrote."""

_SHARED = """\
# What every service has: an end to its log, no new privileges, an init that reaps processes.
x-service: &service
  init: true
  restart: {restart}
  security_opt: ["no-new-privileges:true"]
  logging:
    driver: json-file
    options: {{max-size: 10m, max-file: "5"}}
"""


def compose_text(stack: Stack) -> str:
    """The Compose file of a stack."""
    names = {service.restart for service in stack.services}
    assert len(names) == 1, "one policy for the whole stack"
    restart = names.pop()
    written = '"no"' if restart == "no" else restart
    parts = [_heading(stack), _SHARED.format(restart=written)]
    services = [_service_text(service) for service in stack.services]
    services += [_entry_text(name, dict(value)) for name, value in stack.foreign.items()]
    parts.append("services:\n" + "\n".join(textwrap.indent(text, "  ") for text in services))
    if stack.internal:
        networks: dict[str, Any] = {"default": {}}
        networks |= {name: {"internal": True} for name in stack.internal}
        comment = "# What is on an internal network can't be reached from outside, nor reach out.\n"
        parts.append(comment + _dump({"networks": networks}))
    if stack.volumes:
        parts.append(_dump({"volumes": {name: {} for name in stack.volumes}}))
    if stack.secrets:
        secrets = {
            name: {"file": f"./{path.removeprefix('./')}"} for name, path in stack.secrets.items()
        }
        comment = "# Files that are never committed; `dockyard up` makes those below .dockyard.\n"
        parts.append(comment + _dump({"secrets": secrets}))
    return "\n".join(parts)


def _heading(stack: Stack) -> str:
    return (
        f"{MARK} from the configuration: change it there, and write this anew.\n"
        "# `dockyard up` builds what must be built and starts everything.\n"
        f"name: {_scalar(stack.name)}\n"
    )


def _service_text(service: Service) -> str:
    body: dict[str, Any] = {"image": service.image}
    if service.build is not None:
        body[BUILT] = _Flow({"build": service.build})
        # A name without a registry is nowhere to be pulled from.
        if "/" not in service.image:
            body["pull_policy"] = "never"
    if service.command:
        body["command"] = [*service.command]
    if service.user is not None:
        body["user"] = service.user
    if service.environment:
        body["environment"] = {key: str(value) for key, value in service.environment.items()}
    if service.secrets:
        body["secrets"] = _FlowList(service.secrets)
    if service.published:
        body["ports"] = [_Quoted(_port(port, service.replicas)) for port in service.published]
    if service.mounts:
        body["volumes"] = list(service.mounts)
    if service.read_only:
        body["read_only"] = True
        body["tmpfs"] = [_Quoted("/tmp:exec,nosuid,size=512m")]  # noqa: S108
    if service.networks != ("default",):
        body["networks"] = _FlowList(service.networks)
    if service.waits_for:
        conditions = {True: "service_healthy", False: "service_started"}
        body["depends_on"] = {
            name: _Flow({"condition": conditions[healthy]})
            for name, healthy in service.waits_for.items()
        }
    if service.check is not None:
        body["healthcheck"] = _check(service.check)
    if service.drop_capabilities:
        body["cap_drop"] = _FlowList(["ALL"])
    if service.shm_size is not None:
        body["shm_size"] = service.shm_size
    if service.grace is not None:
        body["stop_grace_period"] = service.grace
    if deploy := _deploy(service):
        body["deploy"] = deploy
    return _entry_text(service.name, body, comment=service.about)


def _entry_text(name: str, body: dict[str, Any], comment: str = "") -> str:
    """A service with what all have in common, under its comment."""
    lines = f"# {comment}\n" if comment else ""
    return f"{lines}{_scalar(name)}:\n  <<: *service\n" + textwrap.indent(_dump(body), "  ")


def _port(published: tuple[str, int, int], replicas: int) -> str:
    address, host, container = published
    # One port of the host holds one container: replicas take those that follow.
    last = f"-{host + replicas - 1}" if replicas > 1 else ""
    return f"{address}:{host}{last}:{container}"


def _check(check: Check) -> dict[str, Any]:
    return {
        "test": _FlowList(["CMD", *check.command]),
        "interval": check.interval,
        "timeout": check.timeout,
        "retries": check.retries,
        "start_period": check.start_period,
    }


def _deploy(service: Service) -> dict[str, Any]:
    deploy: dict[str, Any] = {}
    if service.replicas > 1:
        deploy["replicas"] = service.replicas
    limits: dict[str, Any] = {}
    if service.cpus is not None:
        limits["cpus"] = _Quoted(f"{service.cpus:g}")
    if service.memory is not None:
        limits["memory"] = service.memory
    if service.pids is not None:
        limits["pids"] = service.pids
    resources: dict[str, Any] = {}
    if limits:
        resources["limits"] = _Flow(limits)
    if service.gpus is not None:
        device: dict[str, Any] = {"driver": "nvidia"}
        if isinstance(service.gpus, tuple):
            device["device_ids"] = _FlowList([_Quoted(item) for item in service.gpus])
        else:
            device["count"] = service.gpus
        device["capabilities"] = _FlowList(["gpu"])
        resources["reservations"] = {"devices": [device]}
    if resources:
        deploy["resources"] = resources
    return deploy


class _Flow(dict[str, Any]):
    """A mapping on one line."""


class _FlowList(list[Any]):
    """A list on one line."""


class _Quoted(str):
    """A string in double quotes: 22:22 is a number to YAML 1.1."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists below their key, as people do."""
        super().increase_indent(flow, False)

    def choose_scalar_style(self) -> str:
        """Quote with double quotes, where there must be quotes."""
        style: str = super().choose_scalar_style()
        return '"' if style == "'" else style

    def ignore_aliases(self, data: Any) -> bool:
        """Never write an anchor of our own."""
        return True


_Dumper.add_representer(
    _Flow, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, True)
)
_Dumper.add_representer(
    _FlowList, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, True)
)
_Dumper.add_representer(
    _Quoted, lambda dumper, data: dumper.represent_scalar("tag:yaml.org,2002:str", data, style='"')
)


def _dump(data: dict[str, Any]) -> str:
    text: str = yaml.dump(
        data,
        Dumper=_Dumper,
        sort_keys=False,
        width=160,
        allow_unicode=True,
        default_flow_style=False,
    )
    # An entry without settings of its own is written as people write it.
    return text.replace(": {}\n", ":\n")


def _scalar(text: str) -> str:
    """A name as YAML writes it, in quotes where it must be."""
    return _dump({text: 0}).partition(":")[0] if text else '""'
