"""Maintainer scripts: recognised, replaced, or refused by name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dockyard.debian.generated import alternative_links
from dockyard.debian.scripts import Alternative, effects_of
from dockyard.errors import DebianError
from dockyard.files import file_entry

SNIPPET = """#!/bin/sh
set -e
# Automatically added by {tool}/13.11.4
{body}
# End automatically added section
exit 0
"""


def deb(script, *, name="a", files=(), kind="postinst"):
    entries = tuple(file_entry(path, b"") for path in files)
    return SimpleNamespace(name=name, version="1", control={kind: script}, entries=entries)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("", id="none"),
        pytest.param("#!/bin/sh\nset -e\nexit 0\n", id="nothing"),
        pytest.param(SNIPPET.format(tool="dh_makeshlibs", body="ldconfig"), id="ldconfig"),
        pytest.param(SNIPPET.format(tool="dh_python3", body="py3compile -p a"), id="bytecode"),
        pytest.param(
            SNIPPET.format(tool="dh_installsystemd", body="systemctl daemon-reload"), id="systemd"
        ),
        pytest.param(
            SNIPPET.format(
                tool="dh_installdeb", body='dpkg-maintscript-helper rm_conffile /etc/x -- "$@"'
            ),
            id="upgrades",
        ),
        pytest.param(
            '#!/bin/sh\ncase "$1" in\n  configure)\n    ;;\n  abort-upgrade|abort-remove)\n  ;;\n'
            '  *)\n    echo "called with unknown argument \\`$1\'" >&2\n    exit 1\n  ;;\nesac\n',
            id="a skeleton",
        ),
        pytest.param(
            'if [ "$1" = configure ] && dpkg --compare-versions "$2" lt 1.0; then\n  :\nfi\n',
            id="conditions",
        ),
    ],
)
def test_harmless_scripts_are_passed_over(script):
    effects = effects_of(deb(script))
    assert not effects.alternatives
    assert not effects.notes


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("adduser --system a\n", id="a user"),
        pytest.param("ln -s x /usr/bin/y\n", id="a link"),
        pytest.param("exit 0; rm -rf /x\n", id="after another command"),
        pytest.param("if [ -x `make-it` ]; then\n:\nfi\n", id="in a condition"),
        pytest.param("echo x | tee /etc/x\n", id="in a pipe"),
        pytest.param("echo x > /etc/x\nln /a /b\n", id="a redirection and more"),
        pytest.param(SNIPPET.format(tool="dh_sysuser", body="sysuser a"), id="unknown helper"),
        pytest.param("update-alternatives --install $LINK a /b 10\n", id="a variable"),
        pytest.param("X=$(touch /y)\n", id="a substitution"),
        pytest.param(". /usr/share/debconf/confmodule\n", id="questions"),
    ],
)
@pytest.mark.parametrize("kind", ["preinst", "postinst"])
def test_refuses_scripts_that_matter_by_name(script, kind):
    with pytest.raises(DebianError, match=f"the package a needs its {kind}") as caught:
        effects_of(deb(script, kind=kind))
    assert "base" in caught.value.hint


def test_writing_with_echo_is_no_harmless_echo():
    with pytest.raises(DebianError, match="needs its postinst"):
        effects_of(deb("echo x > /etc/x\n"))


def test_known_packages_are_accepted_with_their_note():
    effects = effects_of(deb("update-mime-database /usr/share/mime\n", name="shared-mime-info"))
    assert effects.notes == ("the shared MIME database isn't compiled",)


def test_refuses_settings_that_must_be_compiled():
    with pytest.raises(DebianError, match="GLib settings"):
        effects_of(deb("", files=["usr/share/glib-2.0/schemas/org.a.gschema.xml"]))


def test_reads_alternatives_with_slaves_and_continued_lines():
    script = SNIPPET.format(
        tool="dh_installalternatives",
        body="update-alternatives --install /usr/bin/vi vi /usr/bin/vim.tiny 15 \\\n"
        "  --slave /usr/bin/view view /usr/bin/vim.tiny \\\n  --slave '/x' y \"/z\"",
    )
    assert effects_of(deb(script)).alternatives == (
        Alternative(
            "usr/bin/vi",
            "vi",
            "usr/bin/vim.tiny",
            15,
            (("usr/bin/view", "view", "usr/bin/vim.tiny"), ("x", "y", "z")),
        ),
    )


def test_unrolls_loops_over_words():
    script = (
        "for prog in compare convert; do\n"
        "  update-alternatives --install /usr/bin/$prog $prog /usr/bin/${prog}-im6 10\ndone\n"
    )
    found = [(one.name, one.path) for one in effects_of(deb(script)).alternatives]
    assert found == [("compare", "usr/bin/compare-im6"), ("convert", "usr/bin/convert-im6")]


def test_ucf_copies_what_the_package_ships():
    script = SNIPPET.format(tool="dh_ucf", body='ucf --three-way "/usr/share/a/c" "/etc/c"')
    assert effects_of(deb(script, files=["usr/share/a/c"])).copies == (("usr/share/a/c", "etc/c"),)
    assert effects_of(deb(script)).copies == ()


def test_the_alternative_of_highest_priority_wins():
    exists = {path: file_entry(path, b"") for path in ("usr/bin/nano", "usr/bin/vim")}
    links = alternative_links(
        [
            Alternative("usr/bin/editor", "editor", "bin/nano", 40),
            Alternative("usr/bin/editor", "editor", "usr/bin/vim", 15),
            Alternative("usr/bin/gone", "gone", "usr/bin/missing", 99),
        ],
        exists,
    )
    assert {one.path: one.target for one in links} == {
        "usr/bin/editor": "/etc/alternatives/editor",
        "etc/alternatives/editor": "/usr/bin/nano",
    }
