"""DY6: model files and the code that loads them."""

from __future__ import annotations

import ast
import io
import json
import pickletools
import re
import zipfile
from typing import TYPE_CHECKING

from dockyard.dockerfile.syntax import Place
from dockyard.lint.finding import hit
from dockyard.lint.rule import rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.lint.finding import Hit
    from dockyard.lint.subject import Subject
    from dockyard.lint.tree import TreeFile

_LFS = b"version https://git-lfs.github.com/spec/v1"
_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
_PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle")
# What a pickle of tensors and arrays names.
_HARMLESS = re.compile(
    r"(torch(\._utils|\.storage|\.nn\.modules\..*)?|collections|numpy(\..*)?|_codecs|builtins) "
    r"(_rebuild_\w+|\w+Storage|OrderedDict|defaultdict|dtype|ndarray|_reconstruct|scalar|encode"
    r"|set|list|dict|tuple|int|float|str|bytes|complex|slice|Size|device|\w+)"
)
_DANGEROUS = re.compile(r"(builtins|__builtin__) (eval|exec|getattr|__import__|compile|open)")
_LOADERS = frozenset(
    {"from_pretrained", "hf_hub_download", "snapshot_download", "SentenceTransformer"}
)
_MOST = 4 << 20


@rule(
    "DY601",
    "lfs-pointer",
    "Git LFS left a pointer where the weights should be",
    severity="error",
    cost="The image is built, and can't load its model.",
    why="""Without `git lfs pull` a checkout has files of 130 bytes that name the real ones. They
    are copied like any other.""",
    bad={"Dockerfile": "FROM python:3.12-slim\n", "model.safetensors": _POINTER},
    good={"Dockerfile": "FROM python:3.12-slim\n", "notes.txt": _POINTER},
    fixed={"Dockerfile": "FROM python:3.12-slim\n", "model.safetensors": b"\x08" + b"\0" * 40},
)
def lfs_pointer(subject: Subject) -> Iterator[Hit]:
    """A model file that begins as a pointer does."""
    for file in subject.models:
        if file.size < 1024 and subject.head(file.path, len(_LFS)) == _LFS:
            yield hit(
                file.path, Place(1), "is a pointer of Git LFS, no model", fix="Run git lfs pull."
            )


@rule(
    "DY602",
    "model-runs-code",
    "A model file can run code when it is loaded",
    cost="Whoever can change that file runs code in the container.",
    why="""Pickle files (.pkl, .joblib, many .pt) and Keras models with Lambda layers hold
    programs. safetensors, ONNX and skops hold data.""",
    bad={"Dockerfile": "FROM python:3.12-slim\n", "model.pkl": b"\x80\x04N."},
    good={"Dockerfile": "FROM python:3.12-slim\n", "model.onnx": b"\x08\x07"},
    fixed={"Dockerfile": "FROM python:3.12-slim\n", "model.safetensors": b"\x08" + b"\0" * 40},
)
def model_runs_code(subject: Subject) -> Iterator[Hit]:
    """Pickles by suffix, and what .pt and .keras files hold."""
    for file in subject.models:
        name = file.name.lower()
        if name.endswith(_PICKLES):
            what = "a pickle runs code when it is loaded"
        elif name.endswith((".pt", ".pth", ".ckpt", ".bin")):
            what = _torch_danger(subject, file)
        elif name.endswith(".keras"):
            what = _keras_danger(subject, file)
        else:
            what = ""
        if what:
            yield hit(
                file.path,
                Place(1),
                what,
                fix="Store it as safetensors, ONNX or skops, or know exactly who wrote it.",
            )


def _member(subject: Subject, file: TreeFile, ending: str) -> bytes:
    """The start of a zip's member; none where there is no such thing."""
    try:
        with zipfile.ZipFile(subject.folder / file.path) as archive:
            for name in archive.namelist():
                if name == ending or name.endswith("/" + ending):
                    with archive.open(name) as member:
                        return member.read(_MOST)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError):
        return b""
    return b""


def _torch_danger(subject: Subject, file: TreeFile) -> str:
    data = _member(subject, file, "data.pkl")
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(data)) if data else ():
            named = ""
            if opcode.name == "GLOBAL":
                named = str(argument)
            elif opcode.name == "STACK_GLOBAL" and len(strings) > 1:
                named = f"{strings[-2]} {strings[-1]}"
            elif isinstance(argument, str):
                strings.append(argument)
            if named and (_DANGEROUS.match(named) or not _HARMLESS.fullmatch(named)):
                return f"loading it calls {named.replace(' ', '.')}"
    except (ValueError, IndexError, KeyError, UnicodeDecodeError, OverflowError):
        return ""
    return ""


