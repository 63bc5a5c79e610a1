"""What detection finds in projects as people write them."""

from __future__ import annotations

import dataclasses
import textwrap
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockyard.app.config import load_config
from dockyard.app.detect import (
    choose_python,
    detect,
    framework_of,
    unmet_imports,
)
from dockyard.app.detect.conda import parse_environment
from dockyard.app.detect.decision import Decision
from dockyard.app.detect.dockerfile import parse_dockerfile
from dockyard.app.detect.python import PythonWish
from dockyard.app.values import Port
from dockyard.errors import DockyardError, ProjectError

EXAMPLES = Path(__file__).parents[2] / "examples"


def project(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            path.write_bytes(text)
        else:
            path.write_text(textwrap.dedent(text))
    return folder


def look(folder, files=None):
    if files is not None:
        project(folder, files)
    config, origin = load_config(folder)
    return detect(folder, config, origin)


def fails(folder, files):
    with pytest.raises(ProjectError) as caught:
        look(folder, files)
    return str(caught.value)


CLASSIC = {
    "app.py": """\
        import os
        from flask import Flask
        from tensorflow.keras.models import load_model
        MODEL_PATH = os.environ.get("MODEL_PATH", "/app/model.h5")
        LOG_DIR = os.environ.get("LOG_DIR", "/app/logs")
        os.makedirs(LOG_DIR, exist_ok=True)
        app = Flask(__name__)
        model = load_model(MODEL_PATH)
        @app.route("/predict", methods=["POST"])
        def predict():
            return "x"
        if __name__ == "__main__":
            app.run(host="0.0.0.0", port=8080)
        """,
    "requirements.txt": "tensorflow-cpu==2.21.0\nflask\n",
    "model.h5": b"\x89HDF",
}


def test_the_classic_layout_works_as_found(tmp_path):
    found = look(tmp_path, CLASSIC)
    assert found.command.value == ("python", "app.py")
    assert found.command.where == "app.py:13"
    assert found.ports.value == (Port(8080),)
    assert found.ports.where == "app.py:13"
    assert found.framework.value == ("tensorflow",)
    assert found.accelerator.value == "cpu"
    assert found.models.value == ("model.h5",)
    assert [item.value for item in found.writable] == ["/app/logs"]
    assert found.healthcheck.value.kind == "tcp"
    assert found.healthcheck.value.port == 8080
    assert any("gunicorn" in warning for warning in found.warnings)


def test_gunicorn_serves_flask_when_the_project_depends_on_it(tmp_path):
    files = CLASSIC | {"requirements.txt": "tensorflow-cpu\nflask\ngunicorn==23\n"}
    found = look(tmp_path, files)
    assert found.command.value[:4] == ("gunicorn", "app:app", "--bind", "0.0.0.0:8080")
    assert "--workers 1 --threads 4" in " ".join(found.command.value)
    assert found.warnings == ()


def test_a_main_block_that_loads_the_model_is_run_as_it_stands(tmp_path):
    files = {
        "app.py": """\
            from flask import Flask
            app = Flask(__name__)
            def load(): ...
            if __name__ == "__main__":
                print("starting")
                load()
                app.run(host="0.0.0.0", port=5001)
            """,
        "requirements.txt": "flask\ngunicorn\n",
    }
    found = look(tmp_path, files)
    assert found.command.value == ("python", "app.py")
    assert "line 6: load()" in found.command.why


def test_flask_that_listens_locally_is_started_so_that_it_can_be_reached(tmp_path):
    files = CLASSIC | {
        "app.py": "from flask import Flask\napp = Flask(__name__)\n"
        "if __name__ == '__main__':\n    app.run()\n"
    }
    found = look(tmp_path, files)
    assert found.command.value == (
        *("flask", "--app", "app:app", "run", "--host", "0.0.0.0", "--port", "5000"),
    )
    assert any("app.py:4 would listen inside" in warning for warning in found.warnings)


def test_warns_of_a_script_that_listens_locally(tmp_path):
    files = {
        "app.py": """\
            from flask import Flask
            app = Flask(__name__)
            if __name__ == "__main__":
                prepare()
                app.run(port=9000)
            """,
        "requirements.txt": "flask",
    }
    found = look(tmp_path, files)
    assert found.ports.value == (Port(9000),)
    assert any("app.py:5 listens on 127.0.0.1" in warning for warning in found.warnings)


FASTAPI = {
    "main.py": """\
        from fastapi import FastAPI, APIRouter
        import torch
        app = FastAPI()
        router = APIRouter(prefix="/v1")
        @router.get("/health")
        def deep(): ...
        @app.get("/healthz")
        def health(): ...
        """,
    "requirements.txt": "fastapi\nuvicorn[standard]\ntorch\n",
}


def test_uvicorn_serves_fastapi(tmp_path):
    found = look(tmp_path, FASTAPI)
    assert found.command.value == (*("uvicorn", "main:app", "--host", "0.0.0.0", "--port", "8000"),)
    assert found.ports.value == (Port(8000),)
    assert found.healthcheck.value.path == "/healthz"
    assert found.healthcheck.where == "main.py:7"
    assert found.framework.value == ("torch",)
    assert found.accelerator.value == "auto"
    assert "public index bring CUDA" in found.accelerator.why


def test_fastapi_standard_brings_uvicorn(tmp_path):
    found = look(tmp_path, FASTAPI | {"requirements.txt": "fastapi[standard]\ntorch"})
    assert found.command.value[0] == "uvicorn"


def test_fastapi_without_a_server_is_an_error_with_the_remedy(tmp_path):
    said = fails(tmp_path, FASTAPI | {"requirements.txt": "fastapi\ntorch"})
    assert "main.py:3" in said
    assert "Add uvicorn" in said


def test_a_factory_in_a_src_package_is_called(tmp_path):
    files = {
        "pyproject.toml": """\
            [project]
            name = "My_App"
            requires-python = ">=3.11"
            dependencies = ["fastapi", "uvicorn", "jax[cuda12]"]
            """,
        "src/my_app/__init__.py": "",
        "src/my_app/app.py": """\
            from fastapi import FastAPI
            from .routes import router
            def create_app(debug: bool = False) -> FastAPI:
                app = FastAPI()
                app.include_router(router)
                return app
            """,
        "src/my_app/routes.py": """\
            from fastapi import APIRouter
            import jax
            router = APIRouter()
            @router.get("/ping")
            def ping(): ...
            """,
    }
    found = look(tmp_path, files)
    assert found.command.value == (
        *("uvicorn", "my_app.app:create_app", "--host", "0.0.0.0", "--port", "8000", "--factory"),
    )
    assert found.variables()["PYTHONPATH"] == "/app/src"
    assert found.name.value == "my-app"
    assert found.healthcheck.value.path == "/ping"
    assert (found.accelerator.value, found.accelerator.where) == ("cuda", "pyproject.toml:4")
    assert found.framework.value == ("jax",)


def test_an_object_that_a_factory_of_another_file_makes(tmp_path):
    files = {
        "wsgi.py": "from server.factory import create_app\napp = create_app()\n",
        "server/__init__.py": "",
        "server/factory.py": """\
            from flask import Flask
            def create_app():
                app = Flask(__name__)
                @app.route("/health")
                def health(): ...
                return app
            """,
        "requirements.txt": "flask\ngunicorn",
    }
    found = look(tmp_path, files)
    assert found.command.value[:2] == ("gunicorn", "wsgi:app")
    assert found.healthcheck.value.path == "/health"


def test_files_that_import_their_neighbours_are_served_from_their_folder(tmp_path):
    files = {
        "backend/main.py": """\
            from fastapi import FastAPI
            from model import predict
            app = FastAPI()
            """,
        "backend/model.py": "def predict(): ...",
        "requirements.txt": "fastapi\nuvicorn",
    }
    found = look(tmp_path, files)
    assert found.command.value[:2] == ("uvicorn", "main:app")
    assert found.variables()["PYTHONPATH"] == "/app/backend"


def test_gradio_is_told_to_listen_everywhere(tmp_path):
    files = {
        "app.py": """\
            import gradio as gr
            with gr.Blocks() as demo:
                gr.Textbox()
            demo.launch()
            """,
        "requirements.txt": "gradio",
    }
    found = look(tmp_path, files)
    assert found.command.value == ("python", "app.py")
    assert found.ports.value == (Port(7860),)
    assert found.variables()["GRADIO_SERVER_NAME"] == "0.0.0.0"


def test_streamlit_is_run_by_streamlit(tmp_path):
    page = "import streamlit as st\nst.title('x')\n"
    files = {"app.py": page, "pages/two.py": page, "requirements.txt": "streamlit\nscikit-learn"}
    found = look(tmp_path, files)
    assert found.command.value[:3] == ("streamlit", "run", "app.py")
    assert found.ports.value == (Port(8501),)
    assert found.healthcheck.value.path == "/_stcore/health"
    assert found.framework.value == ("scikit-learn",)


def test_a_script_without_a_server_has_no_port_and_no_check(tmp_path):
    files = {"main.py": "import json\nif __name__ == '__main__':\n    print(json.dumps(1))\n"}
    found = look(tmp_path, files)
    assert found.command.value == ("python", "main.py")
    assert found.ports.value == ()
    assert found.healthcheck.value is None
    assert found.dependencies.value.kind == "none"


def test_a_package_with_a_main_module_is_run_as_one(tmp_path):
    files = {
        "tool/__init__.py": "",
        "tool/__main__.py": "from tool.core import main\nmain()\n",
        "tool/core.py": "def main(): ...",
        "pyproject.toml": "[project]\nname='tool'\nversion='1'\ndependencies=[]\n",
    }
    assert look(tmp_path, files).command.value == ("python", "-m", "tool")


def test_a_program_of_the_project_is_run_without_installing_it(tmp_path):
    files = {
        "src/tool/__init__.py": "",
        "src/tool/cli.py": "import os\ndef main(): ...\n",
        "pyproject.toml": "[project]\nname='tool'\n[project.scripts]\ntool = 'tool.cli:main'\n",
    }
    found = look(tmp_path, files)
    assert found.command.value == (
        *("python", "-c", "import sys; from tool.cli import main; sys.exit(main())"),
    )
    assert found.variables() == {"PYTHONPATH": "/app/src"}


def test_two_apps_that_are_equally_likely_are_an_error_that_names_both(tmp_path):
    files = {
        "app.py": "from flask import Flask\napp = Flask(__name__)\n",
        "main.py": "from fastapi import FastAPI\napi = FastAPI()\n",
        "requirements.txt": "flask\nfastapi\nuvicorn",
    }
    said = fails(tmp_path, files)
    assert "app.py:2: Flask app `app`" in said
    assert "main.py:2: FastAPI app `api`" in said
    assert "command = " in said
    (tmp_path / "dockyard.toml").write_text('command = ["uvicorn", "main:api", "--port", "81"]')
    found = look(tmp_path)
    assert found.ports.value == (Port(81),)
    assert found.command.where == "dockyard.toml:1"


def test_an_app_that_another_app_mounts_is_not_a_second_one(tmp_path):
    files = {
        "main.py": """\
            from fastapi import FastAPI
            app = FastAPI()
            inner = FastAPI()
            app.mount("/inner", inner)
            """,
        "requirements.txt": "fastapi\nuvicorn",
    }
    assert look(tmp_path, files).command.value[1] == "main:app"


def test_training_scripts_and_tests_are_not_started(tmp_path):
    files = {
        "train.py": "import sklearn\nif __name__ == '__main__':\n    pass\n",
        "tests/test_app.py": "import pytest\n",
        "serve.py": "import onnxruntime\nif __name__ == '__main__':\n    pass\n",
        "requirements.txt": "onnxruntime\n",
    }
    found = look(tmp_path, files)
    assert found.command.value == ("python", "serve.py")
    assert found.framework.value == ("onnxruntime",)
    assert set(found.imports) == {"onnxruntime"}


# the code of app.py, its port
PORTS = [
    ("import uvicorn\nuvicorn.run(app, host='0.0.0.0', port=9001)", 9001),
    ("import uvicorn\nPORT = 9002\nuvicorn.run(app, port=PORT)", 9002),
    ("import uvicorn, os\nuvicorn.run(app, port=int(os.environ.get('PORT', 9003)))", 9003),
    ("import uvicorn, os\nuvicorn.run(app, port=int(os.getenv('PORT') or '9004'))", 9004),
    (
        "import uvicorn, argparse\np = argparse.ArgumentParser()\n"
        "p.add_argument('--port', type=int, default=9005)\na = p.parse_args()\n"
        "uvicorn.run(app, port=a.port)",
        9005,
    ),
    (
        "import uvicorn\nclass S:\n    port: int = 9007\ns = S()\nuvicorn.run(app, port=s.port)",
        9007,
    ),
    ("import uvicorn\nuvicorn.run('app:app')", 8000),
    ("import os\nPORT = os.environ['PORT']", 8000),
    ("import os\nPORT = os.environ.get('PORT', '9008')", 9008),
]


@pytest.mark.parametrize(("code", "port"), PORTS)
def test_finds_the_port_in_the_code(tmp_path, code, port):
    files = {
        "app.py": "from fastapi import FastAPI\napp = FastAPI()\n" + code + "\n",
        "requirements.txt": "fastapi\nuvicorn",
    }
    found = look(tmp_path, files)
    assert found.ports.value == (Port(port),)


def test_a_variable_of_the_image_decides_the_port_that_reads_it(tmp_path):
    files = CLASSIC | {
        "app.py": "import os\nfrom flask import Flask\napp = Flask(__name__)\n"
        "if __name__ == '__main__':\n"
        "    app.run(host='0.0.0.0', port=int(os.environ.get('PORT', 5000)))\n",
        "dockyard.toml": "[env]\nPORT = 7000\n",
    }
    assert look(tmp_path, files).ports.value == (Port(7000),)


def test_says_which_variables_are_missing(tmp_path):
    files = {"main.py": "import os\nKEY = os.environ['MY_KEY']\nif __name__ == '__main__': ...\n"}
    found = look(tmp_path, files)
    assert found.warnings[0].startswith("main.py:2 needs the variable MY_KEY")


def test_a_dockerfile_is_evidence(tmp_path):
    files = CLASSIC | {
        "Dockerfile": """\
            # escape=\\
            ARG VERSION=3.12
            FROM python:${VERSION}-slim AS build
            RUN apt-get update && apt-get install -y --no-install-recommends libgl1 curl libgomp1
            ENV MODEL_PATH=/srv/model.h5 PIP_NO_CACHE_DIR=1 \\
                LOG_DIR="/srv/my logs"
            FROM build
            WORKDIR /srv
            COPY . .
            EXPOSE 8080/tcp
            HEALTHCHECK CMD curl -f http://localhost:8080/alive || exit 1
            CMD ["python3", "app.py"]
            """
    }
    found = look(tmp_path, files)
    assert found.command.value == ("python", "app.py")
    assert found.command.where == "Dockerfile:12"
    assert found.workdir.value == "/srv"
    assert found.variables() == {"MODEL_PATH": "/srv/model.h5", "LOG_DIR": "/srv/my logs"}
    assert found.healthcheck.value.path == "/alive"
    assert [item.value for item in found.writable] == ["/srv/my logs"]
    assert found.python.value == PythonWish(minor="3.12", firm=False)
    assert any('apt = ["libgl1"]' in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('CMD ["bash"]', "starts no app"),
        ("CMD python other.py", "other.py isn't among the project's files"),
        ('CMD ["uvicorn", "src2.main:app"]', "src2.main:app isn't among"),
        ("CMD sleep infinity", "starts no app"),
    ],
)
def test_a_dockerfile_that_starts_something_else_is_not_followed(tmp_path, line, reason):
    found = look(tmp_path, CLASSIC | {"Dockerfile": f"FROM python:3.11\n{line}\n"})
    assert found.command.where == "app.py:13"
    assert any(reason in warning for warning in found.warnings)


