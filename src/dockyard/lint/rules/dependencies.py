"""DY2: which packages are installed, from where, and what stays behind."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dockyard.dockerfile.syntax import Place
from dockyard.lint.finding import Cost, Edit, hit
from dockyard.lint.rule import rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockyard.lint.finding import Hit
    from dockyard.lint.requirements import Required
    from dockyard.lint.subject import DockerfileView, Subject

_TORCH = frozenset({"torch", "torchvision", "torchaudio"})
_OPENCV = frozenset({"opencv-python", "opencv-contrib-python"})
_WINDOWS = frozenset({"imshow", "namedWindow", "waitKey", "waitKeyEx", "createTrackbar"})


def installs_cuda(view: DockerfileView) -> Required | None:
    """The requirement that brings CUDA's libraries as wheels; None when there is none."""
    asked = " ".join(view.indexes())
    cpu_index = bool(re.search(r"/whl/cpu\b|(?:^|\s)cpu(?:\s|$)", asked))
    for required in view.required():
        if required.conda:
            continue
        if required.name.startswith("nvidia-") or (
            required.name in ("tensorflow", "jax") and {"and-cuda", "cuda12"} & required.extras
        ):
            return required
        if required.name == "torch" and "+cpu" not in required.version:
            if "+cu" in required.version or re.search(r"/whl/cu\d", asked):
                return required
            series = required.series()
            # Since 1.13 the default wheels depend on nvidia-*; before, CUDA was in torch itself.
            if not cpu_index and (series is None or series >= (1, 13)):
                return required
    return None


@rule(
    "DY201",
    "torch-with-cuda-on-cpu",
    "torch from the default index brings CUDA into a CPU image",
    cost="The image is 8 times as large: 2.8 GB more, compressed (measured with torch 2.13).",
    why="""On Linux the package index's torch depends on CUDA's libraries. An app that runs on
    processors needs none of them; PyTorch's CPU index has wheels without.""",
    bad={
        "Dockerfile": "FROM python:3.12-slim\nCOPY requirements.txt ./\n"
        "RUN pip install --no-cache-dir -r requirements.txt\n",
        "requirements.txt": "torch==2.5.1\n",
        "app.py": "import torch\n",
    },
    good={
        "Dockerfile": "FROM python:3.12-slim\nCOPY requirements.txt ./\n"
        "RUN pip install --no-cache-dir -r requirements.txt\n",
        "requirements.txt": "torch==2.5.1\n",
        "app.py": "import torch\ndevice = torch.device('cuda')\n",
    },
    fixed={
        "Dockerfile": "FROM python:3.12-slim\nCOPY requirements.txt ./\n"
        "RUN pip install --no-cache-dir -r requirements.txt\n",
        "requirements.txt": "--extra-index-url https://download.pytorch.org/whl/cpu\n"
        "torch==2.5.1+cpu\n",
        "app.py": "import torch\n",
    },
)
def torch_with_cuda_on_cpu(subject: Subject) -> Iterator[Hit]:
    """torch from the default index where nothing speaks of a GPU."""
    if subject.uses_gpu:
        return
    for view in subject.dockerfiles:
        required = installs_cuda(view)
        if required is None or required.name != "torch" or "+cu" in required.version:
            continue
        yield hit(
            required.file,
            required.place,
            "the default index's torch brings CUDA, and nothing here uses a GPU",
            cost=Cost(text="the image is 8 times as large: about 2.8 GB more", size=2_800_000_000),
            fix="Install from https://download.pytorch.org/whl/cpu (--index-url, or in the file).",
        )


@rule(
    "DY202",
    "cuda-twice",
    "CUDA is in the base and again in the wheels",
    cost="2 to 4 GB of libraries that nobody loads.",
    why="""torch, jax and tensorflow[and-cuda] bring CUDA's libraries as wheels and load those. The
    runtime and devel images of nvidia/cuda have them once more. Only the driver must be on
    the host.""",
    bad={
        "Dockerfile": "FROM nvidia/cuda:12.4.1-runtime-ubuntu22.04\n"
        "RUN pip install --no-cache-dir torch==2.5.1\n",
        "app.py": "import torch\n",
    },
    good={
        "Dockerfile": "FROM nvidia/cuda:12.4.1-base-ubuntu22.04\n"
        "RUN pip install --no-cache-dir torch==2.5.1\n",
        "app.py": "import torch\n",
    },
    fixed={
        "Dockerfile": "FROM python:3.12-slim\nRUN pip install --no-cache-dir torch==2.5.1\n",
        "app.py": "import torch\n",
    },
)
def cuda_twice(subject: Subject) -> Iterator[Hit]:
    """A base with CUDA's libraries, and wheels that bring them too."""
    for view in subject.dockerfiles:
        name, tag, line = view.image
        devel = "devel" in tag
        if name == "pytorch/pytorch":
            again = next((item for item in view.required() if item.name == "torch"), None)
            if again is not None and not re.match(re.escape(again.version or "\0"), tag):
                yield hit(
                    again.file,
                    again.place,
                    f"torch is in the base ({name}:{tag}) and is installed once more",
                    cost=Cost(text="about 3 GB: a second torch with its CUDA", size=3_000_000_000),
                    fix="Leave torch out of the requirements, or start from python:3.12-slim.",
                )
            continue
        if name != "nvidia/cuda" or not ("runtime" in tag or devel):
            continue
        required = installs_cuda(view)
        if required is None:
            continue
        size = 4_000_000_000 if devel else 2_000_000_000
        yield hit(
            view.path,
            Place(line),
            f"{name}:{tag} has CUDA's libraries, and {required.name} brings its own",
            cost=Cost(text=f"about {size // 10**9} GB of libraries that nobody loads", size=size),
            fix="Start from python:3.12-slim, or from the tag with -base-.",
        )


