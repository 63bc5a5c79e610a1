"""DY3: what the layers hold for nothing."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from dockyard.dockerfile.syntax import Place
from dockyard.lint.finding import Cost, hit, megabytes
from dockyard.lint.installs import apt_packages, commands_of, downloads
from dockyard.lint.rule import Zeros, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.lint.finding import Hit
    from dockyard.lint.installs import Ran
    from dockyard.lint.subject import DockerfileView, Subject

_COMPILERS = re.compile(
    r"build-essential|gcc(?:-\d+)?|g\+\+(?:-\d+)?|clang(?:-\d+)?|cmake|make|ninja-build|gfortran"
    r"|rustc|cargo|cuda-nvcc-.*|python3(?:\.\d+)?-dev|libpython3.*-dev|cuda-toolkit.*"
)
_SITE = re.compile(r"site-packages|dist-packages|/opt/venv|/usr/local/lib|\.so\b|\.libs\b|conda")


@rule(
    "DY301",
    "devel-base",
    "The image itself stands on a -devel base",
    cost="4 to 5 GB of compilers, headers and static libraries, and a larger attack surface.",
    why="""-devel bases are for compiling CUDA code. What was compiled runs on -runtime, or on a
    base without CUDA where the wheels bring it. Compile in a first stage and copy the
    result.""",
    bad="FROM nvidia/cuda:12.4.1-devel-ubuntu22.04\nCOPY app.py /app/\n",
    good="FROM nvidia/cuda:12.4.1-devel-ubuntu22.04 AS build\nRUN make\n"
    "FROM nvidia/cuda:12.4.1-base-ubuntu22.04\nCOPY --from=build /out /out\n",
    fixed="FROM nvidia/cuda:12.4.1-runtime-ubuntu22.04\nCOPY app.py /app/\n",
)
def devel_base(subject: Subject) -> Iterator[Hit]:
    """A tag with -devel below the last stage."""
    for view in subject.dockerfiles:
        name, tag, line = view.image
        if re.search(r"(?:^|-)devel\b", tag):
            yield hit(
                view.path,
                Place(line),
                f"{name}:{tag} has the compilers of CUDA",
                cost=Cost(text="4 to 5 GB", size=4_000_000_000),
                fix="Compile in a stage of its own; take -runtime or -base for the image.",
            )


@rule(
    "DY302",
    "full-base",
    "A full base where the slim one works",
    cost="0.9 to 1.2 GB, unpacked.",
    why="""python:3.12 has compilers, Git, ImageMagick and headers for building most packages from
    source. Wheels need none of that. python:3.12-slim is the same Python without.""",
    bad="FROM python:3.12\nCOPY app.py /app/\n",
    good="FROM python:3.12 AS build\nRUN pip wheel .\nFROM python:3.12-slim\n"
    "COPY --from=build /wheels /wheels\n",
    fixed="FROM python:3.12-slim\nCOPY app.py /app/\n",
)
def full_base(subject: Subject) -> Iterator[Hit]:
    """python or node without slim, alpine or the like, below the last stage."""
    for view in subject.dockerfiles:
        name, tag, line = view.image
        if name in ("python", "node") and not re.search(r"slim|alpine|windows|nanoserver", tag):
            shown = f"{name}:{tag}" if tag else name
            yield hit(
                view.path,
                Place(line),
                f"{shown} brings compilers and headers that wheels don't need",
                cost=Cost(text="0.9 to 1.2 GB, unpacked", size=900_000_000),
                fix=f"Take {name}:{tag + '-' if tag and tag != 'latest' else ''}slim.",
            )


@rule(
    "DY303",
    "compilers-left",
    "Compilers stay in the image",
    cost="250 to 400 MB, and tools for whoever gets in.",
    why="""What compiles is needed while building only. Removing it in a later layer frees nothing:
    compile in a stage of its own, or install and remove in one RUN.""",
    bad="FROM python:3.12-slim\n"
    "RUN apt-get update && apt-get install -y build-essential\n"
    "RUN pip install --no-cache-dir x==1\n",
    good="FROM python:3.12-slim\n"
    "RUN apt-get update && apt-get install -y build-essential \\\n"
    " && pip install --no-cache-dir x==1 \\\n"
    " && apt-get purge -y build-essential && apt-get autoremove -y\n",
    fixed="FROM python:3.12-slim AS build\n"
    "RUN apt-get update && apt-get install -y build-essential\nRUN pip wheel -w /wheels x==1\n"
    "FROM python:3.12-slim\nCOPY --from=build /wheels /wheels\n",
)
def compilers_left(subject: Subject) -> Iterator[Hit]:
    """apt-get install of compilers in the last stage, not purged in the same RUN."""
    for view in subject.dockerfiles:
        for ran in view.final_ran:
            words = [word for word in apt_packages(ran.command) if _COMPILERS.fullmatch(word.text)]
            if not words:
                continue
            same = [other.command.texts for other in view.final_ran if other.step is ran.step]
            if any({"purge", "remove", "autoremove"} & set(texts) for texts in same):
                continue
            names = ", ".join(word.text for word in words)
            yield hit(
                view.path,
                ran.place_of(words[0]),
                f"{names}: needed while building only",
                cost=Cost(text="250 to 400 MB", size=250_000_000),
                fix="Install and compile in a first stage, and copy the result.",
            )


@rule(
    "DY306",
    "recursive-chown",
    "A recursive chown or chmod copies every file into another layer",
    cost="The files once more: +1 GB for an environment with torch.",
    why="""Changing the owner or mode of a file puts the whole file into the new layer. COPY takes
    --chown and --chmod; what runs as its user from the start needs neither.""",
    bad={
        "Dockerfile": "FROM python:3.12-slim\nCOPY . /app\nRUN chown -R 10001 /app\n",
        ".dockerignore": "*.log\n",
        "app.py": "x = 1\n",
        "big.npy": Zeros(2_000_000),
    },
    good={
        "Dockerfile": "FROM python:3.12-slim\nRUN mkdir /app && chown -R 10001 /app\n",
        "app.py": "x = 1\n",
    },
    fixed={
        "Dockerfile": "FROM python:3.12-slim\nCOPY --chown=10001 . /app\n",
        ".dockerignore": "*.log\n",
        "app.py": "x = 1\n",
        "big.npy": Zeros(2_000_000),
    },
)
def recursive_chown(subject: Subject) -> Iterator[Hit]:
    """chown -R and chmod -R of folders that an earlier layer filled."""
    for view in subject.dockerfiles:
        for ran in view.final_ran:
            command = ran.command
            if command.name not in ("chown", "chmod", "chgrp"):
                continue
            if not {"-R", "--recursive"} & command.options():
                continue
            for word in command.operands()[1:]:
                folder = posixpath.normpath(posixpath.join(ran.step.workdir, word.text))
                size, filled = _filled_before(view, ran, folder)
                if filled:
                    yield hit(
                        view.path,
                        ran.place,
                        f"{command.name} -R {word.text}: its files are copied into this layer",
                        cost=Cost(text=f"{megabytes(size)} more", size=size)
                        if size
                        else "as large as the folder",
                        fix=f"Write {filled} --{'chmod' if command.name == 'chmod' else 'chown'}=… "
                        "and leave this out."
                        if filled == "COPY"
                        else "Do it in the RUN that makes the files.",
                    )
                    break


def _filled_before(view: DockerfileView, ran: Ran, folder: str) -> tuple[int, str]:
    """How many bytes earlier layers put below a folder, and which kind of instruction did."""
    size, how = 0, ""
    for copied in view.copies:
        if copied.stage is not ran.stage or copied.step.line >= ran.step.line:
            continue
        target = posixpath.normpath(posixpath.join(copied.step.workdir, copied.target))
        if _is_below(target, folder) or _is_below(folder, target):
            size += sum(file.size for file in copied.files(view.context))
            how = "COPY"
    if not how:
        inside = any(
            install.ran.step.line < ran.step.line
            and install.ran.stage is ran.stage
            and re.match(r"/opt|/usr/local|/venv|/root|/home|/$", folder)
            for install in view.installs
        )
        how = "RUN" if inside else ""
    return size, how


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


@rule(
    "DY307",
    "deleted-later",
    "Deleting in a later layer frees nothing",
    cost="The files stay in the earlier layer: nothing becomes smaller.",
    why="""A layer can only hide what earlier layers hold. Delete in the RUN that made the files,
    or don't copy them.""",
    bad="FROM python:3.12-slim\nRUN curl -fLo /tmp/a.tar.gz https://example.org/a.tar.gz \\\n"
    " && echo 0 /tmp/a.tar.gz | sha256sum -c\nRUN rm /tmp/a.tar.gz\n",
    good="FROM python:3.12-slim\nRUN rm -rf /usr/share/doc\n",
    fixed="FROM python:3.12-slim\nRUN curl -fLo /tmp/a.tar.gz https://example.org/a.tar.gz \\\n"
    " && echo 0 /tmp/a.tar.gz | sha256sum -c && rm /tmp/a.tar.gz\n",
)
def deleted_later(subject: Subject) -> Iterator[Hit]:
    """rm of what an earlier instruction of the stage is known to have made."""
    for view in subject.dockerfiles:
        stages = view.final.lineage() if view.final else ()
        for stage in stages:
            made: list[tuple[str, int, int]] = []
            for copied in view.copies:
                if copied.stage is stage:
                    target = posixpath.join(copied.step.workdir, copied.target)
                    for source in copied.sources:
                        name = posixpath.basename(source.rstrip("/"))
                        inner = posixpath.join(target, name) if target.endswith("/") else target
                        size = sum(file.size for file in view.context.chosen(source))
                        made.append((posixpath.normpath(inner), copied.step.line, size))
            for ran in commands_of(stage):
                line, command = ran.step.line, ran.command
                if command.name == "apt-get" and "update" in command.texts:
                    made.append(("/var/lib/apt/lists", line, 40_000_000))
                for download in downloads(ran):
                    path = posixpath.join(ran.step.workdir, download.target)
                    made.append((posixpath.normpath(path), line, 0))
                if command.name != "rm":
                    continue
                for word in command.operands():
                    yield from _hidden(view, ran, word.text, made)


