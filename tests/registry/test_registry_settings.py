"""Mirrors, insecure registries, hosts and certificates: what the user has set, and what it does."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from scripted_registry import ALWAYS, answer, hang_up, scripted_registry, send
from small_images import small_image, small_layer

from dockyard.cache import Cache
from dockyard.errors import ConfigError, RegistryError
from dockyard.oci.descriptor import OCI_MANIFEST
from dockyard.oci.platform import Platform
from dockyard.oci.reference import Reference
from dockyard.oci.registry.connect import HttpRegistries
from dockyard.oci.registry.credentials import GivenCredentials, Login
from dockyard.oci.registry.endpoints import Endpoint, endpoint_of, is_loopback, tls_context
from dockyard.oci.registry.pull import fetch_image, pull_layers
from dockyard.oci.registry.push import push_images
from dockyard.oci.registry.settings import Place, RegistrySettings, read_settings
from dockyard.oci.verify import verify_image

if TYPE_CHECKING:
    from pathlib import Path

AMD64 = Platform.parse("linux/amd64")

CONF = """
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "mirror.example/hub"
[[registry.mirror]]
location = "second.example:5000"
insecure = true
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "third.example"
pull-from-mirror = "tag-only"

[[registry]]
location = "blocked.example"
blocked = true

[[registry]]
prefix = "short.example/team"
location = "long.example/deep/team"
insecure = true

