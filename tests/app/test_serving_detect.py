"""When Dockyard's own server serves a project, what it serves, and with which packages."""

from __future__ import annotations

import pickle
import shutil
import textwrap
import zipfile
from pathlib import Path

import pytest

from dockyard.app.config import load_config
from dockyard.app.detect import detect
from dockyard.app.init import config_text
from dockyard.app.values import Port
from dockyard.errors import ProjectError
from dockyard_serve.formats.kinds import FORMATS

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL = (EXAMPLES / "onnx-digits" / "model.onnx").read_bytes()
PREDICTOR = """\
    class Predictor:
        def setup(self): ...
        def predict(self, x: float) -> float:
            return 2 * x
    """
FLASK = """\
    from flask import Flask
    app = Flask(__name__)
    @app.route("/")
    def index(): return "x"
    """


def project(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(textwrap.dedent(content))
    return folder


def look(folder, files):
    project(folder, files)
    config, origin = load_config(folder)
    return detect(folder, config, origin)


def refused(folder, files):
    with pytest.raises(ProjectError) as caught:
        look(folder, files)
    return str(caught.value)


def test_a_lone_model_is_served_on_8080_with_its_runtime(tmp_path):
    found = look(tmp_path, {"model.onnx": MODEL})
    assert found.command.value == ("python", "-m", "dockyard_serve", "model.onnx", "--port", "8080")
    assert found.ports.value == (Port(8080),)
    assert found.healthcheck.value.path == "/healthz"
    assert found.serving.requirements(found.dependencies.value) == ("onnxruntime>=1.18",)
    assert found.framework.value == ("onnxruntime",)


def test_only_models_go_into_the_image_of_a_lone_model(tmp_path):
    files = {
        "model.onnx": MODEL,
        "model.onnx.data": b"\0" * 2_000_000,
        "train.py": "import torch, sklearn\n",
        "notes.md": "x",
        "labels.txt": "x",
        "dockyard.toml": 'include = ["labels.txt"]\n',
    }
    found = look(tmp_path, files)
    assert found.project.paths() == {"model.onnx", "model.onnx.data", "labels.txt"}
    assert found.dependencies.value.kind == "none"
    assert found.imports == {}


def test_the_projects_own_framework_is_left_to_it(tmp_path):
    files = {"model.onnx": MODEL, "requirements.txt": "onnxruntime-gpu==1.20.0\n"}
    found = look(tmp_path, files)
    assert found.serving.requirements(found.dependencies.value) == ()


def test_a_predictor_is_served_by_its_class(tmp_path):
    files = {"predictor.py": PREDICTOR, "requirements.txt": "numpy\n", "model.onnx": MODEL}
    found = look(tmp_path, files)
    assert found.command.value[2:4] == ("dockyard_serve", "predictor:Predictor")
    assert found.command.where == "predictor.py:1"
    assert "predictor.py" in found.project.paths()


def test_a_predictor_in_src_is_importable(tmp_path):
    found = look(tmp_path, {"src/digits/serve.py": PREDICTOR})
    assert found.command.value[3] == "digits.serve:Predictor"
    assert found.variables()["PYTHONPATH"] == "/app/src"


def test_a_predictor_wins_over_its_own_main_block(tmp_path):
    text = textwrap.dedent(PREDICTOR) + "if __name__ == '__main__':\n    print(Predictor())\n"
    found = look(tmp_path, {"predict.py": text})
    assert found.command.value[3] == "predict:Predictor"


# Projects that something else of starts as before. What it is, files, a part of the command.
OTHERS = [
    ("a web app", {"app.py": FLASK, "requirements.txt": "flask\n"}, "flask"),
    ("a script", {"main.py": "if __name__ == '__main__':\n    print()\n"}, "main.py"),
    ("a command", {"dockyard.toml": 'command = ["cat", "model.onnx"]\n'}, "cat"),
    ("a Dockerfile", {"Dockerfile": 'FROM x\nCMD ["python", "go.py"]\n', "go.py": ""}, "go.py"),
    ("a Procfile", {"Procfile": "web: python go.py\n", "go.py": ""}, "go.py"),
]


@pytest.mark.parametrize(("what", "files", "word"), OTHERS, ids=[row[0] for row in OTHERS])
def test_a_model_beside_something_that_starts_is_only_a_file(tmp_path, what, files, word):
    found = look(tmp_path, {"model.onnx": MODEL, **files})
    assert found.serving is None
    assert word in " ".join(found.command.value)


def test_serve_says_which_and_how(tmp_path):
    settings = """\
        ports = [9000]
        [serve]
        model = "models/b.onnx"
        name = "digits"
        workers = 2
        max-batch-size = 16
        max-delay = "5ms"
        trust = true
        inputs = { x = "FP32 [-1, 8]" }
        """
    files = {"models/a.onnx": MODEL, "models/b.onnx": MODEL, "dockyard.toml": settings}
    found = look(tmp_path, {**files, "app.py": FLASK})
    words = found.command.value
    assert words[3] == "models/b.onnx"
    assert " ".join(words[4:]) == (
        "--name digits --workers 2 --max-batch-size 16 --max-delay 5ms "
        "--input x=FP32 [-1, 8] --trust --port 9000"
    )


def test_a_served_model_is_kept_although_git_ignores_it(tmp_path):
    (tmp_path / ".git").mkdir()
    files = {"out/model.onnx": MODEL, ".gitignore": "*.onnx\n"}
    found = look(tmp_path, {**files, "dockyard.toml": '[serve]\nmodel = "out/model.onnx"\n'})
    assert found.models.value == ("out/model.onnx",)


def test_a_folder_of_models_and_versions_is_served_whole(tmp_path):
    files = {"models/a/1/model.onnx": MODEL, "models/a/2/model.onnx": MODEL, "train.py": "x = 1\n"}
    found = look(tmp_path, {**files, "dockyard.toml": '[serve]\nmodel = "models"\n'})
    assert found.command.value[3] == "models"
    assert found.serving.requirements(found.dependencies.value) == ("onnxruntime>=1.18",)
    assert found.project.paths() == {"models/a/1/model.onnx", "models/a/2/model.onnx"}


def archive(folder, entries):
    path = folder / "made.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return path.read_bytes()


class Runs:
    def __reduce__(self):
        return (print, ("unpickled",))


# What it is, files, what is said.
REFUSED = [
    ("two models", {"a.onnx": MODEL, "b.onnx": MODEL}, "several models"),
    (
        "two predictors",
        {"a.py": PREDICTOR, "b.py": PREDICTOR},
        "  b.py:1: Predictor",
    ),
    (
        "a pickle",
        {"model.pkl": pickle.dumps(Runs())},
        "model.pkl: is a pickle: unpickling it runs whatever code the file names (builtins.print)",
    ),
    (
        "serve beside a command",
        {"model.onnx": MODEL, "dockyard.toml": 'command = "cat"\n[serve]\n'},
        "dockyard.toml:2: [serve] and `command` contradict each other",
    ),
    (
        "a model that isn't there",
        {"dockyard.toml": '[serve]\nmodel = "m.onnx"\n'},
        "dockyard.toml:2: the model m.onnx isn't there",
    ),
    (
        "a model that stays out",
        {"m.onnx": MODEL, "dockyard.toml": 'exclude = "*.onnx"\n[serve]\nmodel = "m.onnx"\n'},
        "the model m.onnx is left out of the image",
    ),
    (
        "a class in no module",
        {"m.onnx": MODEL, "dockyard.toml": '[serve]\nmodel = "a.b:C"\n'},
        "there is no module a.b in the project",
    ),
    ("nothing to serve", {"dockyard.toml": "[serve]\n", "a.txt": ""}, "nothing that can be served"),
    ("text", {"m.pt": b"weights", "dockyard.toml": "[serve]\n"}, "neither a zip nor a pickle"),
]


@pytest.mark.parametrize(("what", "files", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_says_what_cannot_be_served(tmp_path, what, files, message):
    assert message in refused(tmp_path, files)


def test_weights_without_their_network_are_told_from_models(tmp_path):
    shutil.copy(EXAMPLES / "cuda-torch" / "model.pt", tmp_path)
    assert "model.pt: holds weights alone" in refused(tmp_path, {})


def test_a_pickled_module_is_served_when_it_is_trusted(tmp_path):
    data = archive(tmp_path, {"m/data.pkl": pickle.dumps(Runs())})
    (tmp_path / "made.zip").unlink()
    assert "(builtins.print)" in refused(tmp_path, {"m.pt": data})
    found = look(tmp_path, {"dockyard.toml": "[serve]\ntrust = true\n"})
    assert [each.name for each in found.serving.formats] == ["torch_pickle"]


def test_init_writes_a_table_that_means_the_same(tmp_path):
    found = look(tmp_path, {"model.onnx": MODEL})
    config, origin = load_config(tmp_path)
    (tmp_path / "dockyard.toml").write_text(config_text(found, config))
    config, origin = load_config(tmp_path)
    again = detect(tmp_path, config, origin)
    assert config.serve is not None
    assert config.serve.model == "model.onnx"
    assert again.command.value == found.command.value
    assert again.healthcheck.value == found.healthcheck.value


def test_every_format_says_what_it_needs():
    for each in FORMATS:
        names = {text.split(">")[0].split(";")[0].strip() for text in each.requirements}
        assert names, each.title
        assert set(each.providers) & names, each.title
