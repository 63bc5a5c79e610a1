"""`dockyard init` writes what was detected, and reading it again means the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dockyard.app.config import load_config, parse_config
from dockyard.app.detect import detect
from dockyard.app.init import config_text, init_files, write_init
from dockyard.errors import ConfigError

EXAMPLES = Path(__file__).parents[2] / "examples"

GRADIO = {
    "app.py": "import gradio as gr\ndemo = gr.Interface(print, 'text', 'text')\ndemo.launch()\n",
    "requirements.txt": "gradio\ntorch\n",
}
FACTORY = {
    "pyproject.toml": "[project]\nname='a'\nrequires-python='>=3.11'\ndependencies=['fastapi',"
    "'uvicorn']\n[project.optional-dependencies]\ngpu=['torch']\n",
    "src/a/__init__.py": "",
    "src/a/main.py": "from fastapi import FastAPI\ndef create_app():\n    return FastAPI()\n",
}
SCRIPT = {"main.py": "if __name__ == '__main__':\n    print(1)\n"}
CONDA = SCRIPT | {"environment.yml": "name: x\ndependencies:\n- python=3.11\n- numpy=1.26\n"}
AWKWARD = SCRIPT | {
    "Dockerfile": 'FROM x\nENV A="a \\"quote\\" and #hash" B=\'back\\\\slash\'\n'
    'ENTRYPOINT ["python", "main.py"]\nCMD ["--x", "é\\n"]\nEXPOSE 53/udp 8000\n'
}


def look(folder):
    config, origin = load_config(folder)
    return config, detect(folder, config, origin)


def values(found):
    return {
        "name": found.name.value,
        "source": (found.dependencies.value.kind, found.dependencies.value.names()),
        "python": found.python.value if found.python.value.firm else None,
        "accelerator": found.accelerator.value,
        "command": found.command.value,
        "entrypoint": found.entrypoint.value,
        "workdir": found.workdir.value,
        "ports": found.ports.value,
        "health": found.healthcheck.value,
        "env": found.variables(),
        "writable": [item.value for item in found.writable],
        "models": found.models.value,
        "framework": found.framework.value,
    }


@pytest.mark.parametrize("files", [GRADIO, FACTORY, SCRIPT, CONDA, AWKWARD])
def test_what_is_written_means_what_was_found(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    config, before = look(tmp_path)
    written = write_init(tmp_path, before, config)
    assert [path.name for path in written] == ["dockyard.toml", ".dockerignore"]
    _, after = look(tmp_path)
    assert values(after) == values(before)
    assert after.command.where.startswith("dockyard.toml:")


@pytest.mark.parametrize("name", ["keras-digits", "torch-digits", "onnx-digits", "cuda-torch"])
def test_an_example_means_the_same_after_init(tmp_path, name):
    folder = shutil.copytree(EXAMPLES / name, tmp_path / name)
    config, before = look(folder)
    text = config_text(before, config)
    project = folder / "pyproject.toml"
    if project.exists():
        project.write_text(project.read_text().split("[tool.dockyard]")[0])
    (folder / "dockyard.toml").write_text(text)
    assert values(look(folder)[1]) == values(before)


def test_settings_that_were_made_are_kept(tmp_path):
    (tmp_path / "main.py").write_text(SCRIPT["main.py"])
    (tmp_path / "a.env").write_text("FROM_FILE=1\n")
    settings = {
        "tags": ["1", "2"],
        "apt": ["libgl1"],
        "shell": False,
        "exclude": ["data"],
        "user": "app",
        "bytecode": "none",
        "trim": True,
        "compression": "zstd",
        "base": "trixie",
        "labels": {"org.example.a": "b"},
        "env": {"X": "1"},
        "env-file": ["a.env"],
    }
    config = parse_config(settings)
    (tmp_path / "dockyard.toml").write_text(config_text(detect(tmp_path, config), config))
    again = load_config(tmp_path)[0]
    for key in config.model_fields_set:
        assert getattr(again, key) == getattr(config, key), key


def test_each_value_stands_under_its_reason(tmp_path):
    for name, text in GRADIO.items():
        (tmp_path / name).write_text(text)
    config, found = look(tmp_path)
    text = init_files(found, config)["dockyard.toml"]
    assert 'which app.py launches (app.py:2)\ncommand = ["python", "app.py"]' in text


def test_does_not_replace_a_file_unless_told_to(tmp_path):
    for name, text in GRADIO.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "dockyard.toml").write_text('name = "mine"\n')
    (tmp_path / ".dockerignore").write_text("mine\n")
    config, found = look(tmp_path)
    with pytest.raises(ConfigError, match="is there already"):
        write_init(tmp_path, found, config)
    assert (tmp_path / "dockyard.toml").read_text() == 'name = "mine"\n'
    write_init(tmp_path, found, config, force=True)
    assert load_config(tmp_path)[0].name == "mine"
    assert (tmp_path / ".dockerignore").read_text() == "mine\n"


def test_the_ignore_file_does_not_hide_what_the_app_starts(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "model.h5").write_bytes(b"x")
    (tmp_path / "main.py").write_text(SCRIPT["main.py"])
    config, found = look(tmp_path)
    write_init(tmp_path, found, config)
    assert look(tmp_path)[1].models.value == ("notebooks/model.h5",)
