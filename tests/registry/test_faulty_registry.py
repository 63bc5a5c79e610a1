"""A registry that fails in every way: each case ends well or in one clear error, never wrong."""

from __future__ import annotations

import json
import threading
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest
from scripted_registry import (
    ALWAYS,
    ScriptedRegistry,
    answer,
    cut,
    hang_up,
    hang_up_after,
    scripted_registry,
    send,
    take,
    wait,
)
from small_images import small_image, small_layer

from dockyard.cache import Cache
from dockyard.errors import DockyardError, ImageError, RegistryError
from dockyard.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from dockyard.oci.digest import Digest
from dockyard.oci.platform import Platform
from dockyard.oci.reference import Reference
from dockyard.oci.registry.attempts import Patience
from dockyard.oci.registry.connect import HttpRegistries
from dockyard.oci.registry.pull import fetch_image, pull_layers
from dockyard.oci.registry.push import push_images
from dockyard.oci.verify import verify_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AMD64 = Platform.parse("linux/amd64")
BIG = 1_500_000


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    with scripted_registry() as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def registries(cache: Cache, impatient: Patience, home: Path) -> Iterator[HttpRegistries]:
    with HttpRegistries(cache=cache, patience=impatient, timeout=5.0) as found:
        yield found


@pytest.fixture(scope="module")
def image():
    """A small and a large layer: one goes with the PUT, the other by PATCH."""
    return small_image(small_layer("small"), small_layer("large", BIG))


def push(registries, registry, image, *, cache=None, tag="v1"):
    repository = registries.repository(f"{registry.host}/team/app")
    return push_images([image], repository, tags=[tag], cache=cache, parallel=2)


def pull(registries, registry, cache):
    reference = Reference.parse(f"{registry.host}/team/app:v1")
    return pull_layers(fetch_image(registries, reference, AMD64), cache)


def assert_is_there(registries, registry, image, tmp_path):
    """The image comes back whole, into an empty cache."""
    found = pull(registries, registry, Cache(tmp_path / "another-cache"))
    assert found.digest == image.digest
    assert verify_image(found, ours=False) == []


def large(image):
    return image.layers[1].descriptor


# Failures that pass.


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    ("method", "pattern"),
    [
        ("HEAD", "/manifests/"),
        ("HEAD", "/blobs/"),
        ("POST", "/uploads/"),
        ("PATCH", "/uploads/"),
        ("PUT", "/uploads/"),
        ("PUT", "/manifests/"),
    ],
)
def test_a_push_survives_an_error_of_the_server(
    registry, registries, image, tmp_path, method, pattern, status
):
    registry.fault(method, pattern, answer(status), times=2)
    push(registries, registry, image)
    assert_is_there(registries, registry, image, tmp_path)


@pytest.mark.parametrize("act", [hang_up, hang_up_after, cut(0)], ids=["before", "after", "cut"])
@pytest.mark.parametrize(
    ("method", "pattern"),
    [
        ("HEAD", "/manifests/"),
        ("HEAD", "/blobs/"),
        ("POST", "/uploads/"),
        ("PATCH", "/uploads/"),
        ("PUT", "/uploads/"),
        ("PUT", "/manifests/"),
    ],
)
def test_a_push_survives_a_connection_that_closes(
    registry, registries, image, tmp_path, method, pattern, act
):
    registry.fault(method, pattern, act, times=2)
    push(registries, registry, image)
    assert_is_there(registries, registry, image, tmp_path)


@pytest.mark.parametrize("act", [answer(500), hang_up], ids=["500", "hang up"])
@pytest.mark.parametrize(
    ("method", "pattern"),
    [
        ("HEAD", "/manifests/"),
        ("HEAD", "/blobs/"),
        ("POST", "/uploads/"),
        ("PATCH", "/uploads/"),
        ("PUT", "/uploads/"),
        ("PUT", "/manifests/"),
    ],
)
def test_a_failure_that_stays_is_one_clear_error(registry, registries, image, method, pattern, act):
    registry.fault(method, pattern, act, times=ALWAYS)
    with pytest.raises(RegistryError) as caught:
        push(registries, registry, image)
    assert registry.host in (caught.value.where or "")
    assert "500" in caught.value.what or "can't be reached" in caught.value.what
    assert caught.value.hint
    assert registry.tags == {}, "no tag before all is there"


