"""What the tests of the prediction log share: a PostgreSQL in a container."""

from __future__ import annotations

import sys
from pathlib import Path

from debian_images import postgres_image

# Free ports and a small app are those of the stacks' tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "stack"))

from prediction_ground import _module_database, database, own_database

__all__ = ["_module_database", "database", "own_database", "postgres_image"]