def _hidden(
    view: DockerfileView, ran: Ran, path: str, made: list[tuple[str, int, int]]
) -> Iterator[Hit]:
    folder = posixpath.normpath(posixpath.join(ran.step.workdir, path.rstrip("*")))
    here = {item for item, line, _ in made if line == ran.step.line}
    for item, line, size in made:
        if (
            line < ran.step.line
            and item not in here
            and (item == folder or _is_below(item, folder))
        ):
            yield hit(
                view.path,
                ran.place,
                f"rm {path} only hides what line {line} made",
                cost=Cost(text=f"{megabytes(size)} stay in the image", size=size)
                if size
                else "the files stay in the image",
                fix=f"Delete it in line {line}'s RUN, or don't put it there.",
            )
            return


@rule(
    "DY308",
    "strip-patched",
    "Stripping libraries inside of wheels breaks them",
    severity="error",
    cost="`ELF load command address/offset not properly aligned` when numpy is imported.",
    why="""Libraries in wheels were changed by auditwheel (patchelf) after they were linked. strip
    moves their segments, and the loader refuses them. Wheels are stripped where it is safe
    already.""",
    bad="FROM python:3.12-slim\nRUN pip install --no-cache-dir numpy==2.1.0 \\\n"
    " && find /usr/local/lib -name '*.so*' -exec strip --strip-unneeded {} +\n",
    good="FROM debian:trixie\nRUN make && strip /out/server\n",
    fixed="FROM python:3.12-slim\nRUN pip install --no-cache-dir numpy==2.1.0\n",
)
def strip_patched(subject: Subject) -> Iterator[Hit]:
    """strip, by itself or through find and xargs, below site-packages."""
    for view in subject.dockerfiles:
        for ran in view.ran:
            texts = ran.command.texts
            if "strip" not in {posixpath.basename(text) for text in texts}:
                continue
            whole = " ".join(
                " ".join(other.command.texts) for other in view.ran if other.step is ran.step
            )
            if ran.command.name in ("find", "xargs", "strip") and _SITE.search(whole):
                yield hit(
                    view.path,
                    ran.place,
                    "strip breaks libraries that auditwheel has patched",
                    fix="Leave it out; to save space drop tests and headers (`trim = true`).",
                )


