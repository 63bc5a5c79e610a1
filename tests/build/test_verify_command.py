"""`dockyard verify`: damage is found by reading, a false layer by making it again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from dockyard.cache import Cache
from dockyard.files import BytesSource, FileEntry, with_parents
from dockyard.oci.image import Image
from dockyard.oci.layer import BlobFile, Layer, pack_layer
from dockyard.oci.layout import read_layout, write_layout

if TYPE_CHECKING:
    from pathlib import Path

    from build_ground import Ground


@pytest.fixture
def built(ground: Ground) -> Ground:
    ground.digest("image", "--bytecode", "none")
    (ground.project / "dockyard.toml").write_text('bytecode = "none"\n')
    return ground


def with_layer(image: Image, number: int, layer: Layer) -> Image:
    """The image with another layer in one place."""
    found = Image(config=replace(image.config, diff_ids=(), history=()))
    for at, each in enumerate(image.layers):
        found = found.append(layer if at == number else each)
    return found


def false_layer(line: str, cache: Cache) -> Layer:
    """A sound layer that says to be another."""
    entry = FileEntry(path="opt/venv/evil.py", source=BytesSource(b"print('evil')\n"))
    packed = pack_layer(with_parents([entry]), cache=cache)
    return Layer(
        descriptor=packed.descriptor,
        diff_id=packed.diff_id,
        uncompressed_size=packed.uncompressed_size,
        blob=BlobFile(path=cache.blob_path(packed.content)),
        created_by=line,
    )


def test_a_sound_image_made_again_is_the_same(built: Ground) -> None:
    place = f"oci:{built.layout()}"
    code, out, err = built.run("verify", place)
    assert code == 0, err
    assert "is what it says: 3 layers" in out
    code, out, err = built.run("verify", place, "--rebuild", "--project", built.project, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["problems"] == []
    assert [layer["verdict"] for layer in said["layers"]] == ["same"] * 3


def test_a_damaged_layer_is_found(built: Ground) -> None:
    image = read_layout(built.layout())
    digest = image.layers[1].descriptor.digest
    blob = built.layout() / "blobs/sha256" / digest.hex
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    code, out, _ = built.run("verify", f"oci:{built.layout()}")
    assert code == 1
    assert "layer 1: " in out
    assert "is what it says" not in out


def test_a_false_layer_is_found_by_making_it_again(built: Ground, tmp_path: Path) -> None:
    image = read_layout(built.layout())
    line = image.layers[1].created_by
    assert line.startswith("dockyard wheels alpha==1.0")
    false = with_layer(image, 1, false_layer(line, Cache(tmp_path / "other")))
    write_layout(false, built.out / "false")
    place = f"oci:{built.out / 'false'}"
    code, out, _ = built.run("verify", place)
    assert code == 0, out  # there is nothing to see from outside
    code, out, _ = built.run("verify", place, "--rebuild", "--project", built.project)
    assert code == 1
    verdicts = [row.split()[-1] for row in out.splitlines()[1:]]
    assert verdicts == ["same", "differs", "same"]
