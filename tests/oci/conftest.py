"""Fixtures of the image rooms' tests."""

from pathlib import Path

import pytest
from oci_samples import as_layer, sample_entries

from dockyard.cache import Cache
from dockyard.oci.layer import Layer, pack_layer


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Layer, dict[str, bytes]]:
    """A packed layer with every kind of entry, and its files' contents."""
    folder = tmp_path_factory.mktemp("sample")
    cache = Cache(folder / "cache")
    entries, contents = sample_entries(folder)
    return as_layer(pack_layer(entries, cache=cache), cache), contents
