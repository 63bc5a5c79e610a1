"""Does a wheel fit its target, and if not, why."""

from __future__ import annotations

import pytest

from dockyard.errors import WheelError
from dockyard.wheels.tags import check_fits
from dockyard.wheels.target import Target

AMD64 = Target(python="3.11", architecture="amd64", glibc="2.36")
ARM64 = Target(python="3.13", architecture="arm64", glibc="2.41")

FITS = [
    ("py3-none-any", AMD64),
    ("py2.py3-none-any", AMD64),
    ("py311-none-any", AMD64),
    ("cp311-none-any", AMD64),
    ("cp311-cp311-manylinux_2_36_x86_64", AMD64),
    ("cp311-cp311-manylinux1_x86_64", AMD64),
    ("cp311-cp311-manylinux2010_x86_64", AMD64),
    ("cp311-cp311-manylinux2014_x86_64", AMD64),
    ("cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64", AMD64),
    ("cp311-cp311-manylinux_2_17_x86_64.manylinux_2_39_x86_64", AMD64),
    ("cp311-cp311-linux_x86_64", AMD64),
    ("cp37-abi3-manylinux_2_28_x86_64", AMD64),
    ("cp311-abi3-manylinux_2_28_x86_64", AMD64),
    ("py3-none-manylinux2014_x86_64", AMD64),
    ("cp313-cp313-manylinux_2_41_aarch64", ARM64),
    ("cp39-abi3-manylinux2014_aarch64", ARM64),
]


@pytest.mark.parametrize(("tag", "target"), FITS)
def test_accepts_what_runs_there(tag: str, target: Target) -> None:
    filename = f"demo-1.0-{tag}.whl"
    check_fits(filename, target)
    assert not {str(t) for t in target.tags()}.isdisjoint(
        f"{p}-{a}-{s}"
        for p in tag.split("-")[0].split(".")
        for a in tag.split("-")[1].split(".")
        for s in tag.split("-")[2].split(".")
    )


MISFITS = [
    ("cp311-cp311-manylinux_2_39_x86_64", AMD64, r"needs glibc 2\.39 or newer.*base has 2\.36"),
    ("cp311-cp311-manylinux_2_41_x86_64.manylinux_2_39_x86_64", AMD64, r"needs glibc 2\.39"),
    ("cp311-cp311-manylinux_2_39_x86_64.musllinux_1_2_x86_64", AMD64, r"needs glibc 2\.39"),
    ("cp37-abi3-manylinux_2_42_aarch64", ARM64, r"needs glibc 2\.42 or newer.*base has 2\.41"),
    ("cp311-cp311-musllinux_1_2_x86_64", AMD64, r"linked with musl"),
    ("cp311-cp311-macosx_11_0_arm64", AMD64, r"for macOS"),
    ("cp311-cp311-win_amd64", AMD64, r"for Windows"),
    ("py3-none-win32", AMD64, r"for Windows"),
    ("cp311-cp311-manylinux_2_17_aarch64", AMD64, r"for aarch64, the image is for amd64"),
    ("cp313-cp313-manylinux_2_17_x86_64", ARM64, r"for x86_64, the image is for arm64"),
    ("cp311-cp311-plan9_x86_64", AMD64, r"'plan9_x86_64' isn't known"),
    ("cp312-cp312-manylinux_2_17_x86_64", AMD64, r"another Python \(cp312-cp312\).*Python 3\.11"),
    ("cp310-cp310-manylinux_2_17_x86_64", AMD64, r"another Python"),
    ("cp312-abi3-manylinux_2_17_x86_64", AMD64, r"another Python"),
    ("py2-none-any", AMD64, r"another Python"),
    ("py312-none-any", AMD64, r"another Python"),
    ("pp311-pypy311_pp73-manylinux_2_17_x86_64", AMD64, r"another Python"),
    ("cp313-cp313t-manylinux_2_17_aarch64", ARM64, r"free-threaded Python"),
]


@pytest.mark.parametrize(("tag", "target", "message"), MISFITS)
def test_refuses_what_does_not_and_says_why(tag: str, target: Target, message: str) -> None:
    filename = f"demo-1.0-{tag}.whl"
    with pytest.raises(WheelError, match=message) as caught:
        check_fits(filename, target)
    assert caught.value.where == filename
    assert caught.value.hint


@pytest.mark.parametrize("name", ["demo.whl", "demo-1.0.tar.gz", "demo-x-py3-none-any.whl"])
def test_refuses_what_is_no_wheels_name(name: str) -> None:
    with pytest.raises(WheelError, match="name is no wheel's"):
        check_fits(name, AMD64)
