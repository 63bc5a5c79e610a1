"""A corpus of Dockerfiles: built without an engine they are what the engine builds, or refused.

Each is built twice and compared: every path with kind, mode, owner and content, and how containers
start. What can't be understood names its line, and never makes another image.
"""

# ruff: noqa: E501

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from direct_ground import CONTEXT, Ground, files, lay_context, load, settings, small_base
from small_image import busybox

from dockyard.cache import Cache
from dockyard.direct.refusal import NotUnderstood
from dockyard.errors import DockerfileError

BASE = "dockyard-direct/small:1"
F = f"FROM {BASE}\n"

# what it is about: the Dockerfile
EQUAL = {
    "copy everything": F + "COPY . /app\n",
    "copy a folder's contents": F + "COPY src /x\n",
    "copy a folder into the working folder": F + "WORKDIR /w\nCOPY src .\n",
    "copy a folder to a deep place": F + "COPY src /x/y/z\n",
    "copy a file to a name": F + "COPY app.py /x/y/other.py\n",
    "copy a file into a folder that is there": F + "COPY app.py /srv\n",
    "copy a file into a folder that isn't": F + "COPY app.py /new/\n",
    "copy several files": F + "WORKDIR /w\nCOPY app.py run.sh private.txt ./\n",
    "copy by pattern": F + "COPY a*.py *.sh src/[ab].py /x/\n",
    "copy by question mark": F + "COPY src/?.py /x/\n",
    "copy names with spaces": F + 'COPY ["a b.txt", "/sp ace/"]\n',
    "copy an empty folder": F + "COPY empty /e\n",
    "copy a link that is named": F + "COPY file-link /fl\n",
    "copy a link to a folder that is named": F + "COPY folder-link /fol\n",
    "copy through a link of the image": F + "COPY app.py /srv/link/\n",
    "copy onto a file of the image": F + "COPY app.py /srv/old/a.txt\n",
    "copy a folder onto one of the image": F + "COPY data /srv/old\n",
    "copy twice": F + "COPY . /app\nCOPY src /app/src\n",
    "copy for numbers": F + "COPY --chown=5:6 src /srv/y\n",
    "copy for one number": F + "COPY --chown=7 app.py /x/\n",
    "copy for names": F + "COPY --chown=app:staff src /y\n",
    "copy for root by name": F + "COPY --chown=root app.py /x/\n",
    "copy hidden files": F + "COPY .hidden /x/\n",
    "add like copy": F + "ADD src /x\nADD app.py run.sh /y/\n",
    "add for a user": F + "ADD --chown=1:2 app.py /x/\n",
    "nothing but a file": "FROM scratch\nCOPY app.py /\n",
    "a command on nothing": 'FROM scratch\nCOPY run.sh /run.sh\nCMD ["/run.sh"]\n',
    "from another stage": f"FROM {BASE} AS one\nCOPY src /s\nRUN mkdir -m 711 /s/m\n{F}"
    "COPY --from=one /s /t\nCOPY --from=0 /s/a.py /u/\n",
    "from another stage's base": f"FROM {BASE} AS one\n{F}COPY --from=one /srv/old /t\n",
    "a stage on a stage": f"FROM {BASE} AS one\nENV A=1\nCOPY src /s\nUSER 5\nFROM one\nCOPY app.py /s/\n",
    "a stage that nobody needs": f"FROM {BASE} AS no\nRUN false; true\n{F}COPY app.py /\n",
    "variables": F + "ENV A=1 B=\"$A x\" C=${BASE:-n} D=${NO:-d} E=${BASE:+y} F='$A'\nENV G=$A$B\n",
    "the old form of ENV": F + "ENV A  one  two\nENV B $A\n",
    "quotes and escapes in ENV": F + r'ENV A="a \"q\" \$x" B=a\ b C=\$A' + "\n",
    "arguments": f"ARG V=1\n{F}ARG V\nARG W=w$V\nARG U\nENV X=$W Y=${{U:-none}}\n",
    "arguments that name the base": f"ARG B={BASE}\nFROM $B\nENV A=1\n",
    "working folders": F + "WORKDIR rel\nWORKDIR sub\nWORKDIR /abs/deep\nWORKDIR ../up\n",
    "a working folder with a variable": F + "ENV D=/dd\nWORKDIR $D/x\n",
    "a working folder through a link": F + "WORKDIR /srv/link/sub\n",
    "ports": F + "EXPOSE 80 90-92/udp\nENV P=70\nEXPOSE $P/tcp\n",
    "volumes": F + 'VOLUME /v /w\nVOLUME ["/x"]\n',
    "labels": F + 'LABEL a=b "c d"="e f"\nLABEL of=mine x="$BASE"\n',
    "users": F + "USER app\nUSER 5:6\n",
    "a stop signal": F + "STOPSIGNAL SIGINT\n",
    "a health check in shell form": F + "HEALTHCHECK --interval=1m30s --retries=2 CMD echo  a\n",
    "a health check in exec form": F + 'HEALTHCHECK --timeout=3s --start-period=2m CMD ["a", "b"]\n',
    "no health check": F + "HEALTHCHECK NONE\n",
    "a command in shell form": F + "CMD a  'b' \\\n  c && d\n",
    "a command in exec form": F + 'CMD [ "a", "b c" ]\n',
    "an entry point drops the command": F + 'ENTRYPOINT ["e"]\n',
    "an entry point keeps a command said before": F + 'CMD ["c"]\nENTRYPOINT ["e"]\n',
    "an entry point in shell form": F + "ENTRYPOINT exec top -b\n",
    "a list that is no JSON": F + "CMD [a, b]\n",
    "another shell": F + 'SHELL ["/bin/sh", "-ec"]\nCMD run it\n',
    "a maintainer": F + "MAINTAINER me <a@b.c>\n",
    "comments and empty lines inside": F + "ENV A=1 \\\n# no\n\n  B=2\n",
    "another escape": f"# escape=`\n{F}ENV A=1 `\n  B=c:\\d\n",
    "lower case": f"from {BASE}\ncopy app.py /\nenv a=b\n",
    "mkdir": F + "RUN mkdir /a && mkdir -p /b/c/d /b/e && mkdir -m 700 /m && mkdir -p /srv/old\n",
    "mkdir in the working folder": F + "WORKDIR /w\nRUN mkdir -p x/y\n",
    "touch and ln": F + "RUN touch /a && ln -s /a /b && ln -sf c /b && touch /srv/old/a.txt\n",
    "chmod by number": F + "COPY src /s\nRUN chmod -R 750 /s && chmod 4755 /s/a.py\n",
    "chmod by letters": F + "COPY src /s\nRUN chmod u+x,go-r /s/a.py && chmod +x /s/b.py && chmod -R a=r,u+wX /s\n",
    "chmod of the base's file": F + "RUN chmod 600 /srv/old/b.txt\n",
    "chown": F + "COPY src /s\nRUN chown -R app:staff /s && chown 5 /s/a.py && chown app /home/app\n",
    "rm of the base's files": F + "RUN rm /srv/old/a.txt && rm -rf /home/app /nothing\n",
    "rm and again": F + "RUN rm -rf /srv/old && mkdir /srv/old && touch /srv/old/new\n",
    "rm of what was copied": F + "COPY src /s\nRUN rm -r /s/deep && rm -f /s/a.py\n",
    "rm of a link": F + "RUN rm /srv/link\n",
    "commands that do nothing": F + "RUN set -ex && echo building && true\n",
    "a run in exec form": F + 'RUN ["mkdir", "/a"]\n',
    "everything at once": F + "WORKDIR /app\nCOPY . .\nRUN mkdir -p logs && chown -R app:appgroup logs "
    '&& chmod 755 run.sh\nENV LOG_DIR=/app/logs\nEXPOSE 8000\nUSER app\nCMD ["python", "app.py"]\n',
}  # fmt: skip

