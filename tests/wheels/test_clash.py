"""Two wheels that want one path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from wheel_maker import EXECUTABLE, make_wheel, record_line, tree

from dockyard.errors import WheelError
from dockyard.files import with_parents
from dockyard.wheels.clash import clash_error, find_clashes, merge_entries, settle_clashes
from dockyard.wheels.install import Venv, install_wheel, venv_entries

if TYPE_CHECKING:
    from pathlib import Path

    from dockyard.wheels.install import InstalledWheel

SITE = "opt/venv/lib/python3.11/site-packages"


def _installed(
    folder: Path, name: str, files: dict[str, bytes], **options: object
) -> InstalledWheel:
    path = make_wheel(folder, files, name=name, **options)  # type: ignore[arg-type]
    return install_wheel(path, Venv(), requested=False)


def test_equal_bytes_are_no_clash(tmp_path: Path) -> None:
    shared = {"google/__init__.py": b"# namespace\n", "empty": b""}
    one = _installed(tmp_path, "one", shared | {"google/a.py": b"1"})
    two = _installed(
        tmp_path, "two", shared | {"google/b.py": b"2"},
        methods={"google/__init__.py": 0}, modes={"google/__init__.py": EXECUTABLE},
    )  # fmt: skip
    assert find_clashes([one, two]) == []
    assert settle_clashes([one, two]) == (one, two)


def test_different_bytes_are_an_error_that_names_both_and_the_path(tmp_path: Path) -> None:
    one = _installed(tmp_path, "one", {"shared/x.py": b"1", "shared/y.py": b"1"})
    two = _installed(tmp_path, "two", {"shared/x.py": b"2", "shared/y.py": b"22"})
    clashes = find_clashes([one, two])
    assert [clash.path for clash in clashes] == [f"{SITE}/shared/x.py", f"{SITE}/shared/y.py"]
    assert {(clash.first, clash.second) for clash in clashes} == {("one", "two")}
    with pytest.raises(WheelError, match="one and two can't both be installed") as caught:
        settle_clashes([one, two])
    assert caught.value.where == f"/{SITE}/shared/x.py"
    assert "1 more such file" in caught.value.what
    assert "one or two as preferred" in str(caught.value.hint)


def test_content_is_read_when_hashes_and_sizes_do_not_decide(tmp_path: Path) -> None:
    options: dict[str, object] = {"unrecorded": ["x"]}
    one = _installed(tmp_path, "one", {"x": b"same"}, **options)
    two = _installed(tmp_path, "two", {"x": b"same"}, **options)
    sha512 = {"record": {"x": record_line("x", b"diff", "sha512")}}
    three = _installed(tmp_path, "three", {"x": b"diff"}, **sha512)
    stored = _installed(tmp_path, "stored", {"x": b"same"}, methods={"x": 0})
    assert find_clashes([one, two, stored]) == []
    assert {(c.first, c.second) for c in find_clashes([one, two, three])} == {
        ("one", "three"),
        ("two", "three"),
    }


def test_the_preferred_wheel_wins_and_the_other_loses_only_that_file(tmp_path: Path) -> None:
    one = _installed(tmp_path, "One_x", {"x": b"1", "a": b"a"})
    two = _installed(tmp_path, "two", {"x": b"2", "b": b"b"})
    assert find_clashes([one, two], prefer=["one-X"]) == []
    kept, reduced = settle_clashes([one, two], prefer=["One.x"])
    assert kept is one
    assert f"{SITE}/x" not in tree(reduced.entries)
    assert f"{SITE}/b" in tree(reduced.entries)
    merged = with_parents(merge_entries([kept, reduced]))
    assert tree(merged)[f"{SITE}/x"] == b"1"


def test_preferring_both_or_neither_settles_nothing(tmp_path: Path) -> None:
    wheels = [_installed(tmp_path, name, {"x": name.encode()}) for name in ("one", "two")]
    for prefer in ([], ["one", "two"], ["three"]):
        assert len(find_clashes(wheels, prefer=prefer)) == 1
        with pytest.raises(WheelError):
            settle_clashes(wheels, prefer=prefer)


def test_a_file_where_another_wheel_has_a_folder_is_a_clash(tmp_path: Path) -> None:
    one = _installed(tmp_path, "one", {"pkg": b"a file"})
    two = _installed(tmp_path, "two", {"pkg/deep/x.py": b"1", "pkg/y.py": b"2", "z": b""})
    (clash,) = find_clashes([one, two])
    assert clash.below
    assert str(clash) == f"/{SITE}/pkg is a file of one and a folder of two"
    assert "is a file of one" in clash_error([clash]).what
    _, reduced = settle_clashes([one, two], prefer=["one"])
    assert not any("/pkg/" in name for name in tree(reduced.entries))
    assert f"{SITE}/z" in tree(reduced.entries)
    reduced, _ = settle_clashes([one, two], prefer=["two"])
    assert f"{SITE}/pkg" not in tree(reduced.entries)


def test_names_that_differ_in_case_are_two_files(tmp_path: Path) -> None:
    one = _installed(tmp_path, "one", {"Pkg/x": b"1"})
    two = _installed(tmp_path, "two", {"pkg/x": b"2"})
    assert find_clashes([one, two]) == []


def test_scripts_of_two_wheels_clash_too(tmp_path: Path) -> None:
    def points(name: str, target: str) -> dict[str, bytes]:
        text = f"[console_scripts]\ntool = {target}\n".encode()
        return {f"{name}-1.0.dist-info/entry_points.txt": text}

    one = _installed(tmp_path, "one", points("one", "one:main"))
    two = _installed(tmp_path, "two", points("two", "two:main"))
    assert [clash.path for clash in find_clashes([one, two])] == ["opt/venv/bin/tool"]


def test_merged_wheels_and_the_venv_make_one_tree(tmp_path: Path) -> None:
    shared = {"ns/__init__.py": b"#\n"}
    one = _installed(tmp_path, "one", shared)
    two = _installed(tmp_path, "two", shared, modes={"ns/__init__.py": EXECUTABLE})
    entries = with_parents([*venv_entries(Venv()), *merge_entries([one, two])])
    found = [entry for entry in entries if entry.path == f"{SITE}/ns/__init__.py"]
    assert [entry.mode for entry in found] == [0o755]