def test_a_shell_form_that_needs_a_shell_gets_one():
    said = parse_dockerfile("FROM a\nCMD exec gunicorn app:app --bind :$PORT && x\n")
    assert said.command == (("sh", "-c", "gunicorn app:app --bind :$PORT && x"), 2)
    assert parse_dockerfile("FROM a\nCMD exec python app.py\n").command[0] == ("python", "app.py")


def test_a_new_entrypoint_drops_the_command_and_unknown_variables_are_left_out():
    said = parse_dockerfile(
        'FROM a\nCMD a b\nENTRYPOINT ["x"]\nENV A=$UNKNOWN B=${A:-c} C d\nRUN <<EOF\nCMD no\nEOF\n'
    )
    assert (said.command, said.entrypoint) == (None, (("x",), 3))
    assert {name: item.value for name, item in said.env.items()} == {"B": "c"}


@given(st.text("FROMCDENVRUN aA=$\"'[]\\\n#<{}-:", max_size=120))
def test_no_dockerfile_ends_in_a_traceback(text):
    assert parse_dockerfile(text).name == "Dockerfile"


def test_a_procfile_is_evidence(tmp_path):
    files = CLASSIC | {"Procfile": "worker: x\nweb: gunicorn app:app --bind 0.0.0.0:$PORT\n"}
    found = look(tmp_path, files)
    assert found.command.value == ("gunicorn", "app:app", "--bind", "0.0.0.0:8000")
    assert (found.command.where, found.ports.value) == ("Procfile:2", (Port(8000),))


