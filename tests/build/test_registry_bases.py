"""Bases in registries: only documents are read until bytes are wanted, and digests are kept.

The registry is Debian's docker-registry, started here; a machine is a cache folder of its own.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from base_maker import distribution, image_with, tar_layer
from lock_project import Heard
from registry_server import PROGRAM, Server, registry_server

from dockyard.build.api import BuiltProject, build_project
from dockyard.build.lock import lock_project
from dockyard.build.request import BuildRequest, Target
from dockyard.cache import Cache
from dockyard.errors import BuildError
from dockyard.oci.layout import read_layout
from dockyard.oci.reference import Reference
from dockyard.oci.registry.connect import HttpRegistries
from dockyard.oci.registry.downloads import RemoteBlob
from dockyard.oci.registry.pull import fetch_image
from dockyard.oci.registry.push import push_images
from dockyard.oci.verify import verify_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build_ground import Ground

    from dockyard.oci.image import Image

LIBC = b"GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n"
SITE = "usr/local/lib/python3.11/site-packages"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if shutil.which(PROGRAM) is None:
        pytest.skip("docker-registry isn't installed")
    with registry_server(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The digests of blobs that are read out of registries, as they are."""
    found: list[str] = []
    original = RemoteBlob.chunks_from

    def chunks_from(self: RemoteBlob, offset: int, **more: Any) -> Iterator[bytes]:
        found.append(str(self.descriptor.digest))
        return original(self, offset, **more)

    monkeypatch.setattr(RemoteBlob, "chunks_from", chunks_from)
    return found


def python_image(text: bytes) -> Image:
    """What looks like a base with Python 3.11 and alpha 1.0, in two layers."""
    files = {"usr/local/bin/python3.11": b"\0" + b"3.11.2\0", "usr/lib/libc.so.6": LIBC}
    above = {**distribution(SITE, "alpha", "1.0", requires=("beta",)), "etc/id": text}
    return image_with(tar_layer(files), tar_layer(above))


def put(server: Server, name: str, image: Image) -> None:
    with HttpRegistries() as registries:
        reference = Reference.parse(f"{server.host}/{name}")
        assert reference.tag is not None
        push_images([image], registries.repository(reference), tags=[reference.tag])


def request(ground: Ground, base: str, *tags: str, **more: Any) -> BuildRequest:
    (ground.project / "dockyard.toml").write_text(f'base = "{base}"\nbytecode = "none"\n')
    return BuildRequest(folder=ground.project, tags=tags, **more)


def push(ground: Ground, server: Server, base: str, machine: Path) -> BuiltProject:
    asked = request(ground, f"{server.host}/{base}", f"{server.host}/team/app:1")
    return build_project(asked, targets=[Target(kind="registry")], cache=Cache(machine))


def layers_of(image: Image) -> set[str]:
    return {str(layer.descriptor.digest) for layer in image.layers}


def test_pushing_to_the_registry_that_has_the_base_never_reads_its_layers(
    ground: Ground, server: Server, reads: list[str], tmp_path: Path
) -> None:
    base = python_image(b"first")
    put(server, "lib/python:3.11", base)
    first = push(ground, server, "lib/python:3.11", tmp_path / "one")
    # Once, to see what the base has.
    assert layers_of(base) <= set(reads)
    reads.clear()
    again = push(ground, server, "lib/python:3.11", tmp_path / "two")
    assert again.digest == first.digest
    assert not layers_of(base) & set(reads)
    image = again.images[0].image
    assert [layer.diff_id for layer in image.layers[:2]] == [layer.diff_id for layer in base.layers]
    with HttpRegistries() as registries:
        reference = Reference.parse(f"{server.host}/team/app:1")
        there = fetch_image(registries, reference, image.platform)
        assert verify_image(there, ours=False) == []
    # The base's own alpha is kept.
    assert "alpha" not in " ".join(layer.created_by for layer in image.layers)


def test_an_output_that_needs_the_bases_bytes_gets_them(
    ground: Ground, server: Server, reads: list[str], tmp_path: Path
) -> None:
    base = python_image(b"bytes")
    put(server, "lib/bytes:1", base)
    cache = Cache(tmp_path / "one")
    target = Target(kind="oci", path=ground.layout())
    build_project(request(ground, f"{server.host}/lib/bytes:1"), targets=[target], cache=cache)
    assert sorted(reads) == sorted([*layers_of(base), str(base.manifest.config.digest)])
    assert verify_image(read_layout(ground.layout()), ours=False) == []
    reads.clear()
    other = Target(kind="archive", path=ground.out / "image.tar")
    build_project(request(ground, f"{server.host}/lib/bytes:1"), targets=[other], cache=cache)
    assert reads == []


def test_a_tag_is_asked_again_only_by_upgrade_and_never_past_the_lock(
    ground: Ground, server: Server, tmp_path: Path
) -> None:
    name = "lib/moving:1"
    old, new = python_image(b"old"), python_image(b"new")
    put(server, name, old)
    cache = Cache(tmp_path / "one")

    def base_of(**more: Any) -> set[str]:
        asked = request(ground, f"{server.host}/{name}", **more)
        target = Target(kind="oci", path=ground.out / "moving")
        built = build_project(asked, targets=[target], cache=more.pop("cache", cache))
        return layers_of(built.images[0].image)

    assert layers_of(old) <= base_of()
    put(server, name, new)
    assert layers_of(old) <= base_of()
    lock_project(request(ground, f"{server.host}/{name}"), cache=cache)
    text = (ground.project / "pylock.toml").read_text()
    assert str(old.digest) in text
    # Another machine builds on what the lock has, whatever the tag says by now.
    cache = Cache(tmp_path / "two")
    assert layers_of(old) <= base_of(locked=True)
    assert layers_of(new) <= base_of(upgrade=True)
    lock_project(request(ground, f"{server.host}/{name}", upgrade=True), cache=cache)
    assert str(new.digest) in (ground.project / "pylock.toml").read_text()


def test_a_digest_is_never_asked_for_twice(ground: Ground, server: Server, tmp_path: Path) -> None:
    base = python_image(b"exact")
    put(server, "lib/exact:1", base)
    name = f"{server.host}/lib/exact@{base.digest}"
    target = Target(kind="oci", path=ground.layout())
    cache = Cache(tmp_path / "one")
    build_project(request(ground, name), targets=[target], cache=cache)
    built = build_project(request(ground, name, offline=True), targets=[target], cache=cache)
    assert layers_of(base) <= layers_of(built.images[0].image)
    # Documents that the cache no longer has as they were are read again.
    cache.blob_path(base.digest.hex).write_bytes(b"{}")
    build_project(request(ground, name), targets=[target], cache=cache)
    assert cache.blob_path(base.digest.hex).read_bytes() == base.manifest_bytes


@pytest.mark.parametrize(
    ("base", "more", "said"),
    [
        ("lib/absent:1", {}, "the registry has no image"),
        ("lib/unseen:1", {"offline": True}, "has never been looked at"),
    ],
)
def test_a_base_that_cant_be_had_is_named(
    ground: Ground,
    server: Server,
    base: str,
    more: dict[str, Any],
    said: str,
    tmp_path: Path,
) -> None:
    asked = request(ground, f"{server.host}/{base}", **more)
    target = Target(kind="oci", path=ground.layout())
    with pytest.raises(BuildError, match=said):
        build_project(asked, targets=[target], cache=Cache(tmp_path / "one"), reporter=Heard())
    assert not ground.layout().exists()
