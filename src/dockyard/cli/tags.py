"""`dockyard tags`: the tags of a repository."""

from __future__ import annotations

import json

import click

from dockyard.cli.registry import insecure_option, open_registries


@click.command()
@click.argument("repository")
@insecure_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def tags(*, repository: str, insecure: bool, as_json: bool) -> None:
    """List the tags of a repository, as REGISTRY/NAME, one on a line."""
    from dockyard.errors import UsageError
    from dockyard.oci.reference import DEFAULT_TAG, Reference

    name = Reference.parse(repository)
    if name.digest is not None or name.tag != DEFAULT_TAG or repository.endswith(f":{DEFAULT_TAG}"):
        raise UsageError(
            f"{repository!r} names an image, not a repository",
            hint=f"Leave its tag out: dockyard tags {name.repository}.",
        )
    with open_registries([name], insecure=insecure) as (registries, _):
        found = list(registries.repository(name).tags())
    if as_json:
        print(json.dumps({"repository": name.repository, "tags": found}, indent=2))
    else:
        for tag in found:
            print(tag)
