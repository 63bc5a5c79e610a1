"""Images for several platforms from one build: each true to its own, together under one index."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from dockyard.build.api import build_project
from dockyard.build.request import BuildRequest, Target
from dockyard.build.sinks import for_engine
from dockyard.engine.memory import MemoryEngine
from dockyard.errors import BuildError, ImageError
from dockyard.oci.layout import read_layout
from dockyard.oci.platform import Platform
from dockyard.oci.tree import read_tree
from dockyard.oci.verify import verify_image
from image_schemas import validate

if TYPE_CHECKING:
    from pathlib import Path

    from build_ground import Ground
    from lock_project import Heard

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")
ELF_MACHINES = {AMD: 62, ARM: 183}  # e_machine in elf.h: EM_X86_64, EM_AARCH64
SITE = "opt/venv/lib/python3.13/site-packages"


@pytest.mark.parametrize(
    ("words", "platforms"),
    [
        ([], ()),
        (["linux/arm64"], (ARM,)),
        (["linux/amd64,linux/arm64"], (AMD, ARM)),
        (["arm64", "amd64"], (ARM, AMD)),
        (["x86_64, aarch64,", "amd64"], (AMD, ARM)),
    ],
)
def test_platforms_are_listed_or_repeated(
    words: list[str], platforms: tuple[Platform, ...], tmp_path: Path
) -> None:
    assert BuildRequest.parse(tmp_path, platforms=words, overrides={}).platforms == platforms


def test_an_unknown_platform_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="riscv64"):
        BuildRequest.parse(tmp_path, platforms=["amd64,riscv64"], overrides={})


def test_an_engine_takes_its_own_platform_or_the_only_one() -> None:
    engine = MemoryEngine(architecture="arm64")
    assert for_engine((AMD, ARM), engine) == ARM
    assert for_engine((AMD,), engine) == AMD
    with pytest.raises(BuildError, match="riscv64"):
        for_engine((AMD, ARM), MemoryEngine(architecture="riscv64"))


@pytest.fixture
def both(ground: Ground, numpy_wheels: dict[str, Path]) -> Ground:
    """A project for both platforms, with a wheel of its own for each."""
    for wheel in numpy_wheels.values():
        ground.index.add("numpy", wheel)
    (ground.project / "requirements.txt").write_text("alpha\nnumpy\n")
    (ground.project / "dockyard.toml").write_text('platforms = ["linux/amd64", "linux/arm64"]\n')
    return ground


@pytest.mark.network
def test_a_layout_holds_a_true_image_for_each_platform(both: Ground) -> None:
    code, out, err = both.build("--json", "-o", f"oci:{both.layout()}", "-t", "both:1")
    assert code == 0, err
    said = json.loads(out)
    assert [image["platform"] for image in said["images"]] == ["linux/amd64", "linux/arm64"]
    foreign = ARM if os.uname().machine == "x86_64" else AMD
    assert f"warning: {foreign}: this image starts slower, for it has no bytecode" in err
    assert err.count("starts slower") == 1
    for platform, machine in ELF_MACHINES.items():
        image = read_layout(both.layout(), "both:1", platform=platform)
        assert verify_image(image) == []
        assert image.platform == platform
        tree = read_tree(image)
        modules = [
            path for path in tree.files if path.startswith(f"{SITE}/numpy/_core/_multiarray_umath.")
        ]
        for path in ("usr/bin/python3.13", *modules):
            data = tree.read(path, max_size=64 << 20)
            assert data is not None
            assert data[:4] == b"\x7fELF"
            assert struct.unpack_from("<H", data, 18) == (machine,), path
        assert len(modules) == 1
        assert any(path.endswith(".pyc") for path in tree.files) == (platform != foreign)
    index = json.loads((both.layout() / "index.json").read_bytes())
    (entry,) = index["manifests"]
    assert entry["digest"] == said["digest"]
    inner = (both.layout() / "blobs" / entry["digest"].replace(":", "/")).read_bytes()
    validate("index", inner)
    assert [each["platform"]["architecture"] for each in json.loads(inner)["manifests"]] == [
        *("amd64", "arm64")
    ]
    if shutil.which("skopeo"):
        raw = subprocess.run(
            ["skopeo", "inspect", "--raw", f"oci:{both.layout()}:both:1"],
            check=True,
            capture_output=True,
        ).stdout
        assert raw == inner
    # An image of both is the images of each.
    both.digest("arm", "--platform", "linux/arm64")
    assert str(read_layout(both.layout("arm"), platform=ARM).digest) == said["images"][1]["digest"]


@pytest.mark.network
def test_the_plan_and_the_lock_cover_each_platform(both: Ground) -> None:
    code, out, err = both.run("lock", both.project)
    assert code == 0, err
    assert "linux/amd64, linux/arm64" in out
    code, out, _ = both.build("--dry-run", "--json", "--locked")
    assert code == 0
    images = json.loads(out)["images"]
    origins = [[layer["origin"] for layer in image["layers"]] for image in images]
    assert any("x86_64" in origin for origin in origins[0])
    assert any("aarch64" in origin for origin in origins[1])
    code, out, _ = both.build("--dry-run")
    assert code == 0
    assert "project:latest for linux/amd64" in out
    assert "project:latest for linux/arm64" in out


@pytest.mark.network
def test_an_archive_of_several_platforms_is_refused_before_anything_is_built(both: Ground) -> None:
    file = both.out / "image.tar"
    code, _, err = both.build("-o", f"archive:{file}")
    assert code == 1
    assert "an archive holds one image" in err
    assert "--platform linux/amd64" in err
    assert not file.exists()
    assert both.build("-o", f"archive:{file}", "--platform", "arm64")[0] == 0


@pytest.mark.network
def test_an_engine_alone_gets_its_platform_and_nothing_else_is_built(
    both: Ground, heard: Heard
) -> None:
    engine = MemoryEngine()
    own = Platform("linux", engine.info.architecture)
    request = BuildRequest(folder=both.project)
    built = build_project(request, targets=[Target(kind="docker")], engine=engine, reporter=heard)
    assert [each.image.platform for each in built.images] == [own]
    assert any(f"Building for {own} alone" in note for note in heard.notes)
    targets = [Target(kind="docker"), Target(kind="oci", path=both.layout())]
    built = build_project(request, targets=targets, engine=engine, reporter=heard)
    assert [each.image.platform for each in built.images] == [AMD, ARM]
    assert f"The engine takes the image for {own}" in heard.notes
    (loaded,) = engine.images()
    assert loaded.architecture == own.architecture
