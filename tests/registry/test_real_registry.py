"""The client against Debian's docker-registry: what is pushed comes back as it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from small_images import small_image, small_layer

from dockyard.cache import Cache
from dockyard.cli.main import run_command_line
from dockyard.errors import RegistryError
from dockyard.oci.platform import Platform
from dockyard.oci.reference import Reference
from dockyard.oci.registry.api import Absent
from dockyard.oci.registry.artifact import Artifact, fetch_artifact, push_artifact
from dockyard.oci.registry.connect import HttpRegistries
from dockyard.oci.registry.pull import fetch_image, fetch_root, pull_layers
from dockyard.oci.registry.push import push_images, push_tree
from dockyard.oci.verify import verify_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server import Server

    from dockyard.oci.registry.attempts import Patience


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def registries(cache: Cache, impatient: Patience, home: Path) -> Iterator[HttpRegistries]:
    with HttpRegistries(cache=cache, patience=impatient) as found:
        yield found


def test_a_pushed_image_comes_back_as_it_was(server: Server, registries, cache):
    image = small_image(env="round trip")
    reference = Reference.parse(f"{server.host}/team/round:v1")
    pushed = push_images([image], registries.repository(reference), tags=["v1"])
    assert pushed.descriptor == image.descriptor.__class__(
        media_type=image.family, digest=image.digest, size=len(image.manifest_bytes)
    )
    assert pushed.count("uploaded") == 3
    found = fetch_image(registries, reference, Platform.parse("linux/amd64"))
    assert found.digest == image.digest
    assert verify_image(found, ours=False) == []
    local = pull_layers(found, cache)
    assert verify_image(local, ours=False) == []
    assert all(cache.has_blob(layer.descriptor.digest.hex) for layer in image.layers)


def test_what_is_there_is_not_sent_again(server: Server, registries, cache):
    image = small_image(env="twice")
    repository = registries.repository(f"{server.host}/team/twice")
    push_images([image], repository, tags=["v1"], cache=cache)
    again = push_images([image], repository, tags=["v2"], cache=cache)
    assert again.blobs == {}
    more = image.append(small_layer("another"))
    third = push_images([more], repository, tags=["v3"], cache=cache)
    assert (third.count("there"), third.count("uploaded")) == (2, 2)
    assert sorted(repository.tags()) == ["v1", "v2", "v3"]


def test_a_sibling_s_blobs_are_mounted(server: Server, registries, cache):
    image = small_image(env="mounted")
    push_images([image], registries.repository(f"{server.host}/a/one"), tags=["v1"], cache=cache)
    other = registries.repository(f"{server.host}/b/two")
    pushed = push_images([image], other, tags=["v1"], cache=cache)
    assert pushed.sizes["uploaded"] == 0
    assert pushed.count("mounted") == 3


def test_a_copy_within_a_registry_moves_no_bytes(server: Server, registries):
    image = small_image(env="copied")
    source = registries.repository(f"{server.host}/copy/from")
    push_images([image], source, tags=["v1"])
    root = fetch_root(registries, Reference.parse(f"{server.host}/copy/from:v1"))
    target = registries.repository(f"{server.host}/copy/to")
    pushed = push_tree(source, root, target, tags=["v2"])
    assert pushed.count("mounted") == 3
    assert target.manifest("v2").data == image.manifest_bytes


def test_an_index_holds_an_image_for_each_platform(server: Server, registries):
    images = [
        small_image(small_layer(architecture), architecture=architecture)
        for architecture in ("amd64", "arm64")
    ]
    reference = Reference.parse(f"{server.host}/team/both:v1")
    push_images(images, registries.repository(reference), tags=["v1"])
    for image in images:
        assert fetch_image(registries, reference, image.platform).digest == image.digest


def test_deleting_takes_a_manifest_and_its_tags_away(server: Server, registries):
    image = small_image(env="deleted")
    repository = registries.repository(f"{server.host}/team/gone")
    push_images([image], repository, tags=["v1"])
    repository.delete_manifest(image.digest)
    assert repository.head("v1") is None
    with pytest.raises(Absent, match="404"):
        repository.manifest("v1")
    with pytest.raises(Absent):
        repository.delete_manifest(image.digest)
    repository.delete_blob(image.layers[0].descriptor.digest)
    assert not repository.has_blob(image.layers[0].descriptor.digest)


def test_deleting_a_tag_says_why_this_registry_does_not(server: Server, registries):
    repository = registries.repository(f"{server.host}/team/tagged")
    push_images([small_image(env="tagged")], repository, tags=["v1"])
    with pytest.raises(RegistryError, match=r"doesn't allow|400|404"):
        repository.delete_manifest("v1")
    assert repository.head("v1") is not None


def test_referrers_are_listed_where_the_registry_has_no_such_api(server: Server, registries):
    image = small_image(env="referred")
    repository = registries.repository(f"{server.host}/team/referred")
    push_images([image], repository, tags=["v1"])
    for number in range(2):
        artifact = Artifact(
            artifact_type=f"application/vnd.test.{number}",
            documents=(("text/plain", b"about %d" % number),),
            subject=image.descriptor,
        )
        push_artifact(artifact, repository)
    found = repository.referrers(image.digest)
    assert [each.artifact_type for each in found] == [
        "application/vnd.test.0",
        "application/vnd.test.1",
    ]
    (one,) = repository.referrers(image.digest, artifact_type="application/vnd.test.1")
    read = fetch_artifact(repository, one.digest, artifact_type="application/vnd.test.1")
    assert read is not None
    assert read.documents == (("text/plain", b"about 1"),)


def test_all_tags_are_listed(server: Server, registries):

    repository = registries.repository(f"{server.host}/team/many")
    names = [f"v{number:02}" for number in range(10)]
    push_images([small_image(env="many")], repository, tags=names)
    assert sorted(repository.tags()) == names


def test_a_missing_repository_has_no_tags(server: Server, registries):
    with pytest.raises(Absent, match="repository name not known"):
        list(registries.repository(f"{server.host}/nobody/here").tags())


def test_what_fills_an_image_is_told_without_pulling_it(server: Server, registries, capsys):
    image = small_image(small_layer("app/model.pt", 5000), env="layers")
    reference = f"{server.host}/team/layers:v1"
    push_images([image], registries.repository(reference), tags=["v1"])
    assert run_command_line(["layers", f"registry:{reference}", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["size"], report["files"]) == (5000, 1)
    assert report["kinds"] == [{"name": "models", "size": 5000, "files": 1}]
