"""The modules that start-up imports are found without running anything."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from local_base import PYTHON

from dockyard.build import profile
from dockyard.build.bytecode import BasePython
from dockyard.build.profile import Profile, find_startup_modules
from dockyard.cache import Cache
from dockyard.errors import BuildError
from dockyard.files import file_entry

if TYPE_CHECKING:
    pass

SITE = f"opt/venv/lib/python{PYTHON}/site-packages"
STDLIB = f"usr/lib/python{PYTHON}"


def find(
    base: BasePython, cache: Cache, files: dict[str, str], command: str = "python app.py"
) -> Profile:
    entries = [
        file_entry(path.replace("site/", f"{SITE}/"), text.encode()) for path, text in files.items()
    ]
    return find_startup_modules(base, entries, command=command.split(), cache=cache, workers=2)


def installed(found: Profile) -> set[str]:
    """The paths in site-packages, below it."""
    return {path.removeprefix(f"{SITE}/") for path in found.modules if path.startswith(SITE)}


SCRIPTS = "[other]\nuvicorn = no:no\n\n[console_scripts]\nuvicorn = uvicorn.main:main\n"
PACKAGE = {
    "site/pack/__init__.py": "from .core import run\n",
    "site/pack/core.py": "import json\ndef run():\n    import pack.unused\n",
    "site/pack/unused.py": "",
    "site/pack/other.py": "",
}


def test_what_the_app_imports_is_followed_into_packages_and_the_standard_library(
    base: BasePython, cache: Cache
) -> None:
    found = find(base, cache, {"app/app.py": "import pack\n", **PACKAGE})
    assert installed(found) == {"pack/__init__.py", "pack/core.py"}
    assert f"{STDLIB}/json/__init__.py" in found.modules
    assert f"{STDLIB}/json/decoder.py" in found.modules
    assert f"{STDLIB}/re/__init__.py" in found.modules or f"{STDLIB}/re.py" in found.modules
    assert f"{STDLIB}/turtle.py" not in found.modules
    assert found.app == ("app/app.py",)
    assert list(found.modules) == sorted(found.modules)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        pytest.param("import pack.other", {"pack/other.py"}, id="import of a submodule"),
        pytest.param("from pack import other", {"pack/other.py"}, id="from import of a submodule"),
        pytest.param("from pack import run", set(), id="from import of a function"),
        pytest.param("from pack import *", set(), id="star"),
        pytest.param("def f():\n    import pack.other", {"pack/other.py"}, id="in a function"),
        pytest.param(
            "try:\n    import pack.other\nexcept E:\n    pass", {"pack/other.py"}, id="in try"
        ),
        pytest.param("class A:\n    import pack.other", {"pack/other.py"}, id="in a class"),
        pytest.param("import pack as p\np.other.f()", {"pack/other.py"}, id="as an attribute"),
        pytest.param(
            "import importlib\nimportlib.import_module('pack.other')",
            {"pack/other.py"},
            id="by its name",
        ),
        pytest.param("import absent, pack", set(), id="beside one that isn't installed"),
        pytest.param(
            "import pack\nif typing.TYPE_CHECKING:\n    import pack.other",
            set(),
            id="for type checkers",
        ),
        pytest.param(
            "from absent import x\nfrom . import y\nfrom ... import z\nimport pack",
            set(),
            id="above the top",
        ),
    ],
)
def test_an_import_of_the_app_is_understood(
    base: BasePython, cache: Cache, statement: str, expected: set[str]
) -> None:
    found = find(base, cache, {"app/app.py": statement + "\n", **PACKAGE})
    assert installed(found) == {"pack/__init__.py", "pack/core.py"} | expected


def test_the_modules_of_the_app_are_followed(base: BasePython, cache: Cache) -> None:
    files = {
        "app/app.py": "from lib.a import x\n",
        "app/lib/__init__.py": "",
        "app/lib/a.py": "from . import b\n",
        "app/lib/b.py": "import pack\n",
        "app/lib/c.py": "import second\n",
        "site/second.py": "",
        **PACKAGE,
    }
    found = find(base, cache, files)
    assert found.app == ("app/app.py", "app/lib/__init__.py", "app/lib/a.py", "app/lib/b.py")
    assert "second.py" not in installed(found)
    assert "pack/core.py" in installed(found)


def test_relative_imports_in_packages_are_resolved(base: BasePython, cache: Cache) -> None:
    files = {
        "app/app.py": "import deep.down.here\n",
        "site/deep/__init__.py": "",
        "site/deep/aside.py": "",
        "site/deep/down/__init__.py": "from .. import aside\n",
        "site/deep/down/here.py": "from ..beside.it import name\nfrom .near import other\n",
        "site/deep/down/near.py": "",
        "site/deep/beside/it.py": "name = 1\n",  # a namespace package
    }
    assert installed(find(base, cache, files)) == {
        path.removeprefix("site/") for path in files if path.startswith("site/")
    }


def test_a_name_that_a_package_gives_on_first_use_is_found_where_type_checkers_find_it(
    base: BasePython, cache: Cache
) -> None:
    lazy = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from .pipelines import pipeline as pipe
    from .models import *
    from .never import never
else:
    import sys
    sys.modules[__name__] = Lazy()
"""
    files = {
        "app/app.py": "from lazy import pipe, Model\n",
        "site/lazy/__init__.py": lazy,
        "site/lazy/pipelines.py": "import lazy.tools\ndef pipeline(): pass\n",
        "site/lazy/models.py": "class Model: pass\n",
        "site/lazy/tools.py": "",
        "site/lazy/never.py": "never = 1\n",
    }
    assert installed(find(base, cache, files)) == {
        "lazy/__init__.py",
        "lazy/pipelines.py",
        "lazy/models.py",
        "lazy/tools.py",
    }


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python app.py", "app/app.py"),
        ("python ./web/main.py", "app/web/main.py"),
        ("python -m web.main", "app/web/main.py"),
        ("python -m web", "app/web/__main__.py"),
        ("uvicorn web.main:app --port 80", "app/web/main.py"),
        ("gunicorn -b 0.0.0.0:80 web.main:make()", "app/web/main.py"),
        ("streamlit run web/main.py", "app/web/main.py"),
        ("nothing that is here", "app/app.py"),
        ("", "app/app.py"),
    ],
)
def test_the_command_says_where_to_begin(
    base: BasePython, cache: Cache, command: str, expected: str
) -> None:
    files = {
        "app/app.py": "",
        "app/web/__init__.py": "",
        "app/web/__main__.py": "",
        "app/web/main.py": "",
    }
    found = find(base, cache, files, command)
    assert expected in found.app
    assert ("app/app.py" in found.app) == (expected == "app/app.py")


