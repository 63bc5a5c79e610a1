"""push, pull, copy, tags, login and logout, as a user calls them, against Debian's registry."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from registry_server import PROGRAM, Server, missing, registry_server, with_certificate, with_logins
from small_images import busybox_layer, small_image, small_layer

from dockyard.cli.main import run_command_line
from dockyard.cli.source import registry_reference
from dockyard.oci.archive import write_archive
from dockyard.oci.layout import read_layout, write_layout
from dockyard.oci.verify import verify_image

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, PASSWORD = "ada", "open-sesame-42"

HELPER = """#!/bin/sh
# A credential helper that keeps one file for each server.
file="{folder}/$(printf %s "$server" | tr -c 'a-z0-9.' _)"
case $1 in
    store) cat > "{folder}/stored" ;;
    get) cat > "{folder}/asked"
        if [ -e "{folder}/stored" ]; then cat "{folder}/stored"
        else echo "credentials not found in native keychain"; exit 1; fi ;;
    erase) rm -f "{folder}/stored" ;;
esac
"""


@pytest.fixture
def layout(tmp_path: Path) -> str:
    """A layout with one image for two platforms, as oci:DIR."""
    images = [
        small_image(small_layer(architecture, 70_000), architecture=architecture)
        for architecture in ("amd64", "arm64")
    ]
    write_layout(images, tmp_path / "both")
    return f"oci:{tmp_path / 'both'}"


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A registry that wants user and password."""
    if absent := missing(PROGRAM, "htpasswd"):
        pytest.skip(f"{absent[0]} isn't installed")
    folder = tmp_path_factory.mktemp("guarded")
    with registry_server(folder, **with_logins(folder, USER, PASSWORD)) as running:
        yield running


@pytest.fixture(scope="session")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A registry with a certificate by a CA of its own."""
    if absent := missing(PROGRAM, "openssl"):
        pytest.skip(f"{absent[0]} isn't installed")
    folder = tmp_path_factory.mktemp("encrypted")
    with registry_server(folder, **with_certificate(folder)) as running:
        yield running


def run(*words: str, code: int = 0) -> None:
    assert run_command_line(list(words)) == code


def login_with(password: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`dockyard login` with the password piped in."""
    return subprocess.run(
        [sys.executable, "-m", "dockyard", "login", *words, "-u", USER, "--password-stdin"],
        input=password + "\n",
        capture_output=True,
        text=True,
        check=False,
    )


# push, copy, pull, tags


def test_a_layout_goes_up_and_comes_back(server: Server, home, layout, tmp_path, capsys):
    name = f"{server.host}/cli/both:v1"
    run("push", layout, name, f"{server.host}/cli/both:latest")
    assert "4 uploaded" in capsys.readouterr().out
    run("tags", f"{server.host}/cli/both")
    assert sorted(capsys.readouterr().out.split()) == ["latest", "v1"]
    run("copy", name, f"oci:{tmp_path / 'back'}")
    before = json.loads((tmp_path / "both/index.json").read_text())["manifests"]
    after = json.loads((tmp_path / "back/index.json").read_text())["manifests"]
    assert [each["digest"] for each in after] == [each["digest"] for each in before]
    for image in small_image(architecture="amd64"), small_image(architecture="arm64"):
        found = read_layout(tmp_path / "back", platform=image.platform)
        assert verify_image(found, ours=False) == []


def test_an_image_of_a_layout_is_found_by_its_name(server: Server, home, tmp_path, capsys):
    images = {name: small_image(env=name) for name in ("one", "two")}
    for name, image in images.items():
        write_layout(image, tmp_path / "named", reference_name=name)
    goal = f"{server.host}/cli/named:v1"
    run("push", f"oci:{tmp_path / 'named'}:two", goal, "--json")
    assert json.loads(capsys.readouterr().out)["digest"] == str(images["two"].digest)
    run("push", f"oci:{tmp_path / 'named'}", goal, code=1)
    said = capsys.readouterr().err
    assert "several images" in said
    assert "one, two" in said
    run("push", f"oci:{tmp_path / 'named'}:three", goal, code=1)
    assert "no image called 'three'" in capsys.readouterr().err


