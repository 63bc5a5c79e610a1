"""Pushing with the layer index: what the registry knows is neither fetched nor made again.

The registry is Debian's docker-registry, started here; a machine is a cache folder of its own.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from build_ground import Ground, make_ground
from index_server import IndexServer
from lock_project import Heard
from registry_server import PROGRAM, Server, registry_server

from dockyard.build.api import BuiltProject, build_project
from dockyard.build.layer_entry import read_entry, read_files, write_entry, write_files
from dockyard.build.layer_index import index_path
from dockyard.build.lock import lock_project
from dockyard.build.request import BuildRequest, Target
from dockyard.cache import Cache
from dockyard.errors import ImageError, UsageError, WheelError
from dockyard.oci.descriptor import OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor
from dockyard.oci.digest import Digest
from dockyard.oci.layer import BytesBlob, Layer
from dockyard.oci.manifest import Manifest
from dockyard.oci.reference import Reference
from dockyard.oci.registry.api import Denied, StoredManifest
from dockyard.oci.registry.connect import HttpRegistries
from dockyard.oci.registry.memory import MemoryRegistries
from dockyard.oci.registry.pull import fetch_image
from dockyard.oci.verify import verify_image

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if shutil.which(PROGRAM) is None:
        pytest.skip("docker-registry isn't installed")
    with registry_server(tmp_path_factory.mktemp("registry")) as running:
        yield running


@dataclass
class Yard:
    """A project, and builds of it by machines that have nothing but what is said."""

    ground: Ground
    tmp: Path
    heard: Heard
    registries: MemoryRegistries | None = None

    def push(self, name: str, machine: str, **overrides: object) -> BuiltProject:
        """Build and push on a machine, which is new if its name is."""
        chosen = {"bytecode": "none", **overrides}
        request = BuildRequest(folder=self.ground.project, tags=(name,), overrides=chosen)
        return build_project(
            request,
            targets=[Target(kind="registry")],
            cache=Cache(self.tmp / machine),
            registries=self.registries,
            reporter=self.heard,
        )


@pytest.fixture
def yard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Yard:
    ground = make_ground(tmp_path, monkeypatch, capsys)
    return Yard(ground, tmp_path, Heard(), MemoryRegistries())


def test_a_build_goes_to_a_real_registry_and_an_empty_machine_only_mounts(
    yard: Yard, server: Server
) -> None:
    yard.registries = None
    first = yard.push(f"{server.host}/team/app:1", "one", bytecode="profile")
    assert first.uploaded > 10_000_000  # the Debian base with Python
    again = yard.push(f"{server.host}/team/other:1", "two", bytecode="profile")
    assert again.digest == first.digest
    assert again.uploaded < 20_000  # the code and the configuration
    # The packages are there as layers; nothing of them was read on the second machine.
    assert not (yard.tmp / "two" / "unpacked").exists()
    with HttpRegistries() as registries:
        reference = Reference.parse(f"{server.host}/team/other:1")
        image = fetch_image(registries, reference, again.images[0].image.platform)
        assert verify_image(image) == []
        tags = sorted(registries.repository(f"{server.host}/team/layers").tags())
    assert [tag.partition("-")[0] for tag in tags] == ["base", "bytecode", "wheels"]


def test_what_isnt_pushed_anywhere_asks_no_registry(yard: Yard) -> None:
    with pytest.raises(UsageError, match="names no place to push to"):
        yard.push("app", "one")
    assert yard.registries is not None
    assert not yard.registries._repositories


def test_a_locked_project_asks_no_index_for_what_the_registry_knows(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    with IndexServer(yard.ground.index.root, user="ada", password="secret") as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url_with_credentials)
        lock_project(BuildRequest(folder=yard.ground.project), cache=Cache(yard.tmp / "one"))
        first = yard.push("r.example/team/app", "one")
        asked = {request.path.rpartition("/")[2] for request in index.requests}
        assert "alpha-1.0-py3-none-any.whl" in asked
        index.requests.clear()
        assert yard.push("r.example/team/app", "two").digest == first.digest
        assert index.requests == []
        # One small dependency is new: it is fetched, and what shares its layer.
        yard.ground.index.wheel("gamma", "3.0")
        (yard.ground.project / "requirements.txt").write_text("alpha\ngamma\n")
        lock_project(BuildRequest(folder=yard.ground.project), cache=Cache(yard.tmp / "one"))
        changed = yard.push("r.example/team/app", "three")
        assert len(changed.images[0].image.layers) == len(first.images[0].image.layers)


def test_changed_code_keeps_the_bytecode_and_changed_imports_make_it_anew(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = yard.ground.project / "app.py"
    with IndexServer(yard.ground.index.root, user="ada", password="secret") as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url_with_credentials)
        lock_project(BuildRequest(folder=yard.ground.project), cache=Cache(yard.tmp / "one"))
        yard.push("r.example/team/app", "one", bytecode="profile")
        app.write_text(app.read_text().replace("200", "201"))
        yard.push("r.example/team/app", "two", bytecode="profile")
        assert yard.heard.notes == []
        app.write_text("import json\n" + app.read_text())
        yard.push("r.example/team/app", "three", bytecode="profile")
        assert any("bytecode has to be made anew" in note for note in yard.heard.notes)


def test_a_clash_with_a_wheel_that_isnt_here_is_found_in_the_index(yard: Yard) -> None:
    big = {"alpha/data.bin": "x" * 10, "shared/part.py": "one"}
    yard.ground.index.wheel("big", "1.0", files=big)
    _make_solo(yard, "big")
    (yard.ground.project / "requirements.txt").write_text("big\n")
    yard.push("r.example/team/app", "one")
    yard.ground.index.wheel("rival", "1.0", files={"shared/part.py": "two"})
    (yard.ground.project / "requirements.txt").write_text("big\nrival\n")
    with pytest.raises(WheelError, match="big and rival can't both be installed"):
        yard.push("r.example/team/app", "two")


def _make_solo(yard: Yard, name: str) -> None:
    """Make a wheel large enough for a layer of its own, by what doesn't compress."""
    import hashlib

    text = "".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(100_000))
    (wheel,) = (yard.ground.index.root / "files").glob(f"{name}-*.whl")
    files = {f"{name}/noise.txt": text, "shared/part.py": "one"}
    (yard.ground.index.root / "simple" / name / "index.html").unlink()
    wheel.unlink()
    yard.ground.index.wheel(name, "1.0", files=files)


