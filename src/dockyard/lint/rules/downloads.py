"""DY3: what a build fetches without knowing what it gets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dockyard.dockerfile.words import split_raw
from dockyard.lint.finding import hit
from dockyard.lint.installs import downloads
from dockyard.lint.rule import rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.lint.finding import Hit
    from dockyard.lint.installs import Download, Ran
    from dockyard.lint.subject import DockerfileView, Subject

_CHECKS = re.compile(r"sha(?:256|512|1)sum|shasum|md5sum|gpgv?\b|cosign|minisign|openssl dgst")
_LOADERS = re.compile(
    r"from_pretrained|hf_hub_download|snapshot_download|torch\.hub\.load"
    r"|spacy download|nltk\.download"
)


def _unchecked(view: DockerfileView) -> Iterator[tuple[Ran, Download]]:
    for ran in view.ran:
        script = ran.step.instruction.rest + "".join(
            document.text for document in ran.step.instruction.heredocs
        )
        if not _CHECKS.search(script):
            for download in downloads(ran):
                yield ran, download


@rule(
    "DY304",
    "weights-unchecked",
    "Weights are fetched without a checksum",
    cost="Another file at that address is another model; nobody notices. Each rebuild "
    "fetches again.",
    why="""A URL names a place, not a content. Give the checksum (ADD --checksum=sha256:…, or
    sha256sum -c), a fixed revision of the hub, or copy the file from the context.""",
    bad="FROM python:3.12-slim\nRUN wget https://example.org/model.pt\n",
    good="FROM python:3.12-slim\nRUN wget https://example.org/model.pt \\\n"
    " && echo '0123  model.pt' | sha256sum -c -\n",
    fixed="FROM python:3.12-slim\nADD --checksum=sha256:0123 https://example.org/model.pt /app/\n",
)
def weights_unchecked(subject: Subject) -> Iterator[Hit]:
    """A download of a model, by a tool or by Python, without a check in the same RUN."""
    for view in subject.dockerfiles:
        for _, download in _unchecked(view):
            if download.model:
                yield hit(
                    view.path,
                    download.place,
                    f"{download.url[:80]} may be another file tomorrow",
                    fix="Check it: ADD --checksum=sha256:…, or sha256sum -c in the same RUN.",
                )
        for ran in view.ran:
            said = " ".join(ran.command.texts)
            fetches = ran.command.name.startswith("python") and _LOADERS.search(said)
            if fetches and not re.search(r"revision|sha256", said):
                yield hit(
                    view.path,
                    ran.place,
                    "weights come from a hub, whatever its newest revision is",
                    fix="Name the revision: from_pretrained(…, revision='<commit>').",
                )


@rule(
    "DY305",
    "download-unchecked",
    "A download without a checksum",
    cost="Whoever controls that address, or the way to it, controls the image.",
    why="""What a build fetches and runs should be what was looked at once. `curl | sh` runs
    whatever comes.""",
    bad="FROM python:3.12-slim\nRUN curl -fsSL https://example.org/install.sh | sh\n",
    good="FROM python:3.12-slim\nRUN curl -fsS http://localhost:8000/health\n",
    fixed="FROM python:3.12-slim\nRUN curl -fsSLo i.sh https://example.org/install.sh \\\n"
    " && echo '0123  i.sh' | sha256sum -c - && sh i.sh\n",
)
def download_unchecked(subject: Subject) -> Iterator[Hit]:
    """curl, wget and ADD of a URL without a check."""
    for view in subject.dockerfiles:
        for ran, download in _unchecked(view):
            local = re.match(r"https?://(?:localhost|127\.|\[?::1)", download.url)
            if not download.model and not local:
                pipes = any(
                    other.command.joined == "|"
                    and re.fullmatch(r"(?:ba|da|z)?sh|python3?", other.command.name)
                    for other in view.ran
                    if other.step is ran.step
                )
                how = "is run as it comes" if pipes else "isn't checked"
                yield hit(
                    view.path,
                    download.place,
                    f"{download.url[:80]} {how}",
                    fix="Download to a file and check it with sha256sum -c in the same RUN.",
                )
        for stage in view.needed:
            for step in stage.steps:
                made = step.instruction
                if step.keyword != "ADD" or made.flag("checksum"):
                    continue
                for word in split_raw(made.rest)[:-1]:
                    if re.match(r"https?://", word.raw) and not word.raw.endswith(".git"):
                        yield hit(
                            view.path,
                            made.place(word.offset),
                            f"{word.raw[:80]} isn't checked",
                            fix="Write ADD --checksum=sha256:….",
                        )
