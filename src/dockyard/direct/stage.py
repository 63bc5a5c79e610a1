"""One stage while it is built: its files, its configuration, what its variables are.

Rules (Dockerfile reference): an instruction is carried out or refused, never half; each that
changes files is one layer. ENTRYPOINT drops the command of the base. A variable that nothing sets
is empty. What Docker's two builders do differently is refused.
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dockyard.direct.copying import Copy, FromContext, FromStage, carry_out
from dockyard.direct.filesystem import FileSystem, TreeSource
from dockyard.direct.owners import parse_owner
from dockyard.direct.refusal import Site
from dockyard.dockerfile.shell import Command, Script, Word, read_script
from dockyard.dockerfile.words import arguments, assignments, expand, split_raw
from dockyard.oci.config import Healthcheck

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.direct.context import Context
    from dockyard.dockerfile.syntax import Instruction
    from dockyard.files import FileEntry
    from dockyard.oci.config import ImageConfig

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"(\xb5/\xfd")


@dataclass(slots=True, kw_only=True)
class Made:
    """A layer to be: what its instruction was, and its entries."""

    created_by: str
    entries: list[FileEntry]


@dataclass(slots=True, kw_only=True)
class StageState:
    """A stage. config: of the base, then changed; args: build arguments that were named here."""

    name: str
    file: str
    escape: str
    files: FileSystem
    config: ImageConfig
    context: Context
    build_args: Mapping[str, str]
    outer_args: Mapping[str, str]
    stages: Mapping[str, StageState]
    args: dict[str, str] = field(default_factory=dict)
    layers: list[Made] = field(default_factory=list)
    said_command: bool = False
    notes: list[str] = field(default_factory=list)

    def site(self, made: Instruction) -> Site:
        """Where an instruction stands."""
        return Site(self.file, made)

    @property
    def variables(self) -> dict[str, str]:
        """What $NAME stands for."""
        return self.args | dict(self.config.env)

    @property
    def shell(self) -> tuple[str, ...]:
        """What runs the shell form."""
        return self.config.shell or DEFAULT_SHELL

    @property
    def is_root(self) -> bool:
        """Whether commands run as root."""
        return self.config.user.partition(":")[0] in ("", "root", "0")

    def from_base(self, path: str) -> bool:
        """Whether a file's bytes are in a layer of the base."""
        return isinstance(self.files.nodes[path].source, TreeSource)

    def expanded(self, raw: str) -> str:
        """A word with its variables replaced."""
        return expand(raw, self.variables, self.escape, missing="") or ""

    def words(self, made: Instruction) -> list[str]:
        """The words of an instruction, in JSON form or separated by spaces."""
        listed = made.words
        if listed is not None:
            return [expand(_quoted(word), self.variables, missing="") or "" for word in listed]
        return [self.expanded(word.raw) for word in split_raw(made.rest, self.escape)]

    def absolute(self, path: str) -> str:
        """A path of the image, from the working folder if it is relative."""
        return posixpath.normpath(posixpath.join(self.config.working_dir or "/", path))

    def layer(self, made: Instruction, lower: frozenset[str]) -> None:
        """Make a layer of what the instruction changed, if that is anything."""
        entries = self.files.take_layer(lower)
        if entries:
            saying = f"{made.keyword} {' '.join(made.rest.split())}"
            self.layers.append(Made(created_by=saying, entries=entries))

    def apply(self, made: Instruction) -> None:
        """Carry out an instruction other than FROM and RUN."""
        method = _METHODS.get(made.keyword)
        if method is None:
            raise self.site(made).refuse("it isn't known here")
        allowed = _FLAGS.get(made.keyword, frozenset())
        for flag in made.flags:
            if flag.name not in allowed:
                raise self.site(made).refuse(f"--{flag.name} isn't understood")
        if made.heredocs:
            raise self.site(made).refuse("here-documents aren't understood")
        lower = frozenset(self.files.nodes)
        method(self, made)
        self.layer(made, lower)

    # Configuration

    def env(self, made: Instruction) -> None:
        pairs = {
            name: self.expanded(word.raw) for name, word in assignments(made.rest, self.escape)
        }
        self.config = replace(self.config, env=dict(self.config.env) | pairs)

    def label(self, made: Instruction) -> None:
        pairs = {
            self.expanded(name): self.expanded(word.raw)
            for name, word in assignments(made.rest, self.escape)
        }
        self.config = replace(self.config, labels=dict(self.config.labels) | pairs)

    def arg(self, made: Instruction) -> None:
        for name, raw, _ in arguments(made.rest, self.escape):
            value = self.build_args.get(name)
            if value is None:
                value = self.outer_args.get(name) if raw is None else self.expanded(raw)
            if value is not None:
                self.args[name] = value

    def user(self, made: Instruction) -> None:
        self.config = replace(self.config, user=self.expanded(made.rest))

    def workdir(self, made: Instruction) -> None:
        path = self.absolute(self.expanded(made.rest))
        self.config = replace(self.config, working_dir=path)
        real = self.files.resolve(path.strip("/"))
        node = self.files.get(real)
        if node is None:
            if not self.is_root:
                raise self.site(made).refuse(
                    "builders differ about who owns a folder that is made after USER"
                )
            self.files.make_folders(real)
        elif node.kind != "directory":
            raise self.site(made).fail(f"{path} is a file, not a folder")

    def expose(self, made: Instruction) -> None:
        ports = set(self.config.exposed_ports)
        for word in self.words(made):
            match = re.fullmatch(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?", word.lower())
            if match is None:
                raise self.site(made).fail(f"{word!r} is no port", "Write 8080 or 53/udp.")
            first, last = int(match[1]), int(match[2] or match[1])
            if not 0 < first <= last < 65536:
                raise self.site(made).fail(f"{word!r} is no port: ports are 1 to 65535")
            ports |= {f"{port}/{match[3] or 'tcp'}" for port in range(first, last + 1)}
        self.config = replace(self.config, exposed_ports=tuple(sorted(ports)))

    def volume(self, made: Instruction) -> None:
        paths = {word for word in self.words(made) if word}
        volumes = tuple(sorted({*self.config.volumes, *paths}))
        self.config = replace(self.config, volumes=volumes)

    def stop_signal(self, made: Instruction) -> None:
        self.config = replace(self.config, stop_signal=self.expanded(made.rest))

    def shell_words(self, made: Instruction) -> None:
        self.config = replace(self.config, shell=made.words)

    def maintainer(self, made: Instruction) -> None:
        self.config = replace(self.config, author=made.rest)

    def command(self, made: Instruction) -> None:
        self.said_command = True
        self.config = replace(self.config, cmd=self.start_words(made))

    def entrypoint(self, made: Instruction) -> None:
        words = self.start_words(made)
        cmd = self.config.cmd if self.said_command else None
        self.config = replace(self.config, entrypoint=words, cmd=cmd)

    def start_words(self, made: Instruction) -> tuple[str, ...]:
        """The words of CMD or ENTRYPOINT, with the shell in front of the shell form."""
        listed = made.words
        if listed is not None:
            return listed
        return (*self.shell, made.rest) if made.rest else ()

    def healthcheck(self, made: Instruction) -> None:
        kind, _, rest = made.rest.partition(" ")
        rest = rest.strip()
        if kind.upper() == "NONE":
            self.config = replace(self.config, healthcheck=Healthcheck(test=("NONE",)))
            return
        listed = replace(made, rest=rest).words
        test = ("CMD", *listed) if listed is not None else ("CMD-SHELL", rest)
        times = {}
        for name in ("interval", "timeout", "start-period"):
            text = made.flag(name)
            seconds = _seconds(text) if text is not None else 0.0
            if seconds is None:
                raise self.site(made).fail(f"--{name}={text} is no duration", "Write 30s or 1m30s.")
            times[name.replace("-", "_")] = seconds
        retries = made.flag("retries") or "0"
        if not retries.isdigit():
            raise self.site(made).fail(f"--retries={retries} is no number")
        self.config = replace(
            self.config, healthcheck=Healthcheck(test=test, retries=int(retries), **times)
        )

    # Files

    def copy(self, made: Instruction) -> None:
        site = self.site(made)
        *sources, target = self.words(made)
        origin: FromContext | FromStage = FromContext(self.context)
        name = made.flag("from")
        if name is not None:
            stage = self.stages.get(self.expanded(name).lower())
            if stage is None:
                raise site.refuse(f"--from={name} is no stage of this file")
            origin = FromStage(stage.files)
        if made.keyword == "ADD":
            self.check_added(sources, site)
        if any(source.startswith("<<") for source in sources):
            raise site.refuse("here-documents aren't understood")
        owner = None
        if (text := made.flag("chown")) is not None:
            found = parse_owner(self.expanded(text), self.files, copying=True)
            if found is None:
                raise site.refuse(f"--chown={text}: the image has no such user and group")
            owner = (found[0], found[1] or 0)
        mode = None
        if (text := made.flag("chmod")) is not None:
            if not re.fullmatch(r"[0-7]{3,4}", text):
                raise site.refuse(f"--chmod={text} isn't an octal number")
            mode = int(text, 8)
        path = self.absolute(target)
        self.check_volumes(path, site)
        in_folder = target.endswith("/") or posixpath.basename(target) in (".", "..")
        carry_out(
            Copy(sources=tuple(sources), target=path, in_folder=in_folder, owner=owner, mode=mode),
            origin,
            self.files,
            site,
        )

    def check_added(self, sources: list[str], site: Site) -> None:
        """ADD unpacks archives and fetches URLs; those aren't understood."""
        for source in sources:
            if re.match(r"(?:https?|git|ftp|ssh)://|git@", source):
                raise site.refuse(f"{source} is fetched while building")
            for path in self.context.matching(source):
                node = self.context.nodes[path]
                if node.kind != "file" or node.source is None:
                    continue
                head = bytes(next(iter(node.source.chunks()), b"")[:512])
                if head.startswith(_ARCHIVES) or head[257:262] == b"ustar":
                    raise site.refuse(f"ADD unpacks {path}; COPY doesn't")

    def check_volumes(self, path: str, site: Site) -> None:
        """What is written below a volume after VOLUME is lost with one builder, kept by another."""
        for volume in self.config.volumes:
            if path == volume or path.startswith(volume.rstrip("/") + "/"):
                raise site.refuse(f"builders differ about what is written into the volume {volume}")

    def script(self, made: Instruction) -> Script:
        """The commands of a RUN; raises NotUnderstood unless they are simple."""
        site = self.site(made)
        if made.flags:
            raise site.refuse(f"--{made.flags[0].name} isn't understood")
        if made.heredocs:
            raise site.refuse("here-documents aren't understood")
        listed = made.words
        if listed is not None:
            words = tuple(Word(text, text, 0) for text in listed)
            return Script(commands=(Command(words=words),), simple=True)
        if self.shell != DEFAULT_SHELL:
            raise site.refuse(f"the shell is {json.dumps(list(self.shell))}")
        script = read_script(made.rest)
        if self.files.get(self.files.resolve("bin/sh")) is None:
            raise site.fail("the image has no /bin/sh", "Write it in the exec form.")
        if not script.simple:
            raise site.refuse("it needs a shell: only commands joined by && are understood")
        return script


def _quoted(word: str) -> str:
    """A word of the JSON form, whose quotes and backslashes are its own; its variables count."""
    return re.sub(r"([\\\"'])", r"\\\1", word)


def _seconds(text: str) -> float | None:
    """A duration as Go reads it: "1m30s"; None for anything else."""
    if not re.fullmatch(rf"(?:{_DURATION.pattern})+", text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))


_METHODS = {
    "ENV": StageState.env,
    "LABEL": StageState.label,
    "ARG": StageState.arg,
    "USER": StageState.user,
    "WORKDIR": StageState.workdir,
    "EXPOSE": StageState.expose,
    "VOLUME": StageState.volume,
    "STOPSIGNAL": StageState.stop_signal,
    "SHELL": StageState.shell_words,
    "MAINTAINER": StageState.maintainer,
    "CMD": StageState.command,
    "ENTRYPOINT": StageState.entrypoint,
    "HEALTHCHECK": StageState.healthcheck,
    "COPY": StageState.copy,
    "ADD": StageState.copy,
}
_FLAGS = {
    "COPY": frozenset({"from", "chown", "chmod"}),
    "ADD": frozenset({"chown", "chmod"}),
    "HEALTHCHECK": frozenset({"interval", "timeout", "start-period", "retries"}),
}
