"""Being let in, and what is told to whom: tokens, logins, redirects, messages."""

from __future__ import annotations

import threading
import urllib.parse
from typing import TYPE_CHECKING

import pytest
from scripted_registry import (
    ALWAYS,
    PASSWORD,
    USER,
    ScriptedRegistry,
    answer,
    hang_up,
    no_token,
    scripted_registry,
    send,
    take,
)
from small_images import small_image, small_layer

from dockyard.cache import Cache
from dockyard.errors import RegistryError
from dockyard.oci.platform import Platform
from dockyard.oci.reference import Reference
from dockyard.oci.registry.api import Denied
from dockyard.oci.registry.attempts import Patience
from dockyard.oci.registry.challenge import Challenge, choose_challenge, parse_challenges
from dockyard.oci.registry.connect import HttpRegistries
from dockyard.oci.registry.credentials import GivenCredentials, Login
from dockyard.oci.registry.pull import fetch_image, pull_layers
from dockyard.oci.registry.push import push_images

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AMD64 = Platform.parse("linux/amd64")
BIG = 1_500_000


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    with scripted_registry(auth="token") as running:
        yield running


@pytest.fixture
def elsewhere() -> Iterator[ScriptedRegistry]:
    """Another host (another port is another origin), which takes anything."""
    with scripted_registry() as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture(scope="module")
def image():
    return small_image(small_layer("small"), small_layer("large", BIG))


def connect(registry, patience, login=None):
    login = login or Login(username=USER, password=PASSWORD, source="the test")
    return HttpRegistries(
        credentials=GivenCredentials(logins={registry.host: login}), patience=patience
    )


@pytest.fixture
def registries(registry, impatient: Patience, home: Path) -> Iterator[HttpRegistries]:
    with connect(registry, impatient) as found:
        yield found


def push(registries, registry, image):
    repository = registries.repository(f"{registry.host}/team/app")
    return push_images([image], repository, tags=["v1"], parallel=2)


def pull(registries, registry, cache):
    reference = Reference.parse(f"{registry.host}/team/app:v1")
    return pull_layers(fetch_image(registries, reference, AMD64), cache)


def authorizations(registry) -> set[str]:
    return {each.authorization for each in registry.seen if each.authorization is not None}


# Ways in.


def test_one_token_serves_a_whole_push(registry, registries, image):
    push(registries, registry, image)
    tokens = registry.requests("GET", "^/token$")
    assert [each.query["scope"] for each in tokens] == [
        ["repository:team/app:pull"],
        ["repository:team/app:pull,push"],
    ]
    assert [each.query["service"] for each in tokens] == [["tests"], ["tests"]]


def test_nothing_is_sent_before_the_registry_asks(registry, registries, image):
    push(registries, registry, image)
    assert registry.seen[0].authorization is None


def test_basic_is_met_with_basic(registry, registries, image, cache):
    registry.auth = "basic"
    push(registries, registry, image)
    assert pull(registries, registry, cache).digest == image.digest
    assert registry.requests("GET", "^/token$") == []


def test_without_a_login_a_token_for_anybody_is_asked_for(registry, home, impatient, image):
    with HttpRegistries(patience=impatient) as registries:
        push(registries, registry, image)
    assert all(each.authorization is None for each in registry.requests("GET", "^/token$"))


def test_an_identity_token_goes_by_post(registry, impatient, home, image, cache):
    login = Login(identity_token="identity-of-ada")
    with connect(registry, impatient, login) as registries:
        push(registries, registry, image)
        assert pull(registries, registry, cache).digest == image.digest
    assert registry.requests("GET", "^/token$") == []
    assert {each.authorization for each in registry.requests("POST", "^/token$")} == {None}


def test_a_service_without_post_gets_user_and_identity_token(registry, impatient, home, image):
    registry.fault("POST", "^/token$", answer(405), times=ALWAYS)
    login = Login(username=USER, identity_token=PASSWORD)
    with connect(registry, impatient, login) as registries:
        push(registries, registry, image)


