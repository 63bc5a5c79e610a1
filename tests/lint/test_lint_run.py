"""Selecting, silencing, weighing findings; what rules say about whole projects."""

from __future__ import annotations

import pytest
from lint_projects import TODAY, findings_of, write_example

from dockyard.errors import ConfigError
from dockyard.lint.rule import Zeros
from dockyard.lint.run import Selection, run_rules, worst
from dockyard.lint.subject import Subject

CLASSIC = {
    "Dockerfile": "FROM tensorflow/tensorflow:2.3.0-gpu-py3\nWORKDIR /app\nCOPY . /app\n"
    "RUN pip install -r requirements.txt\nENV MODEL_PATH=/app/model.h5\nENV LOG_DIR=/app/logs\n"
    'CMD ["python", "app.py"]\n',
    "requirements.txt": "flask\n",
    "app.py": "import flask\napp = flask.Flask(__name__)\napp.run()\n",
    "model.h5": Zeros(94_000_000),
    ".git/objects/pack": Zeros(120_000_000),
    "venv/pyvenv.cfg": "",
    "venv/lib/site.py": Zeros(142_000_000),
}


def test_the_classic_dockerfile_has_more_than_one_fault(tmp_path):
    found = {item.rule: item for item in findings_of(tmp_path, CLASSIC)}
    assert {"DY101", "DY102", "DY103", "DY205", "DY207", "DY208", "DY401", "DY407"} <= set(found)
    assert found["DY102"].cost.size == 262_000_000
    assert "262 MB" in found["DY102"].cost.text
    assert found["DY103"].cost.size == 94_000_000


def test_virtual_environments_of_the_host_are_not_read_as_code(tmp_path):
    files = {
        "app.py": "x = 1\n",
        "env/pyvenv.cfg": "",
        "env/a.py": "import torch\ntorch.load('x')\n",
    }
    assert findings_of(tmp_path, files, "DY603") == ()


BAD = "FROM python:3.12-slim\n{}RUN pip install \\\n {}    flask==3.0.0\n"

# comment above, comment inside, whether it silences DY207
COMMENTS = [
    ("", "", False),
    ("# dockyard: ignore=DY207\n", "", True),
    ("# dockyard: ignore=DY101, DY207\n", "", True),
    ("# dockyard: ignore=pip-cache-kept\n", "", True),
    ("# dockyard: ignore=DY2\n", "", True),
    ("# dockyard: ignore\n# why\n", "", True),
    ("# Dockyard: Ignore = DY207\n", "", True),
    ("", "# dockyard: ignore=DY207\n", True),
    ("# dockyard: ignore=DY208\n", "", False),
    ("# dockyard: ignore=DY207\n\n", "", False),
]


@pytest.mark.parametrize(("above", "inside", "silent"), COMMENTS)
def test_a_comment_silences_its_rules(tmp_path, above, inside, silent):
    found = findings_of(tmp_path, BAD.format(above, inside), "DY207")
    assert (found == ()) is silent


def test_a_comment_at_the_end_of_a_line_silences_it(tmp_path):
    code = "import torch\ntorch.load('a')  # dockyard: ignore=DY603\ntorch.load('b')\n"
    assert [item.line for item in findings_of(tmp_path, {"app.py": code}, "DY603")] == [3]


def test_ignoring_wins_over_selecting_and_severities_can_be_set(tmp_path):
    dockerfile = "FROM python:3.7\nCMD python\n"
    found = findings_of(tmp_path, dockerfile, "DY3", "DY4", ignore=("DY302",))
    assert {item.rule for item in found} == {"DY401", "DY403"}
    weighed = findings_of(tmp_path, dockerfile, "DY4", severity={"DY4": "info", "DY401": "error"})
    assert {item.rule: item.severity for item in weighed} == {"DY401": "error", "DY403": "info"}
    assert worst(weighed) == "error"
    assert worst(()) is None


@pytest.mark.parametrize("word", ["DY9", "nonsense-rule", "DY1011"])
def test_refuses_a_word_that_is_no_rule(tmp_path, word):
    with pytest.raises(ConfigError, match="is no rule"):
        findings_of(tmp_path, "FROM a\n", word)


def test_only_the_named_dockerfile_is_looked_at(tmp_path):
    write_example(
        tmp_path, {"Dockerfile": "FROM python:3.7\n", "b/Dockerfile": "FROM python:3.6\n"}
    )
    subject = Subject(tmp_path, dockerfiles=["b/Dockerfile"], today=TODAY)
    found = run_rules(subject, Selection(select=("DY208",)))
    assert [item.file for item in found] == ["b/Dockerfile"]


def test_a_dockerignore_of_its_own_wins_as_in_buildkit(tmp_path):
    files = {
        "Dockerfile": "FROM python:3.12-slim\nCOPY . /app\n",
        "Dockerfile.dockerignore": ".git\n",
        ".git/pack": Zeros(5_000_000),
    }
    assert findings_of(tmp_path, files, "DY102") == ()


def test_support_ends_on_its_day_and_not_before(tmp_path):
    write_example(tmp_path, "FROM python:3.10-slim\n")
    chosen = Selection(select=("DY208",))
    before = Subject(tmp_path, today=TODAY.replace(year=2025))
    assert run_rules(before, chosen) == ()
    assert len(run_rules(Subject(tmp_path, today=TODAY), chosen)) == 1