# files, kind, files of the source, names
SOURCES = [
    ({"requirements.txt": "torch"}, "requirements", ("requirements.txt",), {"torch"}),
    (
        {"requirements.txt": "-r more.txt\n-c c.txt\n--index-url x\nA_b>=1 \\\n --hash=sha256:0\n"
         "-e .\nc @ file:///x  # d\n", "more.txt": "numpy\n"},
        "requirements", ("requirements.txt",), {"a-b", "numpy", "c"},
    ),
    (
        {"pyproject.toml": "[project]\nname='a'\ndependencies=['flask']", "requirements.txt": "x"},
        "pyproject", ("pyproject.toml",), {"flask"},
    ),
    (
        {"pyproject.toml": "[project]\ndynamic=['dependencies']", "requirements.txt": "x"},
        "requirements", ("requirements.txt",), {"x"},
    ),
    ({"pyproject.toml": "[tool.ruff]\n", "requirements.txt": "x"}, "requirements",
     ("requirements.txt",), {"x"}),
    (
        {"pyproject.toml": "[project]\nname='a'\ndependencies=['flask']",
         "requirements.txt": "# This file is autogenerated by pip-compile\nflask==3\njinja2==3\n"},
        "requirements", ("requirements.txt",), {"flask", "jinja2"},
    ),
    ({"pyproject.toml": "[project]\nname='a'\ndependencies=['flask']", "uv.lock": ""}, "uv-lock",
     ("uv.lock", "pyproject.toml"), {"flask"}),
    ({"pylock.toml": "lock-version='1.0'\n[[packages]]\nname='Torch'\nversion='2'\n",
      "requirements.txt": "x"}, "pylock", ("pylock.toml",), {"torch"}),
    ({"environment.yml": "name: x\ndependencies:\n  - python=3.11\n  - pytorch=2.4\n  - pip:\n"
      "    - flask>=3\n"}, "environment", ("environment.yml",), {"torch", "flask"}),
    ({"dockyard.toml": "requirements=['flask', 'r.txt']", "r.txt": "numpy"}, "requirements",
     ("r.txt",), {"flask", "numpy"}),
    ({"dockyard.toml": "requirements='flask'", "requirements.txt": "numpy"}, "listed", (),
     {"flask"}),
    ({"requirements.txt": "flask".encode("utf-16")}, "requirements", ("requirements.txt",),
     {"flask"}),
]  # fmt: skip


