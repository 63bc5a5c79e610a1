"""A project folder to build, an index made on the spot, and the command line."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_index import TinyIndex

from dockyard.cli.main import run_command_line

APP = """\
import alpha
import http.server


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(alpha.__version__.encode())


if __name__ == "__main__":
    http.server.HTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


@dataclass
class Ground:
    """A project folder, its index, and a place for outputs."""

    project: Path
    index: TinyIndex
    out: Path
    capsys: pytest.CaptureFixture[str]

    def run(self, *args: object) -> tuple[int, str, str]:
        """Run the command line here; its exit code, stdout and stderr."""
        self.capsys.readouterr()
        code = run_command_line([str(arg) for arg in args])
        said = self.capsys.readouterr()
        return code, said.out, said.err

    def build(self, *args: object) -> tuple[int, str, str]:
        return self.run("build", self.project, *args)

    def layout(self, name: str = "image") -> Path:
        return self.out / name

    def digest(self, name: str = "image", *args: object) -> str:
        """Build into a layout and return the image's digest."""
        code, out, err = self.build("--json", "-o", f"oci:{self.layout(name)}", *args)
        assert code == 0, err
        return json.loads(out)["digest"]


def make_ground(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ground:
    """A project that needs alpha, which needs beta; the index has nothing else."""
    index = TinyIndex(tmp_path / "index")
    index.wheel("alpha", "1.0", requires=["beta"])
    index.wheel("beta", "2.0")
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    project = tmp_path / "project"
    project.mkdir()
    (project / "app.py").write_text(APP)
    (project / "requirements.txt").write_text("alpha\n")
    return Ground(project, index, tmp_path / "out", capsys)
