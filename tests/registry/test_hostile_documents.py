"""Whatever a registry sends: it is read, or it is one of our errors; nothing else is raised."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockyard.errors import DockyardError, ImageError
from dockyard.oci.config import ImageConfig
from dockyard.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from dockyard.oci.digest import Digest
from dockyard.oci.layer import BytesBlob
from dockyard.oci.manifest import Index, Manifest, manifest_type
from dockyard.oci.platform import Platform
from dockyard.oci.reference import Reference
from dockyard.oci.registry.api import StoredManifest
from dockyard.oci.registry.challenge import parse_challenges
from dockyard.oci.registry.pull import choose_platform
from dockyard.oci.registry.refusals import fit, shown_url

DIGEST = str(Digest.of(b""))
KEYS = st.sampled_from(
    [
        *("schemaVersion", "mediaType", "config", "layers", "manifests", "annotations", "subject"),
        *("digest", "size", "platform", "os", "architecture", "artifactType", "urls", "data"),
        *("rootfs", "type", "diff_ids", "history", "created_by", "empty_layer", "Env", "Labels"),
        *("Entrypoint", "Cmd", "Healthcheck", "Test", "Interval", "ExposedPorts", "Volumes"),
    ]
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.sampled_from([2, 1, "layers", OCI_MANIFEST, OCI_INDEX, DIGEST, "linux", "amd64", "a=b"]),
    st.text(max_size=8),
)
DOCUMENTS = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=8),
    max_leaves=30,
)
OBJECTS = st.dictionaries(KEYS, DOCUMENTS, max_size=10)


@given(OBJECTS)
@settings(max_examples=300, deadline=None)
def test_any_json_is_a_manifest_or_an_error(value: dict[str, Any]) -> None:
    value.setdefault("schemaVersion", 2)
    data = json.dumps(value).encode()
    for read in (Manifest.from_bytes, Index.from_bytes):
        with suppress(ImageError):
            found = read(data, where="test")
            assert read(found.to_bytes(), where="test") == found
    for header in (OCI_MANIFEST, OCI_INDEX, "text/html", ""):
        with suppress(ImageError):
            assert manifest_type(data, header, where="test").startswith("application/")


@given(OBJECTS)
@settings(max_examples=300, deadline=None)
def test_any_json_is_a_configuration_or_an_error(value: dict[str, Any]) -> None:
    value.setdefault("rootfs", {"type": "layers", "diff_ids": [DIGEST]})
    value.setdefault("os", "linux")
    value.setdefault("architecture", "amd64")
    with suppress(ImageError):
        found = ImageConfig.from_bytes(json.dumps(value).encode(), where="test")
        assert found.to_bytes()


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_refused_as_a_manifest(data: bytes) -> None:
    with pytest.raises(ImageError):
        Manifest.from_bytes(data, where="test")


class Anything:
    """A source that answers every question with the same document."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def manifest(self, which: object) -> StoredManifest:
        return StoredManifest.of(self.data, OCI_MANIFEST)

    def blob(self, descriptor: object) -> BytesBlob:
        return BytesBlob(data=self.data)


@given(OBJECTS)
@settings(max_examples=200, deadline=None)
def test_any_index_leads_to_an_image_or_an_error(value: dict[str, Any]) -> None:
    root = {"schemaVersion": 2, "manifests": [value]}
    source = Anything(json.dumps(value).encode())
    stored = StoredManifest.of(json.dumps(root).encode(), OCI_INDEX)
    with pytest.raises(DockyardError):
        choose_platform(source, stored, Platform(), where="test")


@given(st.text(max_size=60) | st.from_regex(r"[a-zA-Z0-9./:@_\[\]-]{1,60}"))
@settings(max_examples=500, deadline=None)
def test_any_text_is_a_reference_that_reads_back_or_an_error(text: str) -> None:
    with suppress(ImageError):
        reference = Reference.parse(text)
        assert Reference.parse(str(reference)) == reference
        assert Reference.parse(reference.familiar()) == reference


@given(st.text(max_size=120) | st.from_regex(r'(Bearer|Basic)? ?[a-z]*="?[^"]{0,20}"?,? ?'))
@settings(max_examples=500, deadline=None)
def test_any_header_is_read(text: str) -> None:
    for challenge in parse_challenges([text]):
        assert challenge.scheme == challenge.scheme.lower()


@given(st.text(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_message_is_shown_on_one_clean_line(text: str) -> None:
    shown = fit(text + " secret-word " + text, ["secret-word"])
    assert len(shown) <= 300
    assert "secret-word" not in shown
    assert not any(ord(character) < 32 or ord(character) == 127 for character in shown)


@given(st.text(max_size=30), st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_url_is_shown_without_its_login_and_query(host: str, path: str) -> None:
    shown = shown_url(f"https://user:hidden-word@{host}/{path}?sign=hidden-sign#hidden-part")
    assert "hidden" not in shown
    assert "?" not in shown


@pytest.mark.parametrize("url", ["http://[broken", "https://a:b@[x/y?z", "http://[::1/"])
def test_a_url_that_can_t_be_read_is_shown_as_such(url: str) -> None:
    assert shown_url(url) == "an address that can't be read"
