"""What is out of support, and which Pythons a framework has wheels for: tables of facts.

Sources: the projects' own release calendars and the wheels on the package index, as of November
2026. A version that a table doesn't name gives no finding.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

_D = datetime.date


@dataclass(frozen=True, slots=True)
class Ended:
    """A line of releases that gets no fixes since `day`."""

    what: str
    day: datetime.date
    instead: str


# Image, pattern of its tag: a day.
_IMAGES: tuple[tuple[str, str, Ended], ...] = (
    ("python", r"2(\.7)?\b", Ended("Python 2", _D(2020, 1, 1), "python:3.12-slim")),
    ("python", r"3\.[0-5]\b", Ended("this Python", _D(2020, 9, 30), "python:3.12-slim")),
    ("python", r"3\.6\b", Ended("Python 3.6", _D(2021, 12, 23), "python:3.12-slim")),
    ("python", r"3\.7\b", Ended("Python 3.7", _D(2023, 6, 27), "python:3.12-slim")),
    ("python", r"3\.8\b", Ended("Python 3.8", _D(2024, 10, 7), "python:3.12-slim")),
    ("python", r"3\.9\b", Ended("Python 3.9", _D(2025, 10, 31), "python:3.12-slim")),
    ("python", r"3\.10\b", Ended("Python 3.10", _D(2026, 10, 31), "python:3.12-slim")),
    ("ubuntu", r"(14|16)\.04|trusty|xenial", Ended("this Ubuntu", _D(2021, 4, 30), "ubuntu:24.04")),
    ("ubuntu", r"18\.04|bionic", Ended("Ubuntu 18.04", _D(2023, 5, 31), "ubuntu:24.04")),
    ("ubuntu", r"20\.04|focal", Ended("Ubuntu 20.04", _D(2025, 5, 31), "ubuntu:24.04")),
    ("debian", r"(jessie|stretch|8|9)\b", Ended("this Debian", _D(2022, 6, 30), "debian:trixie")),
    ("debian", r"(buster|10)\b", Ended("Debian 10", _D(2024, 6, 30), "debian:trixie")),
    ("debian", r"(bullseye|11)\b", Ended("Debian 11", _D(2026, 8, 31), "debian:trixie")),
    ("centos", r"", Ended("CentOS Linux", _D(2024, 6, 30), "almalinux:9")),
    ("tensorflow/tensorflow", r"1\.", Ended("TensorFlow 1", _D(2021, 7, 1), "a current release")),
    (
        "tensorflow/tensorflow",
        r"2\.[0-9]\.",
        Ended("this TensorFlow", _D(2023, 7, 1), "2.16 or newer"),
    ),
    (
        "tensorflow/tensorflow",
        r"2\.1[0-3]\.",
        Ended("this TensorFlow", _D(2025, 1, 1), "2.16 or newer"),
    ),
    ("pytorch/pytorch", r"(0|1)\.", Ended("PyTorch 1", _D(2023, 10, 1), "PyTorch 2")),
    ("nvidia/cuda", r"([789]|10)\.", Ended("this CUDA", _D(2022, 5, 1), "CUDA 12")),
    ("postgres", r"(9\.\d|10)\b", Ended("this PostgreSQL", _D(2022, 11, 10), "postgres:17")),
    ("postgres", r"11\b", Ended("PostgreSQL 11", _D(2023, 11, 9), "postgres:17")),
    ("postgres", r"12\b", Ended("PostgreSQL 12", _D(2024, 11, 21), "postgres:17")),
    ("postgres", r"13\b", Ended("PostgreSQL 13", _D(2025, 11, 13), "postgres:17")),
    ("postgres", r"14\b", Ended("PostgreSQL 14", _D(2026, 11, 12), "postgres:17")),
    ("mysql", r"5\.", Ended("MySQL 5", _D(2023, 10, 31), "mysql:8.4")),
    ("mysql", r"8\.0\b", Ended("MySQL 8.0", _D(2026, 4, 30), "mysql:8.4")),
    ("redis", r"[2-5]\b", Ended("this Redis", _D(2022, 4, 30), "redis:7.4")),
    ("redis", r"6\b", Ended("Redis 6", _D(2025, 9, 1), "redis:7.4")),
    ("mongo", r"[34]\b", Ended("this MongoDB", _D(2024, 2, 29), "mongo:7")),
    ("mongo", r"5\b", Ended("MongoDB 5", _D(2024, 10, 31), "mongo:7")),
    ("node", r"(8|10|12|14)\b", Ended("this Node.js", _D(2023, 4, 30), "node:22")),
    ("node", r"16\b", Ended("Node.js 16", _D(2023, 9, 11), "node:22")),
    ("node", r"18\b", Ended("Node.js 18", _D(2025, 4, 30), "node:22")),
    ("elasticsearch", r"[2-7]\.", Ended("this Elasticsearch", _D(2026, 1, 15), "elasticsearch:8")),
)
# Package: the first series that still gets fixes.
_PACKAGES: dict[str, tuple[tuple[int, int], Ended]] = {
    "tensorflow": ((2, 14), Ended("this TensorFlow", _D(2025, 1, 1), "TensorFlow 2.16 or newer")),
    "tensorflow-gpu": ((9, 9), Ended("tensorflow-gpu", _D(2022, 12, 31), "tensorflow[and-cuda]")),
    "torch": ((2, 0), Ended("PyTorch 1", _D(2023, 10, 1), "PyTorch 2")),
    "keras": ((2, 0), Ended("this Keras", _D(2018, 1, 1), "Keras 3")),
    "mxnet": ((9, 9), Ended("MXNet", _D(2023, 9, 1), "another framework")),
    "django": ((4, 2), Ended("this Django", _D(2024, 4, 1), "Django 5.2")),
    "flask": ((2, 0), Ended("this Flask", _D(2021, 11, 1), "Flask 3")),
}

# Package, first series: the first and last Python that its wheels are for.
_WHEELS: dict[str, tuple[tuple[tuple[int, int], int, int], ...]] = {
    "torch": (
        *(((1, 5), 5, 8), ((1, 8), 6, 9), ((1, 11), 7, 10), ((1, 13), 7, 11), ((2, 0), 8, 11)),
        *(((2, 2), 8, 12), ((2, 5), 9, 13), ((2, 9), 10, 14)),
    ),
    "tensorflow": (
        *(((1, 13), 5, 7), ((2, 0), 5, 7), ((2, 2), 5, 8), ((2, 5), 6, 9), ((2, 7), 7, 9)),
        *(((2, 8), 7, 10), ((2, 12), 8, 11), ((2, 14), 9, 11), ((2, 16), 9, 12), ((2, 20), 9, 13)),
    ),
    "numpy": (
        *(((1, 19), 6, 9), ((1, 21), 7, 10), ((1, 22), 8, 10), ((1, 23), 8, 11), ((1, 25), 9, 11)),
        *(((1, 26), 9, 12), ((2, 0), 9, 12), ((2, 1), 10, 13), ((2, 3), 11, 14)),
    ),
    "scikit-learn": (
        *(((0, 24), 6, 9), ((1, 0), 7, 10), ((1, 1), 8, 11), ((1, 3), 8, 12), ((1, 5), 9, 13)),
        ((1, 7), 10, 14),
    ),
    "onnxruntime": (
        *(((1, 8), 6, 9), ((1, 11), 6, 10), ((1, 14), 7, 11), ((1, 17), 8, 12), ((1, 20), 10, 13)),
        ((1, 23), 10, 14),
    ),
}
# Newer series than these say nothing: the tables would go stale.
_NEWEST = {
    "torch": (2, 9),
    "tensorflow": (2, 20),
    "numpy": (2, 3),
    "scikit-learn": (1, 7),
    "onnxruntime": (1, 23),
}
_SUITES = {
    "ubuntu": {
        "18.04": 6,
        "20.04": 8,
        "22.04": 10,
        "24.04": 12,
        "focal": 8,
        "jammy": 10,
        "noble": 12,
    },
    "debian": {
        "buster": 7,
        "bullseye": 9,
        "bookworm": 11,
        "trixie": 13,
        "11": 9,
        "12": 11,
        "13": 13,
    },
}


def ended_image(name: str, tag: str, today: datetime.date) -> Ended | None:
    """The end of an image's support, when it is past."""
    for image, pattern, ended in _IMAGES:
        if name == image and re.match(pattern, tag) and ended.day <= today:
            return ended
    # Suites stand behind the version in many images' tags.
    for suite, known in (("buster", 10), ("stretch", 9), ("bullseye", 11)):
        if re.search(rf"(?:^|-){suite}\b", tag):
            return ended_image("debian", str(known), today)
    match = re.search(r"ubuntu(\d\d\.\d\d)", tag)
    return ended_image("ubuntu", match[1], today) if match else None