@pytest.mark.parametrize(("files", "kind", "paths", "names"), SOURCES)
def test_finds_the_source_of_dependencies(tmp_path, files, kind, paths, names):
    source = look(tmp_path, {"main.py": "if __name__ == '__main__': ...\n"} | files).dependencies
    assert (source.value.kind, source.value.files) == (kind, paths)
    assert source.value.names() == names


def test_a_lock_of_our_own_is_beside_its_source(tmp_path):
    files = {
        "main.py": "if __name__ == '__main__': ...\n",
        "requirements.txt": "flask",
        "pylock.toml": "lock-version='1.0'\n[tool.dockyard]\npython='3.11'\n",
    }
    source = look(tmp_path, files).dependencies.value
    assert (source.kind, source.lock) == ("requirements", "pylock.toml")


def test_extras_and_groups_must_be_there(tmp_path):
    files = {
        "main.py": "if __name__ == '__main__': ...\n",
        "pyproject.toml": """\
            [project]
            name = "a"
            dependencies = ["flask"]
            [project.optional-dependencies]
            gpu = ["torch"]
            [dependency-groups]
            serve = ["gunicorn"]
            [tool.dockyard]
            extras = ["GPU"]
            groups = ["serve"]
            """,
    }
    found = look(tmp_path, files)
    assert found.dependencies.value.names() == {"flask", "torch", "gunicorn"}
    (tmp_path / "pyproject.toml").write_text(
        "[project]\nname='a'\n[tool.dockyard]\nextras=['cpu']\n"
    )
    assert "no extra 'cpu'" in fails(tmp_path, {})


