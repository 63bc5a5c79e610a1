"""A Dockerfile built by an engine: BuildKit through buildx, Docker's classic builder, or buildah.

Rules: the program's own output goes to stderr, as it comes. The image can be read back, so that it
goes wherever Dockyard's own images go; the name that it was built under is taken away again.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dockyard.errors import DockerfileError
from dockyard.oci.archive import read_archive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dockyard.direct.api import DockerfileRequest
    from dockyard.oci.image import Image
    from dockyard.progress import Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineBuild:
    """What an engine has built. program: its command; title: for people; name: the image's."""

    program: str
    title: str
    name: str


@contextmanager
def built_by_engine(
    request: DockerfileRequest, *, builder: Literal["docker", "buildah"] | None, reporter: Reporter
) -> Iterator[EngineBuild]:
    """Build under a name that goes again afterwards; builder: None for what is there.

    Raises DockerfileError when nothing can build it, or the build fails.
    """
    program, variables = _choose(builder)
    name = f"dockyard-build-{secrets.token_hex(6)}:latest"
    words = [program, "build", "--file", str(request.dockerfile), "--tag", name]
    words += ["--platform", str(request.platform)] if _wants_platform(request) else []
    for key, value in request.build_args.items():
        words += ["--build-arg", f"{key}={value}"]
    if request.target:
        words += ["--target", request.target]
    title = _title(program, variables)
    reporter.note(f"Building {request.dockerfile.name} with {title}")
    try:
        _run([*words, str(request.folder)], variables, request)
        yield EngineBuild(program=program, title=title, name=name)
    finally:
        subprocess.run([program, "rmi", name], capture_output=True, check=False)


@contextmanager
def read_back(build: EngineBuild, request: DockerfileRequest) -> Iterator[Image]:
    """The image that was built, with its layers' bytes."""
    with tempfile.TemporaryDirectory(prefix="dockyard-") as folder:
        archive = Path(folder, "image.tar")
        if build.program == "docker":
            _run(["docker", "save", "--output", str(archive), build.name], {}, request)
        else:
            # Both forms of the program write an archive that is read like Docker's.
            target = f"docker-archive:{archive}:{build.name}"
            _run([build.program, "push", "--quiet", build.name, target], {}, request)
        yield read_archive(archive)


def _choose(builder: str | None) -> tuple[str, dict[str, str]]:
    """The program, and variables that it needs."""
    if builder in (None, "docker") and shutil.which("docker"):
        buildx = subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False)
        # Without buildx the classic builder is what the client has.
        return "docker", {} if buildx.returncode == 0 else {"DOCKER_BUILDKIT": "0"}
    if builder in (None, "buildah"):
        for program in ("buildah", "podman"):
            if shutil.which(program):
                return program, {"BUILDAH_FORMAT": "docker"}
    wanted = {"docker": "Docker's command", "buildah": "buildah or podman"}.get(
        builder or "", "neither Docker's command nor buildah"
    )
    is_there = "isn't" if builder else "is"
    raise DockerfileError(
        f"{wanted} {is_there} installed, so the Dockerfile can't be built by an engine",
        hint="Install one, or change the line that was named.",
    )


def _title(program: str, variables: Mapping[str, str]) -> str:
    if program != "docker":
        return program
    return "Docker's classic builder" if variables else "BuildKit"


def _wants_platform(request: DockerfileRequest) -> bool:
    from dockyard.oci.platform import Platform

    return request.platform != Platform.host()


def _run(words: Sequence[str], variables: Mapping[str, str], request: DockerfileRequest) -> None:
    try:
        done = subprocess.run(
            words, stdout=sys.stderr, env=os.environ | dict(variables), check=False
        )
    except OSError as error:
        raise DockerfileError(f"{words[0]} can't be started: {error.strerror}") from None
    if done.returncode:
        raise DockerfileError(
            f"{words[0]} {words[1]} exited with {done.returncode}; it says why above",
            where=request.dockerfile.name,
        )
