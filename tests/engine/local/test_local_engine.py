"""What only the local engine does: isolation without a daemon, and what it refuses.

Each claim about a container is measured in one. The whole suite of `test_lifecycle` runs on it too.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from own_engines import why_no_local
from small_image import busybox, in_chunks, make_archive, make_layer

from dockyard.engine.api import (
    ContainerSpec,
    Execution,
    Gpus,
    Port,
    Restart,
    Secret,
    UnsupportedError,
    Volume,
)
from dockyard.engine.local import LocalEngine
from dockyard.engine.local.cgroups import why_no_limits
from dockyard.engine.local.store import LocalStore
from dockyard.engine.ready import launch, wait_ready
from dockyard.errors import EngineError

TOOLS = "sh echo sleep id cat ls touch mkdir httpd env true head tail"
PASSWD = b"root:x:0:0::/root:/bin/sh\napp:x:10001:10001::/home/app:/bin/sh\n"


def small_image():
    tools = {f"bin/{tool}": "busybox" for tool in TOOLS.split()}
    layers = [
        make_layer({"bin/busybox": busybox(), **tools}),
        make_layer({"etc/passwd": PASSWD, "app/data": b"of the image\n"}),
    ]
    config = {"Cmd": ["/bin/sleep", "1000"], "User": "10001"}
    return make_archive("local-test:1", layers, config)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    if reason := why_no_local(folder):
        pytest.skip(f"the local engine: {reason}")
    made = LocalEngine(LocalStore(folder))
    made.load(in_chunks(small_image()))
    return made


@pytest.fixture
def run(engine):
    """Start containers of the small image; they are removed when the test ends."""
    made = []

    def start(script=None, **options):
        command = ("/bin/sh", "-c", script) if script else None
        spec = ContainerSpec(image="local-test:1", command=command, **options)
        made.append(launch(engine, spec))
        return made[-1].id

    yield start
    for running in made:
        engine.remove(running.id, force=True)


def test_that_it_runs_is_found_out_once(engine):
    assert (engine.store.root / "works").read_text().startswith(os.uname().release)
    assert list((engine.store.root / "tmp").iterdir()) == []


def output(engine, container):
    engine.wait(container)
    return b"".join(chunk.data for chunk in engine.logs(container)).decode()


def until(true, seconds=20):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_app_is_the_images_user_and_sees_only_its_own(engine, run):
    said = output(engine, run("id -u; ls -a /; echo /proc/[0-9]*"))
    first, *names, processes = said.splitlines()
    assert first == "10001"
    assert {"app", "bin", "etc"} <= set(names)
    assert not {"home", "root", "var", ".dockyard-host"} & set(names)
    assert len(processes.split()) <= 3, "its init and the shell"


@pytest.mark.parametrize("path", ["/x", "/app/data", "/proc/sys/kernel/hostname", "/etc/hosts"])
def test_a_read_only_root_cant_be_written(engine, run, path):
    said = output(engine, run(f"echo 1 > {path} && echo written; true", read_only=True))
    assert "written" not in said
    assert "Read-only file system" in said or "Permission denied" in said


def test_nothing_that_is_written_reaches_the_image(engine, run):
    assert "changed" in output(engine, run("echo changed > /app/data; cat /app/data", user="0"))
    assert output(engine, run("cat /app/data")) == "of the image\n"


def test_the_program_has_no_capabilities_and_gains_none(engine, run):
    said = output(engine, run("cat /proc/self/status", cap_drop=("ALL",)))
    fields = dict(line.split(":\t") for line in said.splitlines() if ":\t" in line)
    assert {fields[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"


def test_state_outlives_the_command_that_made_it(engine, run):
    container = run("echo hello; exec sleep 1000")
    again = LocalEngine(LocalStore(engine.store.root))
    assert again.container(container).status == "running"
    again.stop(container, grace=5)
    assert engine.container(container).exit_code == 143
    again.start(container)
    assert engine.container(container).status == "running"


def test_a_container_dies_with_its_monitor(engine, run):
    container = run()
    first = engine.processes(container)[0].pid
    monitor = int(Path(f"/proc/{first}/status").read_text().split("PPid:\t")[1].split()[0])
    os.kill(monitor, 9)
    assert engine.wait(container) == 137
    state = engine.container(container)
    assert (state.status, state.exit_code) == ("exited", 137)
    until(lambda: not Path(f"/proc/{first}").exists())


def talk(session, data=b""):
    session.write(data)
    session.close_input()
    said = b"".join(chunk.data for chunk in session.output()).decode()
    return session.wait(), said


def test_commands_are_executed_inside(engine, run):
    container = run(environment={"OWN": "1"})
    script = ("sh", "-c", "id -u; echo $OWN$MORE; exit 7")
    asked = Execution(command=script, environment={"MORE": "2"})
    assert talk(engine.execute(container, asked)) == (7, "10001\n12\n")
    reads = Execution(command=("cat",), interactive=True)
    assert talk(engine.execute(container, reads), b"given\n") == (0, "given\n")
    code, said = talk(engine.execute(container, Execution(command=("nothing",))))
    assert code == 127
    assert "No such file" in said


def test_a_terminal_is_one_inside(engine, run):
    script = ("sh", "-c", "[ -t 0 ] && [ -t 1 ] && echo yes")
    session = engine.execute(run(), Execution(command=script, terminal=True))
    assert b"".join(chunk.data for chunk in session.output()) == b"yes\r\n"
    assert session.wait() == 0


def test_its_own_program_is_talked_to(engine):
    spec = ContainerSpec(image="local-test:1", command=("cat",), interactive=True)
    container = engine.create(spec)
    session = engine.converse(container)
    engine.start(container)
    assert talk(session, b"one\ntwo\n") == (0, "one\ntwo\n")
    engine.remove(container)


def test_usage_and_processes_are_those_of_the_container(engine, run):
    container = run("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done; sleep 1000")
    until(lambda: list(engine.logs(container)))
    usage = engine.usage(container)
    assert usage.cpu > 0
    assert usage.memory > 0
    assert usage.network_received is None
    commands = [process.command for process in engine.processes(container)]
    assert any("sleep 1000" in command for command in commands)
    assert len(commands) == usage.processes


@pytest.mark.parametrize("running", [True, False], ids=["running", "ended"])
def test_files_are_copied_in_and_out(engine, run, running):
    container = run(f"mkdir /in; {'sleep 1000' if running else ''}", user="0")
    if not running:
        engine.wait(container)
    until(lambda: engine.path(container, "/in") is not None)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("model.bin")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"1234"))
    engine.copy_in(container, "/in", iter([packed.getvalue()]))
    assert engine.path(container, "/in/model.bin").size == 4
    data = b"".join(engine.copy_out(container, "/in"))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.extractfile("in/model.bin").read() == b"1234"
    assert engine.path(container, "/nothing") is None
    with pytest.raises(EngineError):
        list(engine.copy_out(container, "/nothing"))
    with pytest.raises(EngineError):
        engine.copy_in(container, "/nothing", iter([packed.getvalue()]))


def test_volumes_outlive_containers_and_start_with_the_images_files(engine, run):
    volumes = (Volume(kind="volume", source="kept", target="/app"),)
    output(engine, run("echo more > /app/more", volumes=volumes, user="0"))
    said = output(engine, run("cat /app/data /app/more", volumes=volumes))
    assert said == "of the image\nmore\n"
    with pytest.raises(EngineError, match="uses the volume kept"):
        engine.remove_volume("kept")


def test_folders_and_secrets_are_mounted(engine, run, tmp_path):
    (tmp_path / "in.txt").write_text("of the host\n")
    (tmp_path / "token").write_text("s3cret")
    bind = Volume(kind="bind", source=str(tmp_path), target="/mnt/in", read_only=True)
    container = run(
        "cat /mnt/in/in.txt /run/secrets/token; touch /mnt/in/x || echo refused; env",
        volumes=(bind,),
        secrets=(Secret(name="token", file=tmp_path / "token"),),
        user="0",
    )
    said = output(engine, container)
    assert said.startswith("of the host\ns3cret")
    assert "refused" in said
    assert said.count("s3cret") == 1, "not in the environment"


def test_a_container_that_fails_is_started_again_so_often(engine, run):
    container = run("echo try; exit 3", restart=Restart(policy="on-failure", retries=2))
    assert output(engine, container) == "try\n" * 3
    assert engine.container(container).restarts == 2


def test_another_port_is_the_apps_own_or_refused(engine, run, free_port):
    port = Port(container=8080, host=free_port, host_ip="127.0.0.1")
    container = run("exec httpd -f -p ${PORT:-8080}", ports=(port,))
    assert engine.container(container).ports == (port,)
    with pytest.raises(UnsupportedError, match="can't map port 8080"):
        run("exec httpd -f", ports=(port,))


def test_a_server_answers_where_it_was_moved(engine, free_port):
    port = Port(container=8080, host=free_port, host_ip="127.0.0.1")
    command = ("httpd", "-f", "-p", "8080")
    running = launch(engine, ContainerSpec(image="local-test:1", command=command, ports=(port,)))
    assert wait_ready(running, timeout=20).urls == (f"http://127.0.0.1:{free_port}",)
    engine.remove(running.id, force=True)


@pytest.mark.skipif(bool(why_no_limits()), reason=why_no_limits())
def test_a_limit_of_memory_kills_and_is_told(engine, run):
    container = run("tail -c 100000000 /dev/zero", memory=32 << 20)
    assert engine.wait(container) == 137
    assert engine.container(container).oom_killed


REFUSED = {
    "a network": ({"network": "mine"}, "has no networks"),
    "GPUs": ({"gpus": Gpus()}, "can't hand GPUs"),
    "an unknown capability": ({"cap_add": ("WIZARDRY",)}, "can't give the capability"),
}


@pytest.mark.parametrize(("options", "why"), REFUSED.values(), ids=REFUSED)
def test_refuses_in_one_sentence(engine, options, why):
    before = engine.containers()
    with pytest.raises(UnsupportedError, match=why) as caught:
        engine.create(ContainerSpec(image="local-test:1", **options))
    assert "\n" not in caught.value.what
    assert engine.containers() == before


def test_layers_go_with_the_last_image_and_container(engine):
    app = make_layer({"only": os.urandom(64)})
    (name,) = engine.load(in_chunks(make_archive("local-test:gone", [app], {"Cmd": ["/x"]})))
    (layer,) = engine.image(name).layers
    container = engine.create(ContainerSpec(image=name))
    with pytest.raises(EngineError, match="is used by the container"):
        engine.remove_image(name)
    engine.remove(container)
    engine.remove_image(name)
    assert not engine.store.has_layer(layer)


AS_SOMEBODY = """
import sys
sys.path.insert(0, {tests!r})
from small_image import in_chunks
from dockyard.engine.api import ContainerSpec
from dockyard.engine.local import LocalEngine
from dockyard.engine.ready import launch
engine = LocalEngine()
engine.load(in_chunks(open("image.tar", "rb").read()))
script = "id -u; echo 1 > /x; ls -n /app/data; cat /proc/self/status"
spec = ContainerSpec(image="local-test:1", command=("sh", "-c", script), read_only=True,
                     cap_drop=("ALL",))
