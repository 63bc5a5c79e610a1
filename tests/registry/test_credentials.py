"""Where logins are found: Docker's and Podman's files, and helpers, in their order."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from dockyard.errors import RegistryError
from dockyard.oci.registry.credentials import Login, UserCredentials
from dockyard.oci.registry.logins import erase_login, store_login


def entry(user: str, password: str = "secret") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def find(home: Path, domain: str, path: str = "team/app", **environment: str) -> Login | None:
    return UserCredentials({"HOME": str(home), "PATH": os.environ["PATH"]} | environment).login(
        domain, path
    )


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Install a credential helper whose `get` is this shell code."""

    def install(name: str, code: str) -> None:
        program = tmp_path / "bin" / f"docker-credential-{name}"
        write(program, f"#!/bin/sh\n{code}\n").chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return install


@pytest.mark.parametrize(
    ("key", "domain", "path", "fits"),
    [
        ("registry.example", "registry.example", "team/app", True),
        ("https://registry.example", "registry.example", "team/app", True),
        ("https://registry.example/v1/", "registry.example", "team/app", True),
        ("http://registry.example/v2/", "registry.example", "team/app", True),
        ("registry.example/", "registry.example", "team/app", True),
        ("registry.example:5000", "registry.example:5000", "team/app", True),
        ("registry.example:5000", "registry.example", "team/app", False),
        ("registry.example", "registry.example:5000", "team/app", False),
        ("other.example", "registry.example", "team/app", False),
        ("registry.example.evil.example", "registry.example", "team/app", False),
        ("registry.example/team", "registry.example", "team/app", True),
        ("registry.example/team/app", "registry.example", "team/app", True),
        ("registry.example/te", "registry.example", "team/app", False),
        ("registry.example/other", "registry.example", "team/app", False),
        ("https://index.docker.io/v1/", "docker.io", "library/python", True),
        ("docker.io", "docker.io", "library/python", True),
        ("index.docker.io", "docker.io", "library/python", True),
        ("registry-1.docker.io", "docker.io", "library/python", True),
        ("docker.io/library", "docker.io", "library/python", True),
        ("docker.io", "registry.example", "team/app", False),
    ],
)
def test_an_entry_is_for_its_own_registry_alone(home, key, domain, path, fits):
    write(home / ".docker/config.json", {"auths": {key: entry("ada")}})
    found = find(home, domain, path)
    assert (found is not None and found.username == "ada") == fits


def test_the_most_particular_entry_wins(home):
    auths = {
        "quay.io": entry("all"),
        "quay.io/team": entry("team"),
        "quay.io/team/app": entry("app"),
    }
    write(home / ".config/containers/auth.json", {"auths": auths})
    names = [find(home, "quay.io", path).username for path in ("team/app", "team/b", "other")]
    assert names == ["app", "team", "all"]


def test_files_are_asked_in_their_order(home, tmp_path):
    places = [
        (tmp_path / "named.json", "named"),
        (home / ".docker/config.json", "docker"),
        (tmp_path / "run/containers/auth.json", "podman"),
        (home / ".config/containers/auth.json", "own"),
    ]
    for path, user in places:
        write(path, {"auths": {"r.example": entry(user)}})
    environment = {
        "REGISTRY_AUTH_FILE": str(tmp_path / "named.json"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
    }
    for path, user in places:
        assert find(home, "r.example", **environment).username == user
        path.unlink()
    assert find(home, "r.example", **environment) is None


def test_docker_config_names_the_folder(home, tmp_path):
    write(tmp_path / "d/config.json", {"auths": {"r.example": entry("ada")}})
    assert find(home, "r.example", DOCKER_CONFIG=str(tmp_path / "d")).username == "ada"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (entry("ada", "a:b:c"), ("ada", "a:b:c", "", "")),
        ({"auth": base64.b64encode(b"ada:x\0\0").decode()}, ("ada", "x", "", "")),
        ({"username": "ada", "password": "x"}, ("ada", "x", "", "")),
        ({"identitytoken": "t"}, ("", "", "t", "")),
        (entry("ada", "") | {"identitytoken": "t"}, ("ada", "", "t", "")),
        ({"registrytoken": "t"}, ("", "", "", "t")),
        ({}, None),
        ({"auth": ""}, None),
        ("text", None),
        (None, None),
    ],
    ids=str,
)
def test_every_form_of_an_entry_is_read(home, value, expected):
    write(home / ".docker/config.json", {"auths": {"r.example": value}})
    found = find(home, "r.example")
    parts = None
    if found is not None:
        parts = (found.username, found.password, found.identity_token, found.access_token)
    assert parts == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "valid JSON"),
        ("[]", "isn't a JSON object"),
        ('{"auths": []}', ""),
        ('{"auths": ["r.example"]}', "no object at 'auths'"),
        ('{"credHelpers": "x"}', "no object at 'credHelpers'"),
        ('{"auths": {"r.example": {"auth": "%%%"}}}', "isn't base64"),
        ('{"auths": {"r.example": {"auth": "YWRh"}}}', "without a password"),
    ],
)
def test_a_damaged_file_is_one_clear_error(home, text, why):
    file = write(home / ".docker/config.json", text)
    if not why:
        assert find(home, "r.example") is None
        return
    with pytest.raises(RegistryError, match=why) as caught:
        find(home, "r.example")
    assert caught.value.where == str(file)


