"""What of a project goes into the image."""

from __future__ import annotations

import os
import random
import socket
import subprocess

import pytest

from dockyard.app.config import AppConfig, parse_config
from dockyard.app.dockerignore import read_dockerignore
from dockyard.app.entries import app_entries
from dockyard.app.gitignore import GitPatterns
from dockyard.app.ignore import walk_project
from dockyard.errors import ProjectError


def write(folder, *paths, **contents):
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    for path, text in contents.items():
        (folder / path).write_text(text)


def names(folder, config=None, **options):
    project = walk_project(folder, config or AppConfig(), **options)
    return [file.path for file in project.files]


# text of .dockerignore, path, whether it is left out, what the row is about
DOCKERIGNORE = [
    ("a.txt", "a.txt", True, "a name at the root"),
    ("a.txt", "sub/a.txt", False, "a name isn't looked for in folders"),
    ("*.log", "a.log", True, "a star at the root"),
    ("*.log", "sub/a.log", False, "a star isn't looked for in folders"),
    ("*/a.log", "sub/a.log", True, "one folder"),
    ("*/a.log", "sub/deep/a.log", False, "a star is one folder only"),
    ("**/*.log", "a.log", True, "two stars match no folder, too"),
    ("**/*.log", "sub/deep/a.log", True, "two stars match many folders"),
    ("sub/**", "sub/a", True, "everything in a folder"),
    ("sub/**", "sub", False, "but not the folder"),
    ("sub/**/b", "sub/b", True, "two stars in the middle match nothing"),
    ("sub/**/b", "sub/x/y/b", True, "or several"),
    ("**", "anything/at/all", True, "two stars alone"),
    ("sub", "sub/a/b", True, "a folder takes all below it"),
    ("sub/", "sub/a", True, "a trailing slash is cleaned away"),
    ("/sub", "sub/a", True, "a leading slash is dropped"),
    ("//sub", "sub/a", True, "and a second one"),
    ("./sub/../a", "a", True, "paths are cleaned"),
    ("  a  ", "a", True, "white space around is dropped"),
    ("# a", "# a", False, "a comment"),
    (" # a", "# a", True, "a hash that isn't first is a name"),
    ("a?", "ab", True, "one character"),
    ("a?", "a/", False, "which isn't a separator"),
    ("[ab].txt", "b.txt", True, "a class"),
    ("[^ab].txt", "c.txt", True, "a negated class"),
    ("[^ab].txt", "a.txt", False, "a negated class that doesn't match"),
    ("[!a].txt", "!.txt", True, "an exclamation mark in a class is one of its characters"),
    ("[a-c]", "b", True, "a range"),
    ("a.b", "axb", False, "a dot is a dot"),
    ("a+(b)", "a+(b)", True, "so are the other signs of regular expressions"),
    ("\\*.txt", "*.txt", True, "a quoted star"),
    ("\\*.txt", "a.txt", False, "is no star"),
    ("*\n!a.py", "a.py", False, "taken back"),
    ("*\n!a.py", "b.py", True, "the rest isn't"),
    ("*\n!sub", "sub/a", False, "a folder taken back"),
    ("*\n!sub/a", "sub/a", False, "a file in a folder that is left out"),
    ("*\n!sub/a", "sub/b", True, "its neighbour stays out"),
    ("!a.py\n*", "a.py", True, "the last match decides"),
    ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True, "Docker's own example"),
    ("*.md\n!README*.md\nREADME-secret.md", "README.md", False, "Docker's own example"),
    ("\ufeffa", "a", True, "a byte-order mark"),
    ("a\r\nb\r\n", "a", True, "lines of Windows"),
    ("A", "a", False, "case counts"),
]


@pytest.mark.parametrize(
    ("text", "path", "expected", "row"), DOCKERIGNORE, ids=[row[3] for row in DOCKERIGNORE]
)
def test_reads_dockerignore_as_docker_does(text, path, expected, row):
    assert read_dockerignore(text, where=".dockerignore").matches(path) is expected


@pytest.mark.parametrize(
    ("text", "line"), [("a\n!", 2), ("[a", 1), ("a\n\n[]", 3), ("x\\", 1)], ids=repr
)
def test_names_the_line_of_a_bad_pattern_in_dockerignore(text, line):
    with pytest.raises(ProjectError) as caught:
        read_dockerignore(text, where=".dockerignore")
    assert caught.value.where == f".dockerignore:{line}"