def test_the_index_can_be_elsewhere_or_off(yard: Yard) -> None:
    registries = yard.registries
    assert registries is not None
    yard.push("r.example/team/app", "one", layer_index="common/store")
    assert registries.repository("r.example/common/store").tagged
    yard.push("r.example/quiet/app", "one", layer_index=False)
    assert not registries.repository("r.example/quiet/layers").tagged


@pytest.mark.parametrize(
    ("name", "image", "path"),
    [
        ("layers", "r.example/team/app", "team/layers"),
        ("layers", "r.example/a/b/app", "a/b/layers"),
        ("layers", "r.example/app", "layers"),
        ("cache", "user/app", "user/cache"),
        ("common/store", "r.example/team/app", "common/store"),
    ],
)
def test_the_index_lies_beside_the_image(name: str, image: str, path: str) -> None:
    assert index_path(name, Reference.parse(image)) == path


def poison(yard: Yard, kind: str, change: object) -> None:
    """Replace the index's entry of one kind by what `change` makes of its manifest."""
    assert yard.registries is not None
    repository = yard.registries.repository("r.example/team/layers")
    (tag,) = [tag for tag in repository.tags() if tag.startswith(f"{kind}-")]
    manifest = Manifest.from_bytes(repository.manifest(tag).data, where=tag)
    data = change(manifest, repository).to_bytes()  # type: ignore[operator]
    repository.put_manifest(StoredManifest.of(data, OCI_MANIFEST), tag=tag)


def _other_inputs(manifest: Manifest, repository: object) -> Manifest:
    notes = {**manifest.annotations, "io.dockyard.layer.inputs": "{}"}
    return replace(manifest, annotations=notes)


def _no_artifact(manifest: Manifest, repository: object) -> Manifest:
    return replace(manifest, artifact_type="application/other")


