"""An engine in memory: images are really read, containers are Python functions in threads.

Rules: it means what the other engines mean, with the same errors, and passes the same tests. A
command's first word names a function in `programs`; a health check's does too. Ports are real
sockets on this machine, so that readiness and conflicts are real. Nothing outlives the process.
"""

from dockyard.engine.memory.containers import MemoryContainers
from dockyard.engine.memory.images import MemoryImages
from dockyard.engine.memory.inside import MemoryInside
from dockyard.engine.memory.process import Process, Program
from dockyard.engine.memory.resources import MemoryResources

__all__ = ["MemoryEngine", "Process", "Program"]


class MemoryEngine(MemoryImages, MemoryContainers, MemoryInside, MemoryResources):
    """An engine whose containers run `programs`; safe for several threads."""