# the Dockerfile, the line that is named, what is said about it
REFUSED = [
    (F + "RUN cat /etc/passwd > /x\n", 2, "needs a shell"),
    (F + "RUN mkdir /a; mkdir /b\n", 2, "needs a shell"),
    (F + "RUN mkdir $HOME\n", 2, "needs a shell"),
    (F + "RUN rm -rf /srv/*\n", 2, "needs a shell"),
    (F + "RUN cat /etc/passwd\n", 2, "'cat' does isn't known"),
    (F + "RUN A=1 mkdir /a\n", 2, "variables in front"),
    (F + "RUN mkdir -Z /a\n", 2, "option -Z"),
    (F + "USER app\nRUN mkdir /tmp/a\n", 3, "another user than root"),
    (F + "RUN --mount=type=cache,target=/c mkdir /a\n", 2, "--mount"),
    (F + "RUN <<E\nmkdir /a\nE\n", 2, "here-document"),
    (F + "COPY <<E /a\nx\nE\n", 2, "here-document"),
    (F + "COPY --link app.py /\n", 2, "--link"),
    (F + "COPY --chown=app app.py /\n", 2, "no such user and group"),
    (F + "COPY --from=busybox /a /b\n", 2, "no stage of this file"),
    (F + "ADD https://example.org/a /\n", 2, "fetched while building"),
    (F + "ADD archive.tar.gz /\n", 2, "ADD unpacks"),
    (F + "ONBUILD COPY . /app\n", 2, "triggers"),
    (F + "VOLUME /v\nCOPY app.py /v/\n", 3, "into the volume /v"),
    (F + "USER app\nWORKDIR /home/new\n", 3, "who owns"),
    (F + 'SHELL ["/bin/sh", "-ec"]\nRUN mkdir /a\n', 3, "the shell is"),
    (F + "COPY src /y\nCOPY --chown=4 src /y\n", 3, "mode and owner of /y/deep"),
    (F + "COPY --chown=4 src /x/y\n", 2, "who owns /x"),
    (F + "COPY --chown=4 app.py /x/y\n", 2, "who owns /x"),
    (F + "COPY src /s\nRUN chmod a=rX /s\n", 3, "mode a=rX"),
    (f"# syntax=example.org/other\n{F}", 2, "frontend"),
    ("FROM --platform=linux/s390x scratch\nENV A=1\n", 1, "linux/s390x"),
    (F + "RUN pip install ./here\n", 2, "file or folder"),
    (F + "RUN pip install --user x\n", 2, "--user"),
    (F + "RUN pip uninstall x\n", 2, "only install"),
]

