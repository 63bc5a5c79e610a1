"""Python classes behind HTTP: checked by their types, batched, async, streamed."""

from __future__ import annotations

import base64
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from dockyard_serve.errors import LoadError
from dockyard_serve.model import Source
from dockyard_serve.predictor import load_class

KINDS = """\
    import asyncio, enum, time
    from dataclasses import dataclass
    from typing import Annotated, Literal

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from pydantic import BaseModel, Field
    from typing_extensions import TypedDict

    from dockyard_serve.errors import InvalidInput
    from dockyard_serve.marks import File, batched

    class Size(enum.Enum):
        small = "small"
        large = "large"

    @dataclass
    class Box:
        x: int
        y: int
        label: str = ""

    class Point(TypedDict):
        x: float
        y: float

    class Settings(BaseModel):
        depth: int = Field(ge=1)

    class Everything:
        def setup(self):
            self.ready = True

        def predict(
            self,
            number: Annotated[float, Field(ge=0, le=1)],
            count: int = 3,
            word: str = "a",
            flag: bool = False,
            size: Size = Size.small,
            mode: Literal["fast", "good"] = "fast",
            words: list[str] = [],
            box: Box | None = None,
            point: Point | None = None,
            settings: Settings | None = None,
        ) -> dict:
            '''Say what came.

            Each by its type.'''
            assert self.ready
            return {
                "number": number, "count": count, "word": word, "flag": flag, "size": size,
                "mode": mode, "words": words, "box": box, "point": point, "settings": settings,
            }

    class Pictures:
        def predict(self, image: Image.Image, turn: bool = False) -> Image.Image:
            return image.convert("L").rotate(90, expand=True) if turn else image.convert("L")

    class Upload:
        def predict(self, first: File, more: list[File] = []) -> list[str]:
            return [f"{file.name} {file.media_type} {len(file.data)}" for file in [first, *more]]

    class Arrays:
        def predict(self, a: NDArray[np.float32], b: np.ndarray | None = None) -> dict:
            return {"a": a * 2, "type": str(a.dtype), "b": None if b is None else b.shape,
                    "nan": float("nan"), "scalar": np.float32(1.5)}

    class Together:
        def setup(self):
            self.sizes = []

        @batched(max_size=8)
        def predict(self, text: list[str], times: list[int] = 1) -> list[dict]:
            time.sleep(0.05)
            self.sizes.append(len(text))
            return [
                InvalidInput("is bad") if word == "bad" else {"text": word * n, "batch": len(text)}
                for word, n in zip(text, times)
            ]

    class Later:
        async def predict(self, seconds: float) -> str:
            await asyncio.sleep(seconds)
            return "slept"

    class Words:
        def predict(self, text: str):
            for word in text.split():
                if word == "stop":
                    raise InvalidInput("it says stop")
                yield word

    class LaterWords:
        async def predict(self, text: str):
            for word in text.split():
                await asyncio.sleep(0)
                yield {"word": word}

    class Raises:
        def predict(self, how: str) -> str:
            if how == "own":
                raise InvalidInput("how is wrong", name="how")
            raise RuntimeError("a secret of the server")

    def double(x: float) -> float:
        return 2 * x
    """


@pytest.fixture(scope="module")
def serve(start):
    running = {}

    def serve(name):
        if name not in running:
            running[name] = start(f"kinds:{name}", KINDS)
        return running[name]

    return serve


def png(size=(4, 3), colour="red"):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def form(*fields):
    """A multipart body of (name, value) or (name, value, file name, media type), and its type."""
    lines = []
    for name, value, *file in fields:
        disposition = f'Content-Disposition: form-data; name="{name}"'
        if file:
            disposition += f'; filename="{file[0]}"\r\nContent-Type: {file[1]}'
        data = value if isinstance(value, bytes) else value.encode()
        lines.append(b"--limit\r\n" + disposition.encode() + b"\r\n\r\n" + data + b"\r\n")
    return b"".join(lines) + b"--limit--\r\n", "multipart/form-data; boundary=limit"