@pytest.mark.parametrize("fault", [answer(500), hang_up], ids=["500", "hang up"])
def test_an_upload_that_breaks_in_the_middle_goes_on_there(
    registry, registries, image, tmp_path, fault
):
    registry.fault("PATCH", "/uploads/", take(BIG // 2, fault))
    push(registries, registry, image)
    assert_is_there(registries, registry, image, tmp_path)
    first, second = registry.requests("PATCH")
    assert first.body == large(image).size
    assert second.body <= first.body - BIG // 2
    assert second.headers["content-range"].startswith(f"{first.body - second.body}-")


def test_an_upload_that_the_registry_forgot_begins_anew(registry, registries, image, tmp_path):
    def forget(handler):
        handler.registry.uploads.clear()
        return handler.hang_up()

    registry.fault("PATCH", "/uploads/", take(BIG // 2, forget))
    push(registries, registry, image)
    assert_is_there(registries, registry, image, tmp_path)
    assert [each.body for each in registry.requests("PATCH")] == [large(image).size] * 2


def test_bytes_that_arrived_wrongly_are_sent_again(registry, registries, image, tmp_path):
    def spoil(handler):
        upload = handler.registry.uploads[handler.url_path.rpartition("/")[2]]
        upload[0] ^= 0xFF
        return handler.hang_up()

    registry.fault("PATCH", "/uploads/", take(BIG // 2, spoil))
    push(registries, registry, image)
    assert_is_there(registries, registry, image, tmp_path)


def test_a_push_that_was_killed_goes_on_in_the_next_process(registry, home, impatient, tmp_path):
    image = small_image(small_layer("huge", 9 << 20))
    cache = Cache(tmp_path / "cache")
    registry.fault("PATCH", "/uploads/", take(5 << 20, hang_up))
    stubborn = Patience(attempts=1, stop=threading.Event())
    with HttpRegistries(cache=cache, patience=stubborn) as first, pytest.raises(RegistryError):
        push(first, registry, image)
    with HttpRegistries(cache=cache, patience=impatient) as second:
        push(second, registry, image)
        assert_is_there(second, registry, image, tmp_path)
    sizes = [each.body for each in registry.requests("PATCH")]
    assert sizes[1] <= sizes[0] - (5 << 20)


@pytest.mark.parametrize(
    "location", ["http://127.0.0.1:1/gone", "/v2/team/app/blobs/uploads/forgotten"]
)
def test_an_upload_that_can_t_be_gone_on_with_begins_anew(
    registry, home, impatient, tmp_path, location
):
    image = small_image(small_layer("huge", 9 << 20))
    cache = Cache(tmp_path / "cache")
    registry.fault("PATCH", "/uploads/", take(5 << 20, hang_up))
    stubborn = Patience(attempts=1, stop=threading.Event())
    with HttpRegistries(cache=cache, patience=stubborn) as first, pytest.raises(RegistryError):
        push(first, registry, image)
    (record,) = (cache.root / "records/uploads").iterdir()
    cache.write_record("uploads", record.stem, {"location": location})
    with HttpRegistries(cache=cache, patience=impatient) as second:
        push(second, registry, image)
        assert_is_there(second, registry, image, tmp_path)


def test_retry_after_is_heeded(registry, home, image, cache):
    pauses = []

    class Clock(threading.Event):
        def wait(self, timeout=None):
            pauses.append(timeout)
            return False

    registry.fault("HEAD", "/manifests/", answer(429, Retry_After="7"))
    registry.fault("HEAD", "/blobs/", answer(503, Retry_After=formatdate(4_000_000_000)))
    registry.fault("PUT", "/manifests/", answer(429))
    patience = Patience(stop=Clock())
    with HttpRegistries(cache=cache, patience=patience) as registries:
        push(registries, registry, image)
    assert pauses == [7.0, patience.longest_pause, patience.first_pause]


@pytest.mark.parametrize("act", [hang_up, cut(10), answer(503)], ids=["closed", "cut", "503"])
@pytest.mark.parametrize("pattern", ["/manifests/", "/blobs/"])
def test_a_pull_survives_a_broken_connection(registry, registries, image, tmp_path, pattern, act):
    push(registries, registry, image)
    registry.fault("GET", pattern, act, times=2)
    assert_is_there(registries, registry, image, tmp_path)


@pytest.mark.parametrize("ranges", [True, False], ids=["with ranges", "without"])
def test_a_download_that_breaks_goes_on(registry, registries, image, tmp_path, ranges):
    push(registries, registry, image)
    registry.ranges = ranges
    registry.fault("GET", str(large(image).digest), cut(BIG // 2), times=3)
    assert_is_there(registries, registry, image, tmp_path)
    ranged = [
        each.headers.get("range") for each in registry.requests("GET", str(large(image).digest))
    ]
    assert ranged[:2] == [None, f"bytes={BIG // 2}-"]


def test_a_pull_that_was_killed_goes_on_in_the_next_process(
    registry, registries, home, image, cache
):
    push(registries, registry, image)
    digest = str(large(image).digest)
    registry.fault("GET", digest, cut(BIG // 2))
    stubborn = Patience(attempts=1, stop=threading.Event())
    with HttpRegistries(patience=stubborn) as first, pytest.raises(RegistryError):
        pull(first, registry, cache)
    with HttpRegistries(patience=stubborn) as second:
        found = pull(second, registry, cache)
    assert verify_image(found, ours=False) == []
    (_, again) = registry.requests("GET", digest)
    assert again.headers["range"] == f"bytes={BIG // 2}-"


@pytest.mark.parametrize("act", [hang_up, cut(10)], ids=["closed", "truncated"])
@pytest.mark.parametrize("pattern", ["/manifests/", "/blobs/"])
def test_what_never_comes_whole_is_one_clear_error(
    registry, registries, image, cache, pattern, act
):
    push(registries, registry, image)
    registry.fault("GET", pattern, act, times=ALWAYS)
    with pytest.raises(RegistryError, match=r"can't be reached|ended at byte"):
        pull(registries, registry, cache)
    assert not any(cache.has_blob(layer.descriptor.digest.hex) for layer in image.layers)


def test_a_slow_registry_is_waited_for(registry, home, impatient, image, cache, tmp_path):
    registry.fault("HEAD", "/blobs/", wait(0.3), times=2)
    registry.fault("PUT", "/manifests/", wait(0.3))
    with HttpRegistries(cache=cache, patience=impatient, timeout=5) as registries:
        push(registries, registry, image)
        assert_is_there(registries, registry, image, tmp_path)


def test_a_registry_that_says_nothing_is_given_up(registry, home, impatient, image, cache):
    registry.fault("HEAD", "/manifests/", wait(0.6), times=ALWAYS)
    with (
        HttpRegistries(cache=cache, patience=impatient, timeout=0.1) as registries,
        pytest.raises(RegistryError, match="no answer in time"),
    ):
        push(registries, registry, image)


# What registries do in their own way.


@pytest.mark.parametrize("status", [400, 404, 405, 411, 415, 501])
def test_a_registry_without_patch_gets_one_put(registry, registries, image, tmp_path, status):
    registry.fault("PATCH", "/uploads/", answer(status, code="UNSUPPORTED"), times=ALWAYS)
    push(registries, registry, image)
    assert_is_there(registries, registry, image, tmp_path)
    assert large(image).size in [each.body for each in registry.requests("PUT", "/uploads/")]


def test_a_registry_that_limits_sizes_gets_pieces(registry, registries, tmp_path):
    image = small_image(small_layer("huge", 5 << 20))

    def limited(handler):
        return handler.left > 2 << 20 and handler.say_error(413, "SIZE_INVALID")

    registry.fault("PATCH", "/uploads/", limited, times=ALWAYS)
    push(registries, registry, image)
    assert_is_there(registries, registry, image, tmp_path)
    pieces = [each.body for each in registry.requests("PATCH") if each.body <= 2 << 20]
    assert sum(pieces) == image.layers[0].descriptor.size


def test_a_limit_that_nothing_fits_is_one_clear_error(registry, registries, image):
    registry.fault("PATCH", "/uploads/", answer(413, code="SIZE_INVALID"), times=ALWAYS)
    with pytest.raises(RegistryError, match="413") as caught:
        push(registries, registry, image)
    assert "limits sizes" in str(caught.value.hint)


def test_a_refused_mount_becomes_an_upload(registry, registries, image, tmp_path, cache):
    source = registries.repository(f"{registry.host}/team/source")
    push_images([image], source, cache=cache)
    registry.mounts = False
    push(registries, registry, image, cache=cache)
    posts = registry.requests("POST", "/team/app/")
    assert len(posts) == 3, "the upload that the 202 began is the one that is used"
    assert all(each.query["from"] == ["team/source"] for each in posts)
    assert_is_there(registries, registry, image, tmp_path)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 501])
def test_a_mount_that_is_an_error_becomes_an_upload(
    registry, registries, image, tmp_path, cache, status
):
    push_images([image], registries.repository(f"{registry.host}/team/source"), cache=cache)

    def no_mount(handler):
        return "mount" in handler.query and handler.say_error(status, "UNSUPPORTED")

    registry.fault("POST", "/team/app/", no_mount, times=ALWAYS)
    push(registries, registry, image, cache=cache)
    assert_is_there(registries, registry, image, tmp_path)


def test_a_location_may_be_relative(registry, registries, image, tmp_path):
    registry.location = "relative"
    push(registries, registry, image)
    assert_is_there(registries, registry, image, tmp_path)


def test_a_location_keeps_its_query(registry, registries, image):
    push(registries, registry, image)
    for each in registry.requests("PUT", "/uploads/"):
        assert each.query["state"] == ["a+b"]
        assert each.query["digest"][0].startswith("sha256:")


def test_all_pages_of_tags_are_read(registry, registries, image):
    repository = registries.repository(f"{registry.host}/team/app")
    names = [f"v{number:02}" for number in range(10)]
    push_images([image], repository, tags=names)
    assert list(repository.tags()) == names
    assert len(registry.requests("GET", "/tags/")) == 4


@pytest.mark.parametrize(
    "link",
    ["</v2/team/app/tags/list?n=1000>", "<http://elsewhere.example/v2/team/app/tags/list>"],
    ids=["in a circle", "elsewhere"],
)
def test_pages_that_lead_nowhere_are_refused(registry, registries, link):
    page = send(b'{"tags": ["a"]}', Link=f'{link}; rel="next"')
    registry.fault("GET", "/tags/", page, times=ALWAYS)
    with pytest.raises(RegistryError, match="next page"):
        list(registries.repository(f"{registry.host}/team/app").tags())


@pytest.mark.parametrize("status", [404, 400, 405, 501])
def test_without_a_referrers_api_there_are_none_or_the_tag_s(registry, registries, image, status):
    registry.fault("GET", "/referrers/", answer(status), times=ALWAYS)
    push(registries, registry, image)
    repository = registries.repository(f"{registry.host}/team/app")
    assert repository.referrers(image.digest) == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_blob_that_lies_elsewhere_is_there(registry, registries, image, status):
    """Storage signs for a GET alone, so where the redirect leads isn't asked."""
    push(registries, registry, image)
    registry.fault(
        "HEAD", "/blobs/", answer(status, Location="http://127.0.0.1:1/signed"), times=ALWAYS
    )
    repository = registries.repository(f"{registry.host}/team/app")
    assert repository.has_blob(large(image).digest)


@pytest.mark.parametrize("tag", ["\x1b[31mred", "a b", "", "x" * 129, 5, None], ids=repr)
def test_a_tag_that_is_none_is_refused(registry, registries, tag):
    registry.fault("GET", "/tags/", send(json.dumps({"tags": ["good", tag]}).encode()))
    with pytest.raises(RegistryError, match="can't be read"):
        list(registries.repository(f"{registry.host}/team/app").tags())


def test_loopback_is_not_asked_for_through_a_proxy(registry, home, impatient, image, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with HttpRegistries(patience=impatient) as registries:
        push(registries, registry, image)
    assert registry.tags


# Lies.


def other_manifest(image) -> bytes:
    return small_image(env="another").manifest_bytes


def test_a_manifest_with_another_digest_is_refused(registry, registries, image, cache):
    push(registries, registry, image)
    reference = Reference.parse(f"{registry.host}/team/app@{image.digest}")
    registry.fault("GET", "/manifests/", send(other_manifest(image), Content_Type=OCI_MANIFEST))
    with pytest.raises(RegistryError, match=r"gives sha256:.* where sha256:.* was expected"):
        fetch_image(registries, reference, AMD64)


def test_a_tag_s_manifest_that_isn_t_what_its_header_says_is_refused(registry, registries, image):
    push(registries, registry, image)
    lie = send(
        other_manifest(image),
        Content_Type=OCI_MANIFEST,
        Docker_Content_Digest=str(image.digest),
    )
    registry.fault("GET", "/manifests/", lie)
    with pytest.raises(RegistryError, match="was expected"):
        fetch_image(registries, Reference.parse(f"{registry.host}/team/app:v1"), AMD64)


@pytest.mark.parametrize("which", [0, 1], ids=["small", "large"])
def test_a_layer_with_other_bytes_never_enters_the_cache(registry, registries, image, cache, which):
    push(registries, registry, image)
    descriptor = image.layers[which].descriptor
    registry.fault("GET", str(descriptor.digest), send(bytes(descriptor.size)), times=ALWAYS)
    with pytest.raises(RegistryError, match=f"expected {descriptor.digest}"):
        pull(registries, registry, cache)
    assert not cache.has_blob(descriptor.digest.hex)


def test_a_layer_read_directly_is_checked_too(registry, registries, image):
    push(registries, registry, image)
    found = fetch_image(registries, Reference.parse(f"{registry.host}/team/app:v1"), AMD64)
    registry.fault("GET", "/blobs/", send(bytes(large(image).size)), times=ALWAYS)
    with pytest.raises(RegistryError, match="sent a blob with digest"):
        for _ in found.layers[1].blob.chunks():
            pass


def test_a_config_with_other_bytes_is_refused(registry, registries, image, cache):
    push(registries, registry, image)
    config = image.manifest.config
    registry.fault("GET", str(config.digest), send(b"x" * config.size), times=ALWAYS)
    with pytest.raises(RegistryError, match="sent a blob with digest"):
        pull(registries, registry, cache)


@pytest.mark.parametrize("difference", [-1, 1, 1 << 20], ids=["short", "long", "far too long"])
def test_a_layer_of_another_size_is_refused_before_its_bytes(
    registry, registries, image, cache, difference
):
    push(registries, registry, image)
    size = large(image).size
    registry.fault("GET", str(large(image).digest), send(bytes(size + difference)), times=ALWAYS)
    with pytest.raises(RegistryError, match=f"offers {size + difference} bytes"):
        pull(registries, registry, cache)


def test_a_layer_that_never_ends_is_cut_off(registry, registries, image, cache):
    push(registries, registry, image)

    def endless(handler):
        handler.close_connection = True
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(1 << 20))
        except OSError:
            return True

    registry.fault("GET", str(large(image).digest), endless, times=ALWAYS)
    with pytest.raises(RegistryError, match="sends more than"):
        pull(registries, registry, cache)


def test_a_stored_manifest_with_another_digest_is_an_error(registry, registries, image):
    wrong = str(Digest.of(b"wrong"))
    registry.fault("PUT", "/manifests/", send(b"", 201, Docker_Content_Digest=wrong))
    with pytest.raises(RegistryError, match="was expected"):
        push(registries, registry, image)


def test_a_stored_blob_with_another_digest_is_an_error(registry, registries, image):
    wrong = str(Digest.of(b"wrong"))
    registry.fault("PUT", "/uploads/", send(b"", 201, Docker_Content_Digest=wrong))
    with pytest.raises(RegistryError, match=r"where sha256:.* was sent"):
        push(registries, registry, image)


def test_an_upload_without_a_place_is_an_error(registry, registries, image):
    registry.fault("POST", "/uploads/", send(b"", 202), times=ALWAYS)
    with pytest.raises(RegistryError, match="no Location"):
        push(registries, registry, image)


def nested(depth: int) -> bytes:
    return b'{"schemaVersion":2,"a":' + b"[" * depth + b"]" * depth + b"}"


def many_layers(count: int) -> bytes:
    layer = {"mediaType": "a/b", "digest": str(Digest.of(b"")), "size": 0}
    value = {"schemaVersion": 2, "config": layer, "layers": []}
    text = json.dumps(value)
    item = json.dumps(layer, separators=(",", ":"))
    return text.replace("[]", "[" + ",".join([item] * count) + "]").encode()


def with_size(size: object) -> bytes:
    layer = {"mediaType": "a/b", "digest": str(Digest.of(b"")), "size": size}
    return json.dumps({"schemaVersion": 2, "config": layer, "layers": [layer]}).encode()


@pytest.mark.parametrize(
    ("document", "why"),
    [
        pytest.param(b" " * (100 << 20), "larger than 4194304 bytes", id="100 MB"),
        pytest.param(many_layers(1_000_000), "larger than", id="a million layers"),
        pytest.param(many_layers(20_000), "20000 layers, more than 1000", id="20,000 layers"),
        pytest.param(nested(100_000), "valid JSON|no image manifest", id="deep nesting"),
        pytest.param(with_size(-1), "needs mediaType, digest and size", id="negative size"),
        pytest.param(with_size(1 << 63), "needs mediaType, digest and size", id="size over int64"),
        pytest.param(with_size("12"), "needs mediaType, digest and size", id="size as text"),
        pytest.param(with_size(1.5), "needs mediaType, digest and size", id="size with a fraction"),
        pytest.param(with_size(True), "needs mediaType, digest and size", id="size as a boolean"),
        pytest.param(with_size(5 << 20), "configuration is larger", id="configuration of 5 MB"),
        pytest.param(b'{"schemaVersion":2,"schemaVersion":2}', "twice", id="a key twice"),
        pytest.param(b'{"schemaVersion":1}', "schema 1", id="schema 1"),
        pytest.param(b"[]", "isn't a JSON object", id="a list"),
        pytest.param(b"<html>", "valid JSON", id="a web page"),
        pytest.param(b"", "valid JSON", id="nothing"),
        pytest.param(b"\xff\xfe", "valid JSON", id="no UTF-8"),
        pytest.param(
            b'{"schemaVersion":2,"layers":[],"manifests":[]}', "no image", id="both kinds at once"
        ),
        pytest.param(
            json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode(),
            "sent as",
            id="another type than its header says",
        ),
    ],
)
def test_a_manifest_that_can_t_be_right_is_refused(registry, registries, document, why):
    registry.fault("GET", "/manifests/", send(document, Content_Type=OCI_MANIFEST), times=ALWAYS)
    with pytest.raises(DockyardError, match=why) as caught:
        fetch_image(registries, Reference.parse(f"{registry.host}/team/app:v1"), AMD64)
    assert registry.host in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_manifest_whose_length_nobody_says_is_cut_off(registry, registries):
    def endless(handler):
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Type", OCI_MANIFEST)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b" " * (1 << 20))
        except OSError:
            return True

    registry.fault("GET", "/manifests/", endless, times=ALWAYS)
    with pytest.raises(RegistryError, match="larger than 4194304 bytes"):
        fetch_image(registries, Reference.parse(f"{registry.host}/team/app:v1"), AMD64)


def test_an_index_of_itself_is_refused(registry, registries):
    """Each index names the next one; a real one can't name itself."""
    documents = [b""]
    for _ in range(6):
        inner = {
            "mediaType": OCI_INDEX,
            "digest": str(Digest.of(documents[-1])),
            "size": len(documents[-1]),
        }
        documents.append(
            json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner]}).encode()
        )
    for document in documents:
        registry.manifests["team/app", str(Digest.of(document))] = (OCI_INDEX, document)
    registry.tags["team/app", "v1"] = str(Digest.of(documents[-1]))
    with pytest.raises(ImageError, match="nested too deep"):
        fetch_image(registries, Reference.parse(f"{registry.host}/team/app:v1"), AMD64)


def test_an_image_for_other_platforms_says_which(registry, registries):
    images = [small_image(architecture=each) for each in ("amd64", "arm64")]
    repository = registries.repository(f"{registry.host}/team/app")
    push_images(images, repository, tags=["v1"])
    index = json.loads(repository.manifest("v1").data)
    index["manifests"][0]["platform"]["architecture"] = "riscv64"
    del index["manifests"][1]
    data = json.dumps(index).encode()
    registry.manifests["team/app", str(Digest.of(data))] = (OCI_INDEX, data)
    registry.tags["team/app", "v2"] = str(Digest.of(data))
    with pytest.raises(ImageError, match="no image for linux/amd64") as caught:
        fetch_image(registries, Reference.parse(f"{registry.host}/team/app:v2"), AMD64)
    assert "linux/riscv64" in str(caught.value.hint)
