"""Choosing packages from hand-made indexes."""

from __future__ import annotations

import pytest

from dockyard.debian.control import Relation, compare, parse_relations
from dockyard.debian.index import Index
from dockyard.debian.package import DebianPackage
from dockyard.debian.solve import solve
from dockyard.errors import DebianError


def index(text):
    """Parse lines "name version | Field: value | Field: value"."""
    stanzas = []
    for line in text.strip().splitlines():
        head, *fields = [part.strip() for part in line.split(" ; ")]
        name, version = head.split()
        lines = [f"Package: {name}", f"Version: {version}"]
        if not any(field.startswith("Architecture") for field in fields):
            lines.append("Architecture: amd64")
        lines += [*fields, f"Filename: pool/{name}.deb", "Size: 1", f"SHA256: {'a' * 64}"]
        stanzas.append("\n".join(lines))
    return Index([("main", "\n\n".join(stanzas).encode())])


def names(text, *wanted, **options):
    return [one.name for one in solve(wanted, index(text), architecture="amd64", **options)]


def test_follows_depends_and_pre_depends():
    text = """
    a 1 ; Depends: b
    b 1 ; Pre-Depends: c (>= 1.0)
    c 1.0-1
    unrelated 1
    """
    assert names(text, "a") == ["a", "b", "c"]


def test_each_package_says_what_needs_it():
    found = solve(["a"], index("a 1 ; Depends: b\nb 1"), architecture="amd64")
    assert [(one.name, one.because) for one in found] == [("a", ""), ("b", "a")]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param("b 1\nc 1", ["a", "b"], id="the first that exists"),
        pytest.param("c 1", ["a", "c"], id="the second where the first is missing"),
        pytest.param("b 0.5\nc 1", ["a", "c"], id="the second where the first is too old"),
        pytest.param("b 1 ; Architecture: arm64\nc 1", ["a", "c"], id="of another architecture"),
        pytest.param("v 1 ; Provides: b (= 2)\nc 1", ["a", "v"], id="a provider of the first"),
        pytest.param("v 1 ; Provides: b\nc 1", ["a", "c"], id="an unversioned provider won't do"),
        pytest.param("v 1 ; Provides: b (= 0.1)\nc 1", ["a", "c"], id="a provider too old"),
        pytest.param("b 1 ; Architecture: all\nc 1", ["a", "b"], id="for all architectures"),
    ],
)
def test_takes_of_alternatives(lines, expected):
    assert names(f"a 1 ; Depends: b (>= 1) | c\n{lines}", "a") == expected


def test_what_is_chosen_already_satisfies_an_alternative():
    text = "a 1 ; Depends: x | y\ny 1\nx 1"
    assert names(text, "a", "y") == ["a", "y"]


def test_providers_are_taken_in_the_order_of_their_names():
    text = "a 1 ; Depends: mta\nzmail 1 ; Provides: mta\nbmail 1 ; Provides: mta"
    assert names(text, "a") == ["a", "bmail"]


def test_a_virtual_name_can_be_asked_for():
    assert names("lib2t64 1 ; Provides: lib2 (= 1)", "lib2") == ["lib2t64"]


def test_the_highest_version_wins():
    (found,) = solve(["a"], index("a 1.9\na 1.10\na 1.10~rc1"), architecture="amd64")
    assert found.version == "1.10"


@pytest.mark.parametrize("qualifier", [":any", ":amd64", ""])
def test_qualifiers_of_this_architecture_are_met(qualifier):
    assert names(f"a 1 ; Depends: b{qualifier}\nb 1", "a") == ["a", "b"]


def test_a_qualifier_of_another_architecture_is_not():
    with pytest.raises(DebianError, match="needs b"):
        names("a 1 ; Depends: b:i386\nb 1", "a")


def test_dependencies_in_a_circle_end():
    assert names("a 1 ; Depends: b\nb 1 ; Depends: a", "a") == ["a", "b"]


def test_says_what_is_missing_and_who_asks():
    with pytest.raises(DebianError, match=r"a 1 needs b \(>= 2\), which isn't in this suite"):
        names("a 1 ; Depends: b (>= 2)", "a")


