"""Variables, words, shell commands and stages of a Dockerfile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockyard.dockerfile.parse import parse
from dockyard.dockerfile.shell import read_script
from dockyard.dockerfile.stages import copied_stage, needed_stages, read_stages
from dockyard.dockerfile.words import assignments, expand

KNOWN = {"A": "one", "EMPTY": ""}

# raw, what it becomes
EXPANSIONS = [
    ("x$A", "xone"),
    ("${A}x", "onex"),
    ("$B", None),
    ("${B:-two}", "two"),
    ("${B-two}", "two"),
    ("${EMPTY:-two}", "two"),
    ("${EMPTY-two}", ""),
    ("${A:+yes}", "yes"),
    ("${B:+yes}", ""),
    ("${B:-${A}}", "one"),
    ("'$A'", "$A"),
    ('"$A b"', "one b"),
    (r"\$A", "$A"),
    (r'"a\b"', r"a\b"),
    ("$", "$"),
    ("${A", None),
    ("${A!x}", None),
]


@pytest.mark.parametrize(("raw", "value"), EXPANSIONS)
def test_variables_are_replaced_as_the_reference_says(raw, value):
    assert expand(raw, KNOWN) == value


@given(st.text("${}:-+AB\"'\\ ", max_size=60))
def test_expanding_never_raises(raw):
    assert isinstance(expand(raw, KNOWN), str | None)


def test_pairs_keep_quotes_and_the_old_form_takes_the_whole_line():
    assert [(name, word.raw) for name, word in assignments('A=b C="d e" F=\\ g')] == [
        ("A", "b"),
        ("C", '"d e"'),
        ("F", "\\ g"),
    ]
    assert [(name, word.raw) for name, word in assignments("A b c")] == [("A", "b c")]


# script, commands, whether it is simple
SCRIPTS = [
    ("pip install x", [("pip", "install", "x")], True),
    ("a && b -c", [("a",), ("b", "-c")], True),
    ("a; b", [("a",), ("b",)], False),
    ("a | b", [("a",), ("b",)], False),
    ("a > f", [("a",)], False),
    ("a 2>&1 && b", [("a",), ("b",)], False),
    ("X=1 a", [("a",)], True),
    ("a 'b c' \"d e\" f\\ g", [("a", "b c", "d e", "f g")], True),
    ("if a; then b; fi", [("a",), ("b",)], False),
    ("for x in 1 2; do c $x; done", [("c", "$x")], False),
    ("a $(b c) `d`", [("a", "$(b c)", "`d`")], False),
    ("(a && b)", [("a",), ("b",)], False),
    ("a # b\nc", [("a",), ("c",)], False),
    ("sudo -E pip install x", [("pip", "install", "x")], True),
    ("rm -rf /x/*", [("rm", "-rf", "/x/*")], False),
    ("a &&", [("a",)], False),
    ("a 'b", [("a", "b")], False),
]


@pytest.mark.parametrize(("text", "commands", "simple"), SCRIPTS, ids=[row[0] for row in SCRIPTS])
def test_commands_of_a_script(text, commands, simple):
    script = read_script(text)
    assert [command.texts for command in script.commands] == commands
    assert script.simple is simple


@given(st.text("ab $(){}`'\"\\&|;<>\n#=", max_size=120))
def test_no_script_ends_in_a_traceback(text):
    for command in read_script(text).commands:
        for word in command.words:
            assert text[word.offset : word.end] == word.raw


STAGES = """\
ARG TAG=3.12
FROM python:${TAG} AS build
ENV A=1
USER app
WORKDIR /src
RUN make
FROM build AS test
ARG TAG
RUN test $TAG
FROM scratch
WORKDIR rel
COPY --from=build /x /y
COPY --from=0 /x /z
"""


def test_stages_inherit_and_know_what_they_copy_from():
    stages = read_stages(parse(STAGES))
    assert [stage.image for stage in stages] == ["python:3.12", "build", "scratch"]
    build, test, last = stages
    assert test.parent is build
    assert test.base() == "python:3.12"
    assert (test.user, test.workdir, test.env) == ("app", "/src", {"A": "1"})
    assert dict(test.steps[1].variables) == {"TAG": "3.12", "A": "1"}
    assert (last.workdir, last.user) == ("/rel", "")
    assert [copied_stage(stages, last, step) for step in last.steps] == [None, build, build]
    assert needed_stages(stages, last) == (build, last)


def test_a_given_argument_wins_over_the_default():
    (stage,) = read_stages(parse("ARG V=1\nFROM a:$V\nARG W\nENV X=$W\n"), build_args={"V": "2"})
    assert (stage.image, stage.env) == ("a:2", {})
