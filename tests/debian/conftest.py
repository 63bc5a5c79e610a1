"""Fixtures: a cache, a fetcher, and an archive to fill."""

from __future__ import annotations

import pytest
from small_archive import SmallArchive

from dockyard.cache import Cache
from dockyard.fetch import Fetcher


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def fetcher(cache):
    return Fetcher(cache)


@pytest.fixture
def archive(tmp_path):
    return SmallArchive(tmp_path / "archive")
