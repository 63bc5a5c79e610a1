"""What is newer: packages that fit and that don't, bases in registries; nothing is changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from base_maker import image_with, tar_layer

from dockyard.build.outdated import find_newer, newest_tag
from dockyard.build.request import BuildRequest
from dockyard.oci.reference import Reference
from dockyard.oci.registry.memory import MemoryRegistries
from dockyard.oci.registry.push import push_images

if TYPE_CHECKING:
    from build_ground import Ground

    from dockyard.cache import Cache
    from dockyard.oci.image import Image

LIBC = b"GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n"


@pytest.mark.parametrize(
    ("tag", "tags", "newest"),
    [
        ("3.12.4-slim", ["3.12.5-slim", "3.12.10-slim", "3.13.0-slim"], "3.13.0-slim"),
        ("3.12.4-slim", ["3.12.9", "3.12.9-alpine", "3.12-slim"], None),
        ("3.12-slim", ["3.9-slim", "3.13-slim", "3.14.1-slim"], "3.13-slim"),
        ("24.08-py3", ["24.12-py3", "25.01-py3-igpu"], "24.12-py3"),
        ("v2", ["v10", "2", "v3"], "v10"),
        ("latest", ["1", "2"], None),
        ("3.12.4-slim", [], None),
    ],
)
def test_the_newest_tag_is_one_like_it(tag: str, tags: list[str], newest: str | None) -> None:
    assert newest_tag(tag, tags) == newest


def base_image(text: bytes) -> Image:
    files = {"usr/bin/python3.11": b"\0" + b"3.11.2\0", "usr/lib/libc.so.6": LIBC, "etc/id": text}
    return image_with(tar_layer(files))


def test_a_moved_tag_a_newer_tag_and_newer_packages_are_said(ground: Ground, cache: Cache) -> None:
    registries = MemoryRegistries()
    repository = registries.repository(Reference.parse("r.example/lib/python:3.11.2"))
    push_images([base_image(b"old")], repository, tags=["3.11.2", "3.11.9", "latest"])
    (ground.project / "dockyard.toml").write_text('base = "r.example/lib/python:3.11.2"\n')
    (ground.project / "requirements.txt").write_text("alpha<2\nbeta\n")
    request = BuildRequest(folder=ground.project)
    first = find_newer(request, cache=cache, registries=registries)
    assert [(item.kind, item.fits, item.newest) for item in first] == [("base", None, "3.11.9")]
    moved = base_image(b"new")
    push_images([moved], repository, tags=["3.11.2"])
    for version in ("1.5", "3.0"):
        ground.index.wheel("alpha", version, requires=["beta"])
    found = find_newer(request, cache=cache, registries=registries)
    assert [(item.name, item.fits, item.newest) for item in found] == [
        ("r.example/lib/python:3.11.2", str(moved.digest), "3.11.9"),
        ("alpha", "1.5", "3.0"),
    ]
    # Asking has changed nothing: what a build takes is what it was.
    assert find_newer(request, cache=cache, registries=registries) == found
    assert found[1].now == "1.0"


def test_the_command_says_what_to_do(ground: Ground) -> None:
    assert ground.run("lock", ground.project)[0] == 0
    code, out, err = ground.run("outdated", ground.project)
    assert (code, out) == (0, "Nothing has a newer version\n"), err
    ground.index.wheel("beta", "2.5")
    code, out, _ = ground.run("outdated", ground.project)
    assert code == 0
    assert out.splitlines()[1].split() == ["beta", "2.0", "2.5", "2.5"]
    assert "dockyard lock --upgrade" in out
    code, out, _ = ground.run("outdated", ground.project, "--json")
    assert json.loads(out)["outdated"] == [
        {"kind": "package", "name": "beta", "now": "2.0", "fits": "2.5", "newest": "2.5"}
    ]
