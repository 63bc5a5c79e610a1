"""What containers can do on every engine: one table of claims, run on each, and shown in the docs.

What an engine refuses with UnsupportedError is its cell of the table in docs/containers.md;
DOCKYARD_WRITE_PAGE=1 writes the table anew.
"""

from __future__ import annotations

import io
import os
import tarfile
import time
from pathlib import Path

import pytest

from dockyard.engine.api import Execution, Restart, Secret, UnsupportedError, Volume
from dockyard.engine.copying import copy_in, copy_out
from dockyard.engine.defaults import harden
from dockyard.errors import EngineError

PAGE = Path(__file__).parents[2] / "docs" / "containers.md"


class Place:
    """An engine, what was made in it, and how that is removed."""

    def __init__(self, ground, folder):
        self.ground, self.engine, self.folder = ground, ground.engine, folder
        self._made = []

    def run(self, command="sleeper", *words, hard=False, **options):
        spec = self.ground.spec(**options)
        argv = (f"/bin/{command}", *words)
        spec = type(spec)(**{**{f: getattr(spec, f) for f in spec.__slots__}, "command": argv})
        if hard:
            spec = harden(spec, self.engine.image(spec.image), self.engine.info)
        number = self.engine.create(spec)
        self._made.append((self.engine.remove, number, {"force": True}))
        self.engine.start(number)
        return number

    def exec(self, number, command, *words, **options):
        execution = Execution(command=(f"/bin/{command}", *words), **options)
        session = self.engine.execute(number, execution)
        output = b"".join(chunk.data for chunk in session.output())
        code = session.wait()
        session.close()
        return code, output.decode()

    def network(self):
        name = f"dockyard-test-{os.urandom(4).hex()}"
        self.engine.create_network(name)
        self._made.insert(0, (self.engine.remove_network, name, {}))
        return name

    def volume(self):
        name = f"dockyard-test-{os.urandom(4).hex()}"
        self.engine.create_volume(name)
        self._made.insert(0, (self.engine.remove_volume, name, {}))
        return name

    def clean(self):
        for remove, name, options in reversed(self._made):
            remove(name, **options)


def exec_(place):
    number = place.run()
    assert place.exec(number, "hello")[0] == 0
    assert place.exec(number, "fail") == (3, "no model at /app/model.h5\n")
    environment = {"GREETING": "hello"}
    assert place.exec(number, "show", "you", environment=environment) == (0, "hello you\n")


def exec_input(place):
    number = place.run()
    session = place.engine.execute(number, Execution(command=("/bin/repeat",), interactive=True))
    session.write(b"one\ntwo\n")
    session.close_input()
    assert b"".join(chunk.data for chunk in session.output()) == b"one\ntwo\n"
    assert session.wait() == 0
    session.close()


def stats(place):
    number = place.run()
    usage = place.engine.usage(number)
    assert usage.processes >= 1
    assert usage.cpu is not None
    assert usage.memory is not None


def top(place):
    number = place.run("stubborn")
    lines = place.engine.processes(number)
    assert any("stubborn" in line.command for line in lines)
    assert all(line.pid > 0 for line in lines)


def restart(place):
    number = place.run()
    first = place.engine.container(number).started
    place.engine.restart(number, grace=0)
    after = place.engine.container(number)
    assert after.status == "running"
    assert after.started > first


def restart_policy(place):
    number = place.run("fail", restart=Restart(policy="on-failure", retries=2))
    deadline = time.monotonic() + 30
    while True:
        state = place.engine.container(number)
        if (state.restarts == 2 and state.ended) or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert (state.restarts, state.exit_code) == (2, 3)


def copy(place):
    number = place.run()
    source = place.folder / "data"
    source.mkdir()
    (source / "x.txt").write_text("here")
    copy_in(place.engine, number, str(source), "/")
    assert place.exec(number, "read", "/data/x.txt") == (0, "here")
    copy_out(place.engine, number, "/data", place.folder / "back")
    assert (place.folder / "back" / "x.txt").read_text() == "here"
    assert place.engine.path(number, "/nothing") is None
    with pytest.raises(EngineError, match="there is no /nothing"):
        copy_out(place.engine, number, "/nothing", place.folder)


def networks(place):
    one, other = place.network(), place.network()
    name = f"dockyard-test-{os.urandom(4).hex()}"
    place.run(name=name, network=one)
    neighbour = place.run(network=one)
    stranger = place.run(network=other)
    assert place.exec(neighbour, "find", name)[0] == 0
    assert place.exec(stranger, "find", name)[0] != 0
    place.engine.connect(one, stranger)
    assert place.exec(stranger, "find", name)[0] == 0
    assert set(place.engine.container(stranger).networks) == {one, other}
    place.engine.disconnect(one, stranger)
    assert place.exec(stranger, "find", name)[0] != 0