running = launch(engine, spec)
print(engine.wait(running.id))
print(b"".join(chunk.data for chunk in engine.logs(running.id)).decode())
engine.remove(running.id)
engine.remove_image("local-test:1")
print([path.name for path in (engine.store.root / "layers").iterdir()])
"""


def test_an_ordinary_user_runs_it_as_the_images_one_user(engine, tmp_path_factory):
    """Somebody without an entry in passwd, without root, without newuidmap."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user; the other tests ran as this one")
    python = next(filter(_anyone_runs, (sys.executable, "/usr/bin/python3")), None)
    folder = tmp_path_factory.mktemp("somebody")
    if python is None or not _anyone_enters(Path(__file__)):
        pytest.skip("no Python 3.11 or no source here that another user may read")
    for parent in (folder, *folder.parents):
        parent.chmod(parent.stat().st_mode | 0o011)
    (folder / "image.tar").write_bytes(small_image())
    os.chown(folder, 54321, 54321)
    done = subprocess.run(
        [python, "-c", AS_SOMEBODY.format(tests=str(Path(__file__).parents[1]))],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        },
        user=54321,
        group=54321,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "0"
    assert "10001" in said
    assert any("Read-only file system" in line for line in said)
    assert " 10001 " in next(line for line in said if "/app/data" in line)
    assert "CapBnd:\t0000000000000000" in said
    assert said[-1] == "[]"


def _anyone_runs(python):
    command = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    try:
        return subprocess.run(command, user=54321, group=54321, check=False).returncode == 0
    except OSError:
        return False


def _anyone_enters(path):
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in path.parents)