def _keras_danger(subject: Subject, file: TreeFile) -> str:
    data = _member(subject, file, "config.json")
    try:
        return "has a Lambda layer, which is code" if _has_lambda(json.loads(data or b"{}")) else ""
    except (ValueError, RecursionError):
        return ""


def _has_lambda(value: object) -> bool:
    if isinstance(value, dict):
        return value.get("class_name") == "Lambda" or any(map(_has_lambda, value.values()))
    return isinstance(value, list) and any(map(_has_lambda, value))


def _torch_is_safe(subject: Subject) -> bool:
    """Whether the required torch loads weights only unless told otherwise (2.6 and newer)."""
    found = [item.series() for item in subject.required() if item.name == "torch"]
    return bool(found) and all(series is not None and series >= (2, 6) for series in found)


@rule(
    "DY603",
    "torch-load",
    "torch.load without weights_only",
    cost="A changed checkpoint runs code in the container.",
    why="""Before torch 2.6 torch.load unpickles whatever is in the file. weights_only=True loads
    tensors and refuses the rest.""",
    bad={"app.py": "import torch\nmodel = torch.load('model.pt')\n"},
    good={
        "app.py": "import torch\nmodel = torch.load('model.pt')\n",
        "requirements.txt": "torch==2.6.0\n",
    },
    fixed={"app.py": "import torch\nmodel = torch.load('model.pt', weights_only=True)\n"},
)
def torch_load(subject: Subject) -> Iterator[Hit]:
    """torch.load that may unpickle anything."""
    safe = _torch_is_safe(subject)
    for module, call in subject.calls():
        if call.name not in ("torch.load", "torch.serialization.load"):
            continue
        said = call.keyword("weights_only")
        off = isinstance(said, ast.Constant) and said.value is False
        if off or (said is None and not safe and not call.unpacks):
            yield hit(
                module.path,
                Place(call.node.lineno, call.node.col_offset + 1),
                "weights_only=False runs the file's code" if off else "may run the file's code",
                fix="Write torch.load(…, weights_only=True).",
            )


@rule(
    "DY604",
    "trust-remote-code",
    "Code of a model's repository is run",
    severity="error",
    cost="The model's authors, and whoever gets their account, run code in the container.",
    why="""trust_remote_code=True downloads Python files with the weights and imports them. Models
    of a library's own classes don't need it.""",
    bad={
        "app.py": "from transformers import AutoModel\n"
        "m = AutoModel.from_pretrained('./model', trust_remote_code=True)\n"
    },
    good={
        "app.py": "from transformers import AutoModel\nm = AutoModel.from_pretrained('./model')\n"
    },
    fixed={
        "app.py": "from transformers import AutoModel\n"
        "m = AutoModel.from_pretrained('./model', trust_remote_code=False)\n"
    },
)
def trust_remote_code(subject: Subject) -> Iterator[Hit]:
    """A call with trust_remote_code=True."""
    for module, call in subject.calls():
        if call.constant("trust_remote_code") is True:
            yield hit(
                module.path,
                Place(call.node.lineno, call.node.col_offset + 1),
                f"{call.method}(trust_remote_code=True) imports code that comes with the weights",
                fix="Leave it out, or copy the reviewed code into the project.",
            )


@rule(
    "DY605",
    "unpinned-revision",
    "A model is taken from a hub without a revision",
    cost="The next start may load another model; without the network it doesn't start.",
    why="""A hub's repository changes. revision='<commit>' names one state of it; weights in the
    image need no hub.""",
    bad={
        "app.py": "from transformers import AutoModel\nm = AutoModel.from_pretrained('org/model')\n"
    },
    good={
        "app.py": "from transformers import AutoModel\nm = AutoModel.from_pretrained('./model')\n"
    },
    fixed={
        "app.py": "from transformers import AutoModel\n"
        "m = AutoModel.from_pretrained('org/model', revision='0123abc')\n"
    },
)
def unpinned_revision(subject: Subject) -> Iterator[Hit]:
    """from_pretrained and its like with a hub's name and no revision."""
    present = {file.path for file in subject.tree}
    for module, call in subject.calls():
        if call.method not in _LOADERS or call.keyword("revision") is not None or call.unpacks:
            continue
        name = call.first() if call.node.args else call.constant("repo_id")
        if not isinstance(name, str) or name.startswith(("/", ".", "~")) or "\\" in name:
            continue
        if name.count("/") > 1 or any(path.startswith(name.rstrip("/") + "/") for path in present):
            continue
        yield hit(
            module.path,
            Place(call.node.lineno, call.node.col_offset + 1),
            f"{name!r} is whatever the hub has on that day",
            fix="Add revision='<commit>', or put the model into the image.",
        )
