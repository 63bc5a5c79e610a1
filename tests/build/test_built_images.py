"""Images that were built here are found again by their ID, with the very bytes that they had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dockyard.build.built_images import recall_image, remember_image
from dockyard.build.store import LayerStore
from dockyard.files import file_entry
from dockyard.oci.config import ImageConfig
from dockyard.oci.image import Image
from dockyard.oci.verify import verify_image

if TYPE_CHECKING:
    from pathlib import Path

    from dockyard.cache import Cache


def built(cache: Cache, folder: Path) -> Image:
    """An image of a small layer, and of one that is spliced from an archive of the cache."""
    from oci_samples import sample_entries

    entries, _ = sample_entries(folder)
    archive = folder / "sample.whl"
    with cache.writing_blob() as writer:
        writer.write(archive.read_bytes())
    store = LayerStore(cache=cache, archives={writer.hexdigest: archive})
    image = Image(config=ImageConfig())
    for key, files in (
        ("small", lambda: [file_entry("app.py", b"print()")]),
        ("spliced", lambda: entries),
    ):
        layer = store.pack(
            key, files, created_by=key, compression="gzip", advance=lambda amount: None
        )
        image = image.append(layer)
    return image


@pytest.mark.parametrize("name", ["id", "digest"], ids=["image ID", "manifest's digest"])
def test_a_built_image_is_recalled_with_all_its_bytes(
    cache: Cache, tmp_path: Path, name: str
) -> None:
    image = built(cache, tmp_path)
    remember_image(image, cache)
    found = recall_image(str(getattr(image, name)), cache)
    assert found is not None
    assert found.digest == image.digest
    assert verify_image(found) == []


def test_an_image_whose_layer_is_gone_is_unknown(cache: Cache, tmp_path: Path) -> None:
    image = built(cache, tmp_path)
    remember_image(image, cache)
    for path in (cache.root / "records/layers").iterdir():
        path.unlink()
    for layer in image.layers:
        cache.blob_path(layer.descriptor.digest.hex).unlink(missing_ok=True)
    assert recall_image(str(image.id), cache) is None


def test_an_image_that_was_never_built_here_is_unknown(cache: Cache) -> None:
    assert recall_image("sha256:" + "0" * 64, cache) is None