def test_imports_without_a_source_are_an_error_that_names_the_packages(tmp_path):
    code = "import json, cv2\nimport sklearn.svm\nfrom helper import x\nfrom flask import Flask\n"
    said = fails(tmp_path, {"app.py": code, "helper.py": "import os"})
    assert "flask (app.py:4)" in said
    assert "flask opencv-python-headless scikit-learn" in said
    assert "helper (" not in said


def test_another_tools_lock_is_named_with_the_way_out(tmp_path):
    said = fails(tmp_path, {"app.py": "import flask\n", "poetry.lock": ""})
    assert "poetry export" in said


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "the folder is empty"),
        ({"notes.md": "x"}, "holds no Python code"),
        ({"model.h5": b"\x89HDF"}, "model.h5: isn't a model that can be served: it isn't an HDF5"),
        ({"app.py": "def broken(:\n"}, "app.py:1: isn't valid Python"),
        ({"train.py": "print(1)\n"}, "train.py looks like training"),
        ({"lib.py": "def f(): ...\n"}, "nothing here says what to start"),
        (
            {"a.py": "if __name__ == '__main__': ...", "b.py": "if __name__ == '__main__': ..."},
            "a.py\n  b.py",
        ),
        (
            {"main.py": "print()", "m.pt": "version https://git-lfs.github.com/spec/v1\noid x\n"},
            "git lfs pull",
        ),
        (
            {"main.py": "print()", "environment.yml": "dependencies:\n  - ffmpeg\n"},
            "environment.yml:2: ffmpeg has no wheel",
        ),
        (
            {"main.py": "print()", "environment.yml": "dependencies:\n  - {a: b\n"},
            "environment.yml:2",
        ),
        ({"main.py": "print()", "pylock.toml": "a = ["}, "pylock.toml:1"),
        (
            {"main.py": "print()", "pyproject.toml": "[project]\nrequires-python = 'x'\n"},
            "pyproject.toml:2: requires-python is no version specifier",
        ),
        (
            {"main.py": "print()", "requirements.txt": b"ok\n\xff"},
            "requirements.txt:2: isn't UTF-8",
        ),
    ],
)
def test_says_clearly_what_cannot_be_built(tmp_path, files, message):
    assert message in fails(tmp_path, files)


# files, what is wished for
PYTHONS = [
    ({}, PythonWish()),
    ({"dockyard.toml": "python='3.13'", ".python-version": "3.11"}, PythonWish(minor="3.13")),
    ({".python-version": "3.11.7\n", "runtime.txt": "python-3.12.1"}, PythonWish(minor="3.11")),
    ({".python-version": "my-venv\n3.12\n"}, PythonWish(minor="3.12")),
    ({"runtime.txt": "python-3.12.1\n"}, PythonWish(minor="3.12")),
    ({"pyproject.toml": "[project]\nname='a'\nrequires-python='>=3.11'"},
     PythonWish(specifier=">=3.11")),
    ({"pyproject.toml": "[project]\nname='a'\nrequires-python='==3.11.*'"},
     PythonWish(minor="3.11")),
    ({"environment.yml": "dependencies:\n- python=3.11\n"}, PythonWish(minor="3.11")),
    ({"environment.yml": "dependencies:\n- python>=3.11\n"}, PythonWish(specifier=">=3.11")),
    ({"pylock.toml": "requires-python='>=3.12'", ".python-version": "3.11"},
     PythonWish(specifier=">=3.12")),
    ({"Dockerfile": "FROM python:3.10-slim\n"}, PythonWish(minor="3.10", firm=False)),
]  # fmt: skip


