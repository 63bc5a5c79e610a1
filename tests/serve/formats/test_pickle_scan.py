"""Pickles are read without being run, wherever in a file they hide."""

from __future__ import annotations

import collections
import io
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockyard_serve.formats.pickles import UnreadablePickle, globals_of, pickles_in

RUN = []


def remember(word: str) -> None:
    RUN.append(word)


class Runs:
    def __reduce__(self):
        return remember, ("ran",)


class Sets:
    def __init__(self) -> None:
        self.inner = Runs()

    def __setstate__(self, state):
        remember("state")


HERE = f"{__name__}."


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_names_what_would_run_and_runs_nothing(protocol):
    data = pickle.dumps([Runs(), {"a": Sets()}, 1.5], protocol)
    assert {f"{HERE}remember", f"{HERE}Sets"} <= globals_of(data)
    assert RUN == []
    pickle.loads(data)
    assert RUN == ["ran", "ran", "state"]
    RUN.clear()


@pytest.mark.parametrize("protocol", range(4, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_names_nothing(protocol):
    data = [1, "a", b"b", {"c": (2.5, None)}, {3, 4}, frozenset([5]), True]
    assert globals_of(pickle.dumps(data, protocol)) == frozenset()


def test_names_the_globals_of_common_containers():
    value = collections.OrderedDict(a=np.arange(3))
    assert "collections.OrderedDict" in globals_of(pickle.dumps(value))


# What it is, the bytes.
UNREADABLE = [
    ("cut off", pickle.dumps(Runs())[:-5]),
    ("no pickle", b"\x80\x05hello"),
    ("empty", b""),
    ("a global that isn't text", b"\x80\x04K\x01K\x02\x93."),
    ("an unhashable key", b"\x80\x04}]]s."),
    ("an extension's code", b"\x80\x02\x82\x07."),
]


@pytest.mark.parametrize(("what", "data"), UNREADABLE, ids=[row[0] for row in UNREADABLE])
def test_what_cannot_be_read_to_its_end_is_not_called_harmless(what, data):
    with pytest.raises(UnreadablePickle):
        globals_of(data)


@given(st.binary(max_size=200))
def test_any_bytes_end_in_names_or_in_its_own_error(data):
    try:
        found = globals_of(data)
    except UnreadablePickle:
        return
    assert all("." in name for name in found)


def zipped(entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


# What it is, how the pickle is hidden in a file.
HIDDEN = [
    ("the file itself", lambda data: data),
    ("in a zip", lambda data: zipped({"m/data.pkl": data})),
    ("under another name", lambda data: zipped({"m/weights.bin": data})),
    ("in a zip in a zip", lambda data: zipped({"m/inner.pt": zipped({"x/data.pkl": data})})),
    ("beside harmless ones", lambda data: zipped({"a.pkl": pickle.dumps(1), "b.pkl": data})),
]


@pytest.mark.parametrize(("what", "hide"), HIDDEN, ids=[row[0] for row in HIDDEN])
def test_finds_a_pickle(tmp_path, what, hide):
    path = tmp_path / "model.pt"
    path.write_bytes(hide(pickle.dumps(Runs())))
    named = {name for _, data in pickles_in(path) for name in globals_of(data)}
    assert named == {f"{HERE}remember"}


def test_refuses_zips_that_are_nested_without_end(tmp_path):
    data = pickle.dumps(Runs())
    for _ in range(8):
        data = zipped({"inner.zip": data})
    (tmp_path / "model.pt").write_bytes(data)
    with pytest.raises(UnreadablePickle, match="deep"):
        list(pickles_in(tmp_path / "model.pt"))
