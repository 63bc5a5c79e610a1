"""Engines' own words, as they were met, and what becomes of them."""

from __future__ import annotations

import pytest

from dockyard.engine.refusals import explain, explain_exit

CONNECTIVITY = "driver failed programming external connectivity on endpoint web (2f1c): "

MET = {
    "Docker 20.10, GPUs": (
        'could not select device driver "" with capabilities: [[gpu]]',
        "this engine can't hand GPUs to containers",
    ),
    "Docker 28, a CDI device": (
        "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all",
        "this engine can't hand GPUs to containers",
    ),
    "no driver below the toolkit": (
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to "
        "start container process: error during container init: error running hook #0: exit "
        "status 1, stderr: nvidia-container-cli: initialization error: load library failed",
        "this engine can't hand GPUs to containers",
    ),
    "Docker, a port of another container": (
        CONNECTIVITY + "Bind for 127.0.0.1:8080 failed: port is already allocated",
        "the port 127.0.0.1:8080 is taken on this machine",
    ),
    "Docker, a port of another program": (
        CONNECTIVITY + "Error starting userland proxy: listen tcp4 0.0.0.0:8080: bind: address "
        "already in use",
        "the port 0.0.0.0:8080 is taken on this machine",
    ),
    "Docker 28, a port of another program": (
        "failed to set up container networking: " + CONNECTIVITY + "failed to bind host port for "
        "127.0.0.1:8080:172.17.0.2:80/tcp: address already in use",
        "the port 127.0.0.1:8080 is taken on this machine",
    ),
    "Podman, a port": (
        "rootlessport listen tcp 0.0.0.0:8080: bind: address already in use",
        "the port 0.0.0.0:8080 is taken on this machine",
    ),
    "Podman, a low port": (
        "rootlessport cannot expose privileged port 80, you can add "
        "'net.ipv4.ip_unprivileged_port_start=80' to /etc/sysctl.conf",
        "the port 80 can't be published",
    ),
    "Docker, a name": (
        'Conflict. The container name "/web" is already in use by container "2f1c". You have to '
        "remove (or rename) that container to be able to reuse that name.",
        "a container named web exists already",
    ),
    "Podman, a name": (
        'creating container storage: the container name "web" is already in use by 2f1c. You '
        "have to remove that container to be able to reuse that name: that name is already in use",
        "a container named web exists already",
    ),
    "Docker, an image": ("No such image: gone:1", "the engine has no image gone:1"),
    "Docker, a container": ("No such container: gone", "there is no container gone"),
    "Podman, a container": (
        'no container with name or ID "gone" found: no such container',
        "there is no container gone",
    ),
    "Docker, a running container": (
        "You cannot remove a running container 2f1c. Stop the container before attempting removal "
        "or force remove",
        "the container 2f1c is running",
    ),
    "Docker, a folder to mount": (
        'invalid mount config for type "bind": bind source path does not exist: /gone/away',
        "the folder to mount doesn't exist: /gone/away",
    ),
    "Docker without init, a command": (
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to "
        'start container process: exec: "serve": executable file not found in $PATH: unknown',
        "the image has no command serve",
    ),
    "Docker without init, another processor": (
        "failed to create shim task: exec /bin/sh: exec format error",
        "the image's programs are for another kind of processor",
    ),
    "Docker, a user": (
        "unable to find user app: no matching entries in passwd file",
        "the image has no user app",
    ),
    "Docker, CPUs": (
        "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        "the CPU limit is out of range: 0.01 to 2.00",
    ),
    "Docker, memory": (
        "Minimum memory limit allowed is 6MB",
        "the memory limit is too small: the least is 6MB",
    ),
    "a full disk": (
        "Error processing tar file(exit status 1): write /x: no space left on device",
        "the engine's disk is full",
    ),
}


@pytest.mark.parametrize(("message", "what"), MET.values(), ids=MET.keys())
def test_is_explained(message, what):
    error = explain(message, where="web")
    assert error.what == what
    assert error.where == "web"
    assert error.hint
    assert "{" not in error.hint


def test_an_unknown_refusal_is_passed_on():
    error = explain("the moon is in the wrong phase.\nat phase.go:12")
    assert error.what == "the engine refuses: the moon is in the wrong phase"


@pytest.mark.parametrize(
    ("code", "tail", "options", "what"),
    [
        (3, ["oops"], {}, "stopped with exit code 3"),
        (137, [], {"oom_killed": True}, "was killed for using more memory than its limit"),
        (137, [], {}, "was killed (exit code 137)"),
        (127, ["[FATAL tini (7)] exec serve failed: No such file or directory"], {},
         "couldn't start: the image has no command serve"),
        (127, ["[FATAL tini (7)] exec serve failed: No such file or directory"],
         {"foreign": True}, "couldn't start: its programs aren't for this processor (amd64)"),
        (126, ["[FATAL tini (7)] exec serve failed: Permission denied"], {},
         "couldn't start: serve isn't executable"),
        (1, ["exec /bin/sh: exec format error"], {},
         "couldn't start: its programs aren't for this processor (amd64)"),
    ],
)  # fmt: skip
def test_says_why_a_container_ended(code, tail, options, what):
    assert explain_exit(code, tail, architecture="amd64", **options)[0] == what


FAILED = {
    "ImportError: libGL.so.1: cannot open shared object file: No such file or directory": "libgl1",
    "ImportError: libxcb.so.1: cannot open shared object file: No such file or directory": (
        "libxcb1"
    ),
    "OSError: libglib-2.0.so.0: cannot open shared object file: No such file": "libglib2.0-0",
    "ImportError: libgthread-2.0.so.0: cannot open shared object file": "libglib2.0-0",
    "ImportError: libSM.so.6: cannot open shared object file: No such file": "libsm6",
    "ImportError: libcuda.so.1: cannot open shared object file: No such file": "--gpus all",
    "ModuleNotFoundError: No module named 'pandas.core'": "the module pandas.core",
    "OSError: [Errno 30] Read-only file system: '/app/cache'": "can't write /app/cache",
    "PermissionError: [Errno 13] Permission denied: '/app/logs/a.log'": "can't write /app/logs/a",
    "KeyError: 'API_KEY'": "-e API_KEY=",
}


@pytest.mark.parametrize(("line", "hint"), FAILED.items(), ids=FAILED)
def test_last_words_of_python_say_what_to_do(line, hint):
    tail = ["Traceback (most recent call last):", '  File "/app/app.py", line 1', line]
    what, advice = explain_exit(1, tail, architecture="amd64")
    assert what == "stopped with exit code 1"
    assert hint in advice


def test_other_last_words_are_left_as_they_are():
    tail = ["KeyError: 'x'", "ValueError: no model here"]
    assert explain_exit(1, tail, architecture="amd64") == ("stopped with exit code 1", "")