def test_agrees_with_git_on_what_is_ignored(tmp_path):
    """The oracle is `git check-ignore`, on generated patterns and trees."""
    chooser = random.Random(7)
    parts = [
        "a",
        "b",
        "*",
        "a*",
        "?",
        "f",
        "[ab]",
        "[!a]",
        "**",
        "c.txt",
        "*.txt",
        "\\a",
        "a b",
    ]
    folders = ["a", "b", "ab", "a/b", "b/a", "a/b/a", "c/ab/b", "a b"]
    files = [f"{folder}/{name}" for folder in folders for name in ("f", "b.txt", "c.txt", "bb")]
    files += ["a.txt", "c.txt", "x"]
    for number in range(60):
        root = tmp_path / str(number)
        root.mkdir()
        subprocess.run(["git", "init", "-q", root], check=True)
        write(root, *files)
        lines = []
        for _ in range(chooser.randint(1, 5)):
            body = "/".join(chooser.choice(parts) for _ in range(chooser.randint(1, 3)))
            line = chooser.choice(["", "", "!", "/"]) + body + chooser.choice(["", "", "/", " "])
            lines.append(line)
        (root / ".gitignore").write_text("\n".join(lines) + "\n")
        nested = chooser.choice(["", "!a\n", "*.txt\n", "/b\n"])
        (root / "a" / ".gitignore").write_text(nested)
        shown = subprocess.run(
            ["git", "ls-files", "--others", "--exclude-standard", "-z"],
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("\0")
        expected = sorted(path for path in shown if path and not path.endswith(".gitignore"))
        assert sorted(names(root)) == expected, (lines, nested)


def test_a_gitignore_above_the_project_counts_up_to_the_repository(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("/apps/one/data/\n*.log\n")
    project = tmp_path / "apps" / "one"
    write(project, "data/x", "a.log", "app.py")
    assert names(project) == ["app.py"]


def test_no_gitignore_above_counts_outside_a_repository(tmp_path):
    (tmp_path / ".gitignore").write_text("*.py\n")
    write(tmp_path / "project", "app.py")
    assert names(tmp_path / "project") == ["app.py"]


def test_leaves_out_what_no_app_needs(tmp_path):
    write(
        tmp_path,
        *("app.py", "pkg/__init__.py", "pkg/__pycache__/x.cpython-311.pyc", ".git/config"),
        *("venv/pyvenv.cfg", "venv/lib/python3.11/site-packages/torch/__init__.py"),
        *("node_modules/x/index.js", ".mypy_cache/x", "pkg.egg-info/PKG-INFO", "dockyard.toml"),
        *("nb/.ipynb_checkpoints/x.ipynb", "Dockerfile", ".dockerignore", "old/oci-layout"),
        *("old/blobs/sha256/x", "conda/conda-meta/history", ".gitignore", "pylock.toml"),
    )
    (tmp_path / ".dockerignore").write_text("")
    (tmp_path / ".gitignore").write_text("")
    (tmp_path / "image.tar").write_bytes(b"oci-layout\0" + bytes(600))
    (tmp_path / "data.tar").write_bytes(b"data/\0" + bytes(600))
    assert names(tmp_path) == ["app.py", "data.tar", "pkg/__init__.py"]


def test_leaves_secrets_out_and_says_so(tmp_path):
    write(tmp_path, "app.py", ".env", ".env.production", ".env.example", "deploy/id_rsa", ".ssh/x")
    project = walk_project(tmp_path, AppConfig())
    assert [file.path for file in project.files] == [".env.example", "app.py"]
    assert [line.split()[0] for line in project.left_out] == [
        ".env",
        ".env.production",
        ".ssh",
        "deploy/id_rsa",
    ]


# config, .dockerignore, .gitignore, what goes in
PRECEDENCE = [
    ({}, "", "", ["a.py", "d/b.py", "d/m.h5"]),
    ({}, "d", "", ["a.py"]),
    ({}, "*\n!d/b.py", "", ["d/b.py"]),
    ({}, "", "d/", ["a.py"]),
    ({"exclude": "d"}, "", "", ["a.py"]),
    ({"exclude": "**/*.py"}, "", "", ["d/m.h5"]),
    ({"exclude": "*.py"}, "", "", ["d/b.py", "d/m.h5"]),
    ({"include": "d/b.py"}, "d", "", ["a.py", "d/b.py"]),
    ({"include": "d/b.py"}, "", "d/", ["a.py", "d/b.py"]),
    ({"include": "d"}, "*", "*", ["d/b.py", "d/m.h5"]),
    ({"include": "d/b.py", "exclude": ["d"]}, "", "", ["a.py", "d/b.py"]),
    ({"include": ".env"}, "", "", [".env", "a.py", "d/b.py", "d/m.h5"]),
    ({"include": "node_modules/x"}, "", "", ["a.py", "d/b.py", "d/m.h5", "node_modules/x"]),
    ({"include": ".git"}, "", "", ["a.py", "d/b.py", "d/m.h5"]),
    ({"exclude": "d"}, "!d/b.py", "", ["a.py"]),
]


@pytest.mark.parametrize(("settings", "docker", "git", "expected"), PRECEDENCE)
def test_include_beats_exclude_beats_dockerignore_beats_gitignore(
    tmp_path, settings, docker, git, expected
):
    write(tmp_path, "a.py", "d/b.py", "d/m.h5", ".env", "node_modules/x", ".git/config")
    (tmp_path / ".dockerignore").write_text(docker)
    (tmp_path / ".gitignore").write_text(git)
    assert names(tmp_path, parse_config(settings)) == expected


def test_a_model_that_the_code_names_goes_in_although_git_ignores_it(tmp_path):
    write(tmp_path, "app.py", "weights/a.h5", "weights/b.h5", "bert/config.json", "bert/x/y.bin")
    (tmp_path / ".gitignore").write_text("weights/\nbert\n")
    assert names(tmp_path, keep=["weights/a.h5", "bert"]) == [
        "app.py",
        "bert/config.json",
        "bert/x/y.bin",
        "weights/a.h5",
    ]


def test_a_model_that_dockerignore_leaves_out_stays_out(tmp_path):
    write(tmp_path, "app.py", "a.h5")
    (tmp_path / ".dockerignore").write_text("*.h5")
    assert names(tmp_path, keep=["a.h5"]) == ["app.py"]


def test_links_inside_stay_links(tmp_path):
    write(tmp_path, "models/v1/m.h5", "sub/x")
    (tmp_path / "current").symlink_to("models/v1")
    (tmp_path / "sub" / "up").symlink_to("../models")
    (tmp_path / "around").symlink_to(f"../{tmp_path.name}/sub/x")
    (tmp_path / "absolute").symlink_to(tmp_path.resolve() / "sub" / "x")
    files = {file.path: file for file in walk_project(tmp_path, AppConfig()).files}
    assert {path: file.target for path, file in files.items() if file.kind == "symlink"} == {
        "around": "sub/x",
        "absolute": "sub/x",
        "current": "models/v1",
        "sub/up": "../models",
    }


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "sub/../../outside"])
def test_refuses_a_link_that_leads_out(tmp_path, target):
    write(tmp_path, "outside")
    project = tmp_path / "project"
    write(project, "a", "sub/b")
    (project / "link").symlink_to(target)
    with pytest.raises(ProjectError, match="link: links to"):
        walk_project(project, AppConfig())
    assert names(project, parse_config({"exclude": "link"})) == ["a", "sub/b"]