def test_an_access_token_is_used_as_it_is(registry, impatient, home, image):
    registry.tokens["ready"] = ({"team/app:pull", "team/app:push"}, float("inf"))
    with connect(registry, impatient, Login(access_token="ready")) as registries:
        push(registries, registry, image)
    assert authorizations(registry) == {"Bearer ready"}


@pytest.mark.parametrize(
    ("auth", "login"),
    [
        ("token", Login(username=USER, password="wrong-password", source="a file")),
        ("token", Login(identity_token="wrong-password", source="a file")),
        ("basic", Login(username=USER, password="wrong-password", source="a file")),
        ("token", Login(access_token="wrong-password", source="a file")),
    ],
    ids=["password", "identity token", "basic", "access token"],
)
def test_a_wrong_login_is_one_clear_error(registry, impatient, home, image, auth, login):
    registry.auth = auth
    with connect(registry, impatient, login) as registries, pytest.raises(Denied) as caught:
        push(registries, registry, image)
    assert "dockyard login" in str(caught.value.hint)
    assert "wrong-password" not in str(caught.value)
    assert len(registry.seen) < 10, "a refused login isn't tried again and again"


# Tokens that end.


def test_an_expired_token_is_renewed_before_it_is_used(registry, registries, image, cache):
    registry.expires_in = 1
    push(registries, registry, image)
    assert len(registry.requests("GET", "^/token$")) > len(registry.requests("PUT"))


@pytest.mark.parametrize(("method", "skip"), [("HEAD", 2), ("POST", 0), ("PATCH", 0), ("PUT", 1)])
def test_a_token_that_ends_early_is_renewed(registry, registries, image, cache, method, skip):
    registry.fault(method, "/team/app/", no_token, skip=skip)
    push(registries, registry, image)
    assert pull(registries, registry, cache).digest == image.digest


def test_a_token_that_ends_in_mid_upload_is_renewed_and_the_rest_follows(
    registry, registries, image, cache
):
    def expire(handler):
        handler.registry.revoke_tokens()
        return handler.say_error(
            401,
            "UNAUTHORIZED",
            WWW_Authenticate=f'Bearer realm="http://{registry.host}/token",service="tests"',
        )

    registry.fault("PATCH", "/uploads/", take(BIG // 2, expire))
    push(registries, registry, image)
    assert pull(registries, registry, cache).digest == image.digest
    bodies = [each.body for each in registry.requests("PATCH")]
    assert bodies[-1] <= image.layers[1].descriptor.size - BIG // 2


def test_a_token_that_is_never_accepted_is_one_clear_error(registry, registries, image):
    registry.fault("PATCH", "/uploads/", no_token, times=ALWAYS)
    with pytest.raises(Denied, match="401"):
        push(registries, registry, image)
    assert registry.tags == {}


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (send(b"<html>"), "isn't JSON"),
        (send(b"{}"), "gave no token"),
        (send(b'{"token": 12}'), "gave no token"),
        (send(b'{"token": ""}'), "gave no token"),
        (send(b'{"token": "a\\nb: c"}'), "gave no token"),
        (send(b'{"token": "\xc3\xa4"}'), "gave no token"),
        (send(b" " * (2 << 20)), "too large"),
        (send(b"[" * 100_000), "isn't JSON"),
        (answer(500), "500"),
        (hang_up, "can't be reached"),
        (answer(301, Location="http://127.0.0.1:1/token"), "301"),
    ],
    ids=[
        "a web page",
        "no token",
        "a number",
        "an empty one",
        "a header injected",
        "not ASCII",
        "too large",
        "nested deep",
        "500",
        "hang up",
        "elsewhere",
    ],
)
def test_a_token_service_that_fails_is_one_clear_error(registry, registries, image, act, why):
    registry.fault("GET", "^/token$", act, times=ALWAYS)
    with pytest.raises(RegistryError, match=why):
        push(registries, registry, image)


def test_a_token_service_that_recovers_is_asked_again(registry, registries, image):
    registry.fault("GET", "^/token$", answer(503), times=2)
    registry.fault("GET", "^/token$", hang_up, times=2)
    push(registries, registry, image)
    assert registry.tags


