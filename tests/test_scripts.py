"""The scripts behind `make`, run against engines and tools that are stand-ins on a PATH of ours."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
SHELL_SCRIPTS = sorted(
    path
    for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"]
    if path.is_file() and path.read_bytes().startswith((b"#!/bin/sh", b"#!/usr/bin/env bash"))
)
TOOLS = "sh setsid dirname id mktemp rm cat grep tail sed sleep umount cksum mountpoint head"

# Listens on the socket of --host as an engine would, and notes how it was stopped.
FAKE_DOCKERD = f"""#!{sys.executable}
import os, signal, socket, sys
option = dict(zip(sys.argv[1::2], sys.argv[2::2]))
def stop(number, frame):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"dockerd stopped by {{signal.Signals(number).name}}\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
if "--iptables=false" not in sys.argv and os.environ.get("NO_IPTABLES"):
    sys.exit("failed to start daemon: iptables: Permission denied")
os.mkdir(option["--data-root"])
listener = socket.socket(socket.AF_UNIX)
listener.bind(option["--host"].removeprefix("unix://"))
listener.listen()
while True:
    client, _ = listener.accept()
    client.recv(4096)
    client.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nOK")
    client.close()
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH with the few tools that every system has, and no engine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS.split():
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    program(folder / "python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    return folder


@pytest.fixture
def engine_socket() -> Iterator[Path]:
    """The socket of an engine that answers pings."""
    with (
        tempfile.TemporaryDirectory(prefix="dy-", dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        path = Path(folder, "docker.sock")
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                client, _ = listener.accept()
                with client:
                    if client.recv(4096) == b"stop":
                        return
                    client.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nOK")

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(path))
            last.sendall(b"stop")
        thread.join()


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def run_script(name: str, *arguments: str, tools: Path, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [ROOT / "scripts" / name, *arguments],
        env={"PATH": str(tools), "HOME": str(tools.parent)} | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True)
    assert done.stdout == ""


@pytest.mark.parametrize(
    "script", [*sorted((ROOT / "scripts").iterdir()), ROOT / ".ci" / "run"], ids=lambda p: p.name
)
def test_scripts_are_executable_and_say_first_what_they_do(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[1].startswith(("# ", '"""'))


@pytest.mark.parametrize("target", ["help", "demo", "test", "check", "bench", "clean"])
def test_make_knows_the_target(target: str) -> None:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    done = subprocess.run(
        ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip()
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"make {target}" in shown.stdout


def test_an_engine_that_answers_is_used_and_the_status_passed_on(
    tools: Path, engine_socket: Path
) -> None:
    host = f"unix://{engine_socket}"
    done = run_script(
        "with-docker", "sh", "-c", 'echo "$DOCKER_HOST"; exit 7', tools=tools, DOCKER_HOST=host
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, f"{host}\n", "")


def test_without_any_engine_the_command_runs_and_the_reason_is_said(tools: Path) -> None:
    done = run_script(
        "with-docker", "sh", "-c", "echo ran; exit 3", tools=tools, DOCKYARD_OWN_ENGINE="1"
    )
    assert (done.returncode, done.stdout) == (3, "ran\n")
    assert "none answers and none can be started here" in done.stderr
    assert "Install Docker or Podman" in done.stderr


def as_root_with_dockerd(tools: Path) -> dict[str, str]:
    """Stand-ins that make the script start a dockerd; the environment that goes with them."""
    (tools / "id").unlink(missing_ok=True)
    program(tools / "id", "#!/bin/sh\necho 0\n")
    program(tools / "dockerd", FAKE_DOCKERD)
    return {"DOCKYARD_OWN_ENGINE": "1", "NOTES": str(tools.parent / "notes")}


@pytest.mark.skipif(not shutil.which("setsid"), reason="setsid is not installed")
def test_a_started_dockerd_is_stopped_and_leaves_nothing(tools: Path) -> None:
    env = as_root_with_dockerd(tools)
    show = 'echo "$DOCKER_HOST"; [ -S "${DOCKER_HOST#unix://}" ] || exit 9; exit 5'
    done = run_script("with-docker", "sh", "-c", show, tools=tools, **env)
    assert done.returncode == 5, done.stderr
    folder = Path(done.stdout.strip().removeprefix("unix://")).parent
    assert folder.name.startswith("dockyard-engine.")
    assert not folder.exists()
    assert Path(env["NOTES"]).read_text() == "dockerd stopped by SIGTERM\n"


@pytest.mark.skipif(not shutil.which("setsid"), reason="setsid is not installed")
def test_dockerd_that_may_not_use_iptables_is_started_without(tools: Path) -> None:
    env = as_root_with_dockerd(tools) | {"NO_IPTABLES": "1"}
    done = run_script("with-docker", "sh", "-c", "echo ran", tools=tools, **env)
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "dockerd did not start: failed to start daemon: iptables: Permission" in done.stderr
    assert "starting dockerd with --iptables=false" in done.stderr


@pytest.mark.skipif(not shutil.which("setsid"), reason="setsid is not installed")
def test_ctrl_c_reaches_the_command_first_and_the_engine_after_it(
    tools: Path, tmp_path: Path
) -> None:
    env = as_root_with_dockerd(tools)
    ready = tmp_path / "ready"
    command = (
        "import os, pathlib, time\n"
        "try:\n"
        "    pathlib.Path(os.environ['READY']).touch()\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    engine = os.environ['DOCKER_HOST'].removeprefix('unix://')\n"
        "    with open(os.environ['NOTES'], 'a') as notes:\n"
        "        notes.write(f'command stopped, engine there: {os.path.exists(engine)}\\n')\n"
    )
    process = subprocess.Popen(
        [ROOT / "scripts" / "with-docker", sys.executable, "-c", command],
        env={"PATH": str(tools), "READY": str(ready)} | env,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not ready.exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert Path(env["NOTES"]).read_text().splitlines() == [
        "command stopped, engine there: True",
        "dockerd stopped by SIGTERM",
    ]


def test_packages_are_named_where_they_cannot_be_installed(tools: Path) -> None:
    done = run_script("debian-packages", "skopeo", "podman", tools=tools)
    assert done.returncode == 3
    assert "not Debian or Ubuntu; not installed: skopeo podman" in done.stderr


def test_packages_need_root(tools: Path) -> None:
    program(tools / "apt-get", "#!/bin/sh\nexit 99\n")
    program(tools / "dpkg-query", "#!/bin/sh\nexit 1\n")
    (tools / "id").unlink(missing_ok=True)
    program(tools / "id", "#!/bin/sh\necho 1000\n")
    done = run_script("debian-packages", "skopeo", tools=tools)
    assert (done.returncode, done.stderr) == (
        3,
        "packages: only root may install; missing: skopeo\n",
    )


def copied_project(tmp_path: Path) -> Path:
    """A copy of what scripts/venv reads."""
    project = tmp_path / "project"
    shutil.copytree(ROOT / "scripts", project / "scripts")
    shutil.copy(ROOT / "pyproject.toml", project)
    return project


def make_venv(project: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [project / "scripts" / "venv", *arguments],
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


# Makes an environment in which everything but the test of its own version is a note.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
    *sys.version_info*) exit 0 ;;
    --version) echo Python 3.99.0 ;;
    '-m venv --clear .venv')
        mkdir -p .venv/bin && cp "$0" .venv/bin/python && cp "$0" .venv/bin/dockyard ;;
esac
echo "$*" >> "$NOTES"
"""


def test_venv_is_made_once_for_each_state_of_pyproject(tmp_path: Path) -> None:
    project, notes = copied_project(tmp_path), tmp_path / "notes"
    program(tmp_path / "python", FAKE_PYTHON)
    env = {"PYTHON": str(tmp_path / "python"), "NOTES": str(notes)}

    def installed(*arguments: str) -> list[str]:
        notes.write_text("")
        done = make_venv(project, *arguments, **env)
        assert done.returncode == 0, done.stderr
        return [line.split()[-1] for line in notes.read_text().splitlines() if "pip" in line]

    assert installed() == ["."]
    assert installed() == []
    assert installed("dev") == [".[dev]"]
    assert installed("dev") == []
    assert installed() == []
    with (project / "pyproject.toml").open("a") as file:
        file.write("\n# changed\n")
    assert installed() == ["."]
    assert installed("dev") == [".[dev]"]


def test_venv_says_which_python_does_not_serve(tmp_path: Path) -> None:
    project = copied_project(tmp_path)
    done = make_venv(project, PYTHON="/nonexistent/python")
    assert done.returncode == 1
    assert "/nonexistent/python does not serve" in done.stderr
    assert "make PYTHON=" in done.stderr