@rule(
    "DY310",
    "bytecode-disabled",
    "The image has no bytecode, and can't keep any",
    cost="+1.8 s at every start of a torch app (measured): each import compiles again.",
    why="""Python compiles each module at its first import and keeps the result, where it may. In
    an image that was built without bytecode and runs as a user who can't write, every start
    compiles everything.""",
    bad="FROM python:3.12-slim\nRUN pip install --no-cache-dir --no-compile torch==2.5.1\n",
    good="FROM python:3.12-slim\nENV PYTHONDONTWRITEBYTECODE=1 UV_COMPILE_BYTECODE=1\n"
    "RUN uv pip install --no-cache --system torch==2.5.1\n",
    fixed="FROM python:3.12-slim\nRUN pip install --no-cache-dir torch==2.5.1\n",
)
def bytecode_disabled(subject: Subject) -> Iterator[Hit]:
    """--no-compile, uv without --compile-bytecode, and deleted __pycache__."""
    for view in subject.dockerfiles:
        for install in view.installs:
            ran = install.ran
            compiled = {"--compile-bytecode", "--compile"} & install.options or any(
                "UV_COMPILE_BYTECODE" in words
                for words in (
                    ran.step.variables,
                    {word.text.partition("=")[0] for word in ran.command.assignments},
                )
            )
            no_pip = install.tool == "pip" and "--no-compile" in install.options
            if no_pip or (install.tool == "uv" and not compiled):
                flag = "--no-compile" if no_pip else "uv without --compile-bytecode"
                yield hit(
                    view.path,
                    ran.place_of(install.verb),
                    f"{flag}: every start compiles every module",
                    cost=Cost(text="+1.8 s at each start of a torch app (measured)", seconds=1.8),
                    fix="Leave --no-compile out." if no_pip else "Set UV_COMPILE_BYTECODE=1.",
                )
        for ran in view.final_ran:
            said = " ".join(ran.command.texts)
            deletes = ran.command.name == "rm" or "-delete" in said or re.search(r"\brm\b", said)
            if deletes and re.search(r"__pycache__|\.pyc\b", said):
                yield hit(
                    view.path,
                    ran.place,
                    "bytecode is deleted: every start compiles again",
                    cost=Cost(text="+1.8 s at each start of a torch app (measured)", seconds=1.8),
                    fix="Leave it out.",
                )


