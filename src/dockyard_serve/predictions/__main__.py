"""`python -m dockyard_serve.predictions`: print the log's records, one JSON object on each line.

This is what `dockyard predictions` runs inside the app's container, where the database is reached.
"""

from __future__ import annotations

import argparse
import json
import sys

from dockyard_serve.predictions.query import (
    Filters,
    QueryError,
    parse_moment,
    parse_status,
    read_log,
)
from dockyard_serve.predictions.settings import SettingsError, read_settings


def main(words: list[str] | None = None) -> int:
    """Print what the options ask for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dockyard_serve.predictions")
    for name in ("model", "version", "request-id", "since", "until", "status"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--limit", type=int)
    given = parser.parse_args(words)
    try:
        filters = Filters(
            model=given.model,
            version=given.version,
            request_id=given.request_id,
            since=parse_moment(given.since) if given.since else None,
            until=parse_moment(given.until) if given.until else None,
            statuses=parse_status(given.status) if given.status else None,
            limit=given.limit,
        )
        for record in read_log(read_settings(), filters):
            print(json.dumps(record, separators=(",", ":")))  # noqa: T201 - its result
    except (QueryError, SettingsError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - its message
        return 1
    except BrokenPipeError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
