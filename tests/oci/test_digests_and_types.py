"""Digests, media types and descriptors: tables of good and bad ones."""

import json

import pytest

from dockyard.errors import ImageError
from dockyard.oci.descriptor import (
    DOCKER_CONFIG,
    DOCKER_LAYER_GZIP,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
    is_media_type,
)
from dockyard.oci.digest import Digest
from dockyard.oci.manifest import Index, Manifest, manifest_type

HEX = "0123456789abcdef" * 4
GOOD = {"mediaType": OCI_LAYER_GZIP, "digest": f"sha256:{HEX}", "size": 3}


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha512:{HEX}{HEX}"])
def test_a_digest_is_read_and_written(text: str) -> None:
    assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0",
        f"sha256:{HEX.upper()}",
        f"SHA256:{HEX}",
        f"sha256:{HEX[:-1]}g",
        f"sha256:{HEX}\n",
        f" sha256:{HEX}",
        f"sha256:{HEX[:-1]} ",
        f"sha256:{HEX[:-1]}\u0660",
        f"sha512:{HEX}",
        f"sha1:{HEX[:40]}",
        f"md5:{HEX[:32]}",
        f"sha256-{HEX}",
        f"sha256:{HEX}@sha256:{HEX}",
        "sha256:../../../etc/passwd" + "0" * 43,
        f"blake3:{HEX}",
    ],
)
def test_anything_else_is_no_digest(text: str) -> None:
    with pytest.raises(ImageError, match="no digest"):
        Digest.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        OCI_INDEX,
        OCI_MANIFEST,
        OCI_CONFIG,
        OCI_LAYER,
        OCI_LAYER_GZIP,
        OCI_LAYER_ZSTD,
        OCI_EMPTY,
        DOCKER_LIST,
        DOCKER_MANIFEST,
        DOCKER_CONFIG,
        DOCKER_LAYER_GZIP,
        "a/b",
        "application/vnd.in-toto+json",
        "text/x!#$&^_.+-",
        "A/B",
        "1/2",
        "a" * 127 + "/" + "b" * 127,
    ],
)
def test_a_media_type_is_one(text: str) -> None:
    assert is_media_type(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a",
        "a/",
        "/b",
        "a/b/c",
        "a b/c",
        "a/b; charset=utf-8",
        "a/b\n",
        "a/b\r\nX: y",
        "a/é",
        "-a/b",
        "a/.b",
        "a" * 128 + "/b",
        "a/*",
    ],
)
def test_anything_else_is_no_media_type(text: str) -> None:
    assert not is_media_type(text)


@pytest.mark.parametrize(
    "change",
    [
        {"mediaType": None},
        {"mediaType": 1},
        {"mediaType": "nonsense"},
        {"digest": None},
        {"digest": 5},
        {"digest": "sha256:1"},
        {"size": None},
        {"size": -1},
        {"size": 1.0},
        {"size": "1"},
        {"size": True},
        {"size": 1 << 63},
        {"annotations": []},
        {"annotations": "x"},
        {"annotations": {"a": 1}},
        {"platform": "linux/amd64"},
        {"platform": []},
    ],
    ids=str,
)
def test_a_descriptor_with_a_wrong_field_is_refused(change: dict[str, object]) -> None:
    value = {key: item for key, item in (GOOD | change).items() if item is not None}
    with pytest.raises(ImageError):
        Descriptor.from_json(value, where="test")


def test_a_descriptor_comes_back_as_it_was() -> None:
    value = GOOD | {
        "annotations": {"a": "b"},
        "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
        "artifactType": "a/b",
    }
    assert Descriptor.from_json(value, where="test").to_json() == value


@pytest.mark.parametrize(
    ("document", "header", "expected"),
    [
        ({"mediaType": OCI_MANIFEST}, OCI_MANIFEST, OCI_MANIFEST),
        ({"mediaType": DOCKER_MANIFEST}, DOCKER_MANIFEST, DOCKER_MANIFEST),
        ({}, OCI_MANIFEST, OCI_MANIFEST),
        ({}, DOCKER_MANIFEST, DOCKER_MANIFEST),
        ({}, "application/json", OCI_MANIFEST),
        ({}, "", OCI_MANIFEST),
        ({"mediaType": DOCKER_MANIFEST}, "text/plain", DOCKER_MANIFEST),
    ],
)
def test_a_manifest_s_type_is_its_own_or_its_header_s(
    document: dict[str, object], header: str, expected: str
) -> None:
    data = json.dumps({"schemaVersion": 2, "config": GOOD, "layers": [], **document}).encode()
    assert manifest_type(data, header, where="test") == expected


@pytest.mark.parametrize(
    ("document", "header", "why"),
    [
        ({"mediaType": OCI_INDEX}, OCI_MANIFEST, "is sent as"),
        ({"mediaType": OCI_MANIFEST}, DOCKER_MANIFEST, "is sent as"),
        ({"mediaType": OCI_CONFIG}, OCI_MANIFEST, "is of type"),
        ({"mediaType": 5}, OCI_MANIFEST, "is of type"),
        ({"mediaType": ["x"]}, OCI_MANIFEST, "is of type"),
        ({"schemaVersion": 1}, OCI_MANIFEST, "schema 1"),
        ({"schemaVersion": "2"}, OCI_MANIFEST, "no image manifest"),
        ({"manifests": []}, OCI_MANIFEST, "no image manifest"),
        ({"layers": {}}, OCI_MANIFEST, "no image manifest"),
        ({"layers": [5]}, OCI_MANIFEST, "isn't a JSON object"),
        ({"config": None}, OCI_MANIFEST, "isn't a JSON object"),
        ({"annotations": []}, OCI_MANIFEST, "JSON object of strings"),
        ({"annotations": {"a": 1}}, OCI_MANIFEST, "JSON object of strings"),
        ({"subject": 5}, OCI_MANIFEST, "isn't a JSON object"),
    ],
    ids=str,
)
def test_a_document_that_is_no_manifest_is_refused(
    document: dict[str, object], header: str, why: str
) -> None:
    data = json.dumps({"schemaVersion": 2, "config": GOOD, "layers": []} | document).encode()
    with pytest.raises(ImageError, match=why):
        manifest_type(data, header, where="test")


@pytest.mark.parametrize("key", ["layers", "config"])
def test_an_index_that_is_a_manifest_too_is_refused(key: str) -> None:
    value = {"schemaVersion": 2, "manifests": [], key: []}
    with pytest.raises(ImageError, match="no image index"):
        Index.from_bytes(json.dumps(value).encode(), where="test")


def test_an_artifact_comes_back_as_it_was() -> None:
    subject = Descriptor.from_json(GOOD, where="test")
    manifest = Manifest(config=subject, layers=(subject,), artifact_type="a/b", subject=subject)
    assert Manifest.from_bytes(manifest.to_bytes(), where="test") == manifest