def volumes(place):
    volume = Volume(kind="volume", source=place.volume(), target="/data")
    first = place.run("keep", "/data/x", "survives", volumes=(volume,))
    assert place.engine.wait(first) == 0
    with pytest.raises(EngineError, match="uses the volume"):
        place.engine.remove_volume(volume.source)
    place.engine.remove(first)
    again = place.run(volumes=(volume,))
    assert place.exec(again, "read", "/data/x") == (0, "survives\n")


def secrets(place):
    file = place.folder / "token"
    file.write_text("hunter2")
    # The local engine mounts the file itself, which its user must be allowed to read.
    file.chmod(0o644 if place.engine.info.kind == "local" else 0o600)
    number = place.run(secrets=(Secret(name="api", file=file),), hard=True, read_only=True)
    assert place.exec(number, "read", "/run/secrets/api") == (0, "hunter2")
    state = place.engine.container(number)
    assert "hunter2" not in str(state)


def read_only_root(place):
    number = place.run(hard=True, read_only=True)
    assert place.exec(number, "keep", "/x", "no")[0] != 0
    assert place.exec(number, "keep", "/tmp/x", "yes")[0] == 0


def memory_limit(place):
    number = place.run("greedy", memory=16 << 20, hard=True, read_only=True, init=False)
    assert place.engine.wait(number) == 137
    state = place.engine.container(number)
    # Podman 4.3 with the first version of cgroups doesn't always say why.
    assert state.oom_killed or place.engine.info.kind == "podman"


CLAIMS = {
    "`exec`": exec_,
    "`exec -i`: input": exec_input,
    "`stats`": stats,
    "`top`": top,
    "`restart`": restart,
    "`run --restart`": restart_policy,
    "`cp`": copy,
    "`network`: names found, other networks not": networks,
    "`volume`: data outlives containers": volumes,
    "`run --secret`": secrets,
    "a read-only root, /tmp to write": read_only_root,
    "`run --memory`": memory_limit,
}


@pytest.fixture
def place(ground, tmp_path):
    made = Place(ground, tmp_path)
    yield made
    made.clean()


def written_cells():
    """The table of the page: claim and engine to the cell."""
    text = PAGE.read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    header, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    engines = [name.lower() for name in header[1:]]
    return {
        (row[0], name): cell for row in rows for name, cell in zip(engines, row[1:], strict=True)
    }


def write_cell(claim, engine, text):
    """Put an outcome into the page; DOCKYARD_WRITE_PAGE=1 asks for it."""
    lines = PAGE.read_text().splitlines()
    header = next(line for line in lines if line.startswith("| "))
    column = [cell.strip().lower() for cell in header.split("|")].index(engine)
    for number, line in enumerate(lines):
        cells = line.split("|")
        if line.startswith("| ") and cells[1].strip() == claim:
            cells[column] = f" {text} "
            lines[number] = "|".join(cells)
    PAGE.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("claim", CLAIMS)
def test_does_what_the_page_says(place, claim):
    try:
        CLAIMS[claim](place)
        done = "yes"
    except UnsupportedError as error:
        done = f"no: {error.what}"
    kind = place.engine.info.kind
    if kind == "memory":
        assert done == "yes"
        return
    if os.environ.get("DOCKYARD_WRITE_PAGE"):
        write_cell(claim, kind, done)
    assert written_cells()[claim, kind] == done


def test_the_page_has_a_row_for_each_claim():
    assert {claim for claim, _ in written_cells()} == set(CLAIMS)


def test_a_hardened_container_has_no_power(docker_ground, tmp_path):
    place = Place(docker_ground, tmp_path)
    try:
        number = place.run(hard=True, read_only=True)
        facts = dict(
            line.split(":\t", 1)
            for line in place.exec(number, "read", "/proc/self/status")[1].splitlines()
        )
        assert facts["Uid"].split()[0] == "10001"
        assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
        assert facts["NoNewPrivs"] == "1"
        assert facts["Seccomp"] == "2"
    finally:
        place.clean()


def test_what_comes_out_of_a_container_stays_in_its_target(tmp_path):
    """A tar that an evil container could hand out; the engine is only asked for it."""

    class Evil:
        def path(self, container, path):
            from dockyard.engine.state import PathInfo

            return PathInfo(name="out", kind="folder")

        def copy_out(self, container, path):
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w") as archive:
                folder = tarfile.TarInfo("out")
                folder.type = tarfile.DIRTYPE
                archive.addfile(folder)
                archive.addfile(tarfile.TarInfo("out/../../../evil"))
            yield out.getvalue()

    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(EngineError, match="isn't copied"):
        copy_out(Evil(), "c", "/out", inner)
    assert not (tmp_path / "evil").exists()