# the Dockerfile, the line, what is said: what no builder does
WRONG = [
    (F + "COPY nothing /x\n", 2, "no nothing to copy"),
    (F + "COPY app.py run.sh /x\n", 2, "destination that is a folder"),
    (F + "COPY src /etc/passwd\n", 2, "is a file, not a folder"),
    (F + "WORKDIR /etc/passwd\n", 2, "is a file, not a folder"),
    (F + "RUN mkdir /srv\n", 2, "is there already"),
    (F + "RUN mkdir /a/b\n", 2, "no folder to make"),
    (F + "RUN rm /nothing\n", 2, "there is no /nothing"),
    (F + "RUN rm /srv/old\n", 2, "is a folder"),
    (F + "RUN chmod 600 /nothing\n", 2, "there is no /nothing"),
    (F + "RUN chown -R app:app /srv && useradd x\n", 2, "no user or group"),
    (F + "EXPOSE http\n", 2, "is no port"),
    (F + "EXPOSE 70000\n", 2, "is no port"),
    (F + "HEALTHCHECK --interval=soon CMD x\n", 2, "is no duration"),
    ("FROM scratch\nRUN mkdir /a\n", 2, "has no /bin/sh"),
    ("FROM $NOTHING\nENV A=1\n", 1, "names no image"),
    (F + "RUN pip install x\n", 2, "has no such program"),
    (F + "FORM x\n", 2, "no instruction"),
    (F + "ENV A=1 B\n", 2, "needs NAME=value"),
]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp("direct")
    return Ground(Cache(folder / "cache"), {BASE: small_base(busybox())}, folder)


@pytest.fixture(scope="module")
def with_engine(ground: Ground) -> Iterator[Ground]:
    load(ground.bases[BASE], BASE, ground.out)
    yield ground
    subprocess.run(["docker", "rmi", "-f", BASE], capture_output=True, check=False)


def context(folder: Path, dockerfile: str, ignore: str = "") -> Path:
    lay_context(folder, CONTEXT)
    (folder / "archive.tar.gz").write_bytes(b"\x1f\x8b\x08\x00")
    (folder / "Dockerfile").write_text(dockerfile)
    if ignore:
        (folder / ".dockerignore").write_text(ignore)
    return folder


