"""Making an image's layers again from wheels and packages, to see whether they are what they say.

Rules:
- Everything is packed anew: nothing that this machine or a registry's index knows of layers is
  believed. Downloads that the cache has serve, since each is checked by its hash.
- A layer is compared, by its uncompressed bytes, with the one that the project gives for the same
  line of its history. Lines that only one of the two has are said, not judged.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dockyard.cache import Cache
from dockyard.progress import SILENT

if TYPE_CHECKING:
    from dockyard.build.request import BuildRequest
    from dockyard.oci.image import Image
    from dockyard.progress import Reporter

Verdict = Literal["same", "differs", "not in the project", "not Dockyard's"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One layer of the image. diff_id: what it has; rebuilt: what the project gives, or None."""

    title: str
    diff_id: str
    rebuilt: str | None
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "layer": self.title,
            "diff_id": self.diff_id,
            "rebuilt": self.rebuilt,
            "verdict": self.verdict,
        }


def rebuild_and_compare(
    request: BuildRequest,
    image: Image,
    *,
    cache: Cache | None = None,
    reporter: Reporter = SILENT,
) -> tuple[Compared, ...]:
    """Make the project's layers for the image's platform anew, and compare them."""
    from dockyard.build.api import plan_inputs
    from dockyard.build.describe import origin_of
    from dockyard.build.execute import execute
    from dockyard.build.workshop import open_workshop

    with open_workshop(request, cache, reporter) as shop:
        inputs, plan = plan_inputs(request, image.platform, shop)
        with tempfile.TemporaryDirectory(
            dir=shop.cache.root / "tmp", prefix=f"{os.getpid()}-"
        ) as folder:
            fresh = _beside(shop.cache, Path(folder))
            with open_workshop(request, fresh, reporter, sweep=False) as alone:
                made = execute(plan, inputs, shop=replace(alone, registries=shop.registries))
            rebuilt = {layer.created_by: str(layer.diff_id) for layer in made.image.layers}
    found = []
    for layer in image.layers:
        mine = str(layer.diff_id)
        other = rebuilt.get(layer.created_by)
        verdict: Verdict = "same" if mine == other else "differs"
        if other is None:
            ours = layer.created_by.startswith("dockyard ")
            verdict = "not in the project" if ours else "not Dockyard's"
        title = origin_of(layer.created_by).title
        found.append(Compared(title=title, diff_id=mine, rebuilt=other, verdict=verdict))
    return tuple(found)


def _beside(cache: Cache, folder: Path) -> Cache:
    """A cache that has the other's files by their hashes, and none of its records."""
    for name in ("blobs", "tmp"):
        (folder / name).symlink_to(cache.root / name)
    return Cache(folder)