@pytest.mark.parametrize(
    "realm", ["http://elsewhere.example/token", "ftp://127.0.0.1/token", "file:///etc/passwd", "/t"]
)
def test_a_login_is_not_sent_in_the_clear_to_where_a_registry_says(
    registry, registries, image, realm
):
    registry.realm = realm
    with pytest.raises(RegistryError, match="in the clear"):
        push(registries, registry, image)


@pytest.mark.parametrize("status", [401, 403])
def test_a_mount_that_no_token_is_given_for_becomes_an_upload(
    registry, impatient, home, image, cache, status
):
    def no_source(handler):
        scopes = " ".join(handler.query["scope"])
        return "team/source" in scopes and handler.say_error(status, "DENIED")

    with connect(registry, impatient) as registries:
        source = registries.repository(f"{registry.host}/team/source")
        push_images([image], source, cache=cache)
        registry.fault("GET", "^/token$", no_source, times=ALWAYS)
        target = registries.repository(f"{registry.host}/team/app")
        pushed = push_images([image], target, tags=["v1"], cache=cache)
    assert pushed.count("uploaded") == 3


def test_a_mount_asks_for_both_repositories(registry, registries, image, cache):
    push_images([image], registries.repository(f"{registry.host}/team/source"), cache=cache)
    target = registries.repository(f"{registry.host}/team/app")
    assert push_images([image], target, tags=["v1"], cache=cache).count("mounted") == 3
    scopes = [set(each.query["scope"]) for each in registry.requests("GET", "^/token$")]
    assert {"repository:team/app:pull,push", "repository:team/source:pull"} in scopes


# Other hosts.


def test_an_upload_elsewhere_goes_without_credentials(registry, registries, elsewhere, image):
    def shared(handler):
        return False

    elsewhere.uploads, elsewhere.blobs = registry.uploads, registry.blobs
    registry.location = f"http://{elsewhere.host}"
    elsewhere.location = "relative"
    registry.fault("POST", "nothing", shared)
    push(registries, registry, image)
    assert elsewhere.requests("PATCH")
    assert elsewhere.requests("PUT")
    assert authorizations(elsewhere) == set()
    assert registry.tags


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_download_elsewhere_goes_without_credentials(
    registry, registries, elsewhere, image, cache, status
):
    push(registries, registry, image)
    elsewhere.blobs = registry.blobs

    def redirect(handler):
        where = f"http://{elsewhere.host}{handler.url_path}?signature=secret-signature"
        return handler.say(status, {"Location": where})

    registry.fault("GET", "/blobs/", redirect, times=ALWAYS)
    assert pull(registries, registry, cache).digest == image.digest
    assert elsewhere.requests("GET", "/blobs/")
    assert authorizations(elsewhere) == set()


def test_a_host_elsewhere_that_asks_for_credentials_gets_none(
    registry, registries, elsewhere, image, cache
):
    push(registries, registry, image)
    elsewhere.auth = "basic"
    registry.fault(
        "GET",
        "/blobs/",
        answer(307, Location=f"http://{elsewhere.host}/v2/team/app/blobs/x?signature=abc"),
        times=ALWAYS,
    )
    with pytest.raises(Denied) as caught:
        pull(registries, registry, cache)
    assert authorizations(elsewhere) == set()
    assert "signature" not in str(caught.value)


def test_a_manifest_elsewhere_goes_without_credentials(
    registry, registries, elsewhere, image, cache
):
    push(registries, registry, image)
    elsewhere.manifests, elsewhere.tags = registry.manifests, registry.tags
    where = f"http://{elsewhere.host}/v2/team/app/manifests/v1"
    registry.fault("GET", "/manifests/", answer(307, Location=where))
    assert pull(registries, registry, cache).digest == image.digest
    assert authorizations(elsewhere) == set()


def test_redirects_in_a_circle_end(registry, registries, image, cache):
    push(registries, registry, image)
    registry.fault("GET", "/blobs/", answer(307, Location="/v2/team/app/blobs/x"), times=ALWAYS)
    with pytest.raises(RegistryError, match="redirects more than"):
        pull(registries, registry, cache)


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[broken", "gopher://a/b"]
)
def test_a_place_that_no_upload_can_go_to_is_refused(registry, registries, image, target):
    registry.fault("POST", "/uploads/", send(b"", 202, Location=target), times=ALWAYS)
    with pytest.raises(RegistryError, match="isn't safe to follow"):
        push(registries, registry, image)


