"""What a target means for tags, markers and uv."""

from __future__ import annotations

import pytest
from packaging.tags import Tag

from dockyard.errors import ResolveError
from dockyard.wheels.target import Target


@pytest.mark.parametrize(
    ("glibc", "architecture", "platform"),
    [
        ("2.36", "amd64", "x86_64-manylinux_2_36"),
        ("2.41", "arm64", "aarch64-manylinux_2_40"),
        ("2.30", "amd64", "x86_64-manylinux_2_28"),
        ("2.17", "amd64", "x86_64-manylinux_2_17"),
    ],
)
def test_uv_is_told_the_newest_platform_that_fits(
    glibc: str, architecture: str, platform: str
) -> None:
    target = Target(python="3.11", architecture=architecture, glibc=glibc)
    assert target.uv_platform == platform


def test_every_platform_name_is_one_that_uv_knows() -> None:
    import subprocess

    from uv import find_uv_bin

    command = [find_uv_bin(), "pip", "compile", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for minor in range(17, 50):
        for architecture in ("amd64", "arm64"):
            target = Target(python="3.11", architecture=architecture, glibc=f"2.{minor}")
            assert f"{target.uv_platform}," in "".join(text.split()) + ","


def test_tags_are_ordered_from_the_best_and_stop_at_the_bases_glibc() -> None:
    tags = Target(python="3.11", architecture="amd64", glibc="2.36").tags()
    assert tags[0] == Tag("cp311", "cp311", "manylinux_2_36_x86_64")
    assert Tag("cp311", "cp311", "manylinux2014_x86_64") in tags
    assert Tag("cp39", "abi3", "manylinux_2_17_x86_64") in tags
    assert Tag("cp311", "cp311", "linux_x86_64") in tags
    assert tags[-1] == Tag("py30", "none", "any")
    text = {str(tag) for tag in tags}
    assert not any("2_37" in tag or "musl" in tag or "cp312" in tag for tag in text)
    arm = Target(python="3.11", architecture="arm64", glibc="2.36").tags()
    assert not any("manylinux1_" in str(tag) or "x86_64" in str(tag) for tag in arm)


def test_markers_are_those_of_the_image() -> None:
    environment = Target(python="3.11.2", architecture="arm64", glibc="2.36").environment()
    assert environment["platform_machine"] == "aarch64"
    assert environment["python_version"] == "3.11"
    assert environment["python_full_version"] == "3.11.2"
    assert environment["sys_platform"] == "linux"


@pytest.mark.parametrize(
    ("python", "architecture", "glibc"),
    [
        pytest.param("3", "amd64", "2.36", id="Python without minor"),
        pytest.param("3.x", "amd64", "2.36", id="Python with a letter"),
        pytest.param("3.11", "riscv64", "2.36", id="another architecture"),
        pytest.param("3.11", "amd64", "2.5", id="an ancient glibc"),
        pytest.param("3.11", "amd64", "musl", id="no glibc"),
    ],
)
def test_a_target_that_cant_be_is_refused(python: str, architecture: str, glibc: str) -> None:
    with pytest.raises(ResolveError):
        Target(python=python, architecture=architecture, glibc=glibc)