def test_refuses_pipes_and_sockets_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(ProjectError) as caught:
            walk_project(tmp_path, AppConfig())
    assert "pipe: is a pipe" in caught.value.what
    assert "socket: is a socket" in caught.value.what


@pytest.mark.parametrize("name", [b"\xff.py", b"a\\b.py", b"new\nline.py", b".wh.x"])
def test_refuses_names_that_no_image_can_hold(tmp_path, name):
    (tmp_path / os.fsdecode(name)).touch()
    with pytest.raises(ProjectError):
        walk_project(tmp_path, AppConfig())


def test_names_files_that_cannot_be_read(tmp_path, monkeypatch):
    write(tmp_path, "secret.py", "app.py")
    readable = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: "secret" not in str(path) and readable(path, mode)
    )
    with pytest.raises(ProjectError, match=r"secret\.py: can't be read"):
        walk_project(tmp_path, AppConfig())


def test_the_order_and_the_build_outputs_are_fixed(tmp_path):
    write(tmp_path, "b/x", "b.py", "a/z", "b-c", "out.tar")
    found = names(tmp_path, outputs=[tmp_path / "out.tar"])
    assert found == ["a/z", "b/x", "b-c", "b.py"]


def test_says_that_there_is_no_folder(tmp_path):
    with pytest.raises(ProjectError, match="no such folder"):
        walk_project(tmp_path / "none", AppConfig())
    write(tmp_path, "app.py")
    with pytest.raises(ProjectError, match="is a file"):
        walk_project(tmp_path / "app.py", AppConfig())


def test_models_are_entries_apart_and_writable_places_are_folders(tmp_path):
    write(tmp_path, "app.py", "m.h5")
    (tmp_path / "run").write_text("#!/bin/sh")
    (tmp_path / "run").chmod(0o755)
    project = walk_project(tmp_path, AppConfig())
    entries = app_entries(project, workdir="/app", models=["m.h5"], writable=["/app/logs"])
    assert [entry.path for entry in entries.models] == ["app/m.h5"]
    assert {(entry.path, entry.mode, entry.kind) for entry in entries.code} == {
        ("app", 0o755, "directory"),
        ("app/app.py", 0o644, "file"),
        ("app/run", 0o755, "file"),
        ("app/logs", 0o1777, "directory"),
    }


def test_gitignore_lines_that_are_malformed_say_nothing():
    patterns = GitPatterns("[a\n\\\n\n#x\n!\n/\n")
    assert not patterns