@rule(
    "DY203",
    "cuda-mismatch",
    "Base, wheels and Conda disagree about CUDA's version",
    severity="error",
    cost="Fails when the first kernel is loaded, or falls back to the processor silently.",
    why="""Libraries of one major version of CUDA don't serve code that was built for another.
    Extensions that are compiled in the image use the base's compiler against the wheels'
    headers.""",
    bad="FROM nvidia/cuda:11.8.0-base-ubuntu22.04\n"
    "RUN pip install --no-cache-dir torch==2.4.0 \\\n"
    " --index-url https://download.pytorch.org/whl/cu121\n",
    good="FROM nvidia/cuda:12.1.1-base-ubuntu22.04\n"
    "RUN pip install --no-cache-dir torch==2.4.0 \\\n"
    " --index-url https://download.pytorch.org/whl/cu121\n",
    fixed="FROM nvidia/cuda:12.1.1-base-ubuntu22.04\n"
    "RUN pip install --no-cache-dir torch==2.4.0 \\\n"
    " --index-url https://download.pytorch.org/whl/cu121\n",
)
def cuda_mismatch(subject: Subject) -> Iterator[Hit]:
    """Two major versions of CUDA in one image."""
    for view in subject.dockerfiles:
        said: list[tuple[str, int, str, Place]] = []
        name, tag, line = view.image
        match = re.search(r"(?:^|cuda)(\d+)\.(\d+)", tag)
        if match and (name == "nvidia/cuda" or "cuda" in tag):
            said.append((f"{name}:{tag}", int(match[1]), view.path, Place(line)))
        for required in view.required():
            local = re.search(r"\+cu(\d{2})\d", required.version)
            suffix = re.search(
                r"^(?:nvidia-.*|cupy-cuda|jax.*|onnx.*)-?cu(?:da)?(\d{2})", required.name
            )
            if local or suffix:
                number = int((local or suffix)[1])  # type: ignore[index]
                said.append((required.text, number, required.file, required.place))
            elif required.conda and required.name in (
                "cudatoolkit",
                "pytorch-cuda",
                "cuda-version",
            ):
                conda = re.match(r"(\d+)", required.version)
                if conda:
                    said.append((required.text, int(conda[1]), required.file, required.place))
        for install in view.installs:
            for url in install.indexes:
                index = re.search(r"/whl/cu(\d{2})\d", url)
                if index:
                    said.append((url, int(index[1]), view.path, install.ran.place))
        for what, number, file, place in said[1:]:
            if number != said[0][1]:
                yield hit(
                    file,
                    place,
                    f"{what} is for CUDA {number}, but {said[0][0]} has CUDA {said[0][1]}",
                    fix=f"Choose one: CUDA {said[0][1]} or {number}, everywhere.",
                )
                break


@rule(
    "DY205",
    "unpinned",
    "Requirements aren't pinned",
    cost="The same Dockerfile gives another image tomorrow; a new release breaks the next build.",
    why="""Without exact versions a build takes what is newest on that day. A lock (pylock.toml,
    uv.lock, pip-compile's output) pins what you depend on and what that depends on.""",
    bad="FROM python:3.12-slim\nRUN pip install --no-cache-dir flask\n",
    good={
        "Dockerfile": "FROM python:3.12-slim\nCOPY pyproject.toml uv.lock ./\n"
        "RUN uv sync --frozen\n",
        "pyproject.toml": '[project]\nname = "a"\ndependencies = ["flask"]\n',
        "uv.lock": "version = 1\n",
    },
    fixed="FROM python:3.12-slim\nRUN pip install --no-cache-dir flask==3.0.0\n",
)
def unpinned(subject: Subject) -> Iterator[Hit]:
    """Requirements without ==, where no lock is installed."""
    locks = {file.name for file in subject.sources}
    for view in subject.dockerfiles:
        constrained = any({"-c", "--constraint"} & install.options for install in view.installs)
        locked = any("lock" in name for install in view.installs for name in install.files)
        if constrained or (locked and {"uv.lock", "pylock.toml"} & locks):
            continue
        loose: dict[str, list[Required]] = {}
        for required in view.required():
            if not (required.pinned or required.conda) and required.name not in (
                "pip",
                "setuptools",
            ):
                loose.setdefault(required.file, []).append(required)
        for file, items in loose.items():
            names = ", ".join(dict.fromkeys(item.name for item in items[:5]))
            more = f" and {len(items) - 5} more" if len(items) > 5 else ""
            yield hit(
                file,
                items[0].place,
                f"no exact version: {names}{more}",
                fix="Write exact versions, or a lock: `dockyard lock`.",
            )