def test_types_come_through_json(serve):
    sent = {
        "number": 0.25,
        "count": 7,
        "word": "ü",
        "flag": True,
        "size": "large",
        "mode": "good",
        "words": ["a", "b"],
        "box": {"x": 1, "y": 2, "label": "cat"},
        "point": {"x": 0.5, "y": 1.5},
        "settings": {"depth": 2},
    }
    assert serve("Everything").predict(**sent) == sent


def test_what_is_left_out_has_its_default(serve):
    found = serve("Everything").predict(number=1)
    assert (found["count"], found["size"], found["words"], found["box"]) == (3, "small", [], None)


def test_types_come_through_a_form(serve):
    body, kind = form(
        ("number", "0.25"),
        ("word", "7"),
        ("flag", "true"),
        ("size", "large"),
        ("words", "a"),
        ("words", "b"),
        ("box", '{"x": 1, "y": 2}'),
    )
    status, _, answer = serve("Everything").ask(body=body, Content_Type=kind)
    found = json.loads(answer)
    assert status == 200
    assert found["number"] == 0.25
    assert found["word"] == "7", "text stays text"
    assert found["words"] == ["a", "b"]
    assert found["box"] == {"x": 1, "y": 2, "label": ""}


def test_urlencoded_forms_are_read(serve):
    status, _, answer = serve("Everything").ask(
        body=b"number=0.5&word=a%20b&words=x", Content_Type="application/x-www-form-urlencoded"
    )
    assert status == 200
    assert json.loads(answer)["word"] == "a b"


def test_json_that_curl_calls_a_form_is_read(serve):
    status, _, answer = serve("Everything").ask(
        body=b' {"number": 0.5}', Content_Type="application/x-www-form-urlencoded"
    )
    assert (status, json.loads(answer)["number"]) == (200, 0.5)


# What it is, the body, the message.
WRONG = [
    ("missing", {}, "number is missing"),
    ("too large", {"number": 2}, "number: input should be less than or equal to 1"),
    ("not a number", {"number": "x"}, "number: input should be a valid number"),
    ("unknown", {"number": 1, "nmber": 1}, "nmber is no parameter of this model"),
    ("no choice", {"number": 1, "mode": "x"}, "mode: input should be 'fast' or 'good'"),
    ("nested", {"number": 1, "box": {"x": 1, "y": "a"}}, "y: input should be a valid integer"),
    ("a list", [1], "must be a JSON object"),
    ("no JSON", b"{", "the body isn't JSON"),
    ("NaN", b'{"number": NaN}', "the body isn't JSON"),
]


@pytest.mark.parametrize(("what", "body", "message"), WRONG, ids=[row[0] for row in WRONG])
def test_says_what_is_wrong_with_a_request(serve, what, body, message):
    assert message in serve("Everything").refusal(body)


def test_an_error_names_the_field(serve):
    status, _, body = serve("Everything").ask(body={"number": 2})
    assert (status, json.loads(body)["input"]) == (400, "number")


def test_a_picture_goes_in_and_comes_out(serve):
    server = serve("Pictures")
    body, kind = form(("image", png(), "a.png", "image/png"), ("turn", "true"))
    status, media_type, answer = server.ask(body=body, Content_Type=kind)
    assert (status, media_type) == (200, "image/png")
    assert Image.open(io.BytesIO(answer)).size == (3, 4)


def test_a_picture_in_json_is_base64_or_a_data_url(serve):
    text = base64.b64encode(png()).decode()
    for written in (text, f"data:image/png;base64,{text}"):
        status, media_type, _ = serve("Pictures").ask(body={"image": written})
        assert (status, media_type) == (200, "image/png")


def test_a_bare_picture_is_the_one_parameter_that_is_one(serve):
    status, _, answer = serve("Pictures").ask(body=png(), Content_Type="image/png")
    assert status == 200
    assert Image.open(io.BytesIO(answer)).size == (4, 3)


# What it is, the picture, the message.
NO_PICTURES = [
    ("text", b"hello", "isn't an image"),
    ("cut off", png((400, 300))[:200], "is a damaged image"),
    ("empty", b"", "isn't an image"),
]


@pytest.mark.parametrize(("what", "data", "message"), NO_PICTURES, ids=[r[0] for r in NO_PICTURES])
def test_what_is_no_picture_is_refused(serve, what, data, message):
    body, kind = form(("image", data, "a.png", "image/png"))
    assert message in serve("Pictures").refusal(body, Content_Type=kind)


