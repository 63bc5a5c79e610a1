"""pip's and uv's settings, as a resolution uses them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from index_server import IndexServer
from lock_project import Project, versions
from tiny_index import TinyIndex

from dockyard.errors import ResolveError
from dockyard.wheels.credentials import Credentials, without_credentials
from dockyard.wheels.pylock import format_pylock
from dockyard.wheels.settings import gather_settings


def conf(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_pips_files_and_variables_win_in_pips_order(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_CONFIG_FILE")
    monkeypatch.setenv("VIRTUAL_ENV", str(bare / "venv"))

    def index() -> str | None:
        return gather_settings(tmp_path).index_url

    assert index() is None
    conf(bare / "etc" / "pip" / "pip.conf", "[global]\nindex-url = https://global/simple\n")
    assert index() == "https://global/simple"
    conf(bare / ".pip" / "pip.conf", "[global]\nindex_url = https://legacy/simple\n")
    assert index() == "https://legacy/simple"
    user = conf(
        bare / ".config" / "pip" / "pip.conf", "[global]\nindex-url = https://user/simple\n"
    )
    assert index() == "https://user/simple"
    user.write_text(user.read_text() + "[install]\nindex-url = https://install/simple\n")
    assert index() == "https://install/simple"
    conf(bare / "venv" / "pip.conf", "[global]\nindex-url = https://site/simple\n")
    assert index() == "https://site/simple"
    named = conf(tmp_path / "named.conf", "[global]\nindex-url = https://named/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(named))
    assert index() == "https://named/simple"
    monkeypatch.setenv("PIP_INDEX_URL", "https://variable/simple")
    assert index() == "https://variable/simple"
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert index() is None


def test_a_named_file_turns_off_the_users(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf(bare / ".config" / "pip" / "pip.conf", "[global]\nextra-index-url = https://user/simple\n")
    named = conf(tmp_path / "named.conf", "[global]\nindex-url = https://named/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(named))
    assert gather_settings(tmp_path).extra_index_urls == ()


def test_every_setting_reaches_uv(bare: Path, tmp_path: Path) -> None:
    environ = {
        "HOME": str(bare),
        "PIP_CONFIG_FILE": str(
            conf(
                tmp_path / "pip.conf",
                "[global]\nindex-url = https://me:geheim@one/simple\n"
                "extra-index-url =\n    https://two/simple\n    https://three/simple\n"
                "find-links = wheels https://four/links\nconstraint = limits.txt\n"
                "cert = ca.pem\nclient-cert = me.pem\ntrusted-host = five six:8080\n"
                "timeout = 40\npre = yes\n",
            )
        ),
    }
    settings = gather_settings(tmp_path, environ, cwd=tmp_path)
    env = settings.environment({})
    assert env["UV_DEFAULT_INDEX"] == "https://me:geheim@one/simple"
    assert env["UV_INDEX"] == "https://two/simple https://three/simple"
    assert env["UV_FIND_LINKS"] == f"{tmp_path / 'wheels'},https://four/links"
    assert env["SSL_CERT_FILE"] == str(tmp_path / "ca.pem")
    assert env["SSL_CLIENT_CERT"] == str(tmp_path / "me.pem")
    assert env["UV_HTTP_TIMEOUT"] == "40"
    arguments = settings.arguments()
    assert arguments[arguments.index("--constraints") + 1] == str(tmp_path / "limits.txt")
    assert arguments[arguments.index("six:8080") - 1] == "--allow-insecure-host"
    assert arguments[arguments.index("--prerelease") + 1] == "allow"
    assert arguments[arguments.index("--index-strategy") + 1] == "unsafe-best-match"
    assert not any("geheim" in text for text in [*arguments, *settings.redacted(), repr(settings)])


def test_uvs_own_indexes_are_not_overruled(bare: Path, tmp_path: Path) -> None:
    environ = {
        "HOME": str(bare),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "https://pip/simple",
        "PIP_EXTRA_INDEX_URL": "https://pip/extra",
        "PIP_FIND_LINKS": "https://pip/links",
    }

    def passed() -> set[str]:
        env = gather_settings(tmp_path, environ).environment({})
        return {name for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS") if name in env}

    assert passed() == {"UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS"}
    pyproject = conf(tmp_path / "pyproject.toml", '[tool.uv]\nindex-url = "https://uv/simple"\n')
    assert passed() == {"UV_INDEX", "UV_FIND_LINKS"}
    pyproject.write_text('[[tool.uv.index]]\nname = "x"\nurl = "https://uv/simple"\n')
    assert passed() == {"UV_DEFAULT_INDEX", "UV_FIND_LINKS"}
    pyproject.unlink()
    conf(bare / ".config" / "uv" / "uv.toml", 'find-links = ["https://uv/links"]\n')
    assert passed() == {"UV_DEFAULT_INDEX", "UV_INDEX"}
    environ["UV_DEFAULT_INDEX"] = "https://variable/simple"
    assert passed() == {"UV_INDEX"}


def test_uv_reads_its_own_configuration(
    project: Project, index: TinyIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    project.write("uv.toml", f'index-url = "{index.url}"\nconstraint-dependencies = []\n')
    assert versions(project.requirements("alpha<2\n")) == {"alpha": "1.0"}


def test_a_broken_pip_conf_is_named(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = conf(tmp_path / "pip.conf", "index-url = x\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(broken))
    with pytest.raises(ResolveError, match="pip's configuration can't be read") as caught:
        gather_settings(tmp_path)
    assert caught.value.where == f"{broken}:1"


def test_pip_conf_decides_what_is_resolved(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Extra indexes, links and constraints in one pip.conf; the best version wins anywhere."""
    extra = TinyIndex(tmp_path / "extra")
    extra.wheel("alpha", "4.0")
    extra.wheel("alpha", "5.0")
    links = TinyIndex(tmp_path / "links")
    links.wheel("linked", "1.0", requires=["alpha"])
    limits = project.write("limits.txt", "alpha<5\n")
    named = conf(
        tmp_path / "pip.conf",
        f"[global]\nextra-index-url = {extra.url}\nfind-links = {links.root / 'files'}\n"
        f"constraint = {limits}\n",
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(named))
    assert versions(project.requirements("linked\n")) == {"alpha": "4.0", "linked": "1.0"}
    limits.write_text("alpha<4\n")
    assert versions(project.requirements("linked\n")) == {
        "alpha": "2.0",
        "beta": "2.0",
        "linked": "1.0",
    }