@rule(
    "DY206",
    "opencv-with-windows",
    "OpenCV with its windows, in a container without a screen",
    cost="Needs libGL and X libraries: about 150 MB of Debian packages, or a failing import.",
    why="""opencv-python brings Qt and loads libGL at import, which slim bases don't have.
    opencv-python-headless is the same library without windows.""",
    bad={
        "Dockerfile": "FROM python:3.12-slim\n"
        "RUN pip install --no-cache-dir opencv-python==4.10.0.84\n",
        "app.py": "import cv2\nimage = cv2.imread('a.png')\n",
    },
    good={
        "Dockerfile": "FROM python:3.12-slim\n"
        "RUN pip install --no-cache-dir opencv-python==4.10.0.84\n",
        "app.py": "import cv2\ncv2.imshow('a', cv2.imread('a.png'))\n",
    },
    fixed={
        "Dockerfile": "FROM python:3.12-slim\n"
        "RUN pip install --no-cache-dir opencv-python-headless==4.10.0.84\n",
        "app.py": "import cv2\nimage = cv2.imread('a.png')\n",
    },
)
def opencv_with_windows(subject: Subject) -> Iterator[Hit]:
    """opencv-python where the code opens no window."""
    for _, call in subject.calls():
        if call.name.startswith("cv2.") and call.method in _WINDOWS:
            return
    for view in subject.dockerfiles:
        for required in view.required():
            if required.name in _OPENCV:
                yield hit(
                    required.file,
                    required.place,
                    f"{required.name} is for screens",
                    cost="libGL and X libraries: about 150 MB, or a failing import",
                    fix=f"Require {required.name}-headless.",
                )


@rule(
    "DY207",
    "pip-cache-kept",
    "pip's cache stays in the image",
    cost="A second copy of every wheel, compressed: up to 3 GB with CUDA.",
    why="""pip keeps what it downloads below /root/.cache. In an image nobody reads it again.
    Either --no-cache-dir, or a cache mount, which keeps it outside the image and makes the
    next build quicker.""",
    bad="FROM python:3.12-slim\nRUN pip install flask==3.0.0\n",
    good="FROM python:3.12-slim\n"
    "RUN --mount=type=cache,target=/root/.cache/pip pip install flask==3.0.0\n",
    fixed="FROM python:3.12-slim\nRUN pip install --no-cache-dir flask==3.0.0\n",
)
def pip_cache_kept(subject: Subject) -> Iterator[Hit]:
    """A pip or uv that may write its cache into a layer of the image."""
    for view in subject.dockerfiles:
        final = view.final.lineage() if view.final else ()
        for install in view.installs:
            ran = install.ran
            if ran.stage not in final:
                continue
            variables = ran.step.variables
            off = "UV_NO_CACHE" if install.tool == "uv" else "PIP_NO_CACHE_DIR"
            mounts = [
                flag.value or "" for flag in ran.step.instruction.flags if flag.name == "mount"
            ]
            named = {word.text.partition("=")[0] for word in ran.command.assignments}
            swept = any(
                other.command.name == "rm" and "cache" in " ".join(other.command.texts)
                for other in view.ran
                if other.step is ran.step
            )
            if (
                {"--no-cache-dir", "--no-cache", "-n"} & install.options
                or off in variables
                or off in named
                or any("type=cache" in mount for mount in mounts)
                or swept
            ):
                continue
            flag = "--no-cache" if install.tool == "uv" else "--no-cache-dir"
            yield hit(
                view.path,
                ran.place_of(install.verb),
                "every downloaded wheel stays in the layer",
                cost="a second copy of the wheels: as large as what pip downloads",
                fix=f"Add {flag}, or RUN --mount=type=cache.",
                edits=_after_word(view, ran.place_of(install.verb), install.verb.raw, flag),
            )


def _after_word(view: DockerfileView, place: Place, word: str, added: str) -> tuple[Edit, ...]:
    """The edit that puts a word behind another one."""
    if place.line > len(view.document.lines):
        return ()
    line = view.document.lines[place.line - 1]
    at = place.column - 1 + len(word)
    if line[place.column - 1 : at] != word:
        return ()
    changed = f"{line[:at]} {added}{line[at:]}"
    return (Edit(file=view.path, first=place.line, last=place.line, lines=(changed,)),)