def test_files_keep_name_type_and_bytes(serve):
    body, kind = form(
        ("first", b"\0\r\n--\xff", "ü.bin", "application/x-thing"),
        ("more", b"12", "b.txt", "text/plain"),
        ("more", b"345", "c.txt", "text/plain"),
    )
    status, _, answer = serve("Upload").ask(body=body, Content_Type=kind)
    assert status == 200
    assert json.loads(answer) == [
        "ü.bin application/x-thing 6",
        "b.txt text/plain 2",
        "c.txt text/plain 3",
    ]


# What it is, the body, its type, the message.
BAD_FORMS = [
    ("no boundary", b"x", "multipart/form-data", "no boundary"),
    (
        "cut off",
        form(("first", b"x", "a", "b/c"))[0][:-6],
        "multipart/form-data; boundary=limit",
        "the form",
    ),
    ("no form", b"hello", "multipart/form-data; boundary=limit", "the form"),
    ("no name", b"--l\r\nA: b\r\n\r\nx\r\n--l--\r\n", "multipart/form-data; boundary=l", "no name"),
]


@pytest.mark.parametrize(
    ("what", "body", "kind", "message"), BAD_FORMS, ids=[r[0] for r in BAD_FORMS]
)
def test_a_damaged_form_is_refused(serve, what, body, kind, message):
    assert message in serve("Upload").refusal(body, Content_Type=kind)


def test_a_body_of_another_type_is_refused(serve):
    status, _, body = serve("Everything").ask(body=b"<a/>", Content_Type="application/xml")
    assert (status, "can't be read" in json.loads(body)["error"]) == (415, True)


def test_arrays_go_in_and_come_out_and_nan_is_null(serve):
    found = serve("Arrays").predict(a=[[1, 2], [3, 4.5]])
    assert found == {
        "a": [[2, 4], [6, 9]],
        "type": "float32",
        "b": None,
        "nan": None,
        "scalar": 1.5,
    }


def test_an_npy_file_is_an_array_and_never_a_pickle(serve):
    plain, pickled = io.BytesIO(), io.BytesIO()
    np.save(plain, np.ones((2, 3)))
    np.save(pickled, np.array([{}], dtype=object))
    body, kind = form(("a", "[1]"), ("b", plain.getvalue(), "b.npy", "application/x-npy"))
    status, _, answer = serve("Arrays").ask(body=body, Content_Type=kind)
    assert (status, json.loads(answer)["b"]) == (200, [2, 3])
    body, kind = form(("a", "[1]"), ("b", pickled.getvalue(), "b.npy", "application/x-npy"))
    assert "b: isn't a .npy file" in serve("Arrays").refusal(body, Content_Type=kind)


@pytest.mark.parametrize("value", [[[1], [2, 3]], "abc", [{}], [None]])
def test_what_is_no_array_is_refused(serve, value):
    assert serve("Arrays").refusal({"a": value}).startswith("a: ")


def test_requests_that_wait_become_one_batch_and_keep_their_answers(serve):
    server, results = serve("Together"), {}

    def ask(number):
        results[number] = server.predict(text=f"t{number}.", times=number % 3 + 1)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(results[n]["text"] == f"t{n}." * (n % 3 + 1) for n in range(24))
    assert 1 < max(result["batch"] for result in results.values()) <= 8