def test_what_is_pushed_twice_is_there_before(server: Server, home, layout, capsys):
    run("push", layout, f"{server.host}/cli/twice:v1")
    capsys.readouterr()
    run("push", layout, f"{server.host}/cli/twice:v2", "--json")
    value = json.loads(capsys.readouterr().out)
    assert value["blobs"] == {"uploaded": 0, "mounted": 0, "there": 0}
    assert value["references"] == [f"{server.host}/cli/twice:v2"]


def test_a_copy_within_a_registry_mounts(
    server: Server, home, layout, capsys, monkeypatch, tmp_path
):
    run("push", layout, f"{server.host}/cli/from:v1")
    monkeypatch.setenv("DOCKYARD_CACHE", str(tmp_path / "knows-nothing"))
    capsys.readouterr()
    run("copy", f"{server.host}/cli/from:v1", f"{server.host}/cli/to:v1", "--json")
    value = json.loads(capsys.readouterr().out)
    assert value["blobs"] == {"uploaded": 0, "mounted": 4, "there": 0}


def test_a_copy_between_registries_streams(
    server: Server, encrypted, home, layout, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("SSL_CERT_FILE", str(encrypted.folder / "ca.crt"))
    run("push", layout, f"{server.host}/cli/streamed:v1")
    monkeypatch.setenv("DOCKYARD_CACHE", str(tmp_path / "empty"))
    run("copy", f"{server.host}/cli/streamed:v1", f"{encrypted.host}/cli/streamed:v1")
    run("copy", f"{encrypted.host}/cli/streamed:v1", f"oci:{tmp_path / 'back'}:v1")
    digests = [
        json.loads((tmp_path / name / "index.json").read_text())["manifests"][0]["digest"]
        for name in ("both", "back")
    ]
    assert digests[0] == digests[1]
    blobs = tmp_path / "empty/blobs/sha256"
    assert list(blobs.rglob("*")) == [], "nothing was put on the disk in between"


def test_one_platform_can_be_chosen(server: Server, home, layout, tmp_path, capsys):
    run("push", layout, f"{server.host}/cli/one:v1", "--platform", "linux/arm64")
    run("pull", f"{server.host}/cli/one:v1", "--platform", "arm64", "-o", f"oci:{tmp_path / 'o'}")
    assert "linux/arm64" in capsys.readouterr().out
    run("pull", f"{server.host}/cli/one:v1", "--platform", "amd64", "-o", "oci:x", code=1)
    assert "the image is for linux/arm64" in capsys.readouterr().err
    assert not Path("x").exists()


def test_an_archive_goes_both_ways(server: Server, home, tmp_path, capsys):
    image = small_image(env="archive")
    with (tmp_path / "in.tar").open("wb") as out:
        write_archive(image, out)
    run("push", f"archive:{tmp_path / 'in.tar'}", f"{server.host}/cli/archive:v1")
    run("pull", f"{server.host}/cli/archive:v1", "-o", f"archive:{tmp_path / 'out.tar'}", "--json")
    assert str(image.digest) in capsys.readouterr().out
    run("copy", f"archive:{tmp_path / 'out.tar'}", f"oci:{tmp_path / 'l'}")
    assert read_layout(tmp_path / "l").digest == image.digest


def test_inspect_looks_into_a_registry(server: Server, home, layout, capsys):
    run("push", layout, f"{server.host}/cli/inspected:v1")
    capsys.readouterr()
    run("inspect", f"registry:{server.host}/cli/inspected:v1", "--json")
    value = json.loads(capsys.readouterr().out)
    assert value["platform"] in ("linux/amd64", "linux/arm64")
    assert len(value["layers"]) == 1


def test_what_fills_an_image_is_told_without_pulling_it(server: Server, home, tmp_path, capsys):
    write_layout(small_image(small_layer("app/model.pt", 5000)), tmp_path / "model")
    run("push", f"oci:{tmp_path / 'model'}", f"{server.host}/cli/layers:v1")
    capsys.readouterr()
    run("layers", f"registry:{server.host}/cli/layers:v1", "--json")
    report = json.loads(capsys.readouterr().out)
    assert (report["size"], report["files"]) == (5000, 1)
    assert report["kinds"] == [{"name": "models", "size": 5000, "files": 1}]


@pytest.mark.parametrize(
    ("text", "is_reference"),
    [
        ("registry:registry.example/app", True),
        ("registry:python:3.12", True),
        ("registry:python@sha256:" + "0" * 64, True),
        ("registry:2", False),
        ("registry:latest", False),
        ("registry", False),
        ("python:3.12", False),
    ],
)
def test_what_names_a_registry_s_image(text, is_reference):
    assert (registry_reference(text) is not None) == is_reference


def skopeo(*words: str) -> bytes:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo isn't installed")
    return subprocess.run(["skopeo", *words], check=True, capture_output=True).stdout


def test_skopeo_sees_the_index(server: Server, home, layout):
    run("push", layout, f"{server.host}/cli/seen:v1")
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{server.host}/cli/seen:v1")
    platforms = [each["platform"]["architecture"] for each in json.loads(raw)["manifests"]]
    assert platforms == ["amd64", "arm64"]


@pytest.mark.docker
def test_docker_pulls_runs_and_gives_back(
    server: Server, home, docker_engine, session_label, capsys, tmp_path
):
    """Pushed by us and pulled by Docker; pushed from Docker; pulled by us into Docker."""
    key, _, value = session_label.partition("=")
    image = small_image(busybox_layer())
    config = image.config.__class__(
        platform=image.config.platform,
        cmd=("/bin/busybox", "echo", "it runs"),
        labels={key: value},
    )
    write_layout(image.with_config(config), tmp_path / "busybox")
    name = f"{server.host}/cli/busybox"
    run("push", f"oci:{tmp_path / 'busybox'}", f"{name}:one")
    docker("pull", "-q", f"{name}:one")
    assert docker("run", "--rm", "--network=none", f"{name}:one") == "it runs\n"
    docker("tag", f"{name}:one", f"{name}:two")
    capsys.readouterr()
    run("push", f"{name}:two", "--json")
    pushed = json.loads(capsys.readouterr().out)
    docker("rmi", f"{name}:one", f"{name}:two")
    run("pull", f"{name}:two")
    assert pushed["digest"] in capsys.readouterr().out
    assert docker("run", "--rm", "--network=none", f"{name}:two") == "it runs\n"
    docker("rmi", f"{name}:two")


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_podman_pulls_and_runs(server: Server, home, tmp_path, monkeypatch):
    if shutil.which("podman") is None:
        pytest.skip("podman isn't installed")
    image = small_image(busybox_layer())
    config = image.config.__class__(
        platform=image.config.platform, cmd=("/bin/busybox", "echo", "it runs")
    )
    write_layout(image.with_config(config), tmp_path / "busybox")
    run("push", f"oci:{tmp_path / 'busybox'}", f"{server.host}/cli/podman:v1")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    # podman refuses a run root of over 50 characters.
    with tempfile.TemporaryDirectory(prefix="dy", dir="/tmp") as short:
        podman = ["podman", "--root", f"{short}/root", "--runroot", f"{short}/run"]
        podman += ["--storage-driver", "vfs"]
        works = subprocess.run([*podman, "images"], capture_output=True, text=True, check=False)
        if works.returncode:
            pytest.skip(f"podman doesn't work here: {works.stderr.strip()[-200:]}")
        name = f"{server.host}/cli/podman:v1"
        try:
            subprocess.run([*podman, "pull", "-q", "--tls-verify=false", name], check=True)
            # Its own limits may be higher than what this machine lets anybody set.
            limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
            done = subprocess.run(
                [*podman, "run", "--rm", "--network=none", *limits, name],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode in (125, 126):
                pytest.skip(f"podman can't run containers here: {done.stderr.strip()[-200:]}")
            assert done.stdout == "it runs\n"
        finally:
            subprocess.run([*podman, "rmi", "-fa"], check=True, capture_output=True)


# login, logout


def test_a_login_lets_one_in_until_one_logs_out(guarded: Server, home, layout, capsys):
    name = f"{guarded.host}/private/app:v1"
    run("push", layout, name, code=1)
    assert "dockyard login" in capsys.readouterr().err
    done = login_with(PASSWORD, guarded.host)
    assert done.returncode == 0, done.stderr
    assert "not encrypted" in done.stdout
    file = home / ".docker/config.json"
    assert file.stat().st_mode & 0o777 == 0o600
    entry = json.loads(file.read_text())["auths"][guarded.host]
    assert base64.b64decode(entry["auth"]).decode() == f"{USER}:{PASSWORD}"
    run("push", layout, name)
    run("logout", guarded.host)
    assert "removed from" in capsys.readouterr().out
    run("tags", f"{guarded.host}/private/app", code=1)
    run("logout", guarded.host)
    assert "There was no login" in capsys.readouterr().out


def test_a_wrong_password_is_refused_and_not_kept(guarded: Server, home):
    done = login_with("wrong-password", guarded.host)
    assert done.returncode == 1
    assert "doesn't accept this user and password" in done.stderr
    assert "wrong-password" not in done.stdout + done.stderr
    assert not (home / ".docker/config.json").exists()


def test_a_helper_keeps_the_login(guarded: Server, home, layout, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "kept"
    folder.mkdir()
    program = tmp_path / "bin/docker-credential-tests"
    program.parent.mkdir()
    program.write_text(HELPER.format(folder=folder))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    file = home / ".docker/config.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"credsStore": "tests", "detachKeys": "ctrl-z,z"}))
    done = login_with(PASSWORD, guarded.host)
    assert done.returncode == 0, done.stderr
    assert "docker-credential-tests" in done.stdout
    assert json.loads((folder / "stored").read_text())["Secret"] == PASSWORD
    assert PASSWORD not in file.read_text()
    run("push", layout, f"{guarded.host}/private/helped:v1")
    assert (folder / "asked").read_text() == guarded.host
    run("logout", guarded.host)
    assert not (folder / "stored").exists()
    assert json.loads(file.read_text()) == {"credsStore": "tests", "detachKeys": "ctrl-z,z"}


def test_a_login_keeps_what_else_the_file_holds(guarded: Server, home):
    real = home / "dotfiles/docker.json"
    real.parent.mkdir()
    before = {"auths": {"other.example": {"auth": "YTpi"}}, "currentContext": "default"}
    real.write_text(json.dumps(before))
    file = home / ".docker/config.json"
    file.parent.mkdir()
    file.symlink_to(real)
    assert login_with(PASSWORD, guarded.host).returncode == 0
    after = json.loads(real.read_text())
    assert after["currentContext"] == "default"
    assert set(after["auths"]) == {"other.example", guarded.host}
    assert file.is_symlink()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["login", "a b"], "no registry's name"),
        (["login", "registry.example/team"], "no registry's name"),
        (["login", "registry.example", "--password-stdin"], "needs --username"),
        (["login", "registry.example", "-u", "ada"], "no terminal"),
        (["push", "oci:somewhere"], "no name of its own"),
        (["push", "app"], "names no place to push to"),
        (["push", "oci:x", "app:v1"], "names no place to push to"),
        (["pull", "app", "-o", "registry:registry.example/app"], "pulled to this machine"),
        (["tags", "registry.example/app:v1"], "names an image"),
        (["pull", "app", "-o", "zip:x"], "is no output"),
    ],
)
def test_a_wrong_command_line_says_so(home, words, why):
    done = subprocess.run(
        [sys.executable, "-m", "dockyard", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert why in done.stderr
    assert "Traceback" not in done.stderr


# certificates


def test_an_unknown_certificate_is_refused(encrypted: Server, home, layout, capsys):
    run("push", layout, f"{encrypted.host}/tls/app:v1", code=1)
    assert "certificate can't be verified" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["SSL_CERT_FILE", "containers", "docker"])
def test_a_ca_of_one_s_own_is_trusted(encrypted: Server, home, layout, monkeypatch, place):
    if place == "SSL_CERT_FILE":
        monkeypatch.setenv("SSL_CERT_FILE", str(encrypted.folder / "ca.crt"))
    else:
        folder = home / ".config" / place / "certs.d" / encrypted.host
        folder.mkdir(parents=True)
        shutil.copy(encrypted.folder / "ca.crt", folder)
    run("push", layout, f"{encrypted.host}/tls/app:{place}")


def test_insecure_takes_any_certificate(encrypted: Server, home, layout):
    run("push", layout, f"{encrypted.host}/tls/app:insecure", "--insecure")
