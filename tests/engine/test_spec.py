"""The words people write for ports, volumes, GPUs, sizes and variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from dockyard.engine.docker.body import container_config
from dockyard.engine.spec import (
    ContainerSpec,
    Gpus,
    Port,
    Volume,
    parse_cpus,
    parse_environment,
    parse_gpus,
    parse_port,
    parse_size,
    parse_volume,
    read_environment_file,
)
from dockyard.errors import UsageError

HERE = Path("/home/me/project")


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("80", Port(container=80)),
        (":80", Port(container=80)),
        ("8080:80", Port(container=80, host=8080)),
        ("127.0.0.1:8080:80/tcp", Port(container=80, host=8080, host_ip="127.0.0.1")),
        ("127.0.0.1::80", Port(container=80, host_ip="127.0.0.1")),
        ("[::1]:8080:80", Port(container=80, host=8080, host_ip="::1")),
        ("0:53/UDP", Port(container=53, protocol="udp")),
    ],
)
def test_ports_mean_what_docker_run_means(text, port):
    assert parse_port(text) == port


@pytest.mark.parametrize(
    "text",
    ["", "http", "0", "65536", "80/http", "8000-8010:8000-8010", "::80", "localhost:80:80", "-80",
     "1:2:3:4", "80:", "8080:80/", "٣"],
)  # fmt: skip
def test_refuses_the_port(text):
    with pytest.raises(UsageError) as caught:
        parse_port(text)
    assert repr(text) in caught.value.what
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "volume"),
    [
        ("/data", Volume(kind="volume", source="", target="/data")),
        ("models:/models", Volume(kind="volume", source="models", target="/models")),
        ("./x:/app/x:ro",
         Volume(kind="bind", source="/home/me/project/x", target="/app/x", read_only=True)),
        ("../x:/x/./y/", Volume(kind="bind", source="/home/me/x", target="/x/y")),
        (".:/app", Volume(kind="bind", source="/home/me/project", target="/app")),
        ("/a:/b:Z,ro",
         Volume(kind="bind", source="/a", target="/b", read_only=True, options=("Z",))),
        ("/a:/b:rw,cached", Volume(kind="bind", source="/a", target="/b")),
    ],
)  # fmt: skip
def test_volumes_mean_what_docker_run_means(text, volume):
    assert parse_volume(text, folder=HERE) == volume


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no absolute path"),
        ("data:here", "no absolute path"),
        ("/data:ro", "no absolute path"),
        ("x:/", "whole root"),
        ("x:/../etc", "no absolute path"),
        ("a/b:/x", "can't be a volume's name"),
        (":/x", "empty part"),
        ("x:/y:banana", "unknown option 'banana'"),
        ("a:/b:ro:z", "too many parts"),
    ],
)
def test_refuses_the_volume(text, why):
    with pytest.raises(UsageError, match=why):
        parse_volume(text, folder=HERE)


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("all", Gpus()),
        ("2", Gpus(count=2)),
        ("count=2", Gpus(count=2)),
        ("device=0,1", Gpus(ids=("0", "1"))),
        ('"device=0,1"', Gpus(ids=("0", "1"))),
        ("device=GPU-3a23c669-1f69", Gpus(ids=("GPU-3a23c669-1f69",))),
    ],
)
def test_gpus_mean_what_docker_run_means(text, gpus):
    assert parse_gpus(text) == gpus
    assert parse_gpus(str(gpus)) == gpus


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "two", "device=", "device=0,,1", "device=0,0", "1,2", "all,1", "x=1"]
)
def test_refuses_the_gpus(text):
    with pytest.raises(UsageError):
        parse_gpus(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1024", 1024), ("512m", 512 << 20), ("2g", 2 << 30), ("1.5GiB", 3 << 29), ("1 KB", 1024),
     ("10b", 10)],
)  # fmt: skip
def test_sizes_are_powers_of_1024(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1g", "1x", "1gg", "lots"])
def test_refuses_the_size(text):
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "two"])
def test_refuses_the_cpus(text):
    with pytest.raises(UsageError):
        parse_cpus(text)


def test_an_environment_file_is_read_as_docker_reads_it(tmp_path):
    path = tmp_path / "env"
    path.write_bytes(
        b'\xef\xbb\xbfFIRST=1\n# a comment\n\n  INDENTED=x \nQUOTED="a b"\nEQUALS=a=b\nEMPTY=\n'
        b"FROM_HERE\nNOT_HERE\nWINDOWS=1\r\nHASH=a # b\n"
    )
    assert read_environment_file(path, environ={"FROM_HERE": "yes"}) == {
        "FIRST": "1",
        "INDENTED": "x ",
        "QUOTED": '"a b"',
        "EQUALS": "a=b",
        "EMPTY": "",
        "FROM_HERE": "yes",
        "WINDOWS": "1",
        "HASH": "a # b",
    }


@pytest.mark.parametrize(
    ("content", "where", "why"),
    [
        (b"GOOD=1\nexport BAD=1\n", ":2", "has a space"),
        (b"BAD = 1\n", ":1", "has a space"),
        (b"=1\n", ":1", "doesn't set a variable"),
        (b"A=\xff\n", "", "isn't UTF-8"),
    ],
)
def test_refuses_the_environment_file(tmp_path, content, where, why):
    path = tmp_path / "env"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=why) as caught:
        read_environment_file(path)
    assert caught.value.where == f"{path}{where}"


def test_variables_on_the_command_line_win_over_files(tmp_path):
    path = tmp_path / "env"
    path.write_text("A=file\nB=file\n")
    merged = parse_environment(["A=line", "C", "D"], [path], environ={"C": "here"})
    assert merged == {"A": "line", "B": "file", "C": "here"}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"image": ""}, "no image"),
        ({"name": "-x"}, "can't be a container's name"),
        ({"name": "x"}, "can't be a container's name"),
        ({"workdir": "app"}, "isn't an absolute path"),
        ({"ports": (Port(container=1, host=80), Port(container=2, host=80))}, "port 80 .* twice"),
        (
            {"volumes": (Volume(kind="volume", source="a", target="/x"),), "tmpfs": {"/x": ""}},
            "path /x is asked for twice",
        ),
    ],
)
def test_refuses_a_specification(options, why):
    with pytest.raises(UsageError, match=why):
        ContainerSpec(**{"image": "x", **options})


def test_the_request_says_only_what_was_asked_and_the_defaults():
    body = container_config(ContainerSpec(image="x:1"))
    assert "Cmd" not in body
    assert "User" not in body
    assert body["Labels"] == {"dockyard.managed": "true"}
    host = body["HostConfig"]
    assert (host["Init"], host["ShmSize"], host["SecurityOpt"]) == (
        True,
        1 << 30,
        ["no-new-privileges"],
    )
    assert not {"Memory", "NanoCpus", "DeviceRequests", "NetworkMode"} & set(host)


def test_the_request_says_everything_that_was_asked():
    body = container_config(
        ContainerSpec(
            image="x:1",
            command=("a", "b c"),
            entrypoint=(),
            environment={"A": "1=2"},
            ports=(parse_port("127.0.0.1:8080:80"), parse_port("81")),
            volumes=(
                parse_volume("/a:/b:ro"),
                parse_volume("named:/c"),
                parse_volume("/d:/e:z,ro"),
            ),
            gpus=parse_gpus("device=0,1"),
            memory=parse_size("1g"),
            cpus=1.5,
            user="10001",
            workdir="/app",
            tmpfs={"/tmp": "exec"},
            remove=True,
        )
    )
    host = body["HostConfig"]
    assert (body["Cmd"], body["Entrypoint"], body["Env"]) == (["a", "b c"], [""], ["A=1=2"])
    assert host["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
        "81/tcp": [{"HostIp": "", "HostPort": ""}],
    }
    assert host["Mounts"] == [
        {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True},
        {"Type": "volume", "Source": "named", "Target": "/c", "ReadOnly": False},
    ]
    assert host["Binds"] == ["/d:/e:ro,z"]
    assert host["DeviceRequests"] == [
        {"Driver": "", "Capabilities": [["gpu"]], "DeviceIDs": ["0", "1"]}
    ]
    assert (host["Memory"], host["NanoCpus"], host["AutoRemove"]) == (1 << 30, 1_500_000_000, True)