def test_a_bad_item_fails_alone(serve):
    server, results = serve("Together"), {}

    def ask(word):
        results[word] = server.ask(body={"text": word})[0]

    threads = [threading.Thread(target=ask, args=(w,)) for w in ("a", "bad", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {"a": 200, "bad": 400, "b": 200, "c": 200}


def test_async_predictors_run_at_once(serve):
    server, results = serve("Later"), []
    threads = [
        threading.Thread(target=lambda: results.append(server.predict(seconds=0.5)))
        for _ in range(8)
    ]
    began = threading.active_count()
    for thread in threads:
        thread.start()
    # One after the other they would still be at it.
    for thread in threads:
        thread.join(3)
    assert results == ["slept"] * 8
    assert threading.active_count() == began


@pytest.mark.parametrize(
    ("name", "events"),
    [("Words", ['"a"', '"b"']), ("LaterWords", ['{"word":"a"}', '{"word":"b"}'])],
)
def test_generators_are_streamed_as_events(serve, name, events):
    status, media_type, body = serve(name).ask(body={"text": "a b"})
    assert (status, media_type) == (200, "text/event-stream")
    lines = [f"data: {event}" for event in events] + ["event: done\ndata: {}"]
    assert body.decode() == "\n\n".join(lines) + "\n\n"


def test_a_stream_that_fails_says_so_in_an_event(serve):
    _, _, body = serve("Words").ask(body={"text": "a stop b"})
    assert body.decode().split("\n\n")[1] == 'event: error\ndata: {"error":"it says stop"}'


def test_a_stream_that_fails_at_once_has_a_status(serve):
    assert serve("Words").refusal({"text": "stop"}) == "it says stop"


def test_who_asks_for_json_gets_a_list(serve):
    _, media_type, body = serve("Words").ask(body={"text": "a b"}, Accept="application/json")
    assert (media_type, json.loads(body)) == ("application/json", ["a", "b"])


def test_an_empty_stream_ends(serve):
    _, _, body = serve("Words").ask(body={"text": ""})
    assert body == b"event: done\ndata: {}\n\n"


def test_what_the_author_raises_for_the_client_reaches_it(serve):
    assert serve("Raises").refusal({"how": "own"}) == "how is wrong"


def test_other_exceptions_stay_in_the_log(serve):
    server = serve("Raises")
    status, _, body = server.ask(body={"how": "x"})
    assert status == 500
    assert b"secret" not in body
    assert "a secret of the server" in server.log.read_text()


def test_a_plain_function_is_served(serve):
    assert serve("double").predict(x=1.5) == 3


def test_a_predictor_says_that_it_takes_no_tensors(serve):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}
    status, _, body = serve("double").ask("/v2/models/double/infer", {"inputs": [tensor]})
    assert status == 400
    assert "no input 'x'" in json.loads(body)["error"]


# What it is, the code, what is said.
UNSERVABLE = [
    ("no class", "", "has no Thing"),
    ("a syntax error", "class Thing(:", "SyntaxError"),
    ("a missing module", "import nothing_of_this_name", "there is no module nothing_of_this_name"),
    ("no predict", "class Thing: ...", "has no method `predict`"),
    ("no type", "class Thing:\n  def predict(self, x): ...", "the parameter x has no type"),
    ("star", "class Thing:\n  def predict(self, *x: int): ...", "takes *x"),
    (
        "a type of its own",
        "class Own: ...\nclass Thing:\n  def predict(self, x: Own): ...",
        "a parameter's type can't be read",
    ),
    (
        "a name that isn't there",
        "from __future__ import annotations\nclass Thing:\n  def predict(self, x: Missing): ...",
        "'Missing', which isn't there at run time",
    ),
    (
        "setup that fails",
        "class Thing:\n  def setup(self): 1 / 0\n  def predict(self, x: int): ...",
        "setup raised ZeroDivisionError",
    ),
    (
        "making that fails",
        "class Thing:\n  def __init__(self): 1 / 0\n  def predict(self, x: int): ...",
        "making it raised ZeroDivisionError",
    ),
    (
        "a batch that is no list",
        "from dockyard_serve.marks import batched\n"
        "class Thing:\n  @batched\n  def predict(self, x: int): ...",
        "every parameter is a list, and x isn't",
    ),
    (
        "an async batch",
        "from dockyard_serve.marks import batched\n"
        "class Thing:\n  @batched\n  async def predict(self, x: list[int]): ...",
        "neither async nor a generator",
    ),
]


@pytest.mark.parametrize(("what", "code", "message"), UNSERVABLE, ids=[r[0] for r in UNSERVABLE])
def test_says_what_cannot_be_served_of_a_class(tmp_path, monkeypatch, what, code, message):
    name = f"unservable_{abs(hash(what))}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LoadError) as caught:
        load_class(Source(name="thing", spec=f"{name}:Thing"))
    assert message in str(caught.value)