# Messages.


def test_what_a_registry_echoes_is_shown_without_secrets(registry, registries, image):
    def echo(handler):
        token = handler.headers["Authorization"].removeprefix("Bearer ")
        return handler.say_error(403, "DENIED", f"bad\x1b[31m token {token}\nfor {PASSWORD}")

    registry.fault("POST", "/uploads/", echo, times=ALWAYS)
    with pytest.raises(Denied) as caught:
        push(registries, registry, image)
    text = str(caught.value)
    assert "token …" in text
    assert "token-" not in text
    assert PASSWORD not in text
    assert "\x1b" not in text


def test_no_repr_holds_a_secret():
    login = Login(username="u", password="s3cret", identity_token="s3cret", access_token="s3cret")
    assert "s3cret" not in repr(login)


def test_a_long_message_is_cut(registry, registries, image):
    registry.fault("POST", "/uploads/", answer(403, message="x" * 5000), times=ALWAYS)
    with pytest.raises(Denied) as caught:
        push(registries, registry, image)
    assert len(str(caught.value)) < 700


def test_an_interrupted_push_stops_its_other_uploads(registry, registries, image):
    """The first failure ends what runs beside it; nothing is left running."""
    registry.fault("PUT", "/uploads/", answer(403))
    with pytest.raises(Denied):
        push(registries, registry, image)
    assert not [each for each in threading.enumerate() if each.name.startswith("transfer")]
    push(registries, registry, image)
    assert registry.tags


# The header.


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="x"', [Challenge(scheme="basic", realm="x")]),
        ("Basic", [Challenge(scheme="basic")]),
        ("basic realm=x", [Challenge(scheme="basic", realm="x")]),
        (
            'Bearer realm="https://a/token",service="b",scope="repository:c/d:pull,push"',
            [
                Challenge(
                    scheme="bearer",
                    realm="https://a/token",
                    service="b",
                    scopes=frozenset({"repository:c/d:pull,push"}),
                )
            ],
        ),
        (
            'BEARER Realm = "https://a/t" , scope="a:b:c d:e:f"',
            [Challenge(scheme="bearer", realm="https://a/t", scopes=frozenset({"a:b:c", "d:e:f"}))],
        ),
        (
            'Basic realm="a, b", Bearer realm="https://c"',
            [
                Challenge(scheme="basic", realm="a, b"),
                Challenge(scheme="bearer", realm="https://c"),
            ],
        ),
        ('Basic realm="say \\"hi\\""', [Challenge(scheme="basic", realm='say "hi"')]),
        ("Negotiate", [Challenge(scheme="negotiate")]),
        ("Negotiate YII=", [Challenge(scheme="negotiate")]),
        ('Bearer realm="unclosed', [Challenge(scheme="bearer")]),
        ("", []),
        (",,,", []),
        ("=", []),
    ],
)
def test_challenges_are_read(header, expected):
    assert parse_challenges([header]) == expected


def test_bearer_is_preferred_and_needs_a_realm():
    headers = ['Basic realm="a"', 'Bearer realm="https://b"']
    assert choose_challenge(headers) == Challenge(scheme="bearer", realm="https://b")
    assert choose_challenge(["Bearer", "Basic"]) == Challenge(scheme="basic")
    assert choose_challenge(["Negotiate"]) is None
    assert choose_challenge([]) is None


def test_a_hostile_header_is_read_quickly():
    assert len(parse_challenges(["a, " * 100_000])) < 10_000
    assert parse_challenges(['Bearer realm="' + "\\" * 100_000]) != []


def test_the_token_s_scope_is_quoted(registry, registries, image):
    push(registries, registry, image)
    (first, *_) = registry.requests("GET", "^/token$")
    assert urllib.parse.unquote(first.query["scope"][0]) == "repository:team/app:pull"
