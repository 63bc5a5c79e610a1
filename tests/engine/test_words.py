"""What people write for mounts, limits, restarts, secrets and times."""

from __future__ import annotations

import pytest

from dockyard.engine import words
from dockyard.engine.spec import Restart, Ulimit, Volume
from dockyard.errors import UsageError
from dockyard.oci.config import Healthcheck


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (
            "type=bind,source=/data,target=/in,readonly",
            Volume(kind="bind", source="/data", target="/in", read_only=True),
        ),
        (
            "type=bind,src=/data,dst=/in,ro=false,bind-propagation=rslave",
            Volume(kind="bind", source="/data", target="/in", options=("rslave",)),
        ),
        ("source=models,destination=/m", Volume(kind="volume", source="models", target="/m")),
        ("type=volume,target=/m", Volume(kind="volume", source="", target="/m")),
        (
            "type=volume,source=vol,target=/m,volume-nocopy",
            Volume(kind="volume", source="vol", target="/m", options=("nocopy",)),
        ),
        ("type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=1777", ("/t", "size=64m,mode=1777")),
    ],
)
def test_a_mount_means_what_it_means_to_docker(text, meant):
    assert words.parse_mount(text) == meant


def test_a_relative_source_is_taken_from_the_folder(tmp_path):
    mount = words.parse_mount("type=bind,source=data,target=/in", folder=tmp_path)
    assert mount.source == str(tmp_path / "data")


BAD_MOUNTS = {
    "no target": "type=bind,source=/x",
    "a relative target": "type=volume,source=v,target=m",
    "a climbing target": "type=volume,source=v,target=/a/../..",
    "the root": "type=volume,source=v,target=/",
    "an unknown type": "type=nfs,source=v,target=/m",
    "an unknown part": "type=volume,source=v,target=/m,colour=red",
    "a part twice": "source=a,src=b,target=/m",
    "a bind without a source": "type=bind,target=/m",
    "a folder as a volume": "type=volume,source=./a,target=/m",
    "a tmpfs with a source": "type=tmpfs,source=/a,target=/m",
    "no yes and no no": "type=volume,source=v,target=/m,readonly=maybe",
    "nothing": "",
}


@pytest.mark.parametrize("text", BAD_MOUNTS.values(), ids=BAD_MOUNTS.keys())
def test_refuses_a_mount_with(text):
    with pytest.raises(UsageError) as caught:
        words.parse_mount(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("no", Restart()),
        ("always", Restart(policy="always")),
        ("on-failure", Restart(policy="on-failure")),
        ("on-failure:3", Restart(policy="on-failure", retries=3)),
    ],
)
def test_a_restart_policy_is_dockers(text, meant):
    assert words.parse_restart(text) == meant


@pytest.mark.parametrize("text", ["", "sometimes", "always:3", "on-failure:", "on-failure:-1"])
def test_refuses_another_restart_policy(text):
    with pytest.raises(UsageError, match="no way to restart"):
        words.parse_restart(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("nofile=1024", Ulimit(name="nofile", soft=1024, hard=1024)),
        ("nofile=1024:2048", Ulimit(name="nofile", soft=1024, hard=2048)),
        ("memlock=-1:-1", Ulimit(name="memlock", soft=-1, hard=-1)),
        ("core=0:unlimited", Ulimit(name="core", soft=0, hard=-1)),
    ],
)
def test_a_limit_has_a_soft_and_a_hard_value(text, meant):
    assert words.parse_ulimit(text) == meant


@pytest.mark.parametrize("text", ["nofile", "nofile=", "files=3", "nofile=2:1", "nofile=-1:5"])
def test_refuses_a_limit_that_isnt_one(text):
    with pytest.raises(UsageError, match="the limit"):
        words.parse_ulimit(text)


def test_a_secret_is_a_name_and_a_file(tmp_path):
    (tmp_path / "token").write_text("abc")
    secret = words.parse_secret("api=token", folder=tmp_path)
    assert (secret.target, secret.file) == ("/run/secrets/api", tmp_path / "token")


@pytest.mark.parametrize("text", ["api", "=token", "api=", "../x=token", "a/b=token", "api=gone"])
def test_refuses_a_secret_without_a_name_or_a_file(text, tmp_path):
    (tmp_path / "token").write_text("abc")
    with pytest.raises(UsageError, match="the secret"):
        words.parse_secret(text, folder=tmp_path)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("30s", 30), ("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400)]
)
def test_a_duration_is_in_seconds(text, seconds):
    assert words.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-3s", "3 s", "3 weeks"])
def test_refuses_what_is_no_duration(text):
    with pytest.raises(UsageError, match="no duration"):
        words.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10m", 1_000_000_000 - 600),
        ("999999999", 999_999_999),
        ("2001-09-09T01:46:40+00:00", 1_000_000_000),
        ("2001-09-09T01:46:40Z", 1_000_000_000),
    ],
)
def test_since_is_a_time_or_how_long_ago(text, meant):
    assert words.parse_since(text, now=1_000_000_000) == meant


def test_refuses_what_is_no_time():
    with pytest.raises(UsageError, match="no time"):
        words.parse_since("yesterday")


def test_health_options_change_only_what_they_name():
    assert words.parse_health() is None
    assert words.parse_health(interval="5s") == Healthcheck(test=(), interval=5)
    assert words.parse_health(none=True) == Healthcheck(test=("NONE",))
    asked = words.parse_health(command="curl -f localhost", retries=2)
    assert asked == Healthcheck(test=("CMD-SHELL", "curl -f localhost"), retries=2)
    with pytest.raises(UsageError, match="exclude each other"):
        words.parse_health(command="true", none=True)