@pytest.mark.parametrize(("files", "wish"), PYTHONS)
def test_finds_the_wanted_python(tmp_path, files, wish):
    assert look(tmp_path, {"main.py": "print()\n"} | files).python.value == wish


# wish, on offer, (chosen, fallback)
CHOICES = [
    (PythonWish(), ["3.11", "3.13"], ("3.13", ("3.11",))),
    (PythonWish(minor="3.11"), ["3.13", "3.11"], ("3.11", ())),
    (PythonWish(specifier=">=3.11,<3.13"), ["3.11.2", "3.13.5"], ("3.11", ())),
    (PythonWish(specifier=">=3.11"), ["3.11.2", "3.9.2", "3.13.5"], ("3.13", ("3.11",))),
    (PythonWish(specifier=">=3.11.5"), ["3.11", "3.13"], ("3.13", ("3.11",))),
    (PythonWish(specifier=">=3.11.5,<3.12"), ["3.11.9"], ("3.11", ())),
    (PythonWish(minor="3.12", firm=False), ["3.11", "3.13"], ("3.13", ("3.11",))),
    (PythonWish(minor="3.10", firm=False), ["3.11", "3.13"], ("3.11", ("3.13",))),
    (PythonWish(minor="3.12"), ["3.11", "3.13"], None),
    (PythonWish(specifier="<3.11"), ["3.11", "3.13"], None),
    (PythonWish(specifier=">=3.11.5,<3.12"), ["3.11.2"], None),
]


@pytest.mark.parametrize(("wish", "offered", "expected"), CHOICES)
def test_chooses_among_the_pythons_of_the_base(wish, offered, expected):
    decision = Decision(value=wish, why="said", where="x:1")
    if expected is None:
        with pytest.raises(ProjectError, match=r"offers 3\.11") as caught:
            choose_python(decision, offered)
        assert caught.value.where == "x:1"
    else:
        choice = choose_python(decision, offered).value
        assert (choice.minor, choice.fallback) == expected


@pytest.mark.parametrize(
    ("names", "imports", "expected"),
    [
        ({"torch", "transformers"}, {}, ("transformers", "torch")),
        ({"tensorflow-cpu"}, {"tensorflow": "a:1"}, ("tensorflow",)),
        ({"torch", "tensorflow"}, {"torch": "a:1"}, ("torch", "tensorflow")),
        ({"onnxruntime-gpu"}, {}, ("onnxruntime",)),
        ({"numpy"}, {"numpy": "a:1"}, ()),
    ],
)
def test_the_framework_comes_from_packages_and_imports(names, imports, expected):
    assert framework_of(names, imports).value == expected


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("tensorflow[and-cuda]", "cuda"),
        ("onnxruntime-gpu", "cuda"),
        ("nvidia-cudnn-cu12", "cuda"),
        ("cupy-cuda12x", "cuda"),
        ("torch==2.4.0+cu121", "cuda"),
        ("torch==2.4.0+cpu", "cpu"),
        ("torch", "auto"),
        ("tensorflow-cpu", "cpu"),
        ("flask", "cpu"),
    ],
)
def test_cuda_comes_from_the_dependencies(tmp_path, requirement, expected):
    files = {"main.py": "print()\n", "requirements.txt": requirement}
    assert look(tmp_path, files).accelerator.value == expected


def test_models_that_git_ignores_go_in_when_the_code_names_them(tmp_path):
    files = CLASSIC | {
        ".gitignore": "*.h5\nweights/\nruns/\nbert\n",
        "runs/epoch1.h5": b"x",
        "weights/a.pt": b"x",
        "bert/config.json": "{}",
        "bert/model.safetensors": b"x",
        "bert/vocab.txt": "x",
        "app.py": textwrap.dedent(CLASSIC["app.py"])
        + "import pathlib\nHERE = pathlib.Path(__file__).resolve().parent\n"
        "EXTRA = HERE / 'weights' / 'a.pt'\nbert = AutoModel.from_pretrained('bert')\n",
    }
    found = look(tmp_path, files)
    assert found.models.value == (
        *("bert/config.json", "bert/model.safetensors", "bert/vocab.txt"),
        *("model.h5", "weights/a.pt"),
    )
    assert "runs/epoch1.h5" not in found.project.paths()


IN_A_FUNCTION = """\
    from flask import Flask
    app = Flask(__name__)
    def serve():
        app.run(host="0.0.0.0", port=9000)
    def main():
        serve()
    """


@pytest.mark.parametrize(
    ("end", "command"),
    [
        # Running the file by its name would end at once.
        ("", ("flask", "--app", "web:app", "run", "--host", "0.0.0.0", "--port", "9000")),
        ("main()\n", ("python", "web.py")),
        ("if __name__ == '__main__':\n    main()\n", ("python", "web.py")),
        ("import typer\ntyper.run(main)\n", ("python", "web.py")),
    ],
)
def test_a_file_is_run_only_if_that_comes_to_starting_the_server(tmp_path, end, command):
    files = {"web.py": textwrap.dedent(IN_A_FUNCTION) + end, "requirements.txt": "flask\n"}
    found = look(tmp_path, files)
    assert found.command.value == command
    assert found.ports.value == (Port(9000),)


