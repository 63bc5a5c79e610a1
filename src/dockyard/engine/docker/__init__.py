"""Docker, and Podman through its Docker-compatible socket, by the Engine API (1.41 and newer).

Rules: docker-py keeps the connection; what it can't stream is asked for on its session. Foreign
errors become EngineError in `link.translated`, and nowhere else. What is sent is decided by pure
functions in `body`, what is answered is read by those in `answers`. What Podman does differently
is handled where it is met.
"""

from dockyard.engine.docker.containers import DockerContainers
from dockyard.engine.docker.images import DockerImages
from dockyard.engine.docker.inside import DockerInside
from dockyard.engine.docker.resources import DockerResources

__all__ = ["DockerEngine"]


class DockerEngine(DockerImages, DockerContainers, DockerInside, DockerResources):
    """An engine that speaks the Docker Engine API; safe for several threads."""