[[registry]]
prefix = "*.internal.example"
insecure = true
"""


def settings_of(tmp_path: Path, conf: str = "", daemon: Any = None, **environment: str):
    home = tmp_path / "home"
    if conf:
        folder = tmp_path / "etc/containers"
        folder.mkdir(parents=True)
        (folder / "registries.conf").write_text(conf)
    if daemon is not None:
        file = tmp_path / "etc/docker/daemon.json"
        file.parent.mkdir(parents=True)
        file.write_text(daemon if isinstance(daemon, str) else json.dumps(daemon))
    return read_settings({"HOME": str(home)} | environment, root=tmp_path)


def places(settings: RegistrySettings, name: str) -> list[str]:
    """The locations of a repository, mirrors first, as the settings have them."""
    reference = Reference.parse(name)
    mirrors, own = settings.places(reference.domain, reference.path)
    return [
        each.location + " insecure" * each.insecure + " by digest" * each.by_digest_only
        for each in (*mirrors, own)
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "python",
            [
                "mirror.example/hub/library/python",
                "second.example:5000/library/python insecure by digest",
                "docker.io/library/python",
            ],
        ),
        ("quay.io/a/b", ["quay.io/a/b"]),
        ("short.example/team/app", ["long.example/deep/team/app insecure"]),
        ("short.example/teams/app", ["short.example/teams/app"]),
        ("short.example/other", ["short.example/other"]),
        ("a.internal.example/app", ["a.internal.example/app insecure"]),
        ("internal.example/app", ["internal.example/app"]),
    ],
)
def test_registries_conf_is_read_as_podman_reads_it(tmp_path, name, expected):
    assert places(settings_of(tmp_path, CONF), name) == expected


def test_a_user_s_own_registries_conf_replaces_the_system_s(tmp_path):
    own = tmp_path / "home/.config/containers/registries.conf"
    own.parent.mkdir(parents=True)
    own.write_text('[[registry]]\nlocation = "own.example"\ninsecure = true\n')
    settings = settings_of(tmp_path, CONF)
    assert places(settings, "own.example/a") == ["own.example/a insecure"]
    assert places(settings, "python") == ["docker.io/library/python"]


def test_docker_s_daemon_json_is_read(tmp_path):
    daemon = {
        "registry-mirrors": ["https://hub.example/", "http://plain.example:5000"],
        "insecure-registries": ["lan.example:5000", "10.0.0.0/8"],
    }
    settings = settings_of(tmp_path, daemon=daemon)
    assert places(settings, "ada/app") == [
        "hub.example/ada/app",
        "plain.example:5000/ada/app insecure",
        "docker.io/ada/app",
    ]
    assert places(settings, "lan.example:5000/x") == ["lan.example:5000/x insecure"]
    assert places(settings, "10.1.2.3:5000/x") == ["10.1.2.3:5000/x insecure"]
    assert places(settings, "11.1.2.3:5000/x") == ["11.1.2.3:5000/x"]


def test_the_environment_s_mirrors_come_first(tmp_path):
    settings = settings_of(
        tmp_path,
        CONF,
        DOCKYARD_REGISTRY_MIRRORS="docker.io=near.example/hub, nvcr.io=near.example/nv",
        DOCKYARD_INSECURE_REGISTRIES="near.example",
    )
    assert places(settings, "python")[:2] == [
        "near.example/hub/library/python insecure",
        "mirror.example/hub/library/python",
    ]
    assert places(settings, "nvcr.io/nvidia/cuda") == [
        "near.example/nv/nvidia/cuda insecure",
        "nvcr.io/nvidia/cuda",
    ]


@pytest.mark.parametrize(
    ("conf", "daemon", "mirrors", "why"),
    [
        ("[[registry", None, "", "valid TOML"),
        ("[[registry]]\ninsecure = true", None, "", "isn't as containers-registries.conf"),
        ("registry = 3", None, "", "isn't as containers-registries.conf"),
        ("", "{", "", "can't be understood"),
        ("", "[]", "", "can't be understood"),
        ("", None, "mirror.example", "names no mirror"),
        ("", None, "docker.io=", "names no mirror"),
    ],
)
def test_settings_that_can_t_be_understood_are_an_error(tmp_path, conf, daemon, mirrors, why):
    with pytest.raises(ConfigError, match=why):
        settings_of(tmp_path, conf, daemon, DOCKYARD_REGISTRY_MIRRORS=mirrors)


def test_a_blocked_registry_is_refused(tmp_path):
    registries = HttpRegistries(settings=settings_of(tmp_path, CONF))
    with pytest.raises(RegistryError, match=r"blocks blocked\.example"):
        registries.repository("blocked.example/app")


# Hosts.


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("x.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9:80", True),
        ("[::1]:5000", True),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("10.0.0.1", False),
        ("registry.example:5000", False),
        ("[fe80::1]:5000", False),
        ("0.0.0.0", False),
    ],
)
def test_only_this_machine_is_loopback(host, loopback):
    assert is_loopback(host) == loopback


def test_docker_hub_answers_elsewhere():
    endpoint, path = endpoint_of(Place(location="docker.io/library/python"))
    assert (endpoint.host, endpoint.server, path) == (
        "registry-1.docker.io",
        "docker.io",
        "library/python",
    )
    assert not endpoint.may_be_plain


def test_plain_http_needs_loopback_or_a_word():
    assert Endpoint(host="localhost:5000", server="x").may_be_plain
    assert Endpoint(host="r.example", server="x", insecure=True).may_be_plain
    assert not Endpoint(host="r.example", server="x").may_be_plain


def test_certificates_are_checked_unless_insecure(tmp_path):
    checked = tls_context(Endpoint(host="r.example", server="r.example"), {}, root=tmp_path)
    assert checked.verify_mode == ssl.CERT_REQUIRED
    assert checked.check_hostname
    unchecked = tls_context(
        Endpoint(host="r.example", server="r.example", insecure=True), {}, root=tmp_path
    )
    assert unchecked.verify_mode == ssl.CERT_NONE


def test_a_certificate_that_can_t_be_used_is_named(tmp_path):
    folder = tmp_path / "etc/docker/certs.d/r.example:5000"
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text("no certificate")
    with pytest.raises(RegistryError, match="can't be used") as caught:
        tls_context(Endpoint(host="r.example:5000", server="x"), {}, root=tmp_path)
    assert caught.value.where == str(folder / "ca.crt")


# Mirrors at work.


@pytest.fixture
def image():
    return small_image(small_layer("mirrored", 200_000))


def connect(impatient, mirror, registry, **more):
    prefix = f"{registry.host}/team"
    settings = read_settings(
        {"DOCKYARD_REGISTRY_MIRRORS": f"{prefix}={mirror.host}/cached"}, root=more.pop("root")
    )
    return HttpRegistries(settings=settings, patience=impatient, **more)


@pytest.fixture
def pair(impatient, home, tmp_path, image):
    """A registry with the image, its mirror with it too, and a client that knows of both."""
    with scripted_registry() as registry, scripted_registry() as mirror:
        with HttpRegistries(patience=impatient) as direct:
            push_images([image], direct.repository(f"{registry.host}/team/app"), tags=["v1"])
            push_images([image], direct.repository(f"{mirror.host}/cached/app"), tags=["v1"])
        registry.seen.clear()
        mirror.seen.clear()
        with connect(impatient, mirror, registry, root=tmp_path) as registries:
            yield registry, mirror, registries


def pull(pair, tmp_path):
    registry, _, registries = pair
    reference = Reference.parse(f"{registry.host}/team/app:v1")
    found = fetch_image(registries, reference, AMD64)
    return pull_layers(found, Cache(tmp_path / "cache"))


def test_a_mirror_serves_instead_of_the_registry(pair, image, tmp_path):
    registry, mirror, _ = pair
    assert pull(pair, tmp_path).digest == image.digest
    assert registry.seen == []
    assert mirror.requests("GET", "/v2/cached/app/manifests/v1")


@pytest.mark.parametrize(
    "act", [answer(404), answer(403), answer(503), hang_up], ids=["404", "403", "503", "closed"]
)
@pytest.mark.parametrize("pattern", ["/manifests/", "/blobs/", "/"])
def test_a_mirror_that_fails_is_passed_over(pair, image, tmp_path, pattern, act):
    _, mirror, _ = pair
    mirror.fault("GET", pattern, act, times=ALWAYS)
    found = pull(pair, tmp_path)
    assert found.digest == image.digest
    assert verify_image(found, ours=False) == []


def test_a_mirror_s_wrong_layer_is_fetched_from_the_registry(pair, image, tmp_path):
    registry, mirror, _ = pair
    layer = image.layers[0].descriptor
    mirror.fault("GET", str(layer.digest), send(bytes(layer.size)), times=ALWAYS)
    assert verify_image(pull(pair, tmp_path), ours=False) == []
    assert registry.requests("GET", str(layer.digest))


def test_a_mirror_s_wrong_manifest_is_passed_over(pair, image, tmp_path):
    registry, mirror, registries = pair
    other = small_image(env="another").manifest_bytes
    mirror.fault("GET", "/manifests/", send(other, Content_Type=OCI_MANIFEST), times=ALWAYS)
    reference = Reference.parse(f"{registry.host}/team/app@{image.digest}")
    assert fetch_image(registries, reference, AMD64).digest == image.digest


def test_pushing_goes_to_the_registry_alone(pair, tmp_path):
    registry, mirror, registries = pair
    push_images(
        [small_image(env="new")], registries.repository(f"{registry.host}/team/app"), tags=["v2"]
    )
    assert registry.requests("PUT", "/manifests/")
    assert mirror.seen == []


def test_a_mirror_gets_its_own_login_never_the_registry_s(
    pair, impatient, tmp_path, image, monkeypatch
):
    registry, mirror, _ = pair
    mirror.auth = "basic"
    logins = {registry.host: Login(username="ada", password="open-sesame-42")}
    with connect(
        impatient,
        mirror,
        registry,
        root=tmp_path,
        credentials=GivenCredentials(logins=logins),
    ) as registries:
        found = fetch_image(registries, Reference.parse(f"{registry.host}/team/app:v1"), AMD64)
    assert found.digest == image.digest
    assert {each.authorization for each in mirror.seen} == {None}
