"""References: Docker's grammar, by tables of good and bad ones."""

import pytest

from dockyard.errors import ImageError
from dockyard.oci.reference import Reference

SHA = "sha256:" + "0123456789abcdef" * 4
SHA512 = "sha512:" + "0123456789abcdef" * 8


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("python", "docker.io/library/python:latest", "python:latest"),
        ("python:3.12-slim", "docker.io/library/python:3.12-slim", "python:3.12-slim"),
        ("library/python", "docker.io/library/python:latest", "python:latest"),
        ("docker.io/python", "docker.io/library/python:latest", "python:latest"),
        ("index.docker.io/python", "docker.io/library/python:latest", "python:latest"),
        ("ada/app:v1", "docker.io/ada/app:v1", "ada/app:v1"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        ("LOCAL/app", "LOCAL/app:latest", "LOCAL/app:latest"),
        ("gcr.io/a/b/c:x.Y_z-1", "gcr.io/a/b/c:x.Y_z-1", "gcr.io/a/b/c:x.Y_z-1"),
        ("10.0.0.1:443/a", "10.0.0.1:443/a:latest", "10.0.0.1:443/a:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        (f"a@{SHA}", f"docker.io/library/a@{SHA}", f"a@{SHA}"),
        (f"a:t@{SHA}", f"docker.io/library/a:t@{SHA}", f"a:t@{SHA}"),
        (f"r.io:1/a:t@{SHA}", f"r.io:1/a:t@{SHA}", f"r.io:1/a:t@{SHA}"),
        ("a__b/c--d/e.f_g", "docker.io/a__b/c--d/e.f_g:latest", "a__b/c--d/e.f_g:latest"),
        ("a:" + "t" * 128, "docker.io/library/a:" + "t" * 128, "a:" + "t" * 128),
        ("r.io/" + "a" * 250, "r.io/" + "a" * 250 + ":latest", "r.io/" + "a" * 250 + ":latest"),
        ("sha256:abc", "docker.io/library/sha256:abc", "sha256:abc"),
        ("a" * 63, "docker.io/library/" + "a" * 63 + ":latest", "a" * 63 + ":latest"),
        ("a" * 65, "docker.io/library/" + "a" * 65 + ":latest", "a" * 65 + ":latest"),
        ("r.io/" + "0" * 64, "r.io/" + "0" * 64 + ":latest", "r.io/" + "0" * 64 + ":latest"),
        ("localhost:5000/a:1", "localhost:5000/a:1", "localhost:5000/a:1"),
        ("r.io:5000/a/b:1", "r.io:5000/a/b:1", "r.io:5000/a/b:1"),
        ("R.io/a", "R.io/a:latest", "R.io/a:latest"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("docker.io/ada/app", "docker.io/ada/app:latest", "ada/app:latest"),
        ("a:_", "docker.io/library/a:_", "a:_"),
        ("a:1.2.3-rc_1", "docker.io/library/a:1.2.3-rc_1", "a:1.2.3-rc_1"),
        ("0/0:0", "docker.io/0/0:0", "0/0:0"),
        ("a---b", "docker.io/library/a---b:latest", "a---b:latest"),
        ("xn--n3h.com/a", "xn--n3h.com/a:latest", "xn--n3h.com/a:latest"),
        ("[2001:db8::1]/a:b", "[2001:db8::1]/a:b", "[2001:db8::1]/a:b"),
        (f"a@{SHA512}", f"docker.io/library/a@{SHA512}", f"a@{SHA512}"),
    ],
)
def test_parses_what_docker_parses(text: str, full: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == full
    assert reference.familiar() == familiar
    assert Reference.parse(full) == reference
    assert Reference.parse(familiar) == reference


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no repository name"),
        (" python", "no repository name"),
        ("python ", "no repository name"),
        ("Python", "lower case"),
        ("ada/App", "lower case"),
        ("python:", "tag"),
        ("python:-x", "tag"),
        ("python:.x", "tag"),
        ("python:a b", "tag"),
        ("python:" + "t" * 129, "tag"),
        ("a:1:2", "no repository name"),
        (":tag", "no repository name"),
        ("/a", "no repository name"),
        ("a/", "no repository name"),
        ("a//b", "no repository name"),
        ("a/-b", "no repository name"),
        ("a/b_", "no repository name"),
        ("a..b", "no repository name"),
        ("a___b", "no repository name"),
        ("-a", "no repository name"),
        ("ä", "no repository name"),
        ("http://r.io/a", "no registry's name"),
        ("r..io/a", "no registry's name"),
        ("r.io:/a", "no registry's name"),
        ("r.io:x/a", "no registry's name"),
        ("-r.io/a", "no registry's name"),
        ("a" * 256, "255"),
        ("r.io/" + "a" * 251, "255"),
        ("0123456789abcdef" * 4, "image ID"),
        ("a@", "no digest"),
        ("a@sha256:123", "no digest"),
        ("a@" + SHA.upper(), "no digest"),
        (f"a@{SHA}@{SHA}", "no digest"),
        ("a@md5:" + "0" * 32, "no digest"),
        ("a\n", "no repository name"),
        ("a\0b", "no repository name"),
        ("a:b\0", "tag"),
        ("a:\u0660", "tag"),
        ("a\u200b", "no repository name"),
        ("../a", "no registry's name"),
        ("a/../b", "no repository name"),
        ("a/./b", "no repository name"),
        ("a/b?c=d", "no repository name"),
        ("a/b#c", "no repository name"),
        ("a/%2e%2e/b", "no repository name"),
        ("a\\b", "no repository name"),
        ("r.io/a b", "no repository name"),
        ("user:pass@r.io/a", "no digest"),
        ("https://r.io/a", "no registry's name"),
        ("r_x.io/a", "no registry's name"),
        ("r.io-/a", "no registry's name"),
        (".io/a", "no registry's name"),
        ("r.io./a", "no registry's name"),
        ("r.io:5000:1/a", "no registry's name"),
        ("r.io:５/a", "no registry's name"),
        ("[::1/a", "no registry's name"),
        ("[::g]:5000/a", "no registry's name"),
        ("localhost:/a", "no registry's name"),
        ("r.io/", "no repository name"),
        ("r.io/:tag", "no repository name"),
        ("a" * 2000, "2000 characters"),
        ("a@sha256", "no digest"),
        ("a@:" + "0" * 64, "no digest"),
        ("a@sha256:" + "0" * 63, "no digest"),
        ("a@sha256:" + "0" * 65, "no digest"),
        ("a@sha512:" + "0" * 64, "no digest"),
        ("a@sha256:" + "g" * 64, "no digest"),
        ("a@sha256+b64:" + "0" * 64, "no digest"),
        ("@" + SHA, "no repository name"),
        (":" + SHA, "no repository name"),
        ("a:b\n", "tag"),
    ],
)
def test_refuses_what_docker_refuses(text: str, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        Reference.parse(text)