def test_a_gradio_app_that_only_a_program_launches_is_started_by_it(tmp_path):
    files = {
        "ui.py": "import gradio as gr\ndemo = gr.Interface(len, 'text', 'text')\n"
        "def main():\n    demo.launch(server_name='0.0.0.0')\n",
        "pyproject.toml": "[project]\nname = 'ui'\ndependencies = ['gradio']\n"
        "[project.scripts]\nui = 'ui:main'\n",
    }
    assert "from ui import main" in look(tmp_path, files).command.value[-1]


PROJECT = "[project]\nname = 'own'\nversion = '1'\ndependencies = ['flask', 'gunicorn']\n"


@pytest.mark.parametrize("line", [".", "-e .", "--editable=.", "-e ./", "-e .[all]  # all of it"])
def test_requirements_that_install_the_project_are_the_wider_source(tmp_path, line):
    files = {
        "app.py": "from flask import Flask\napp = Flask(__name__)\n",
        "pyproject.toml": PROJECT,
        "requirements.txt": f"numpy\n{line}\n",
    }
    found = look(tmp_path, files)
    assert found.dependencies.value.files == ("requirements.txt",)
    assert found.command.value[0] == "gunicorn"


def test_says_which_requirements_are_ignored_beside_a_project(tmp_path):
    files = {
        "app.py": "from flask import Flask\napp = Flask(__name__)\n",
        "pyproject.toml": PROJECT + "[dependency-groups]\ndev = ['pytest']\n",
        "requirements.txt": "flask==3.0\nown\npytest\nnumpy\n",
    }
    (warning,) = look(tmp_path, files).warnings
    assert "which also names numpy; to use that" in warning


def test_health_routes_of_litestar_are_found(tmp_path):
    files = {
        "app.py": "from litestar import Litestar, get\n@get('/ready')\nasync def ready() -> str:\n"
        "    return 'ok'\napp = Litestar([ready])\n",
        "requirements.txt": "litestar\nuvicorn\n",
    }
    assert look(tmp_path, files).healthcheck.value.path == "/ready"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("gunicorn app:app -b :8000", "any answer of :8000"),
        ("sh -c 'exec gunicorn app:app -b :${PORT:-8000}'", "any answer of :8000"),
        ("hypercorn app:app --bind 0.0.0.0:8000", "any answer of :8000"),
        ("uvicorn app:app --port 8000 --workers 4", "any answer of :8000"),
        # Loaded before it listens.
        ("uvicorn app:app --port 8000", "connect to :8000"),
        # Plain HTTP gets no answer there.
        ("gunicorn app:app -b :8000 --certfile=c.pem --keyfile=k.pem", "connect to :8000"),
    ],
)
def test_a_server_that_listens_before_the_app_is_loaded_must_answer(tmp_path, command, text):
    files = {"app.py": "import json\napp = json\n", "Procfile": f"web: {command}\n"}
    shown = {what: value for what, value, _ in look(tmp_path, files).decisions()}
    assert shown["healthcheck"] == text


def test_unmet_imports_are_named_by_package():
    imports = {"cv2": "a:1", "sklearn": "a:2", "torch": "a:3", "yaml": "a:4", "odd": "a:5"}
    unmet = {"scikit-learn": "a:2", "torch": "a:3"}
    assert unmet_imports({"opencv-python", "pyyaml"}, imports) == unmet


def test_imports_that_may_fail_are_not_needed(tmp_path):
    files = {
        "app.py": "import flask\ntry:\n    import pandas\nexcept ImportError:\n    pandas = None\n"
        "app = flask.Flask(__name__)\n",
        "requirements.txt": "flask\n",
    }
    assert look(tmp_path, files).imports == {"flask": "app.py:1"}


def test_condas_versions_become_pips():
    found = parse_environment(
        "dependencies:\n- numpy=1.26\n- pandas=2.2.1=py311_0\n- 'scipy>=1.10,<2'\n- cpuonly\n"
        "- conda-forge::flask\n- pip\n- torchvision==0.19.*\n",
        where="e",
    )
    assert [text for text, _ in found.requirements] == [
        *("numpy==1.26.*", "pandas==2.2.1", "scipy>=1.10,<2", "flask", "torchvision==0.19.*"),
    ]


@given(st.text("dependncis:- pip=\n'\"[]{}#>1.", max_size=80))
def test_no_environment_file_ends_in_a_traceback(text):
    try:
        said = parse_environment("dependencies:\n" + text, where="e").requirements
    except ProjectError as error:
        said = error.what
    assert said is not None


