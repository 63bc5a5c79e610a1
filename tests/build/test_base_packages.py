"""A base that has packages: they are read from its files, kept where they serve, and seen.

The bases are made here: the running Python at /usr/local as the official images have it, and
Debian's own Python with its dist-packages.
"""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from base_maker import distribution, image_with, tar_layer
from local_base import PYTHON, make_base

from dockyard.build.base_packages import read_packages
from dockyard.build.image_base import read_base
from dockyard.cache import Cache
from dockyard.oci.config import ImageConfig
from dockyard.oci.image import Image
from dockyard.oci.layer import Layer
from dockyard.oci.layout import read_layout, write_layout
from dockyard.oci.tree import read_tree
from dockyard.progress import SILENT

if TYPE_CHECKING:
    from build_ground import Ground

SITE = f"usr/local/lib/python{PYTHON}/site-packages"


HEADER = b'/* The version */\n#define PY_VERSION      "%s.99"\n' % PYTHON.encode()
PIP = distribution(SITE, "pip", "24.0")


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The running Python at /usr/local, as python:3.X-slim has it; with pip."""
    root = tmp_path_factory.mktemp("official")
    make_base(root)
    files: dict[str, bytes | str | Path] = {
        "usr/local/bin/python3": f"python{PYTHON}",
        f"usr/local/bin/python{PYTHON}": root / f"usr/bin/python{PYTHON}.real",
        f"usr/local/include/python{PYTHON}/patchlevel.h": HEADER,
    }
    libraries = Path(sysconfig.get_path("stdlib"), "lib-dynload").glob("[!_]*.so")
    needed = subprocess.run(["ldd", *libraries], capture_output=True, text=True, check=True)
    for line in needed.stdout.splitlines():
        if (library := re.search(r"=> (/\S+)", line)) and "libpython" not in line:
            files[f"usr/lib/{Path(library[1]).name}"] = Path(library[1])
    for path in sorted(root.rglob("*")):
        place = path.relative_to(root).as_posix()
        if not path.is_file() or path.is_symlink() or "/lib-dynload/_test" in place:
            continue
        if place.startswith("usr/lib/python"):
            files[place.replace("usr/lib/", "usr/local/lib/", 1)] = path
        elif place.startswith("usr/lib/"):
            files[place] = path
    files |= {"lib": "usr/lib", "lib64": "usr/lib"}
    return image_with(tar_layer(files), tar_layer(PIP))


def use_as_base(ground: Ground, image: Image, *extra: dict[str, bytes | str | Path]) -> Image:
    """Write the image, with a layer of more files, where the project's `base` names it."""
    for files in extra:
        image = image.append(tar_layer(files))
    write_layout(image, ground.out / "below")
    (ground.project / "dockyard.toml").write_text('base = "oci:../out/below"\n')
    return image


def added_wheels(ground: Ground, base: Image, name: str = "image") -> set[str]:
    """Names and versions of the wheels that the built image has above its base."""
    image = read_layout(ground.layout(name))
    lines = " ".join(layer.created_by for layer in image.layers[len(base.layers) :])
    return set(re.findall(r"\S+==\S+", lines))


