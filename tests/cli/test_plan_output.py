"""Plans and tables as they are printed: fitted to a terminal, whole in a pipe."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dockyard.build.api import PlannedImage, PlannedProject
from dockyard.build.plan import BuildPlan, Decision, PlannedLayer
from dockyard.build.savings import TrimSavings
from dockyard.cli.output import print_table
from dockyard.cli.plan import print_plan
from dockyard.oci.config import ImageConfig
from dockyard.oci.platform import Platform
from dockyard.progress import SilentReporter

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = "some_package-1.2.3-cp313-cp313-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make stdout pass for a terminal of so many columns, without colours."""

    def narrow(columns: int) -> None:
        for module in ("output", "plan"):
            monkeypatch.setattr(f"dockyard.cli.{module}.is_terminal", lambda stream: True)
        monkeypatch.setenv("NO_COLOR", "1")
        size = os.terminal_size((columns, 24))
        monkeypatch.setattr("shutil.get_terminal_size", lambda *fallback: size)

    return narrow


def planned(platform: str = "linux/amd64", *, trim: TrimSavings | None = None) -> PlannedImage:
    wheel = PlannedLayer(
        kind="wheel",
        title="some-package 1.2.3",
        origin=LONG,
        why="large enough to be shared alone",
        created_by="",
        size=12_345_678,
    )
    decisions = (
        Decision(subject="dependencies", value="needs.txt", why="it is there (needs.txt)"),
        Decision(subject="models", value="1 file", why="model.bin, 5 kB: apart (model.bin)"),
        Decision(subject="framework", value="torch", why="the code imports torch (app.py:3)"),
        Decision(subject="command", value="python app.py " + "--flag " * 12, why="as configured"),
    )
    plan = BuildPlan(
        references=("app:1",),
        platform=Platform.parse(platform),
        python="3.13",
        layers=(wheel,),
        config=ImageConfig(),
        decisions=decisions,
        warnings=("this image starts slower",),
    )
    return PlannedImage(
        plan=plan, cached=(True,), trim=trim or TrimSavings(on=False, saves={}, unknown=())
    )


class Heard(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_a_piped_plan_is_whole_and_says_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    heard = Heard()
    print_plan(PlannedProject(images=(planned(),)), reporter=heard)
    out = capsys.readouterr().out
    assert out.startswith("app:1 for linux/amd64\n")
    assert "  dependencies  needs.txt — it is there\n" in out
    assert "  models        1 file — model.bin, 5 kB: apart\n" in out
    assert "  framework     torch — the code imports torch (app.py:3)\n" in out
    assert LONG in out
    assert "12.3 MB  cached  large enough to be shared alone" in out
    assert heard.warnings == ["this image starts slower"]


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_every_line_fits_a_terminal(
    terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    terminal(columns)
    print_plan(PlannedProject(images=(planned(),)), reporter=Heard())
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert any("some-package 1.2.3" in line for line in lines)
    assert any(line.endswith("…") for line in lines) == (columns >= 100)
    folded = " ".join(" ".join(lines).split())
    assert "--flag — as configured" in folded


def test_plans_of_several_platforms_name_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    heard = Heard()
    images = (planned("linux/amd64"), planned("linux/arm64"))
    print_plan(PlannedProject(images=images), reporter=heard)
    out = capsys.readouterr().out
    assert out.count("app:1 for linux/") == 2
    assert heard.warnings == [
        "linux/amd64: this image starts slower",
        "linux/arm64: this image starts slower",
    ]


@pytest.mark.parametrize(
    ("trim", "line"),
    [
        (
            TrimSavings(on=False, saves={"torch": 53_000_000, "numpy": 8_000_000}),
            "off — would leave out 61.0 MB of tests, headers and stubs: torch 53.0 MB, "
            "numpy 8.0 MB",
        ),
        (
            TrimSavings(on=True, saves={"numpy": 8_000_000}),
            "on — leaves out 8.0 MB of tests, headers and stubs: numpy 8.0 MB",
        ),
        (
            TrimSavings(on=True, saves={}, unknown=("numpy", "torch")),
            "on — what it saves of numpy, torch is known once fetched",
        ),
        (TrimSavings(on=False, saves={}), "off — no package is among those known to bear it"),
    ],
)
def test_the_plan_says_what_trimming_saves(
    trim: TrimSavings, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_plan(PlannedProject(images=(planned(trim=trim),)), reporter=Heard())
    assert f"  trim          {line}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        (80, f"{'a' * 20}  {'b' * 30}  {'c' * 10}"),
        (50, f"{'a' * 20}  {'b' * 15}…  {'c' * 10}"),
        (40, f"{'a' * 13}…  {'b' * 11}…  {'c' * 10}"),
        (9, f"{'a' * 11}…  {'b' * 11}…  {'c' * 10}"),
    ],
)
def test_columns_shrink_in_the_order_given(
    terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str], columns: int, row: str
) -> None:
    terminal(columns)
    rows = [["a" * 20, "b" * 30, "c" * 10]]
    print_table(["first", "second", "third"], rows, shrink="second first")
    assert capsys.readouterr().out.splitlines()[1] == row
