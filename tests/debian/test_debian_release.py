"""The chain from a signature to the bytes of a package."""

from __future__ import annotations

from datetime import timedelta

import pysequoia
import pytest
from small_archive import NOW, SmallArchive, sign, trusted

from dockyard.debian.index import read_index
from dockyard.debian.mirror import Mirror
from dockyard.debian.package import fetch_packages
from dockyard.debian.release import SuiteMissingError, archive_keys, read_release
from dockyard.debian.solve import solve
from dockyard.errors import DebianError, FetchError


def release_of(archive, fetcher, **options):
    options = {"keys": trusted(), "now": NOW, **options}
    return read_release(archive.mirror, "main", "bookworm", fetcher=fetcher, **options)


def index_of(archive, fetcher):
    return read_index(
        "bookworm", "amd64", mirror=archive.mirror, fetcher=fetcher, keys=trusted(), now=NOW
    )


def test_a_signed_release_gives_its_hashes(archive, fetcher):
    archive.publish(valid_until=NOW + timedelta(days=1))
    release = release_of(archive, fetcher)
    assert release.codename == "bookworm"
    assert release.by_hash
    assert list(release.files) == ["main/binary-amd64/Packages.xz"]


def test_refuses_the_signature_of_a_stranger(archive, fetcher):
    archive.publish(key=pysequoia.Tsk.generate(user_id="A stranger <s@example.org>"))
    with pytest.raises(DebianError, match="no valid signature"):
        release_of(archive, fetcher)


def test_refuses_a_release_changed_after_signing(archive, fetcher):
    archive.publish()
    path = archive.root / "dists/bookworm/InRelease"
    path.write_bytes(path.read_bytes().replace(b"Origin: Test", b"Origin: Fake"))
    with pytest.raises(DebianError, match="no valid signature") as caught:
        release_of(archive, fetcher)
    assert "Stack" not in str(caught.value)


def test_refuses_a_release_without_a_signature(archive, fetcher):
    archive.publish()
    (archive.root / "dists/bookworm/InRelease").write_text("Codename: bookworm\n")
    with pytest.raises(DebianError, match="no valid signature"):
        release_of(archive, fetcher)


def test_text_outside_the_signature_is_not_read(archive, fetcher):
    archive.publish()
    path = archive.root / "dists/bookworm/InRelease"
    path.write_bytes(b"Codename: forky\n\n" + path.read_bytes())
    try:
        release = release_of(archive, fetcher)
    except DebianError:
        return
    assert release.codename == "bookworm"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"valid_until": NOW - timedelta(hours=1)}, "was valid until"),
        ({"date": NOW + timedelta(days=3)}, "in the future"),
        ({"date": None}, "has no Date"),
        ({"codename": "trixie"}, "that of trixie"),
    ],
)
def test_refuses_a_release_that_is_stale_or_another(archive, fetcher, options, message):
    archive.publish(**options)
    with pytest.raises(DebianError, match=message):
        release_of(archive, fetcher)


def test_a_snapshot_may_be_old(tmp_path, fetcher):
    archive = SmallArchive(tmp_path / "debian" / "20200101T000000Z")
    archive.publish(valid_until=NOW - timedelta(days=300), date=NOW - timedelta(days=310))
    assert release_of(archive, fetcher).codename == "bookworm"


def test_a_release_without_hashes_is_damaged(archive, fetcher):
    archive.publish()
    text = "Codename: bookworm\nDate: Sun, 01 Mar 2026 00:00:00 UTC\n"
    (archive.root / "dists/bookworm/InRelease").write_bytes(sign(text))
    with pytest.raises(DebianError, match="lists no SHA256"):
        release_of(archive, fetcher)


def test_a_missing_suite_is_named(archive, fetcher):
    with pytest.raises(SuiteMissingError, match="no suite bookworm"):
        release_of(archive, fetcher)


def test_the_shipped_keys_are_debians():
    names = {str(name) for key in archive_keys() for name in key.user_ids}
    for suite in ("12/bookworm", "13/trixie"):
        found = [name for name in names if suite in name]
        assert len(found) == 3, found


def test_refuses_an_index_that_is_not_the_signed_one(archive, fetcher):
    archive.add("hello")
    path = archive.publish()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(FetchError, match="SHA-256"):
        index_of(archive, fetcher)


def test_refuses_a_package_that_is_not_the_indexed_one(archive, fetcher):
    path = archive.add("hello")
    archive.publish()
    packages = solve(["hello"], index_of(archive, fetcher), architecture="amd64")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(FetchError, match="SHA-256"):
        fetch_packages(packages, mirror=archive.mirror, fetcher=fetcher)


def test_an_architecture_that_the_suite_lacks_is_named(archive, fetcher):
    archive.publish()
    with pytest.raises(DebianError, match="no packages for riscv64"):
        read_index(
            "bookworm", "riscv64", mirror=archive.mirror, fetcher=fetcher, keys=trusted(), now=NOW
        )


def test_updates_and_security_are_read_too(tmp_path, fetcher):
    main = SmallArchive(tmp_path / "debian")
    security = SmallArchive(tmp_path / "debian-security")
    main.add("hello", "1.0")
    main.add("hello", "1.1", suite="bookworm-updates")
    security.add("hello", "1.2", suite="bookworm-security")
    main.publish()
    main.publish("bookworm-updates")
    security.publish("bookworm-security")
    main.mirror = Mirror(main=main.mirror.main, security=security.mirror.main, origin="a test")
    (package,) = solve(["hello"], index_of(main, fetcher), architecture="amd64")
    assert (package.version, package.archive) == ("1.2", "security")
    found = fetch_packages([package], mirror=main.mirror, fetcher=fetcher)
    assert found[package.sha256].is_relative_to(security.root)


def test_a_missing_security_archive_is_an_error(archive, fetcher, tmp_path):
    archive.publish()
    archive.mirror = Mirror(
        main=archive.mirror.main, security=(tmp_path / "none").as_uri(), origin="a test"
    )
    with pytest.raises(SuiteMissingError, match="bookworm-security"):
        index_of(archive, fetcher)