@given(st.text("import os from.app=Flask()\n:'\"[]+/", max_size=120))
def test_no_code_ends_in_a_traceback(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("code")
    (folder / "app.py").write_text(text)
    try:
        said = look(folder).command.value
    except DockyardError as error:
        said = error.what
    assert said


def test_health_checks_need_nothing_but_python(tmp_path):
    import subprocess
    import sys
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/healthz" else 503)
            self.end_headers()

        def log_message(self, *args): ...

    def code(check, path=None):
        check = dataclasses.replace(check, port=server.server_port, path=path or check.path)
        return subprocess.run(check.words(sys.executable), capture_output=True).returncode

    http = look(project(tmp_path / "a", FASTAPI)).healthcheck.value
    tcp = look(project(tmp_path / "b", CLASSIC)).healthcheck.value
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert (code(http), code(tcp)) == (0, 0)
        assert code(http, "/other") != 0
        # It answers OPTIONS with 501, which is an answer.
        answer = dataclasses.replace(tcp, kind="answer", timeout=timedelta(seconds=1))
        assert code(answer) == 0
        server.shutdown()
        # As gunicorn while its workers load the app: connections are accepted, and that is all.
        assert (code(tcp), code(answer)) == (0, 1)
    assert code(http) != 0
    assert code(tcp) != 0


def test_the_examples_are_understood():
    commands = {
        name: look(EXAMPLES / name).command.value[:2]
        for name in ("keras-digits", "torch-digits", "onnx-digits", "cuda-torch")
    }
    assert commands == {
        "keras-digits": ("python", "app.py"),
        "torch-digits": ("python", "-m"),
        "onnx-digits": ("python", "-m"),
        "cuda-torch": ("uvicorn", "app:app"),
    }


def test_gradio_launched_without_a_name_and_on_the_configured_port(tmp_path):
    files = {
        "app.py": "import gradio as gr\ngr.Interface(print, 'text', 'text').launch()\n",
        "requirements.txt": "gradio",
        "dockyard.toml": "ports = 7000\n",
    }
    found = look(tmp_path, files)
    assert found.variables()["GRADIO_SERVER_NAME"] == "0.0.0.0"
    assert found.variables()["GRADIO_SERVER_PORT"] == "7000"


DJANGO = {
    "manage.py": "if __name__ == '__main__':\n    print(1)\n",
    "site1/wsgi.py": "from django.core.wsgi import get_wsgi_application\n"
    "application = get_wsgi_application()\n",
    "site1/asgi.py": "from django.core.asgi import get_asgi_application\n"
    "application = get_asgi_application()\n",
}


@pytest.mark.parametrize(
    ("server", "target"),
    [("gunicorn", "site1.wsgi:application"), ("uvicorn", "site1.asgi:application")],
)
def test_django_is_served_by_the_server_that_is_there(tmp_path, server, target):
    found = look(tmp_path, DJANGO | {"requirements.txt": f"django\n{server}\n"})
    assert found.command.value[:2] == (server, target)


@pytest.mark.parametrize(
    ("line", "command"),
    [("server = app.server\n", ("gunicorn", "app:server")), ("", ("python", "app.py"))],
)
def test_dash_is_served_by_the_name_of_the_app_inside(tmp_path, line, command):
    code = f"from dash import Dash\napp = Dash(__name__)\n{line}"
    code += "if __name__ == '__main__':\n    app.run(host='0.0.0.0')\n"
    found = look(tmp_path, {"app.py": code, "requirements.txt": "dash\ngunicorn"})
    assert found.command.value[:2] == command


def test_an_api_beside_a_streamlit_page_is_two_apps(tmp_path):
    files = {
        "api.py": "from fastapi import FastAPI\napp = FastAPI()\n",
        "streamlit_app.py": "import streamlit as st\nst.title('x')\n",
        "requirements.txt": "fastapi\nuvicorn\nstreamlit",
    }
    assert "streamlit_app.py:2: Streamlit" in fails(tmp_path, files)


def test_a_script_that_the_dockerfile_starts_is_looked_into(tmp_path):
    files = CLASSIC | {
        "Dockerfile": 'FROM python:3.11\nCOPY . .\nRUN chmod +x run.sh\nENTRYPOINT ["./run.sh"]\n',
        "run.sh": "#!/bin/sh\n# python other.py --port 1\nexec python app.py\n",
    }
    found = look(tmp_path, files)
    assert found.entrypoint.value == ("sh", "./run.sh")
    assert (found.module, found.ports.value) == ("app.py", (Port(8080),))


def test_requirements_in_a_folder_are_offered(tmp_path):
    said = fails(tmp_path, {"app.py": "import flask\n", "requirements/prod.txt": "flask"})
    assert 'requirements = "requirements/prod.txt"' in said


def test_optional_imports_need_no_source(tmp_path):
    code = "try:\n    import ujson as json\nexcept ImportError:\n    import json\nprint(json)\n"
    assert look(tmp_path, {"main.py": code}).dependencies.value.kind == "none"


def test_a_port_in_the_file_that_starts_the_app_by_name(tmp_path):
    files = {
        "run.py": "import uvicorn\nif __name__ == '__main__':\n"
        "    uvicorn.run('app.main:app', host='0.0.0.0', port=9000)\n",
        "app/main.py": "from fastapi import FastAPI\napp = FastAPI()\n",
        "requirements.txt": "fastapi\nuvicorn",
    }
    assert look(tmp_path, files).command.value[-1] == "9000"