@rule(
    "DY311",
    "bytecode-clamped",
    "Changed times make the bytecode invalid, silently",
    cost="+1.7 s at every start of a torch app (measured).",
    why="""A .pyc file holds its source's time. When touch changes that after pip has compiled,
    Python ignores the bytecode and compiles again, at every start, without a word.""",
    bad="FROM python:3.12-slim\nRUN pip install --no-cache-dir torch==2.5.1 \\\n"
    " && find /usr/local/lib -exec touch -d @0 {} +\n",
    good="FROM python:3.12-slim\nRUN pip install --no-cache-dir torch==2.5.1 && touch /etc/ready\n",
    fixed="FROM python:3.12-slim\nRUN pip install --no-cache-dir torch==2.5.1 \\\n"
    " && find /usr/local/lib -exec touch -d @0 {} + \\\n"
    " && python -m compileall -q --invalidation-mode unchecked-hash /usr/local/lib\n",
)
def bytecode_clamped(subject: Subject) -> Iterator[Hit]:
    """find … touch below the packages, without hash-based bytecode after it."""
    for view in subject.dockerfiles:
        for ran in view.final_ran:
            texts = ran.command.texts
            said = " ".join(texts)
            everywhere = ran.command.name in ("find", "xargs") or (
                ran.command.name == "touch" and "*" in said
            )
            if "touch" not in texts or not everywhere or not _SITE.search(said):
                continue
            later = any(
                "compileall" in other.command.texts and "hash" in " ".join(other.command.texts)
                for other in view.final_ran
            )
            if not later:
                yield hit(
                    view.path,
                    ran.place,
                    "touch makes the bytecode of these packages invalid",
                    cost=Cost(text="+1.7 s at each start of a torch app (measured)", seconds=1.7),
                    fix="Compile after it: compileall --invalidation-mode unchecked-hash.",
                )
