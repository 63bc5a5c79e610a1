"""DY7: what nobody should find in an image or a repository."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

from dockyard.app.values import looks_secret
from dockyard.dockerfile.words import arguments, assignments, unquoted
from dockyard.lint.finding import hit
from dockyard.lint.rule import rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.lint.finding import Hit
    from dockyard.lint.subject import Subject

# Forms that tokens of well-known services have.
_TOKEN = re.compile(
    r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{30,}|hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{32,}"
    r"|xox[abp]-[A-Za-z0-9-]{20,}|glpat-[A-Za-z0-9_-]{20,}|eyJ[\w-]{20,}\.[\w-]{20,}\.[\w-]{10,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_IN_URL = re.compile(r"://[^/\s:@$]+:([^/\s@$]{3,})@")
_FILES = (
    *(
        ".env",
        ".env.*",
        "id_rsa",
        "id_ed25519",
        "id_ecdsa",
        ".netrc",
        ".pypirc",
        ".git-credentials",
    ),
    *("*.pem", "*.key", "kaggle.json", ".npmrc", "credentials", "service-account*.json"),
)
_HARMLESS = (".env.example", ".env.sample", ".env.template", ".env.dist", "ca*.pem", "*cert*.pem")
_PLACEHOLDER = re.compile(
    r"(?i)^(changeme|change-me|xxx+|example|placeholder|<.*>|your[-_ ].*|\*+)?$"
)
_ADVICE = "Give it at run time, or to the build as RUN --mount=type=secret."


def _is_secret(name: str, value: str) -> bool:
    return bool(value) and (
        bool(_TOKEN.search(value)) or (looks_secret(name) and not _PLACEHOLDER.match(value))
    )


@rule(
    "DY701",
    "secret-in-image",
    "A secret is in ENV or ARG",
    severity="error",
    cost="Anyone who can pull the image reads it: docker history and docker inspect show both.",
    why="""ENV is in the image's configuration, and the values of ARG are in its history. Neither
    can be taken back from those who have the image.""",
    bad="FROM python:3.12-slim\nENV API_KEY=d41d8cd98f00b204\n",
    good="FROM python:3.12-slim\nENV API_KEY_FILE=/run/secrets/api_key MAX_TOKENS=512\n",
    fixed="FROM python:3.12-slim\n"
    "RUN --mount=type=secret,id=api_key ./fetch --key-file /run/secrets/api_key\n",
)
def secret_in_image(subject: Subject) -> Iterator[Hit]:
    """Variables that look like secrets and have a value, and build arguments that look so."""
    for view in subject.dockerfiles:
        for made in view.document.instructions:
            if made.keyword in ("ENV", "LABEL"):
                for name, word in assignments(made.rest, view.document.escape):
                    value = unquoted(word.raw)
                    if "$" not in value and _is_secret(name, value):
                        yield hit(
                            view.path,
                            made.place(max(0, word.offset - len(name) - 1)),
                            f"{name} is in the image for everyone to read",
                            fix=_ADVICE,
                        )
            elif made.keyword == "ARG":
                for name, raw, offset in arguments(made.rest, view.document.escape):
                    if looks_secret(name) or (raw and _is_secret(name, unquoted(raw))):
                        yield hit(
                            view.path,
                            made.place(offset),
                            f"the value of {name} stays in the image's history",
                            fix=_ADVICE,
                        )


@rule(
    "DY702",
    "secret-in-compose",
    "A secret is in the Compose file",
    severity="error",
    cost="Everyone with the repository, and its history, has it.",
    why="""A Compose file is shared. Take values from the environment (${NAME}), from an env_file
    that isn't committed, or from `secrets:`.""",
    bad={"compose.yaml": "services:\n  db:\n    environment:\n      DB_PASSWORD: hunter2\n"},
    good={"compose.yaml": "services:\n  db:\n    environment:\n      DB_PASSWORD_FILE: /run/x\n"},
    fixed={
        "compose.yaml": "services:\n  db:\n    environment:\n      DB_PASSWORD: ${DB_PASSWORD}\n"
    },
)
def secret_in_compose(subject: Subject) -> Iterator[Hit]:
    """Literal values of variables that look like secrets, and passwords in URLs."""
    for file, service in subject.services():
        for name, (value, place) in service.environment().items():
            if value is None or value.startswith("$"):
                continue
            if _is_secret(name, value) or _IN_URL.search(value):
                yield hit(
                    file.path,
                    place,
                    f"{service.name}: {name} is written down",
                    fix=f"Write ${{{name}}}, or use `secrets:` and {name}_FILE.",
                )


@rule(
    "DY703",
    "secret-in-layer",
    "A secret goes into a layer",
    severity="error",
    cost="Anyone who can pull the image reads it, even when a later layer deletes it.",
    why="""What a layer once held stays in it. Keys are mounted while building (RUN
    --mount=type=secret or type=ssh) and given at run time.""",
    bad={
        "Dockerfile": "FROM python:3.12-slim\nCOPY . /app\n",
        ".dockerignore": "*.log\n",
        ".env": "API_KEY=1\n",
    },
    good={
        "Dockerfile": "FROM python:3.12-slim\nCOPY . /app\n",
        ".dockerignore": "*.log\n",
        ".env.example": "API_KEY=\n",
    },
    fixed={
        "Dockerfile": "FROM python:3.12-slim\nCOPY . /app\n",
        ".dockerignore": "*.log\n.env\n",
        ".env": "API_KEY=1\n",
    },
)
def secret_in_layer(subject: Subject) -> Iterator[Hit]:
    """Copied files with the names of secrets, passwords in URLs, tokens in RUN lines."""
    for view in subject.dockerfiles:
        for copied in view.copies:
            names = sorted(
                file.path for file in copied.files(view.context) if _holds_secrets(file.name)
            )
            if names:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                yield hit(
                    view.path,
                    copied.place,
                    f"{', '.join(names[:3])}{more} would be in the image",
                    fix=f"Write {names[0]} into .dockerignore.",
                )
        for made in view.document.instructions:
            if made.keyword not in ("RUN", "ADD", "COPY"):
                continue
            for pattern, what in ((_IN_URL, "a password in a URL"), (_TOKEN, "a token")):
                match = pattern.search(made.rest)
                if match:
                    yield hit(
                        view.path,
                        made.place(match.start()),
                        f"{what} stays in the image's history",
                        fix=_ADVICE,
                    )


def _holds_secrets(name: str) -> bool:
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in _HARMLESS):
        return False
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _FILES)
