"""A base, a context and two builders: ours and the engine's, whose images are compared."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockyard.cache import Cache
from dockyard.direct.api import BuiltDockerfile, DockerfileRequest, build_dockerfile
from dockyard.fetch import Fetcher
from dockyard.files import BytesSource
from dockyard.oci.archive import read_archive, write_archive
from dockyard.oci.config import ImageConfig
from dockyard.oci.descriptor import OCI_LAYER, Descriptor
from dockyard.oci.digest import Digest
from dockyard.oci.image import Image
from dockyard.oci.layer import Layer
from dockyard.oci.platform import Platform
from dockyard.oci.tree import read_tree

if TYPE_CHECKING:
    from collections.abc import Mapping

APPLETS = ("sh", "mkdir", "touch", "ln", "rm", "chmod", "chown", "cat", "echo", "true", "date")
PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\n"
GROUP = b"root:x:0:\nappgroup:x:1001:\nstaff:x:50:app\n"


def add(
    archive: tarfile.TarFile, path: str, mode: int, data: bytes | str | None, uid: int = 0
) -> None:
    """Add a file (bytes), a link (text) or a folder (None)."""
    member = tarfile.TarInfo(path)
    member.mode, member.uid, member.gid = mode, uid, uid
    if data is None:
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    elif isinstance(data, str):
        member.type, member.linkname = tarfile.SYMTYPE, data
        archive.addfile(member)
    else:
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))


def small_base(busybox: bytes) -> Image:
    """An image with busybox, users, and a few folders that aren't like others."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, mode in (("usr", 0o755), ("usr/bin", 0o755), ("etc", 0o755)):
            add(archive, path, mode, None)
        add(archive, "usr/bin/busybox", 0o755, busybox)
        for name in APPLETS:
            add(archive, f"usr/bin/{name}", 0o777, "busybox")
        add(archive, "bin", 0o777, "usr/bin")
        add(archive, "etc/passwd", 0o644, PASSWD)
        add(archive, "etc/group", 0o644, GROUP)
        # An engine mounts files over these, and leaves them behind where they weren't.
        for name in ("hosts", "hostname", "resolv.conf"):
            add(archive, f"etc/{name}", 0o644, b"")
        for path, mode, uid in (
            *(
                ("tmp", 0o1777, 0),
                ("root", 0o700, 0),
                ("home", 0o755, 0),
                ("home/app", 0o750, 1000),
            ),
            *(("srv", 0o755, 0), ("srv/old", 0o755, 0), ("dev", 0o755, 0), ("proc", 0o755, 0)),
            ("sys", 0o755, 0),
        ):
            add(archive, path, mode, None, uid)
        add(archive, "srv/old/a.txt", 0o640, b"from the base\n")
        add(archive, "srv/old/b.txt", 0o644, b"too\n")
        add(archive, "srv/link", 0o777, "old")
    data = out.getvalue()
    digest = Digest.of(data)
    layer = Layer(
        descriptor=Descriptor(media_type=OCI_LAYER, digest=digest, size=len(data)),
        diff_id=digest,
        uncompressed_size=len(data),
        blob=BytesSource(data),
        created_by="base",
    )
    config = ImageConfig(
        platform=Platform.host(),
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "BASE": "yes"},
        cmd=("/bin/sh",),
        labels={"of": "base"},
    )
    return Image(config=config).append(layer)


CONTEXT: dict[str, tuple[int, bytes | str | None]] = {
    "app.py": (0o644, b"print('app')\n"),
    "run.sh": (0o755, b"#!/bin/sh\n"),
    "private.txt": (0o600, b"secret\n"),
    "requirements.txt": (0o664, b"click==8.1.8\n"),
    "src": (0o755, None),
    "src/a.py": (0o644, b"a = 1\n"),
    "src/b.py": (0o640, b"b = 2\n"),
    "src/deep": (0o700, None),
    "src/deep/c.py": (0o444, b"c = 3\n"),
    "src/link": (0o777, "a.py"),
    "src/broken": (0o777, "nowhere"),
    "empty": (0o775, None),
    "data": (0o755, None),
    "data/x.log": (0o644, b"x\n"),
    "data/keep.log": (0o644, b"keep\n"),
    "data/y.csv": (0o644, b"y\n"),
    "a b.txt": (0o644, b"space\n"),
    "file-link": (0o777, "app.py"),
    "folder-link": (0o777, "src"),
    ".hidden": (0o644, b"hidden\n"),
}


def lay_context(folder: Path, files: Mapping[str, tuple[int, bytes | str | None]]) -> Path:
    """Write a context; modes as they are said, whatever the umask."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, (mode, data) in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if data is None:
            target.mkdir(exist_ok=True)
        elif isinstance(data, str):
            target.symlink_to(data)
            continue
        else:
            target.write_bytes(data)
        target.chmod(mode)
    return folder


@dataclass
class Ground:
    """Both builders. bases: images by the names that Dockerfiles use for them."""

    cache: Cache
    bases: dict[str, Image]
    out: Path

    def ours(self, context: Path, **more: Any) -> BuiltDockerfile:
        """Build without an engine."""
        request = DockerfileRequest(
            folder=context,
            dockerfile=context / "Dockerfile",
            platform=Platform.host(),
            find_base=lambda name: self.bases[name],
            **more,
        )
        with Fetcher(self.cache) as fetcher:
            return build_dockerfile(request, cache=self.cache, fetcher=fetcher)

    def engines(self, context: Path, *words: str) -> Image:
        """Build with the engine's own builder; raises AssertionError with its words."""
        name = f"dockyard-direct-{os.getpid()}:{context.name}"
        command = ["docker", "build", "--quiet", "--tag", name, *words, str(context)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"DOCKER_BUILDKIT": "0"}
        )
        assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
        archive = self.out / f"{context.name}.tar"
        try:
            subprocess.run(["docker", "save", "-o", archive, name], check=True)
        finally:
            subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)
        return read_archive(archive)


def settings(image: Image) -> dict[str, Any]:
    """How containers of an image start, with what means the same written alike."""
    config = image.config
    return {
        "env": dict(config.env),
        "cmd": config.cmd or (),
        "entrypoint": config.entrypoint or (),
        "user": config.user,
        "workdir": config.working_dir or "/",
        "ports": sorted(config.exposed_ports),
        "volumes": sorted(config.volumes),
        "labels": dict(config.labels),
        "stop signal": config.stop_signal,
        "healthcheck": config.healthcheck,
        "shell": config.shell or (),
        "author": config.author,
    }


def files(image: Image) -> dict[str, tuple[Any, ...]]:
    """Every path: kind, mode, owner, and what it holds; modules' bytecode by its place only."""
    tree = read_tree(image)
    regular = [path for path, file in tree.files.items() if not path.endswith(".pyc")]
    hashes = tree.sha256(regular)
    return {
        path: (
            "file" if file.kind == "hardlink" else file.kind,
            oct(file.mode) if file.kind != "symlink" else "",
            (file.uid, file.gid),
            file.target if file.kind == "symlink" else hashes.get(path, ""),
        )
        for path, file in tree.files.items()
    }


def load(image: Image, name: str, folder: Path) -> None:
    """Give the engine a base."""
    path = folder / "base.tar"
    with path.open("wb") as file:
        write_archive(image, file, [name])
    subprocess.run(["docker", "load", "--quiet", "--input", path], check=True, capture_output=True)
