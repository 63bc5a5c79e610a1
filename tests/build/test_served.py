"""Dockyard's server in an image: its layer, its requirements, and that it moves no pin."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from build_ground import Ground

pytestmark = pytest.mark.network

MODEL = Path(__file__).parents[2] / "examples" / "onnx-digits" / "model.onnx"
SERVER = ("numpy", "orjson", "uvloop", "onnxruntime")


@pytest.fixture
def served(ground: Ground) -> Ground:
    """A folder with a model and nothing else; an index with what the server needs."""
    for name, versions in {"numpy": ("1.26.4", "2.4.0"), "orjson": ("3.11.0",)}.items():
        for version in versions:
            ground.index.wheel(name, version)
    ground.index.wheel("uvloop", "0.21.0")
    ground.index.wheel("onnxruntime", "1.20.0", requires=["numpy>=1.20"])
    for path in ground.project.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copy(MODEL, ground.project)
    return ground


def plan(ground: Ground) -> dict[str, Any]:
    code, out, err = ground.build("--dry-run", "--json")
    assert code == 0, err
    (image,) = json.loads(out)["images"]
    return image


def packages(image: dict[str, Any]) -> dict[str, str]:
    listed = [layer["origin"] for layer in image["layers"] if layer["kind"] == "wheels"]
    return dict(item.split(" ") for origin in listed for item in origin.split(", "))


def test_a_lone_models_layers_are_in_order(served: Ground) -> None:
    image = plan(served)
    kinds = [layer["kind"] for layer in image["layers"]]
    assert [kind for kind in kinds if kind != "bytecode"][-4:] == [
        "wheels",
        "server",
        "model",
        "app",
    ]
    assert set(packages(image)) == set(SERVER)
    assert image["command"][:3] == ["python", "-m", "dockyard_serve"]
    assert image["ports"] == ["8080/tcp"]


def test_requirements_and_the_servers_are_resolved_together(served: Ground) -> None:
    (served.project / "requirements.txt").write_text("numpy<2\nonnxruntime\n")
    assert packages(plan(served))["numpy"] == "1.26.4"


def test_what_pyproject_asks_for_is_not_moved(served: Ground) -> None:
    text = '[project]\nname = "digits"\nversion = "1"\ndependencies = ["numpy<2"]\n'
    (served.project / "pyproject.toml").write_text(text)
    found = packages(plan(served))
    assert found["numpy"] == "1.26.4"
    assert set(SERVER) <= set(found)


def test_pins_that_the_server_cannot_live_with_are_an_error(served: Ground) -> None:
    served.index.wheel("numpy", "1.20.0")
    text = '[project]\nname = "digits"\nversion = "1"\ndependencies = ["numpy==1.20.0"]\n'
    (served.project / "pyproject.toml").write_text(text)
    code, _, err = served.build("--dry-run")
    assert code == 1
    assert "what the project pins doesn't let the server be added" in err
    assert "numpy>=1.26" in err


def test_a_class_brings_what_checks_its_types(served: Ground) -> None:
    served.index.wheel("pydantic", "2.10.0")
    served.index.wheel("python-multipart", "0.0.20")
    (served.project / "predictor.py").write_text(
        "class Predictor:\n    def predict(self, x: float) -> float: ...\n"
    )
    image = plan(served)
    assert {"pydantic", "python-multipart", "orjson"} <= set(packages(image))
    assert "onnxruntime" not in packages(image), "its imports say what a class needs"
    assert image["command"][3] == "predictor:Predictor"


def test_a_lock_of_a_lone_model_holds_the_servers_packages(served: Ground) -> None:
    code, _, err = served.run("lock", served.project)
    assert code == 0, err
    lock = (served.project / "pylock.toml").read_text()
    assert all(f'name = "{name}"' in lock for name in SERVER)
