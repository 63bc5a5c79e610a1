"""The local engine: containers on this machine without a daemon, and without root.

Rules: everything is in one folder (`store`); a container is a folder (`record`) and, while it
runs, a monitor that started it (`monitor`) in namespaces of its own (`room`). It means what the
other engines mean, with the same errors, and passes the same tests; what it can't do it refuses
in one sentence (`plan`).
"""

from dockyard.engine.local.inside import LocalInside
from dockyard.engine.local.resources import LocalResources

__all__ = ["LocalEngine"]


class LocalEngine(LocalResources, LocalInside):
    """An engine in a folder of this machine; safe for several processes and threads."""