def _no_diff_id(manifest: Manifest, repository: object) -> Manifest:
    notes = {**manifest.annotations, "io.dockyard.layer.diff-id": "sha256:short"}
    return replace(manifest, annotations=notes)


def test_an_entry_that_isnt_for_the_layer_isnt_believed(yard: Yard) -> None:
    first = yard.push("r.example/team/app", "one")
    for number, change in enumerate((_other_inputs, _no_artifact, _no_diff_id)):
        poison(yard, "wheels", change)
        yard.heard.warnings.clear()
        again = yard.push("r.example/team/app", f"two-{number}")
        assert again.digest == first.digest
        assert any("isn't used" in warning for warning in yard.heard.warnings)
        # What was packed in its place is entered again.
        yard.heard.warnings.clear()
        yard.push("r.example/team/app", "one")
        assert yard.heard.warnings == []


def _other_layer(manifest: Manifest, repository: object) -> Manifest:
    data = b"something else"
    other = Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(data), size=len(data))
    repository.put_blob(other, BytesBlob(data=data))  # type: ignore[attr-defined]
    return replace(manifest, layers=(other, *manifest.layers[1:]))


def test_another_layer_than_this_machine_has_made_is_noticed(yard: Yard) -> None:
    first = yard.push("r.example/team/app", "one")
    poison(yard, "wheels", _other_layer)
    again = yard.push("r.example/team/app", "one")
    assert again.digest == first.digest
    assert any("has another layer for" in warning for warning in yard.heard.warnings)


def test_an_entry_whose_layer_is_gone_is_made_again(yard: Yard) -> None:
    first = yard.push("r.example/team/app", "one")
    assert yard.registries is not None
    repository = yard.registries.repository("r.example/team/layers")
    for digest in list(repository.blobs):
        if digest in {layer.descriptor.digest for layer in first.images[0].image.layers}:
            del repository.blobs[digest]
    assert yard.push("r.example/team/app", "two").digest == first.digest


def test_an_index_that_may_not_be_read_or_written_is_done_without(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert yard.registries is not None
    repository = yard.registries.repository("r.example/team/layers")

    def denied(*args: object, **more: object) -> None:
        raise Denied("the registry wants a login")

    monkeypatch.setattr(type(repository), "manifest", _only(repository, denied))
    monkeypatch.setattr(type(repository), "put_manifest", _only_put(repository, denied))
    built = yard.push("r.example/team/app", "one")
    pushed = yard.registries.repository("r.example/team/app")
    assert pushed.head("latest") is not None
    assert built.digest == pushed.manifest("latest").digest
    assert any("isn't used" in warning for warning in yard.heard.warnings)
    assert any("couldn't be entered" in warning for warning in yard.heard.warnings)


def _only(target: object, denied: object) -> object:
    original = type(target).manifest  # type: ignore[attr-defined]

    def manifest(self: object, which: object) -> object:
        if self is target:
            denied()  # type: ignore[operator]
        return original(self, which)

    return manifest


def _only_put(target: object, denied: object) -> object:
    original = type(target).put_manifest  # type: ignore[attr-defined]

    def put_manifest(self: object, stored: object, *, tag: object = None) -> None:
        if self is target:
            denied()  # type: ignore[operator]
        original(self, stored, tag=tag)

    return put_manifest


LAYER = Layer(
    descriptor=Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(b"x"), size=1),
    diff_id=Digest.of(b"y"),
    uncompressed_size=7,
    blob=BytesBlob(data=b"x"),
)
INPUTS = '{"kind":"wheels"}'


def test_an_entry_is_read_as_it_was_written() -> None:
    data = write_entry(LAYER, inputs=INPUTS, files=None).to_bytes()
    entry = read_entry(data, key=Digest.of(INPUTS.encode()).hex, where="entry")
    assert (entry.descriptor, entry.diff_id, entry.size) == (LAYER.descriptor, LAYER.diff_id, 7)
    with pytest.raises(ImageError, match="other inputs"):
        read_entry(data, key=Digest.of(b"").hex, where="entry")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not gzip",
        write_files([])[:-6],  # cut off
    ],
)
def test_a_damaged_list_of_files_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="can't be read"):
        read_files(data, where="files")