def test_a_line_for_the_shell_is_read_as_words(base: BasePython, cache: Cache) -> None:
    entries = [file_entry("app/app.py", b""), file_entry("app/run.py", b"")]
    command = ["sh", "-c", "exec python run.py --level 'a b'"]
    found = find_startup_modules(base, entries, command=command, cache=cache)
    assert found.app == ("app/run.py",)


def test_what_a_server_imports_late_is_found_through_its_console_script(
    base: BasePython, cache: Cache
) -> None:
    files = {
        "app/app.py": "",
        "site/uvicorn-1.dist-info/entry_points.txt": SCRIPTS,
        "site/uvicorn/__init__.py": "",
        "site/uvicorn/main.py": "",
        "site/uvicorn/lifespan/__init__.py": "",
        "site/uvicorn/lifespan/on.py": "",
        "site/uvicorn/workers.py": "",
        "site/gunicorn/__init__.py": "",
    }
    assert installed(find(base, cache, files, "/opt/venv/bin/uvicorn app:app")) == {
        "uvicorn/__init__.py",
        "uvicorn/main.py",
        "uvicorn/lifespan/__init__.py",
        "uvicorn/lifespan/on.py",
    }


def test_a_source_that_is_no_python_imports_nothing(base: BasePython, cache: Cache) -> None:
    files = {
        "app/app.py": "import broken, deep, pack\n",
        "site/broken.py": "print 'Python 2'\nimport pack.other\n",
        "site/deep.py": "x = " + "-" * 200_000 + "1\n",
        **PACKAGE,
    }
    assert installed(find(base, cache, files)) == {
        "broken.py",
        "deep.py",
        "pack/__init__.py",
        "pack/core.py",
    }


def test_a_known_source_is_not_read_again(
    base: BasePython, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"app/app.py": "import pack\n", **PACKAGE}
    first = find(base, cache, files)
    monkeypatch.setattr(profile, "Worker", None)
    assert find(base, cache, files) == first


def test_a_python_that_does_not_run_is_an_error(base: BasePython, cache: Cache) -> None:
    broken = BasePython(root=base.root, python=PYTHON, command=("/bin/false",), home=base.home)
    with pytest.raises(BuildError, match="base's Python ended early"):
        find(broken, cache, {"app/app.py": "import json\n"})


def test_it_covers_what_a_real_start_loads(base: BasePython, cache: Cache) -> None:
    text = "import asyncio, http.server, logging.config, sqlite3, unittest.mock, xml.dom.minidom\n"
    found = find(base, cache, {"app/app.py": text})
    script = text + (
        "import json, sys\n"
        "print(json.dumps([m.__spec__.origin for m in sys.modules.values()"
        " if getattr(m, '__spec__', None) and str(m.__spec__.origin).endswith('.py')]))\n"
    )
    said = subprocess.run(
        [*base.command, "-c", script],
        env=base.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {path.removeprefix(f"{base.root}/") for path in json.loads(said.stdout)}
    assert len(loaded) > 80
    missed = loaded - set(found.modules)
    assert len(missed) <= len(loaded) * 0.05, sorted(missed)
