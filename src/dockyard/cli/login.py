"""`dockyard login` and `dockyard logout`: who one is to a registry.

Rules: a password comes from a prompt or stdin, never from the command line, where every process
could read it. It is tried before it is kept.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from dockyard.cli.registry import insecure_option

if TYPE_CHECKING:
    from dockyard.oci.reference import Reference

_LONGEST = 64 << 10


@click.command()
@click.argument("registry", default="docker.io")
@click.option("-u", "--username", help="Asked for, if left out.")
@click.option("--password-stdin", is_flag=True, help="Read the password or token from stdin.")
@insecure_option
def login(*, registry: str, username: str | None, password_stdin: bool, insecure: bool) -> None:
    """Log in to REGISTRY (docker.io, if left out), and keep the login for push and pull.

    It is kept where Docker and Podman find it too: by the credential helper of Docker's
    config.json if there is one, else in that file.

    \b
    dockyard login registry.example
    echo "$TOKEN" | dockyard login ghcr.io -u ada --password-stdin
    """
    from dockyard.oci.registry.connect import HttpRegistries
    from dockyard.oci.registry.credentials import GivenCredentials, Login
    from dockyard.oci.registry.logins import store_login

    domain = _domain(registry)
    user, password = _ask(username, from_stdin=password_stdin)
    given = Login(username=user, password=password, source="this login")
    credentials = GivenCredentials(logins={domain: given})
    insecure_hosts = [domain] if insecure else []
    with HttpRegistries(credentials=credentials, insecure=insecure_hosts) as registries:
        asked = registries.check_login(domain)
    where, protected = store_login(domain, given, os.environ)
    print(f"Logged in to {domain} as {user}")
    print(f"  kept by  {where}" if protected else f"  kept in  {where}")
    if not protected:
        print("           not encrypted; set `credsStore` there to keep it in a credential helper")
    if not asked:
        print("  note     the registry let us in without asking who we are")


@click.command()
@click.argument("registry", default="docker.io")
def logout(*, registry: str) -> None:
    """Forget the login for REGISTRY, wherever Docker, Podman and their helpers keep it."""
    from dockyard.oci.registry.logins import erase_login

    domain = _domain(registry)
    found = erase_login(domain, os.environ)
    if found:
        print(f"Logged out of {domain}: removed from {', '.join(found)}")
    else:
        print(f"There was no login for {domain}")


def _domain(text: str) -> str:
    """The registry's name, of "https://registry.example/" too; UsageError for anything else."""
    from dockyard.errors import ImageError, UsageError
    from dockyard.oci.reference import Reference

    name = text.removeprefix("https://").removeprefix("http://").rstrip("/")
    name = name.removesuffix("/v1").removesuffix("/v2")
    try:
        reference: Reference = Reference.parse(f"{name}/x")
    except ImageError:
        reference = Reference(domain="", path="")
    known = {"docker.io", "index.docker.io", "registry-1.docker.io"}
    if name in known:
        return "docker.io"
    if reference.domain != name:
        raise UsageError(
            f"{text!r} is no registry's name",
            hint="Write its host, with the port if it has one: registry.example:5000.",
        )
    return name


def _ask(username: str | None, *, from_stdin: bool) -> tuple[str, str]:
    from dockyard.errors import UsageError

    if from_stdin:
        if not username:
            raise UsageError("--password-stdin needs --username", hint="Add -u NAME.")
        password = sys.stdin.read(_LONGEST).rstrip("\r\n")
    elif not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask for the password on",
            hint="Pipe it in: … | dockyard login REGISTRY -u NAME --password-stdin.",
        )
    else:
        username = username or click.prompt("Username", err=True)
        password = click.prompt("Password", hide_input=True, err=True)
    if not password or not username:
        raise UsageError("the password is empty", hint="Pipe it in, or type it.")
    if ":" in username or not username.isprintable():
        raise UsageError("a user name has no colon and no control characters")
    return username, password