def test_names_what_a_misspelt_package_may_mean():
    with pytest.raises(DebianError, match="no package 'libgll'") as caught:
        names("libgl1 1\nother 1", "libgll")
    assert "libgl1" in caught.value.hint


@pytest.mark.parametrize("name", ["libgl1=1.6", "git:amd64", "git/sid", "Git", "", "a b", "-y"])
def test_refuses_what_is_no_bare_package_name(name):
    with pytest.raises(DebianError, match="is no package name"):
        names("git 1", name)


@pytest.mark.parametrize("field", ["Conflicts: b", "Breaks: b (<< 2)", "Conflicts: virtual"])
def test_refuses_two_packages_that_exclude_each_other(field):
    with pytest.raises(DebianError, match="can't be installed beside b "):
        names(f"a 1 ; {field}\nb 1 ; Provides: virtual", "a", "b")


def test_a_package_may_conflict_with_what_it_provides_itself():
    assert names("a 1 ; Provides: mta ; Conflicts: mta", "a") == ["a"]


BASE = (
    DebianPackage(
        name="libc6",
        version="2.36",
        architecture="amd64",
        archive="main",
        filename="pool/libc6.deb",
        sha256="a" * 64,
        size=1,
        source="glibc",
    ),
)


def test_what_the_base_has_is_not_chosen_again():
    assert names("a 1 ; Depends: libc6\nlibc6 2.37", "a", "libc6", base=BASE) == ["a"]


def test_a_base_that_is_too_old_is_an_error_with_the_way_out():
    with pytest.raises(DebianError, match=r"but libc6 2.36 is chosen") as caught:
        names("a 1 ; Depends: libc6 (>= 2.37)\nlibc6 2.37", "a", base=BASE)
    assert "--upgrade" in caught.value.hint


def test_excluded_dependencies_are_taken_as_met():
    text = "a 1 ; Depends: debconf (>= 9)\ndebconf 1"
    assert names(text, "a", excluded=lambda asker, name: name == "debconf") == ["a"]


@pytest.mark.parametrize(
    ("a", "b", "order"),
    [("1.0", "1.0", 0), ("1:0", "2", 1), ("1~rc1", "1", -1), ("1.10", "1.9", 1), ("1-1", "1", 1)],
)
def test_versions_compare_as_policy_says(a, b, order):
    assert compare(a, b) == order


def test_reads_relations_with_everything_in_them():
    text = "a:any (>= 1:2~x) [amd64] <!nocheck> | b, c (< 3)"
    assert parse_relations(text, where="x") == (
        (Relation("a", "any", ">=", "1:2~x"), Relation("b")),
        (Relation("c", "", "<=", "3"),),
    )


@pytest.mark.parametrize("text", ["a (>=)", "a (1)", "a b", "-a", "${misc:Depends}"])
def test_refuses_relations_that_are_none(text):
    with pytest.raises(DebianError, match="no package relation"):
        parse_relations(text, where="x")


@pytest.mark.parametrize(
    "stanza",
    [
        pytest.param("Filename: ../../etc/passwd\nSize: 1\nSHA256: " + "a" * 64, id="path"),
        pytest.param("Filename: pool/a.deb\nSize: x\nSHA256: " + "a" * 64, id="size"),
        pytest.param("Filename: pool/a.deb\nSize: 1", id="no hash"),
    ],
)
def test_refuses_an_index_entry_that_is_unsafe(stanza):
    text = f"Package: a\nVersion: 1\nArchitecture: amd64\n{stanza}\n"
    with pytest.raises(DebianError, match="index entry"):
        solve(["a"], Index([("main", text.encode())]), architecture="amd64")


def test_a_package_survives_its_record():
    assert DebianPackage.from_record(BASE[0].to_record()) == BASE[0]


@pytest.mark.parametrize("change", [{"size": "1"}, {"archive": "x"}, {"filename": "../x"}])
def test_refuses_a_record_that_was_edited(change):
    with pytest.raises(DebianError, match="lock"):
        DebianPackage.from_record({**BASE[0].to_record(), **change})


def test_refuses_a_record_that_lacks_something():
    with pytest.raises(DebianError, match="lock"):
        DebianPackage.from_record({"name": "a"})
