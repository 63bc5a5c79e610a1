"""Where mirrors come from: the configuration, the environment, apt's files."""

from __future__ import annotations

import pytest

from dockyard.debian.mirror import find_mirror, parse_mirror
from dockyard.errors import DebianError


@pytest.mark.parametrize(
    ("text", "main", "security"),
    [
        ("http://m.example/debian/", "http://m.example/debian", "http://m.example/debian-security"),
        ("http://a.example/d http://b.example/s", "http://a.example/d", "http://b.example/s"),
        ("https://m.example/stuff", "https://m.example/stuff", None),
        (
            "http://snapshot.example/archive/debian/20260101T000000Z",
            "http://snapshot.example/archive/debian/20260101T000000Z",
            "http://snapshot.example/archive/debian-security/20260101T000000Z",
        ),
    ],
)
def test_security_lies_beside_debian_unless_it_is_named(text, main, security):
    mirror = parse_mirror(text, origin="a test")
    assert (mirror.main, mirror.security) == (main, security)


def test_only_a_path_with_a_time_stamp_is_a_snapshot():
    assert parse_mirror("http://s.example/debian/20260101T000000Z", origin="x").is_snapshot
    assert not parse_mirror("http://s.example/debian", origin="x").is_snapshot


@pytest.mark.parametrize("text", ["m.example/debian", "http://a http://b http://c", "ftp://m/d"])
def test_refuses_what_is_no_mirror(text):
    with pytest.raises(DebianError, match="no Debian mirror"):
        parse_mirror(text, origin="dockyard.toml")


def test_a_mirror_without_security_says_so():
    with pytest.raises(DebianError, match="no security archive"):
        parse_mirror("https://m.example/stuff", origin="x").url("security")


def test_the_configuration_wins_over_the_environment_over_apt(tmp_path):
    (tmp_path / "sources.list").write_text("deb http://apt.example/debian trixie main\n")
    environ = {"DOCKYARD_DEBIAN_MIRROR": "http://env.example/debian"}
    found = find_mirror("http://conf.example/debian", environ=environ, apt=tmp_path)
    assert found.main == "http://conf.example/debian"
    assert find_mirror(environ=environ, apt=tmp_path).main == "http://env.example/debian"
    found = find_mirror(environ={}, apt=tmp_path)
    assert found.main == "http://apt.example/debian"
    assert found.origin == str(tmp_path / "sources.list")


DEB822 = """
# comment
Types: deb deb-src
URIs: http://m.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://sec.example/
Suites: bookworm-security
Components: main
"""


@pytest.mark.parametrize(
    ("name", "text", "main", "security"),
    [
        pytest.param(
            "sources.list.d/debian.sources",
            DEB822,
            "http://m.example/debian",
            "http://sec.example",
            id="deb822",
        ),
        pytest.param(
            "sources.list",
            "deb [arch=amd64 signed-by=/x.gpg] http://vendor.example/debian bookworm main\n"
            "deb http://m.example/debian bookworm main  # ours\n"
            "deb http://m.example/debian bookworm-updates main\n",
            "http://m.example/debian",
            "http://m.example/debian-security",
            id="a vendor's suite of the same name",
        ),
        pytest.param(
            "sources.list.d/u.sources",
            "Types: deb\nURIs: http://u.example/ubuntu\nSuites: noble\nComponents: main\n",
            None,
            None,
            id="Ubuntu",
        ),
        pytest.param("sources.list", "deb cdrom:[x]/ bookworm main\n", None, None, id="a disc"),
        pytest.param(
            "sources.list.d/off.sources",
            "Enabled: no\nTypes: deb\nURIs: http://m.example/debian\nSuites: sid\n"
            "Components: main\n",
            None,
            None,
            id="switched off",
        ),
        pytest.param(
            "sources.list.d/x.sources.disabled",
            DEB822,
            None,
            None,
            id="a file that apt doesn't read",
        ),
    ],
)
def test_reads_apt_sources(tmp_path, name, text, main, security):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    found = find_mirror(environ={}, apt=tmp_path)
    if main is None:
        assert found is None
    else:
        assert (found.main, found.security) == (main, security)