@pytest.mark.docker
@pytest.mark.parametrize("name", EQUAL)
def test_is_what_the_engine_builds(with_engine: Ground, name: str):
    number = list(EQUAL).index(name)
    folder = context(with_engine.out / f"equal-{number}", EQUAL[name])
    ours, theirs = with_engine.ours(folder).image, with_engine.engines(folder, "--network=none")
    assert settings(ours) == settings(theirs)
    assert files(ours) == files(theirs)


@pytest.mark.parametrize(("text", "line", "says"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refuses_what_it_does_not_understand_by_its_line(
    ground: Ground, tmp_path, text, line, says
):
    with pytest.raises(NotUnderstood) as caught:
        ground.ours(context(tmp_path, text))
    assert caught.value.where == f"Dockerfile:{line}"
    assert says in caught.value.what
    assert "--builder docker" in (caught.value.hint or "")


@pytest.mark.parametrize(("text", "line", "says"), WRONG, ids=[row[0] for row in WRONG])
def test_fails_where_every_builder_fails(ground: Ground, tmp_path, text, line, says):
    with pytest.raises(DockerfileError) as caught:
        ground.ours(context(tmp_path, text))
    assert caught.value.where == f"Dockerfile:{line}"
    assert says in str(caught.value)


# .dockerignore: every form of pattern
IGNORES = [
    "*.log\n",
    "**/*.log\n!data/keep.log\n",
    "src\n!src/a.py\n",
    "src/*.py\n",
    "*/*.py\n",
    "*\n!app.py\n!src/deep\n",
    "/app.py\n./run.sh\nsrc/../private.txt\n",
    "# comment\n\n  data  \n",
    "src/[a-b].py\n?mpty\n",
    "**/deep/**\n",
    "data/**\n!data/*.csv\n",
    "!app.py\napp.py\n",
    "Dockerfile\n.dockerignore\n.hidden\n",
    "a\\ b.txt\n*-link\n",
]


@pytest.mark.docker
@pytest.mark.parametrize("ignore", IGNORES)
def test_ignores_what_docker_ignores(with_engine: Ground, ignore: str):
    number = IGNORES.index(ignore)
    folder = context(with_engine.out / f"ignore-{number}", F + "COPY . /c\n", ignore)
    assert files(with_engine.ours(folder).image) == files(
        with_engine.engines(folder, "--network=none")
    )


def test_the_same_context_gives_the_same_digest(ground: Ground, tmp_path):
    text = F + "COPY . /app\nRUN chown -R app:staff /app\n"
    one = ground.ours(context(tmp_path / "one", text)).image
    other = ground.ours(context(tmp_path / "two", text)).image
    assert one.digest == other.digest


def test_arguments_and_targets_are_heeded(ground: Ground, tmp_path):
    text = f"ARG V=1\nFROM {BASE} AS one\nARG V\nENV A=$V\nFROM one AS two\nENV B=2\n"
    folder = context(tmp_path, text)
    built = ground.ours(folder, build_args={"V": "7"}, target="one").image
    assert built.config.env["A"] == "7"
    assert "B" not in built.config.env
    with pytest.raises(DockerfileError, match="no stage three"):
        ground.ours(folder, target="three")


# how the context is spoiled, what is said
SPOILED = [
    (lambda folder: __import__("os").mkfifo(folder / "pipe"), "socket, pipe or device"),
    (lambda folder: (folder / "loop").symlink_to("loop"), None),
]


@pytest.mark.parametrize(("spoil", "says"), SPOILED, ids=["a pipe", "a link to itself"])
def test_odd_contexts(ground: Ground, tmp_path, spoil, says):
    folder = context(tmp_path, F + "COPY . /app\n")
    spoil(folder)
    if says is None:
        tree = files(ground.ours(folder).image)
        assert tree["app/loop"][0] == "symlink"
        return
    with pytest.raises(DockerfileError, match=says):
        ground.ours(folder)


def test_ten_thousand_files_are_copied(ground: Ground, tmp_path):
    folder = context(tmp_path, F + "COPY many /many\n")
    for number in range(100):
        inner = folder / "many" / str(number)
        inner.mkdir(parents=True)
        for name in range(100):
            (inner / f"{name}.txt").write_text(str(name))
    image = ground.ours(folder).image
    assert sum(path.startswith("many/") for path in files(image)) == 10_100