def test_an_empty_file_holds_nothing(home):
    write(home / ".docker/config.json", "")
    assert find(home, "r.example") is None


@pytest.mark.parametrize(
    ("config", "server"),
    [
        ({"credsStore": "t"}, "r.example"),
        ({"credHelpers": {"r.example": "t"}}, "r.example"),
        ({"credHelpers": {"r.example": "t"}, "credsStore": "absent"}, "r.example"),
    ],
)
def test_a_helper_is_asked_by_the_registry_s_name(home, helper, tmp_path, config, server):
    helper(
        "t",
        f'cat > {tmp_path}/asked; [ "$1" = get ] && '
        'echo \'{"Username": "ada", "Secret": "from the helper"}\'',
    )
    write(home / ".docker/config.json", config)
    found = find(home, "r.example")
    assert (found.username, found.password) == ("ada", "from the helper")
    assert (tmp_path / "asked").read_text() == server


def test_docker_hub_has_a_name_of_its_own_for_helpers(home, helper, tmp_path):
    helper("t", f'cat > {tmp_path}/asked; echo \'{{"Username": "<token>", "Secret": "i"}}\'')
    write(home / ".docker/config.json", {"credsStore": "t"})
    assert find(home, "docker.io", "library/python").identity_token == "i"
    assert (tmp_path / "asked").read_text() == "https://index.docker.io/v1/"


def test_a_helper_that_keeps_nothing_leaves_it_to_the_next(home, helper):
    helper("t", "echo credentials not found in native keychain; exit 1")
    write(
        home / ".docker/config.json",
        {"credsStore": "t", "auths": {"r.example": entry("from-the-file")}},
    )
    assert find(home, "r.example").username == "from-the-file"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("echo it is locked; exit 1", "failed to get: it is locked"),
        ("exit 3", "failed to get: exit code 3"),
        ("echo nonsense", "no login that can be read"),
        ("echo '[]'", "no login that can be read"),
        ('echo \'{"Username": "ada"}\'', "no login that can be read"),
    ],
)
def test_a_helper_that_fails_is_one_clear_error(home, helper, code, why):
    helper("t", code)
    write(home / ".docker/config.json", {"credsStore": "t"})
    with pytest.raises(RegistryError, match=why):
        find(home, "r.example")


@pytest.mark.parametrize(
    ("name", "why"),
    [("not-there", "isn't installed"), ("../../evil", "no credential helper's name")],
)
def test_a_helper_that_can_t_be_run_is_one_clear_error(home, name, why):
    write(home / ".docker/config.json", {"credsStore": name})
    with pytest.raises(RegistryError, match=why):
        find(home, "r.example")


def test_a_helper_is_asked_once(home, helper, tmp_path):
    helper("t", f'echo x >> {tmp_path}/count; echo \'{{"Username": "a", "Secret": "b"}}\'')
    write(home / ".docker/config.json", {"credsStore": "t"})
    credentials = UserCredentials({"HOME": str(home)})
    for _ in range(3):
        assert credentials.login("r.example", "a/b") is not None
    assert (tmp_path / "count").read_text() == "x\n"


def test_logging_out_forgets_everywhere(home, tmp_path):
    environment = {"HOME": str(home), "XDG_RUNTIME_DIR": str(tmp_path)}
    docker = write(
        home / ".docker/config.json",
        {"auths": {"https://r.example/v1/": entry("a"), "r.example/team": entry("b")}},
    )
    podman = write(tmp_path / "containers/auth.json", {"auths": {"r.example": entry("c")}})
    assert erase_login("r.example", environment) == [str(docker), str(podman)]
    assert list(json.loads(docker.read_text())["auths"]) == ["r.example/team"]
    assert json.loads(podman.read_text()) == {"auths": {}}


def test_a_login_that_can_t_be_kept_says_so(home, tmp_path):
    write(tmp_path / "file", "x")
    environment = {"HOME": str(home), "REGISTRY_AUTH_FILE": str(tmp_path / "file/auth.json")}
    with pytest.raises(RegistryError, match="can't be kept"):
        store_login("r.example", Login(username="a", password="b"), environment)
