"""Keeping and forgetting logins, where Docker and Podman will find them too.

Rules:
- A login goes to the helper that the file names for the registry (`credHelpers`, `credsStore`);
  without one into the file's `auths`, encoded and not encrypted, readable by its owner only.
- The file is $REGISTRY_AUTH_FILE if that is set, else Docker's config.json. All else in it stays.
- Forgetting takes the login out of every file and helper that it would be found in.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockyard.errors import RegistryError
from dockyard.oci.registry.credentials import (
    ask_helper,
    auth_files,
    bare_name,
    docker_config_file,
    helper_for,
    read_auth_file,
    run_helper,
    server_key,
    server_names,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.oci.registry.credentials import Login


def store_login(domain: str, login: Login, environment: Mapping[str, str]) -> tuple[str, bool]:
    """Keep the login; returns where, and whether it is protected there (by a helper).

    Raises RegistryError when the helper fails or the file can't be written.
    """
    named = environment.get("REGISTRY_AUTH_FILE")
    file = Path(named).expanduser() if named else docker_config_file(environment)
    document = read_auth_file(file) or {}
    server = server_key(domain)
    helper = helper_for(document, domain)
    if helper is not None:
        entry = {"ServerURL": server, "Username": login.username, "Secret": login.password}
        run_helper(helper, "store", json.dumps(entry), file)
        # An old entry beside it would be read by other programs.
        if _drop(document, domain):
            _write(file, document)
        return f"docker-credential-{helper}", True
    packed = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
    _drop(document, domain)
    document.setdefault("auths", {})[server] = {"auth": packed}
    _write(file, document)
    return str(file), False


def erase_login(domain: str, environment: Mapping[str, str]) -> list[str]:
    """Forget the registry's logins; returns where they were."""
    found: list[str] = []
    for file in auth_files(environment):
        document = read_auth_file(file)
        if document is None:
            continue
        helper = helper_for(document, domain)
        if helper is not None and ask_helper(helper, server_key(domain), file) is not None:
            run_helper(helper, "erase", server_key(domain), file)
            found.append(f"docker-credential-{helper}")
        if _drop(document, domain):
            _write(file, document)
            found.append(str(file))
    return list(dict.fromkeys(found))


def _drop(document: dict[str, Any], domain: str) -> bool:
    """Take the registry's own entries out of `auths`; those of repositories stay."""
    auths = document.get("auths") or {}
    names = {bare_name(name) for name in server_names(domain, "")}
    gone = [key for key in auths if bare_name(key) in names]
    for key in gone:
        del auths[key]
    return bool(gone)


def _write(file: Path, document: Mapping[str, Any]) -> None:
    """Replace the file, whole or not at all; a symbolic link goes on pointing at it."""
    text = json.dumps(document, indent="\t") + "\n"
    try:
        target = file.resolve()
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".config-")
        try:
            with os.fdopen(handle, "w") as out:  # mkstemp: for the owner only
                out.write(text)
            Path(name).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise RegistryError(
            f"the login can't be kept: {error.strerror}",
            where=str(file),
            hint="Make the folder writable, or name another file in REGISTRY_AUTH_FILE.",
        ) from error
