"""What every registry does, asked of Debian's docker-registry and of the one in memory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from small_images import small_image, small_layer

from dockyard.cache import Cache
from dockyard.errors import DockyardError, ImageError, RegistryError
from dockyard.oci.platform import Platform
from dockyard.oci.reference import Reference
from dockyard.oci.registry.api import Absent, StoredManifest
from dockyard.oci.registry.artifact import Artifact, fetch_artifact, push_artifact
from dockyard.oci.registry.connect import HttpRegistries
from dockyard.oci.registry.memory import MemoryRegistries
from dockyard.oci.registry.pull import fetch_image, fetch_root, pull_layers
from dockyard.oci.registry.push import push_images, push_tree
from dockyard.oci.verify import verify_image
from dockyard.progress import SilentReporter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server import Server

    from dockyard.oci.registry.api import Registries
    from dockyard.oci.registry.attempts import Patience


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture(params=["docker-registry", "memory"])
def registries(
    request: pytest.FixtureRequest, cache: Cache, impatient: Patience, home: Path
) -> Iterator[Registries]:
    if request.param == "memory":
        yield MemoryRegistries()
        return
    request.getfixturevalue("server")
    with HttpRegistries(cache=cache, patience=impatient) as found:
        yield found


@pytest.fixture
def host(registries: Registries, request: pytest.FixtureRequest) -> str:
    if isinstance(registries, MemoryRegistries):
        return "registry.example"
    server: Server = request.getfixturevalue("server")
    return server.host


def test_a_pushed_image_comes_back_as_it_was(host, registries, cache):
    image = small_image(env="round trip")
    reference = Reference.parse(f"{host}/team/round:v1")
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
    here = [cache.has_blob(layer.descriptor.digest.hex) for layer in image.layers]
    assert here == [not isinstance(registries, MemoryRegistries)] * 2


def test_what_is_there_is_not_sent_again(host, registries, cache):
    image = small_image(env="twice")
    repository = registries.repository(f"{host}/team/twice")
    push_images([image], repository, tags=["v1"], cache=cache)
    again = push_images([image], repository, tags=["v2"], cache=cache)
    assert again.blobs == {}
    more = image.append(small_layer("another"))
    third = push_images([more], repository, tags=["v3"], cache=cache)
    assert (third.count("there"), third.count("uploaded")) == (2, 2)
    assert sorted(repository.tags()) == ["v1", "v2", "v3"]


def test_a_sibling_s_blobs_are_mounted(host, registries, cache):
    image = small_image(env="mounted")
    push_images([image], registries.repository(f"{host}/a/one"), tags=["v1"], cache=cache)
    other = registries.repository(f"{host}/b/two")
    pushed = push_images([image], other, tags=["v1"], cache=cache)
    assert pushed.sizes["uploaded"] == 0
    assert pushed.count("mounted") == 3


def test_a_copy_within_a_registry_moves_no_bytes(host, registries):
    image = small_image(env="copied")
    source = registries.repository(f"{host}/copy/from")
    push_images([image], source, tags=["v1"])
    root = fetch_root(registries, Reference.parse(f"{host}/copy/from:v1"))
    target = registries.repository(f"{host}/copy/to")
    pushed = push_tree(source, root, target, tags=["v2"])
    assert pushed.count("mounted") == 3
    assert target.manifest("v2").data == image.manifest_bytes


def test_an_index_holds_an_image_for_each_platform(host, registries):
    images = [
        small_image(small_layer(architecture), architecture=architecture)
        for architecture in ("amd64", "arm64")
    ]
    reference = Reference.parse(f"{host}/team/both:v1")
    push_images(images, registries.repository(reference), tags=["v1"])
    for image in images:
        assert fetch_image(registries, reference, image.platform).digest == image.digest


def test_deleting_takes_a_manifest_and_its_tags_away(host, registries):
    image = small_image(env="deleted")
    repository = registries.repository(f"{host}/team/gone")
    push_images([image], repository, tags=["v1"])
    repository.delete_manifest(image.digest)
    assert repository.head("v1") is None
    with pytest.raises(Absent):
        repository.manifest("v1")
    with pytest.raises(Absent):
        repository.delete_manifest(image.digest)
    repository.delete_blob(image.layers[0].descriptor.digest)
    assert not repository.has_blob(image.layers[0].descriptor.digest)


def test_a_tag_is_deleted_or_it_is_said_that_it_can_t_be(host, registries):
    repository = registries.repository(f"{host}/team/tagged")
    push_images([small_image(env="tagged")], repository, tags=["v1", "v2"])
    if isinstance(registries, MemoryRegistries):
        repository.delete_manifest("v1")
        assert repository.head("v1") is None
    else:
        with pytest.raises(RegistryError, match=r"400|404|doesn't allow"):
            repository.delete_manifest("v1")
    assert repository.head("v2") is not None


def test_referrers_are_listed_with_or_without_such_an_api(host, registries):
    image = small_image(env="referred")
    repository = registries.repository(f"{host}/team/referred")
    push_images([image], repository, tags=["v1"])
    for number in range(2):
        artifact = Artifact(
            artifact_type=f"application/vnd.test.{number}",
            documents=(("text/plain", b"about %d" % number),),
            subject=image.descriptor,
        )
        push_artifact(artifact, repository)
    found = repository.referrers(image.digest)
    assert sorted(str(each.artifact_type) for each in found) == [
        "application/vnd.test.0",
        "application/vnd.test.1",
    ]
    (one,) = repository.referrers(image.digest, artifact_type="application/vnd.test.1")
    read = fetch_artifact(repository, one.digest, artifact_type="application/vnd.test.1")
    assert read is not None
    assert read.documents == (("text/plain", b"about 1"),)


def test_all_tags_are_listed(host, registries):

    repository = registries.repository(f"{host}/team/many")
    names = [f"v{number:02}" for number in range(10)]
    push_images([small_image(env="many")], repository, tags=names)
    assert sorted(repository.tags()) == names


def test_a_missing_repository_has_no_tags(host, registries):
    with pytest.raises(Absent, match=r"not known|no repository"):
        list(registries.repository(f"{host}/nobody/here").tags())


def test_bytes_that_are_not_the_descriptor_s_are_not_stored(host, registries):
    layer = small_layer("right")
    repository = registries.repository(f"{host}/team/wrong")
    for wrong in (small_layer("wrong"), small_layer("longer", 5000), small_layer("short", 10)):
        with pytest.raises(DockyardError):
            repository.put_blob(layer.descriptor, wrong.blob)
    assert not repository.has_blob(layer.descriptor.digest)


def test_a_manifest_without_its_blobs_is_refused(host, registries):
    image = small_image(small_layer("never pushed"), env="half")
    repository = registries.repository(f"{host}/team/half")
    with pytest.raises(RegistryError):
        repository.put_manifest(StoredManifest.of(image.manifest_bytes, image.family), tag="half")
    assert repository.head("half") is None


def test_a_mount_from_nowhere_says_no(host, registries):
    repository = registries.repository(f"{host}/team/mounting")
    assert not repository.mount(small_layer("unheard of").descriptor, "nobody/has-it")


def test_an_artifact_of_another_type_is_refused(host, registries):
    repository = registries.repository(f"{host}/team/typed")
    push_artifact(
        Artifact(artifact_type="a/b", documents=(("text/plain", b"x"),)), repository, tag="t"
    )
    with pytest.raises(ImageError, match="'a/b'"):
        fetch_artifact(repository, "t", artifact_type="c/d")
    assert fetch_artifact(repository, "absent", artifact_type="a/b") is None


class Heard(SilentReporter):
    """A reporter that remembers its tasks, and how far each came."""

    def __init__(self) -> None:
        self.tasks: dict[str, list[int]] = {}

    @contextmanager
    def task(self, text, *, total=None):
        numbers = self.tasks[text] = [total or 0, 0]

        class Counting:
            def advance(self, amount: int) -> None:
                numbers[1] += amount

            def describe(self, text: str) -> None:
                raise AssertionError("a transfer keeps its name")

        yield Counting()


def test_each_large_blob_s_progress_is_told_by_its_name(host, registries, cache):
    large, small = small_layer("large", 400_000), small_layer("small")
    image = small_image(large, small)
    titles = {layer.descriptor.digest: layer.created_by for layer in image.layers}
    reference = Reference.parse(f"{host}/team/progress:v1")
    heard = Heard()
    repository = registries.repository(reference)
    push_images([image], repository, tags=["v1"], titles=titles, reporter=heard)
    size = large.descriptor.size
    assert heard.tasks == {"Pushing layer large": [size, size]}
    if isinstance(registries, MemoryRegistries):
        return  # nothing to pull
    heard = Heard()
    found = fetch_image(registries, reference, image.platform)
    pull_layers(found, cache, titles=titles, reporter=heard)
    assert heard.tasks == {"Pulling layer large": [size, size]}
