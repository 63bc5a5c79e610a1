"""Which deep-learning framework the project uses, and whether it wants CUDA.

Rules: names of packages and imports decide, never names of folders. Given the resolved packages,
the answer is exact; given only direct dependencies, it is as good as those are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from dockyard.app.detect.decision import Decision

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockyard.app.config import AppConfig, ConfigOrigin
    from dockyard.app.detect.dependencies import DependencySource

# What is more specific comes first: a project with transformers and torch is a transformers one.
_FRAMEWORKS: tuple[tuple[str, frozenset[str], frozenset[str]], ...] = tuple(
    (name, frozenset(packages.split()), frozenset(modules.split()))
    for name, packages, modules in (
        ("vllm", "vllm", "vllm"),
        ("diffusers", "diffusers", "diffusers"),
        ("sentence-transformers", "sentence-transformers", "sentence_transformers"),
        ("transformers", "transformers", "transformers"),
        ("ultralytics", "ultralytics", "ultralytics"),
        (
            "tensorflow",
            "tensorflow tensorflow-cpu tensorflow-gpu tensorflow-intel tensorflow-aarch64",
            "tensorflow",
        ),
        ("torch", "torch", "torch"),
        ("jax", "jax jaxlib", "jax flax"),
        ("keras", "keras tf-keras", "keras tf_keras"),
        ("onnxruntime", "onnxruntime onnxruntime-gpu onnxruntime-openvino", "onnxruntime"),
        ("openvino", "openvino", "openvino"),
        ("tflite", "tflite-runtime ai-edge-litert", "tflite_runtime ai_edge_litert"),
        ("llama.cpp", "llama-cpp-python", "llama_cpp"),
        ("paddle", "paddlepaddle paddlepaddle-gpu", "paddle"),
        ("mxnet", "mxnet", "mxnet"),
        ("xgboost", "xgboost xgboost-cpu", "xgboost"),
        ("lightgbm", "lightgbm", "lightgbm"),
        ("catboost", "catboost", "catboost"),
        ("scikit-learn", "scikit-learn", "sklearn"),
    )
)
_PACKAGES = {
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "flask_cors": "flask-cors",
    "fitz": "pymupdf",
    "google": "google-api-python-client",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "llama_cpp": "llama-cpp-python",
    "magic": "python-magic",
    "multipart": "python-multipart",
    "paddle": "paddlepaddle",
    "pkg_resources": "setuptools",
    "pl": "pytorch-lightning",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "tensorflow": "tensorflow",
    "umap": "umap-learn",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
# Modules that only the package of the same name has.
_SAME = frozenset(
    (
        *("fastapi", "flask", "gradio", "httpx", "jax", "joblib", "lightgbm", "matplotlib"),
        *("numpy", "onnx", "pandas", "polars", "pydantic", "pymongo", "redis", "requests"),
        *("safetensors", "scipy", "seaborn", "spacy", "sqlalchemy", "streamlit", "timm"),
        *("tokenizers", "torch", "torchaudio", "torchvision", "tqdm", "transformers"),
    )
)
_CUDA_NAME = re.compile(r"nvidia-.+|.+-cu(?:da)?1[0-9].*|.+-gpu|cupy.*|tensorrt.*|pycuda|triton")
_CUDA_EXTRAS = frozenset({"and-cuda", "cuda", "cuda12", "cuda13", "cuda12-local", "cuda13-local"})
# On the public index, these bring CUDA for linux/amd64 unless a CPU index is used.
_CUDA_BY_DEFAULT = ("torch", "vllm", "ultralytics", "sentence-transformers")


def package_of(module: str) -> str:
    """The package that one would install for an import."""
    return _PACKAGES.get(module, module.lower().replace("_", "-"))


def framework_of(
    names: Mapping[str, str] | Iterable[str], imports: Mapping[str, str]
) -> Decision[tuple[str, ...]]:
    """Return the frameworks in use, the most specific first.

    names: normalised package names, with where they are written if known; imports: top-level
    modules that the app imports, and where. An import counts more than a mere dependency.
    """
    written = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, "")
    imported, installed = [], []
    evidence = ""
    for framework, packages, modules in _FRAMEWORKS:
        module = next((name for name in sorted(modules) if name in imports), None)
        package = next((name for name in sorted(packages) if name in written), None)
        if module is not None:
            evidence = evidence or imports[module]
            imported.append(framework)
        elif package is not None:
            installed.append((framework, written[package]))
    if imported:
        others = [name for name, _ in installed]
        why = f"the code imports {imported[0]}"
        return Decision(value=(*imported, *others), why=why, where=evidence)
    if installed:
        why = f"{installed[0][0]} is among the dependencies"
        return Decision(value=tuple(name for name, _ in installed), why=why, where=installed[0][1])
    return Decision(value=(), why="no framework is imported or depended on")


def unmet_imports(names: Iterable[str], imports: Mapping[str, str]) -> dict[str, str]:
    """Imports of known packages that no resolved package brings: {package: where it's imported}.

    Only modules whose package is known for certain are judged, since a module's name tells little.
    """
    have = set(names)
    alike = {"opencv-python-headless": {"opencv-python", "opencv-contrib-python-headless"}}
    alike["opencv-python-headless"].add("opencv-contrib-python")
    alike["psycopg2-binary"] = {"psycopg2"}
    alike["faiss-cpu"] = {"faiss-gpu", "faiss-gpu-cu12", "faiss-gpu-cu11"}
    alike["tensorflow"] = {"tensorflow-cpu", "tensorflow-gpu", "tensorflow-intel", "tf-nightly"}
    return {
        package: where
        for module, where in imports.items()
        if (module in _PACKAGES and module != "google") or module in _SAME
        for package in [_PACKAGES.get(module, module)]
        if package not in have and not alike.get(package, set()) & have
    }


def detect_accelerator(
    config: AppConfig, origin: ConfigOrigin, source: DependencySource
) -> Decision[Literal["cpu", "cuda", "auto"]]:
    """Whether wheels with CUDA are wanted: a hint, until the resolved wheels tell.

    "auto" means that the index decides: torch from the public index brings CUDA.
    """
    if config.accelerator != "auto":
        return Decision(
            value=config.accelerator, why="as configured", where=origin.where("accelerator")
        )
    for item in source.named:
        extra = next((extra for extra in item.extras if extra in _CUDA_EXTRAS), None)
        if _CUDA_NAME.fullmatch(item.name) or extra:
            what = f"{item.name}[{extra}]" if extra else item.name
            return Decision(value="cuda", why=f"{what} brings CUDA", where=item.where)
        if re.search(r"\+cu\d+", item.text):
            return Decision(value="cuda", why=f"{item.text} is a CUDA build", where=item.where)
        if "+cpu" in item.text:
            return Decision(value="cpu", why=f"{item.text} is a CPU build", where=item.where)
    default = source.find(*_CUDA_BY_DEFAULT)
    if default is not None:
        why = (
            f"the wheels of {default.name} decide; those of the public index bring CUDA "
            f'(`accelerator = "cpu"` chooses the others)'
        )
        return Decision(value="auto", why=why, where=default.where)
    return Decision(value="cpu", why="no dependency asks for CUDA")