def run_in(image: Image, root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the image's unpacked files, as root of a namespace of its own."""
    tree = read_tree(image)
    for number, layer in enumerate(image.layers):
        _unpack(layer, root, {path for path, file in tree.files.items() if file.layer == number})
    path = image.config.env.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    return subprocess.run(
        ["unshare", "-r", "chroot", str(root), *command],
        env={"PATH": path, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )


def _unpack(layer: Layer, root: Path, wanted: set[str]) -> None:
    from dockyard.oci.unpack import open_tar, tar_chunks

    with open_tar(iter(tar_chunks(layer)), where="layer") as archive:
        for member in archive:
            if member.name.rstrip("/") in wanted:
                archive.extract(member, root, filter="tar")


def test_what_the_base_has_is_read_from_its_files(official: Image) -> None:
    files = distribution(SITE, "alpha", "1.0", requires=("beta>=1",), scripts="alpha = alpha:main")
    files |= {f"{SITE}/Old_Name-3.egg-info": b"Metadata-Version: 1.1\nName: Old_Name\nVersion: 3\n"}
    files |= {f"{SITE}/broken-1.dist-info/METADATA": b"nothing"}
    found = read_packages(
        read_tree(official.append(tar_layer(files))), f"usr/local/bin/python{PYTHON}"
    )
    assert [(item.name, item.version) for item in found.distributions] == [
        ("alpha", "1.0"),
        ("old-name", "3"),
    ]
    assert found.distributions[0].requires == ("beta>=1",)
    assert found.scripts == {"alpha": ("alpha", "alpha:main")}
    assert found.sites == (SITE,)
    assert found.version == f"{PYTHON}.99"


def test_the_first_folder_searched_counts(cache: Cache) -> None:
    local, system = "usr/local/lib/python3.11/dist-packages", "usr/lib/python3/dist-packages"
    image = image_with(
        tar_layer({"usr/bin/python3.11": b"\0" + b"3.11.2\0"}),
        tar_layer(distribution(system, "numpy", "1.24") | distribution(system, "six", "1.16")),
        tar_layer(distribution(local, "numpy", "2.0")),
    )
    facts = read_base(image, cache=cache, reporter=SILENT).packages["3.11"]
    assert facts.sites == (local, system)
    assert {item.name: item.version for item in facts.distributions} == {
        "numpy": "2.0",
        "six": "1.16",
    }
    assert facts.version == "3.11.2"


def test_a_base_with_pip_alone_stays_apart(ground: Ground, official: Image) -> None:
    base = use_as_base(ground, official)
    ground.digest("image", "--bytecode", "none")
    assert added_wheels(ground, base) == {"alpha==1.0", "beta==2.0"}
    config = read_tree(read_layout(ground.layout())).read("opt/venv/pyvenv.cfg")
    assert config is not None
    assert b"include-system-site-packages = false" in config


def test_packages_of_the_base_are_kept_seen_and_run(
    ground: Ground, official: Image, tmp_path: Path
) -> None:
    files = distribution(SITE, "alpha", "1.0", requires=("beta",), scripts="hello = alpha:main")
    base = use_as_base(ground, official, files | distribution(SITE, "other", "7"))
    ground.index.wheel("alpha", "1.5", requires=["beta"])
    code, _, err = ground.build("--json", "-o", f"oci:{ground.layout()}")
    assert code == 0, err
    # The base's version is preferred to a newer one, as pip leaves what is installed.
    assert added_wheels(ground, base) == {"beta==2.0"}
    image = read_layout(ground.layout())
    program = (
        "import alpha, beta, other, sys, importlib.metadata as m;"
        "print(alpha.__version__, beta.__version__, other.__version__, m.version('alpha'));"
        "print(sys.prefix, alpha.__file__, beta.__file__)"
    )
    done = run_in(image, tmp_path / "root", "/opt/venv/bin/python", "-c", program)
    assert done.returncode == 0, done.stderr
    versions, places = done.stdout.splitlines()
    assert versions == "1.0 2.0 7 1.0"
    assert places.split() == [
        "/opt/venv",
        f"/{SITE}/alpha/__init__.py",
        f"/opt/venv/lib/python{PYTHON}/site-packages/beta/__init__.py",
    ]
    # A command of the base's package starts the Python that sees the project's packages.
    said = subprocess.run(
        ["unshare", "-r", "chroot", str(tmp_path / "root"), "/opt/venv/bin/hello"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "alpha 1.0\n"


def test_the_projects_own_version_goes_before_the_bases(
    ground: Ground, official: Image, tmp_path: Path
) -> None:
    files = distribution(SITE, "alpha", "0.5", scripts="hello = alpha:main")
    files |= distribution(SITE, "needy", "1", requires=("alpha<1",))
    base = use_as_base(ground, official, files)
    (ground.project / "requirements.txt").write_text("alpha==1.0\n")
    code, _, err = ground.build("--json", "-o", f"oci:{ground.layout()}")
    assert code == 0, err
    assert "the base's needy 1 needs alpha<1, and the image has alpha 1.0" in err
    assert added_wheels(ground, base) == {"alpha==1.0", "beta==2.0"}
    done = run_in(
        read_layout(ground.layout()),
        tmp_path / "root",
        "/opt/venv/bin/python",
        "-c",
        "import alpha, importlib.metadata as m; print(alpha.__version__, m.version('alpha'))",
    )
    assert done.stdout == "1.0 1.0\n", done.stderr
    assert "opt/venv/bin/hello" not in read_tree(read_layout(ground.layout())).files


TORCH = "2.5.0a0+nv24.8"


@pytest.fixture
def with_torch(ground: Ground, official: Image) -> Image:
    """A base with a torch that no index has, CUDA's wheels and torchvision; the index has newer."""
    files = distribution(SITE, "torch", TORCH, requires=("nvidia-cublas==1",))
    files |= distribution(SITE, "nvidia_cublas", "1")
    files |= distribution(SITE, "torchvision", "0.20", requires=("torch>=2.5a0",))
    for version in ("2.4", "2.9"):
        ground.index.wheel("torch", version, requires=["nvidia-cublas==1"])
    ground.index.wheel("nvidia-cublas", "1")
    ground.index.wheel("trainer", "1", requires=["torch<2.6"])
    ground.index.wheel("trainer", "2", requires=["torch>=2.9"])
    return use_as_base(ground, official, files)


@pytest.mark.parametrize(
    ("asked", "added", "said"),
    [
        ("torch", set(), ""),
        ("torch>=2.4\ntorchvision", set(), ""),
        # A newer trainer would need another torch: the base's torch decides.
        ("trainer", {"trainer==1"}, ""),
        # What is pinned wins, and takes its CUDA libraries along, which it finds by its own place.
        ("torch==2.4", {"torch==2.4", "nvidia-cublas==1"}, f"the base's torch {TORCH} isn't used"),
        ("torch==2.9", {"torch==2.9", "nvidia-cublas==1"}, "requirements.txt:1 asks for"),
    ],
)
def test_a_base_keeps_its_torch_and_a_pin_wins(
    ground: Ground, with_torch: Image, asked: str, added: set[str], said: str
) -> None:
    (ground.project / "app.py").write_text("print('hello')\n")
    (ground.project / "requirements.txt").write_text(f"{asked}\n")
    code, _, err = ground.build("--json", "-o", f"oci:{ground.layout()}", "--bytecode", "none")
    assert code == 0, err
    assert added_wheels(ground, with_torch) == added
    assert said in err


def test_what_doesnt_go_with_the_bases_torch_fails_with_the_way_out(
    ground: Ground, with_torch: Image
) -> None:
    (ground.project / "requirements.txt").write_text("trainer==2\n")
    code, _, err = ground.build("-o", f"oci:{ground.layout()}")
    assert code == 1
    assert f"the base has torch {TORCH}" in err
    assert "torch==2.9" in err
    assert not ground.layout().exists()


def test_a_lock_leaves_to_the_base_what_it_has(ground: Ground, with_torch: Image) -> None:
    (ground.project / "app.py").write_text("print('hello')\n")
    (ground.project / "requirements.txt").write_text("trainer\n")
    code, _, err = ground.run("lock", ground.project)
    assert code == 0, err
    text = (ground.project / "pylock.toml").read_text()
    assert 'name = "trainer"' in text
    assert 'name = "torch"' not in text
    assert TORCH in text  # what is counted on
    assert "base.invalid" not in text
    code, out, err = ground.run("lock", ground.project, "--check")
    assert (code, out) == (0, "pylock.toml is current\n"), err
    ground.digest("image", "--bytecode", "none", "--locked")
    assert added_wheels(ground, with_torch) == {"trainer==1"}


def test_a_lock_that_counts_on_another_base_is_stale(
    ground: Ground, with_torch: Image, official: Image
) -> None:
    (ground.project / "requirements.txt").write_text("torch<2.6\n")
    assert ground.run("lock", ground.project)[0] == 0
    files = distribution(SITE, "torch", "2.4+other")
    write_layout(official.append(tar_layer(files)), ground.out / "changed")
    (ground.project / "dockyard.toml").write_text('base = "oci:../out/changed"\n')
    code, _, err = ground.run("lock", ground.project, "--check")
    assert code == 1
    assert f"it leaves torch {TORCH} to the base, which has 2.4+other" in err


def test_a_base_of_ours_is_built_upon(ground: Ground) -> None:
    """A base with a /opt/venv of its own: its packages stay where they are, and can't be two."""
    ground.digest("below", "--bytecode", "none")
    (ground.project / "dockyard.toml").write_text('base = "oci:../out/below"\n')
    (ground.project / "requirements.txt").write_text("alpha\ngamma\n")
    ground.index.wheel("gamma", "3.0")
    ground.digest("image", "--bytecode", "none")
    assert added_wheels(ground, read_layout(ground.layout("below"))) == {"gamma==3.0"}
    ground.index.wheel("alpha", "1.1")
    (ground.project / "requirements.txt").write_text("alpha==1.1\n")
    code, _, err = ground.build("-o", f"oci:{ground.layout('other')}")
    assert code == 1
    assert "the base has alpha 1.0 in its /opt/venv" in err


@pytest.mark.network
def test_debians_own_packages_are_seen_on_a_debian_base(ground: Ground, tmp_path: Path) -> None:
    (ground.project / "requirements.txt").write_text("beta\n")
    ground.digest("debian", "--bytecode", "none", "--python", "3.11")
    debian = read_layout(ground.layout("debian"))
    image = Image(config=ImageConfig(platform=debian.platform)).append(debian.layers[0])
    site = "usr/local/lib/python3.11/dist-packages"
    files = distribution(site, "alpha", "1.0") | {"opt/.wh.venv": b""}
    base = use_as_base(ground, image, files)
    (ground.project / "requirements.txt").write_text("alpha\nbeta\n")
    code, out, err = ground.build("--json", "-o", f"oci:{ground.layout()}", "--dry-run")
    assert code == 0, err
    said = {item["subject"]: item["value"] for item in json.loads(out)["images"][0]["decisions"]}
    assert said["from base"] == "alpha 1.0"
    ground.digest("image")
    assert added_wheels(ground, base) == {"beta==2.0"}
    program = "import alpha, beta; print(alpha.__file__, beta.__version__)"
    done = run_in(
        read_layout(ground.layout()), tmp_path / "root", "/opt/venv/bin/python", "-c", program
    )
    assert done.stdout == f"/{site}/alpha/__init__.py 2.0\n", done.stderr