# files, rule, whether it triggers: what the rules' own examples don't show
# ruff: noqa: E501
CASES = [
    ({"Dockerfile": "FROM python:3.12\nRUN uv pip install x==1\n"}, "DY310", True),
    ({"Dockerfile": "FROM python:3.12\nRUN python3 -m pip install x==1\n"}, "DY207", True),
    ({"Dockerfile": 'FROM python:3.12\nRUN ["pip3", "install", "x==1"]\n'}, "DY207", True),
    ({"Dockerfile": "FROM python:3.12\nENV PIP_NO_CACHE_DIR=1\nRUN pip install x==1\n"}, "DY207", False),
    ({"Dockerfile": "FROM python:3.12 AS b\nRUN pip install x==1\nFROM scratch\n"}, "DY207", False),
    ({"Dockerfile": "FROM python:3.12-slim\nADD https://a.b/x.tgz /x\n"}, "DY305", True),
    ({"Dockerfile": "FROM a\nRUN huggingface-cli download org/model\n"}, "DY304", True),
    ({"Dockerfile": "FROM a\nRUN python -c \"M.from_pretrained('org/m')\"\n"}, "DY304", True),
    ({"Dockerfile": "FROM a\nRUN pip install --index-url https://u:pw123@h/ x\n"}, "DY703", True),
    ({"Dockerfile": "FROM a\nENV MAX_TOKENS=3 API_KEY=changeme\n"}, "DY701", False),
    ({"Dockerfile": "FROM a\nARG HF_TOKEN\n"}, "DY701", True),
    ({"Dockerfile": "FROM a\nENV X=ghp_" + "a" * 36 + "\n"}, "DY701", True),
    ({"Dockerfile": "FROM ubuntu:20.04\nRUN pip install torch==1.10.0\n"}, "DY204", False),
    ({"Dockerfile": "FROM ubuntu:24.04\nRUN pip install torch==1.10.0\n"}, "DY204", True),
    ({"Dockerfile": "FROM a\nUSER app\nHEALTHCHECK NONE\nEXPOSE 1\n"}, "DY404", False),
    ({"Dockerfile": "FROM a\nCMD flask --app x run --debug\n"}, "DY408", True),
    ({"Dockerfile": "FROM a\nRUN apt-get update\nRUN rm -rf /var/lib/apt/lists/*\n"}, "DY307", True),
    ({"Dockerfile": "FROM a\nRUN apt-get update && rm -rf /var/lib/apt/lists/*\n"}, "DY307", False),
    ({"Dockerfile": "FROM pytorch/pytorch:2.1.0-cuda12.1-cudnn8-devel\n"}, "DY301", True),
    ({"Dockerfile": "FROM pytorch/pytorch:2.1.0-cuda12.1\nRUN pip install torch==2.4.0\n"}, "DY202", True),
    ({"Dockerfile": "FROM a\nRUN --mount=type=cache,target=/x wget http://h/a\n"}, "DY305", True),
    ({"compose.yaml": "services: {a: {build: ., gpus: all}}\n", "a.py": "x.to('cuda')\n"}, "DY504", False),
    ({"compose.yaml": "x: &e {DB_PASSWORD: p4ss}\nservices: {a: {environment: {<<: *e}}}\n"}, "DY702", True),
    ({"compose.yaml": "services:\n  a:\n    environment: ['DB_URL=pg://u:pw1@h/d']\n"}, "DY702", True),
    ({"compose.yaml": "a: [\n"}, "DY001", True),
    ({"app.py": "from torch import load as l\nl('x')\n"}, "DY603", True),
    ({"app.py": "from torch import load\nload('x', **options)\n"}, "DY603", False),
    ({"app.py": "import torch\ntorch.load('x', weights_only=False)\n"}, "DY603", True),
    ({"app.py": "def f(:\n"}, "DY603", False),
    ({"model.pt": b"no zip"}, "DY602", False),
]  # fmt: skip


@pytest.mark.parametrize(("files", "rule", "triggers"), CASES)
def test_rules_in_other_words(tmp_path, files, rule, triggers):
    assert bool(findings_of(tmp_path, files, rule)) is triggers


def test_a_checkpoint_that_calls_the_system_is_found_and_one_of_tensors_is_not(tmp_path):
    import pickle
    import zipfile

    class Evil:
        def __reduce__(self):
            import os

            return os.system, ("true",)

    for name, value in (("evil.pt", Evil()), ("good.pt", {"a": [1.0, 2.0]})):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(value, protocol=2))
    found = findings_of(tmp_path, {}, "DY602")
    assert [item.file for item in found] == ["evil.pt"]
    assert "system" in found[0].message


def test_a_keras_model_with_a_lambda_layer_is_found(tmp_path):
    import json
    import zipfile

    for name, layer in (("a.keras", "Lambda"), ("b.keras", "Dense")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("config.json", json.dumps({"layers": [{"class_name": layer}]}))
    assert [item.file for item in findings_of(tmp_path, {}, "DY602")] == ["a.keras"]


def test_aliases_that_multiply_do_not_fill_the_memory(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    text = "\n".join(lines) + "\nservices: {a: {image: 'postgres:12'}}\n"
    assert findings_of(tmp_path, {"compose.yaml": text}, "DY001") == ()
