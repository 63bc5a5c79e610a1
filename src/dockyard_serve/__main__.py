"""`python -m dockyard_serve MODEL`: the server, from its command line."""

from __future__ import annotations

import sys

from dockyard_serve.options import read_options
from dockyard_serve.run import run


def main() -> int:
    """Run the server: the exit status."""
    settings, level = read_options(sys.argv[1:])
    return run(settings, level=level)


if __name__ == "__main__":
    sys.exit(main())
