"""CPU or CUDA: which build of torch is chosen, and how CUDA's version is known."""

from __future__ import annotations

import pytest
from lock_project import Project, versions
from tiny_index import TinyIndex

from dockyard.errors import ResolveError

CUDA_TAG = "cp311-cp311-manylinux_2_28_x86_64"


@pytest.fixture
def torches(project: Project, index: TinyIndex) -> TinyIndex:
    """An index like the real one: the plain torch brings CUDA."""
    index.wheel("nvidia-cuda-runtime-cu12", "12.8.90", tag="py3-none-manylinux_2_17_x86_64")
    index.wheel("torch", "2.9.0", tag=CUDA_TAG, requires=["nvidia-cuda-runtime-cu12"])
    index.wheel("torchvision", "0.24.0", tag=CUDA_TAG, requires=["torch==2.9.0"])
    return index


def test_cudas_version_is_that_of_its_wheels(project: Project, torches: TinyIndex) -> None:
    lock = project.requirements("torch\n")
    assert lock.cuda == "12.8"
    assert project.requirements("torch\n", accelerator="cuda").cuda == "12.8"


def test_cudas_version_is_read_from_a_local_version_too(project: Project, index: TinyIndex) -> None:
    index.wheel("torch", "2.9.0+cu129", tag=CUDA_TAG)
    assert project.requirements("torch\n").cuda == "12.9"


def test_a_cpu_build_in_a_configured_place_is_taken(
    project: Project, torches: TinyIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = TinyIndex(torches.root.parent / "links")
    links.wheel("torch", "2.8.0+cpu", tag=CUDA_TAG)
    links.wheel("torch", "2.8.0+cpu", tag="cp312-cp312-manylinux_2_28_x86_64")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links.root / "files"))
    assert versions(project.requirements("torch\n"))["torch"] == "2.9.0"
    lock = project.requirements("torch\n", accelerator="cpu")
    assert versions(lock) == {"torch": "2.8.0+cpu"}
    assert lock.cuda is None


def test_torchvision_follows_torch_to_the_cpu(project: Project, torches: TinyIndex) -> None:
    torches.wheel("torch", "2.9.0+cpu", tag=CUDA_TAG)
    torches.wheel("torchvision", "0.24.0+cpu", tag=CUDA_TAG, requires=["torch==2.9.0"])
    lock = project.requirements("torchvision\n", accelerator="cpu")
    assert versions(lock) == {"torch": "2.9.0+cpu", "torchvision": "0.24.0+cpu"}


def test_cuda_is_taken_though_a_cpu_build_looks_newer(project: Project, torches: TinyIndex) -> None:
    torches.wheel("torch", "2.9.0+cpu", tag=CUDA_TAG)
    assert versions(project.requirements("torch\n")) == {"torch": "2.9.0+cpu"}
    lock = project.requirements("torch\n", accelerator="cuda")
    assert versions(lock)["torch"] == "2.9.0"
    assert lock.cuda == "12.8"


def test_a_cpu_build_that_is_nowhere_is_one_message(project: Project, torches: TinyIndex) -> None:
    with pytest.raises(ResolveError) as caught:
        project.requirements("alpha\ntorch\n", accelerator="cpu", offline=True)
    assert "torch 2.9.0 brings CUDA, and its CPU build can't be had" in caught.value.what
    assert caught.value.where == "requirements.txt:2"
    assert "find-links" in (caught.value.hint or "")


def test_torch_without_cuda_is_refused_when_cuda_is_asked_for(
    project: Project, index: TinyIndex
) -> None:
    index.wheel("torch", "2.9.0+cpu", tag=CUDA_TAG)
    with pytest.raises(ResolveError, match="torch comes without CUDA"):
        project.requirements("torch\n", accelerator="cuda")


def test_other_packages_that_bring_cuda_are_named(project: Project, torches: TinyIndex) -> None:
    torches.wheel("boosted", "1.0", requires=["nvidia-cuda-runtime-cu12"])
    project.requirements("boosted\n", accelerator="cpu")
    assert any("nvidia-cuda-runtime-cu12" in text for text in project.heard.warnings)
    again = project.resolve(accelerator="cpu")
    assert any("nvidia-cuda-runtime-cu12" in text for text in again.notes)


def test_cuda_without_any_wheel_for_it_is_said(project: Project) -> None:
    lock = project.requirements("alpha\n", accelerator="cuda")
    assert lock.cuda is None
    assert any("the base must have it" in text for text in lock.notes)
