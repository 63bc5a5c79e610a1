"""Reading Dockerfiles: what BuildKit's own parser reads, and what it refuses."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockyard.dockerfile.parse import parse
from dockyard.dockerfile.syntax import Place
from dockyard.errors import DockerfileError

# text, what it is about
TEXTS = [
    ("FROM a\nRUN x\n", "plain"),
    ("\ufeffFROM a\nRUN x", "a byte order mark, no final newline"),
    ("FROM a\r\nRUN x \\\r\n  y\r\n", "DOS line ends"),
    ("from a\nrun x\n", "lower case"),
    ("FROM a\nRUN a \\\n  b \\\n\n\n  # comment\n  && c\n", "empty lines and comments inside"),
    ("FROM a\nRUN a \\  \n  b\n", "white space after the escape"),
    ("FROM a\nRUN a \\\\\nRUN b\n", "an escaped escape"),
    ("# escape=`\nFROM a\nRUN a `\n b \\\nRUN c\n", "another escape"),
    ("#escape = `\n#syntax=x/y\nFROM a\nRUN a `\n b\n", "two directives"),
    ("# not one\n# escape=`\nFROM a\nRUN a \\\n b\n", "a directive after a comment is none"),
    ('FROM a\nCMD ["x", "y z"]\nENTRYPOINT [ "q" ]\n', "JSON forms"),
    ("FROM a\nCMD [x, y]\n", "a list that is no JSON"),
    ("FROM a AS b\nCOPY --from=b --chown=1:2 x y /z/\n", "flags"),
    ('FROM a\nRUN --mount=type=cache,target="/a b" x\n', "a quoted flag"),
    ("FROM a\nRUN <<EOF\nx\n# y\nEOF\nRUN z\n", "a here-document"),
    ("FROM a\nRUN <<-EOF\n\tx\n\tEOF\nRUN z\n", "a here-document with tabs"),
    ("FROM a\nRUN <<'E' cat > f\n$x\nE\n", "a quoted here-document"),
    ("FROM a\nCOPY <<A <<B /d/\none\nA\ntwo\nB\nRUN z\n", "two here-documents"),
    ("FROM a\nRUN a <<EOF && b\nx\nEOF\n", "words after a here-document"),
    ("FROM a\nRUN echo $((1<<2)) '<<E'\nRUN z\n", "no here-documents"),
    ("FROM a\nHEALTHCHECK --interval=3s --start-period=5s CMD curl x\n", "a health check"),
    ("FROM a\nHEALTHCHECK NONE\n", "no health check"),
    ("FROM a\nONBUILD RUN echo\nONBUILD COPY x y\n", "triggers"),
    ("FROM a\nLABEL a=b 'c d'=e\nENV A b c\n", "pairs"),
    ("ARG V=1\nFROM a:$V\nARG V\n", "arguments"),
    ("FROM a\nRUN x \\\n", "a continuation at the end"),
    ("FROM a\n  RUN x\n\tRUN y\n", "indented"),
    ('FROM a\nSHELL ["/bin/bash", "-c"]\nSTOPSIGNAL 9\nUSER u\nVOLUME /v\nEXPOSE 1\n', "the rest"),
]


def ours(text: str) -> list[tuple[object, ...]]:
    found = []
    for made in parse(text).instructions:
        inner = made.trigger or made
        flags = tuple(
            f"--{flag.name}" if flag.value is None else f"--{flag.name}={flag.value}"
            for flag in inner.flags
        )
        documents = tuple((item.name, item.text) for item in inner.heredocs)
        found.append((made.keyword, made.line, made.end_line, flags, documents))
    return found


def buildkit(text: str) -> list[tuple[object, ...]] | None:
    dockerfile = pytest.importorskip("dockerfile", reason="its wheels are for x86-64 only")
    try:
        commands = dockerfile.parse_string(text)
    except dockerfile.GoParseError:
        return None
    return [
        (
            command.cmd.upper(),
            command.start_line,
            command.end_line,
            command.flags,
            tuple((item.name, item.content.replace("\t", "")) for item in command.heredocs),
        )
        for command in commands
        if command.cmd  # A lone continuation gives an instruction of nothing.
    ]


@pytest.mark.parametrize(("text", "what"), TEXTS, ids=[what for _, what in TEXTS])
def test_reads_what_buildkit_reads(text, what):
    expected = buildkit(text)
    assert expected is not None
    assert ours(text) == expected


PIECES = st.lists(
    st.sampled_from(
        [
            "FROM a",
            "RUN x",
            "\\",
            "\n",
            "\n",
            " ",
            "#c",
            "<<E",
            "\nE\n",
            '["a"]',
            "&& y",
            "COPY a b",
        ]
    ),
    max_size=14,
).map("".join)


@given(PIECES)
@settings(max_examples=300, deadline=None)
def test_agrees_with_buildkit_about_any_mixture(pieces):
    text = "FROM b\n" + pieces
    document = parse(text)
    expected = buildkit(text)
    if expected is None or document.faults:
        return
    # A line of the escape character alone begins an instruction there; here the keyword does.
    assert [row[:1] + row[2:] for row in ours(text)] == [row[:1] + row[2:] for row in expected]


@given(st.text(max_size=200))
@settings(deadline=None)
def test_no_text_ends_in_a_traceback(text):
    document = parse(text)
    assert document.faults or document.instructions


# text, line, column, what the message says
FAULTS = [
    ("", 1, 1, "no FROM"),
    ("RUN x\n", 1, 1, "before the first FROM"),
    ("FROM a\n  RUNN x\n", 2, 3, "RUNN is no instruction"),
    ("FROM a\nRUN\n", 2, 1, "RUN needs something"),
    ("FROM a b\n", 1, 6, "FROM takes"),
    ("FROM a\nENV A=1 B\n", 2, 9, "ENV needs NAME=value"),
    ("FROM a\nLABEL x\n", 2, 7, "LABEL needs NAME=value"),
    ("FROM a\nCOPY x\n", 2, 6, "COPY needs a source and a destination"),
    ("FROM a\nRUN x \\\n  <<EOF\nno end\n", 3, 3, "EOF doesn't end"),
    ("FROM a\nSHELL bash\n", 2, 7, "SHELL needs the JSON form"),
    ("FROM a\nHEALTHCHECK curl\n", 2, 13, "HEALTHCHECK needs CMD or NONE"),
    ("FROM a\nONBUILD ONBUILD RUN x\n", 2, 9, "ONBUILD can't hold ONBUILD"),
    ("# escape=x\nFROM a\n", 1, 1, "escape must be"),
    ("# escape=`\n# escape=`\nFROM a\n", 2, 1, "stands twice"),
]


@pytest.mark.parametrize(("text", "line", "column", "says"), FAULTS, ids=[row[3] for row in FAULTS])
def test_a_fault_has_its_place(text, line, column, says):
    document = parse(text)
    assert says in document.faults[0].what
    assert document.faults[0].place == Place(line, column)
    with pytest.raises(DockerfileError) as caught:
        document.check()
    assert caught.value.where == f"Dockerfile:{line}"
    shown, caret = (caught.value.hint or "").split("\n")[:2]
    assert caret.index("^") == column + 1
    assert shown.strip() == text.split("\n")[line - 1].strip()


def test_a_place_is_found_across_lines_comments_and_here_documents():
    text = "FROM a\nRUN one \\\n # no\n  two <<E\nthree\nfour\nE\n"
    (_, made) = parse(text).instructions
    whole = made.rest + "\n" + made.heredocs[0].text
    lines = text.split("\n")
    for word in ("one", "two"):
        place = made.place(whole.index(word))
        assert lines[place.line - 1][place.column - 1 :].startswith(word)
    assert made.place(whole.index("four")).line == 6


def test_long_continuations_are_read_in_linear_time():
    text = "FROM a\nRUN true" + " \\\n && true" * 50_000
    (_, made) = parse(text).instructions
    assert len(re.findall("true", made.rest)) == 50_001
    assert made.place(len(made.rest) - 1).line == 50_002
