"""One index for two processors in a registry, and the other processor's image at work.

The arm64 image's own interpreter is run from its unpacked files by qemu's user-mode emulation.
Nothing is registered with the kernel and no root is needed: qemu looks up absolute paths below the
image's root first (-L), and the program's name (-0) is what makes Python find its environment.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from registry_server import missing, registry_server

from dockyard.cache import Cache
from dockyard.oci.platform import Platform
from dockyard.oci.reference import Reference
from dockyard.oci.registry.connect import HttpRegistries
from dockyard.oci.registry.pull import fetch_image, pull_layers
from dockyard.oci.tree import read_tree
from dockyard.oci.unpack import open_tar, tar_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build_ground import Ground

    from dockyard.oci.image import Image

pytestmark = [pytest.mark.network, pytest.mark.slow]

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")
ELF_MACHINES = {AMD: 62, ARM: 183}  # e_machine in elf.h: EM_X86_64, EM_AARCH64

APP = """\
import http.server
import json
import platform

import numpy

weights = numpy.load("/app/model.npy")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers["Content-Length"])
        pixels = numpy.array(json.loads(self.rfile.read(length)), dtype=numpy.float64)
        scores = weights @ pixels
        answer = {
            "digit": int(scores.argmax()),
            "scores": scores.tolist(),
            "machine": platform.machine(),
            "numpy": numpy.__file__,
        }
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())


if __name__ == "__main__":
    http.server.HTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"""
WEIGHTS = [[(row * 7 + column * 3) % 11 - 5 for column in range(8)] for row in range(10)]
PIXELS = [0, 3, 15, 16, 7, 1, 0, 9]


def npy(rows: list[list[int]]) -> bytes:
    """A matrix in numpy's own file format (NEP 1), made without numpy."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({len(rows)}, {len(rows[0])}), }}"
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    values = [float(value) for row in rows for value in row]
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header))
    return start + header.encode() + struct.pack(f"<{len(values)}d", *values)


@pytest.fixture
def project(ground: Ground, numpy_wheels: dict[str, Path]) -> Ground:
    """A server that predicts with numpy, for both processors."""
    for wheel in numpy_wheels.values():
        ground.index.add("numpy", wheel)
    port = free_port()
    (ground.project / "app.py").write_text(APP.replace("8080", str(port)))
    (ground.project / "model.npy").write_bytes(npy(WEIGHTS))
    (ground.project / "requirements.txt").write_text("numpy\n")
    (ground.project / "dockyard.toml").write_text('python = "3.13"\nbytecode = "none"\n')
    return ground


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def unpack(image: Image, root: Path) -> None:
    """Write the image's files below `root`."""
    for layer in image.layers:
        with open_tar(iter(tar_chunks(layer)), where=str(layer.diff_id)) as archive:
            for member in archive:
                archive.extract(member, root, filter="tar")


@contextmanager
def emulated(root: Path, image: Image) -> Iterator[subprocess.Popen[bytes]]:
    """Run the image's command with qemu; its first word is the environment's Python."""
    program = (root / "opt/venv/bin/python").readlink()
    assert str(program) == "/usr/bin/python3.13"
    assert image.config.cmd is not None
    words = [*(image.config.entrypoint or ()), *image.config.cmd]
    assert words[0] == "python"
    command = ["qemu-aarch64", "-L", str(root), "-0", "/opt/venv/bin/python"]
    process = subprocess.Popen(
        [*command, str(root) + str(program), *words[1:]],
        env={**image.config.env, "TMPDIR": "/tmp"},
        cwd=root / image.config.working_dir.strip("/"),
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def ask(process: subprocess.Popen[bytes], port: int) -> dict[str, Any]:
    """Ask for a prediction as soon as the server listens."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            assert process.stderr is not None
            pytest.fail(process.stderr.read().decode())
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("POST", "/predict", json.dumps(PIXELS))
            return dict(json.loads(connection.getresponse().read()))
        except ConnectionRefusedError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise AssertionError("the server doesn't answer")


def test_both_images_are_true_and_the_arm64_one_answers_a_prediction(
    project: Ground, tmp_path: Path
) -> None:
    if lacking := missing("docker-registry", "qemu-aarch64", "skopeo"):
        pytest.skip(f"not installed: {', '.join(lacking)}")
    folder = tmp_path / "registry"
    folder.mkdir()
    with registry_server(folder) as server:
        name = f"{server.host}/team/digits:1"
        platforms = "linux/amd64,linux/arm64"
        code, out, err = project.build("--platform", platforms, "--push", "-t", name, "--json")
        assert code == 0, err
        shown = subprocess.run(
            ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"],
            check=True,
            capture_output=True,
        )
        index = json.loads(shown.stdout)
        assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
        assert [entry["platform"]["architecture"] for entry in index["manifests"]] == [
            "amd64",
            "arm64",
        ]
        assert json.loads(out)["pushed"] == [name]
        with HttpRegistries() as registries:
            images = {
                platform: pull_layers(
                    fetch_image(registries, Reference.parse(name), platform),
                    Cache(tmp_path / "pulled"),
                )
                for platform in (AMD, ARM)
            }
    for platform, image in images.items():
        machines = native_machines(image)
        assert len(machines) > 20
        assert set(machines.values()) == {ELF_MACHINES[platform]}, platform
    root = tmp_path / "root"
    unpack(images[ARM], root)
    text = (project.project / "app.py").read_text()
    port = int(text.partition('("127.0.0.1", ')[2].partition(")")[0])
    with emulated(root, images[ARM]) as process:
        answer = ask(process, port)
    scores = [float(sum(w * x for w, x in zip(row, PIXELS, strict=True))) for row in WEIGHTS]
    assert answer == {
        "digit": scores.index(max(scores)),
        "scores": scores,
        "machine": "aarch64",
        "numpy": "/opt/venv/lib/python3.13/site-packages/numpy/__init__.py",
    }


def native_machines(image: Image) -> dict[str, int]:
    """For which processor each extension module of the packages and of Python is."""
    found = {}
    tree = read_tree(image)
    wanted = [path for path in tree.files if path.endswith(".so")]
    for path, data in tree.read_all(wanted, max_size=64 << 20).items():
        assert data[:4] == b"\x7fELF", path
        found[path] = struct.unpack_from("<H", data, 18)[0]
    return found
