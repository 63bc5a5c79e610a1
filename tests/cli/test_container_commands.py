"""The commands that look after containers, on the engine in memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dockyard.cli.main import run_command_line
from dockyard.cli.ps import age
from dockyard.engine.api import ContainerSpec
from dockyard.engine.memory import MemoryEngine

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
from small_image import in_chunks, make_archive, make_layer


def wait_here(process):
    process.write("waiting\n")
    process.sleep()
    return 0


def repeat(process):
    while piece := process.read():
        process.write(piece.decode())
    return 7


def many(process):
    for number in range(5):
        process.write(f"line {number}\n")
    return 3


PROGRAMS = {"/bin/wait": wait_here, "/bin/repeat": repeat, "/bin/many": many}


@pytest.fixture
def engine(monkeypatch):
    made = MemoryEngine(PROGRAMS)
    layers = [make_layer({"bin/wait": b"x"})]
    for name, labels in (("app:1", {"io.dockyard.python": "3.11"}), ("other:1", {})):
        config = {"Cmd": ["/bin/wait"], "Labels": labels, "Env": ["API_TOKEN=abc", "SHOWN=yes"]}
        made.load(in_chunks(make_archive(name, layers, config)))
    monkeypatch.setattr("dockyard.engine.connect.find_engine", lambda: made)
    return made


@pytest.fixture
def start(engine):
    def make(name, command="wait", image="app:1", **options):
        number = engine.create(
            ContainerSpec(image=image, name=name, command=(f"/bin/{command}",), **options)
        )
        engine.start(number)
        return number

    return make


@pytest.fixture
def command(engine, capfd):
    def call(*words):
        code = run_command_line(words)
        out, err = capfd.readouterr()
        return code, out, err

    return call


def test_ps_says_what_runs_and_how_the_others_ended(command, start, engine):
    start("web-1")
    engine.wait(start("job-1", "many"))
    code, out, _ = command("ps")
    assert code == 0
    assert "running 0 s" in out
    assert "exited (3)" in out
    _, out, _ = command("ps", "--running", "--json")
    assert [entry["name"] for entry in json.loads(out)] == ["web-1"]


def test_ps_shows_no_secrets(command, start):
    start("web-1")
    assert "abc" not in command("ps", "--json")[1]


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        ("2024-01-01T00:00:00Z", "2 min"),
        ("2024-01-01T00:01:30.123456789Z", "29 s"),
        ("2023-12-31T20:02:00+00:00", "4 h"),
        ("2023-12-29T00:00:00Z", "3 days"),
        ("2025-01-01T00:00:00Z", "0 s"),
        ("", ""),
    ],
)
def test_an_age_is_short(moment, shown):
    from datetime import UTC, datetime

    assert age(moment, datetime(2024, 1, 1, 0, 2, tzinfo=UTC)) == shown


def test_logs_of_one_are_its_bytes_and_of_several_have_names(command, start, engine):
    engine.wait(start("job-a", "many"))
    engine.wait(start("job-bb", "many"))
    assert command("logs", "job-a", "--tail", "2")[1] == "line 3\nline 4\n"
    lines = command("logs", "job-a", "job-bb")[1].splitlines()
    assert [line for line in lines if line.startswith("job-a ")] == [
        f"job-a  | line {number}" for number in range(5)
    ]
    assert len(lines) == 10


def test_logs_since_now_are_empty(command, start, engine):
    engine.wait(start("job-a", "many"))
    assert command("logs", "job-a", "--since", "0s")[1] == ""
    assert command("logs", "job-a", "--since", "1h")[1].count("\n") == 5


def test_followed_logs_end_with_the_container(command, start):
    start("job-a", "many")
    assert command("logs", "-f", "job-a")[1].count("\n") == 5


def test_exec_has_the_commands_exit_code(command, start):
    start("web-1")
    code, out, _ = command("exec", "web-1", "/bin/many")
    assert (code, out.count("\n")) == (3, 5)
    assert command("exec", "web-1", "--", "/bin/many")[0] == 3


def test_exec_says_which_command_an_image_lacks(command, start):
    start("web-1")
    code, _, err = command("exec", "web-1", "/bin/nothing")
    assert code == 1
    assert "no command /bin/nothing" in err


def test_a_life_by_commands(command, start, engine):
    start("web-1")
    assert command("stop", "-t", "5", "web-1")[:2] == (0, "web-1\n")
    assert command("wait", "web-1")[1] == "143\n"
    assert command("start", "web-1")[:2] == (0, "web-1\n")
    assert command("restart", "-t", "5", "web-1")[:2] == (0, "web-1\n")
    assert command("kill", "-s", "int", "web-1")[0] == 0
    assert command("wait", "web-1")[1] == "130\n"
    assert command("rm", "web-1")[:2] == (0, "web-1\n")
    assert engine.containers() == ()


def test_one_failure_doesnt_keep_the_others(command, start, engine):
    start("web-1")
    code, out, err = command("rm", "-f", "web-1", "gone-1")
    assert (code, out) == (0, "web-1\n"), err
    start("web-2")
    code, out, err = command("stop", "web-3", "web-2")
    assert (code, out) == (1, "web-2\n")
    assert "there is no container web-3" in err
    assert "Did you mean web-2?" in err


@pytest.mark.parametrize("name", ["stop", "start", "restart", "kill", "wait", "rm", "logs"])
def test_refuses_to_do_it_to_nobody(command, name):
    code, _, err = command(name)
    assert code == 2
    assert "no container is named" in err


def test_refuses_a_signal_that_is_none(command, start):
    start("web-1")
    code, _, err = command("kill", "-s", "LOUD", "web-1")
    assert code == 2
    assert "'LOUD' is no signal" in err


def test_stats_are_json_where_a_program_reads(command, start):
    start("web-1", memory=1 << 30)
    code, out, _ = command("stats", "--json", "--interval", "0.1")
    assert code == 0
    (row,) = json.loads(out)
    assert (row["name"], row["memory_limit"], row["processes"]) == ("web-1", 1 << 30, 1)


def test_top_and_port_look_at_one(command, start):
    start("web-1")
    assert "/bin/wait" in command("top", "web-1")[1]
    code, _, err = command("port", "web-1", "80")
    assert code == 1
    assert "publishes no port 80/tcp" in err


def test_cp_goes_both_ways(command, start, tmp_path):
    start("web-1")
    (tmp_path / "a.txt").write_text("hello")
    assert command("cp", str(tmp_path / "a.txt"), "web-1:/b.txt")[0] == 0
    assert command("cp", "web-1:/b.txt", str(tmp_path))[0] == 0
    assert (tmp_path / "b.txt").read_text() == "hello"
    assert command("cp", str(tmp_path / "a.txt"), str(tmp_path / "c"))[0] == 2
    assert command("cp", "web-1:/gone", str(tmp_path))[0] == 1


def test_inspect_shows_a_container_without_secret_values(command, start):
    start("web-1")
    out = command("inspect", "web-1")[1]
    assert "API_TOKEN=***" in out
    assert "SHOWN=yes" in out
    assert json.loads(command("inspect", "--json", "web-1")[1])["environment"]["SHOWN"] == "yes"


def test_networks_and_volumes_by_commands(command, start):
    assert command("network", "create", "lab")[:2] == (0, "lab\n")
    start("web-1", network="lab")
    assert "web-1" in command("network", "ls")[1]
    code, _, err = command("network", "rm", "lab")
    assert code == 1
    assert "containers are still on the network lab" in err
    assert command("network", "disconnect", "lab", "web-1")[0] == 0
    assert command("network", "rm", "lab")[0] == 0
    assert command("volume", "create", "data")[0] == 0
    assert command("volume", "create", "data")[0] == 1
    assert "data" in command("volume", "ls")[1]
    assert command("volume", "rm", "data")[0] == 0


def test_images_by_commands(command, engine):
    assert "other" not in command("image", "ls")[1]
    assert "other:1" in command("image", "ls", "--all")[1]
    assert command("image", "tag", "app:1", "app:2")[0] == 0
    assert command("image", "tag", "app:1", "NOT A NAME")[0] != 0
    assert command("image", "rm", "app:2")[0] == 0
    code, _, err = command("image", "rm", "app:9")
    assert code == 1
    assert "Did you mean app:1?" in err
    assert "SIZE" in command("image", "history", "app:1")[1]


def test_prune_takes_what_is_over_and_asks_first(command, start, engine):
    start("web-1")
    engine.wait(start("job-1", "many"))
    engine.create(ContainerSpec(image="app:1", name="about-to-start"))
    engine.create_network("unused")
    engine.create_volume("data")
    code, _, err = command("prune")
    assert code == 2
    assert "-y" in err
    listed = json.loads(command("prune", "--dry-run", "--json")[1])
    assert listed == {"containers": ["job-1"], "networks": ["unused"], "volumes": [], "images": []}
    assert command("prune", "-y")[0] == 0
    assert {state.name for state in engine.containers()} == {"web-1", "about-to-start"}
    assert [volume.name for volume in engine.volumes()] == ["data"]
    assert command("prune", "-y", "--volumes")[0] == 0
    assert engine.volumes() == ()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_learns_to_complete(command, shell):
    code, out, _ = command("completion", shell)
    assert code == 0
    assert "_DOCKYARD_COMPLETE" in out


def test_names_of_containers_are_completed(start, engine, monkeypatch, capfd):
    start("web-1")
    monkeypatch.setenv("_DOCKYARD_COMPLETE", "bash_complete")
    for words, cword, found in (("dockyard stop we", "2", "web-1"), ("dockyard st", "1", "stats")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", cword)
        run_command_line([])
        assert f"plain,{found}" in capfd.readouterr().out