def ended_package(name: str, series: tuple[int, int] | None, today: datetime.date) -> Ended | None:
    """The end of a package's support, when it is past."""
    known = _PACKAGES.get(name)
    if known is None:
        return None
    first, ended = known
    past = first == (9, 9) or (series is not None and series < first)
    return ended if past and ended.day <= today else None


def python_of(image: str, tag: str) -> int | None:
    """The minor version of the Python 3 in a base; None where it can't be told."""
    if image == "python":
        match = re.match(r"3\.(\d+)", tag)
        return int(match[1]) if match else None
    match = re.search(r"(?:python|py)3\.?(\d{1,2})\b", tag)
    if match:
        return int(match[1])
    for suite, minor in _SUITES.get(image, {}).items():
        if re.match(rf"{re.escape(suite)}\b", tag):
            return minor
    match = re.search(r"ubuntu(\d\d\.\d\d)", tag)
    return _SUITES["ubuntu"].get(match[1]) if match else None


def wheels_for(name: str, series: tuple[int, int]) -> tuple[int, int] | None:
    """The first and last minor version of Python 3 that a release has wheels for."""
    rows = _WHEELS.get(name)
    if rows is None or series > _NEWEST[name]:
        return None
    found = [(first, last) for start, first, last in rows if start <= series]
    return found[-1] if found else None