def test_the_files_own_index_takes_the_place_of_pips(
    project: Project, index: TinyIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    lock = project.requirements(f"--index-url {index.url}\nalpha<2\n")
    assert versions(lock) == {"alpha": "1.0"}


def everything_written(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "way", ["pip's index", "pip's extra index", "uv's index", "the file's index"]
)
def test_credentials_open_the_index_and_stay_out_of_everything_else(
    project: Project, index: TinyIndex, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    with IndexServer(index.root, user="me", password="geh/eim@is") as server:
        url = server.url_with_credentials
        text = "alpha<2\n"
        if way == "pip's index":
            monkeypatch.setenv("PIP_INDEX_URL", url)
        elif way == "pip's extra index":
            empty = TinyIndex(index.root.parent / "empty")
            empty.wheel("other", "1.0")
            monkeypatch.setenv("PIP_INDEX_URL", empty.url)
            monkeypatch.setenv("PIP_EXTRA_INDEX_URL", url)
        elif way == "uv's index":
            monkeypatch.setenv("UV_DEFAULT_INDEX", url)
        else:
            monkeypatch.setenv("INDEX_TOKEN", server.userinfo)
            text = f"--index-url {server.url.replace('://', '://${INDEX_TOKEN}@')}\n{text}"
        lock = project.requirements(text)
        assert versions(lock) == {"alpha": "1.0"}
        assert all(request.authorized for request in server.requests)
        # The download needs them again: the wheel's URL carries them, unseen.
        assert lock.wheels[0].url.startswith(f"http://{server.userinfo}@")
        shown = [repr(lock), format_pylock([lock], project.root), *project.heard.warnings]
        shown.append(everything_written(project.cache.root / "records").decode())
        with pytest.raises(ResolveError) as caught:
            project.requirements(text + "nosuch\n")
        shown.append(str(caught.value))
        assert server.secret not in "".join(shown)
        assert server.userinfo not in "".join(shown)


def test_a_refused_password_is_one_message(
    project: Project, index: TinyIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    with IndexServer(index.root, user="me", password="right") as server:
        monkeypatch.setenv("PIP_INDEX_URL", server.url.replace("://", "://me:falsch@"))
        with pytest.raises(ResolveError) as caught:
            project.requirements("alpha\n")
    text = str(caught.value)
    assert "refuses access (HTTP 401)" in text
    assert "password" in text
    assert "falsch" not in text


def test_an_index_that_is_down_leaves_what_is_cached(
    project: Project, index: TinyIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    with IndexServer(index.root, user="me", password="right") as server:
        monkeypatch.setenv("PIP_INDEX_URL", server.url_with_credentials)
        project.requirements("alpha\nbeta\n")
    again = project.requirements("alpha\nbeta>=2\n")
    assert versions(again) == {"alpha": "2.0", "beta": "2.0"}
    assert any("resolved from what was cached" in text for text in project.heard.warnings)
    with pytest.raises(ResolveError, match="can't be reached"):
        project.requirements("gamma\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:pw@host/simple", "https://host/simple"),
        ("see https://tok@host:80/x and git+ssh://git@host/y", "see https://host:80/x and git+ssh://git@host/y"),
        ("https://me:p@w@host/simple", "https://host/simple"),
        ("https://host/a@b", "https://host/a@b"),
    ],
)  # fmt: skip
def test_urls_are_shown_without_credentials(text: str, expected: str) -> None:
    assert without_credentials(text) == expected


def test_credentials_go_only_to_their_own_origin() -> None:
    known = Credentials.of(["https://me:geheim@host:8443/simple"])
    assert known.authorize("https://host:8443/f.whl") == "https://me:geheim@host:8443/f.whl"
    for other in ("https://host/f.whl", "http://host:8443/f.whl", "https://evil/host:8443/f.whl"):
        assert known.authorize(other) == other
    assert known.redact("a geheim b") == "a *** b"
    assert "geheim" not in repr(known)


def test_settings_that_matter_change_the_fingerprint(bare: Path, tmp_path: Path) -> None:
    limits = conf(tmp_path / "limits.txt", "alpha<2\n")

    def fingerprint(**environ: str) -> str:
        base = {"HOME": str(bare), "PIP_CONFIG_FILE": os.devnull, "PIP_CONSTRAINT": str(limits)}
        return gather_settings(tmp_path, base | environ).fingerprint()

    plain = fingerprint()
    assert fingerprint() == plain
    assert fingerprint(UV_CACHE_DIR="/elsewhere", PIP_TIMEOUT="3") == plain
    assert fingerprint(PIP_INDEX_URL="https://a/simple") != plain
    assert fingerprint(PIP_INDEX_URL="https://u:1@a/s") == fingerprint(
        PIP_INDEX_URL="https://u:2@a/s"
    )
    assert fingerprint(UV_PRERELEASE="allow") != plain
    limits.write_text("alpha<3\n")
    assert fingerprint() != plain
