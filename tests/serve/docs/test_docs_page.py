"""/openapi.json and /docs: true to the models, harmless to ask anything, used in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[3] / "examples"
MODEL = EXAMPLES / "onnx-digits" / "model.onnx"
DIGITS = json.loads((EXAMPLES / "onnx-digits" / "digits.json").read_text())

CODE = """\
    import enum
    from dataclasses import dataclass
    from typing import Annotated, Literal

    import numpy as np
    from PIL import Image
    from pydantic import Field

    class Size(enum.Enum):
        small = "small"
        large = "large"

    @dataclass
    class Box:
        x: int
        y: int
        width: int
        height: int
        label: str

    class Boxes:
        def predict(
            self,
            image: Image.Image,
            threshold: Annotated[float, Field(ge=0, le=1)] = 0.5,
            size: Size = Size.small,
            near: Box | None = None,
        ) -> list[Box]:
            '''Find boxes in a picture.

            Of one size.'''
            return [Box(1, 1, image.width - 2, image.height - 2, f"{size.value} {threshold}")]

    class Grey:
        def predict(self, image: Image.Image) -> Image.Image:
            return image.convert("L")

    class Words:
        def predict(self, text: str, times: Annotated[int, Field(ge=1, le=5)] = 2):
            for _ in range(times):
                yield text + " "

    class Numbers:
        def predict(
            self,
            values: list[float],
            how: Literal["sum", "mean"] = "sum",
            matrix: np.ndarray | None = None,
            flag: bool = False,
        ) -> dict[str, float | None]:
            return {"result": sum(values) if how == "sum" else None}
    """


@pytest.fixture(scope="module")
def digits(start):
    return start(str(MODEL), "", "--name", "digits")


@pytest.fixture(scope="module")
def serve(start):
    running = {}

    def serve(name):
        if name not in running:
            running[name] = start(f"drawn:{name}", CODE)
        return running[name]

    return serve


def document(server):
    status, _, body = server.ask("/openapi.json", method="GET")
    assert status == 200
    return json.loads(body)


def test_describes_a_models_tensors(digits):
    found = document(digits)
    assert found["openapi"] == "3.1.0"
    post = found["paths"]["/predict"]["post"]
    schema = post["requestBody"]["content"]["application/json"]["schema"]
    picture = [[0] * 8] * 8
    for good in ({"images": picture}, {"images": [picture, picture]}):
        jsonschema.validate(good, schema)
        status, _, body = digits.ask(body=good)
        assert status == 200
        answers = post["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(json.loads(body), answers)
    for bad in ({}, {"images": [[0] * 8] * 7}, {"images": picture, "more": 1}, {"images": "a"}):
        assert not jsonschema.Draft202012Validator(schema).is_valid(bad)
        assert digits.ask(body=bad)[0] == 400


def test_describes_a_predictors_parameters(serve):
    found = document(serve("Boxes"))
    post = found["paths"]["/models/boxes/predict"]["post"]
    assert (post["summary"], post["description"]) == ("Find boxes in a picture.", "Of one size.")
    content = post["requestBody"]["content"]
    properties = content["application/json"]["schema"]["properties"]
    assert (properties["threshold"]["minimum"], properties["threshold"]["default"]) == (0, 0.5)
    assert properties["size"]["$ref"] == "#/components/schemas/boxes.Size"
    assert content["multipart/form-data"]["schema"]["properties"]["image"]["format"] == "binary"
    schemas = found["components"]["schemas"]
    assert schemas["boxes.Size"]["enum"] == ["small", "large"]
    assert set(schemas["boxes.Box"]["properties"]) == {"x", "y", "width", "height", "label"}
    answer = post["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer["items"] == {"$ref": "#/components/schemas/boxes.Box"}


def test_every_reference_in_the_document_leads_somewhere(serve, digits):
    for server in (digits, *map(serve, ("Boxes", "Grey", "Words", "Numbers"))):
        found = document(server)
        for path in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(found)):
            place = found
            for key in path.split("/"):
                place = place[key]
            assert place


@pytest.mark.parametrize("name", ["digits", "Boxes", "Words", "Numbers"])
def test_schemathesis_finds_no_500(serve, digits, tmp_path, name):
    server = digits if name == "digits" else serve(name)
    command = [str(Path(sys.executable).with_name("schemathesis")), "run"]
    command += [f"http://127.0.0.1:{server.port}/openapi.json", "--checks", "not_a_server_error"]
    done = subprocess.run(
        [*command, "--max-examples", "25", "--seed", "1", "--generation-database", "none"],
        cwd=tmp_path,  # It keeps what it found beside where it runs.
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\b([1-9]\d+) generated, \1 passed", done.stdout), done.stdout[-3000:]


def test_the_page_loads_nothing_from_elsewhere(digits):
    status, media_type, body = digits.ask("/docs", method="GET")
    assert (status, media_type) == (200, "text/html")
    assert not re.findall(rb'(?:src|href)="(?:https?:)?//', body)
    assert b"@import" not in body


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("Chromium and its driver aren't installed (Debian: chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--window-size=1180,900", f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    running = webdriver.Chrome(options=options, service=service)
    yield running
    running.quit()


class Page:
    """The page of a server, as a person uses it."""

    def __init__(self, browser, server):
        self.browser = browser
        browser.get_log("browser")  # What earlier pages said.
        browser.get(f"http://127.0.0.1:{server.port}/docs")
        self.wait(lambda: self.find("#run").is_enabled())

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def fill(self, selector, text):
        element = self.find(selector)
        element.clear()
        element.send_keys(text)

    def run(self):
        self.find("#run").click()
        self.wait(lambda: self.find("#run").is_enabled() and self.find("#status").text != "…")
        return self.find("#answer").text

    def wait(self, condition):
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, self.browser.page_source[-2000:]
            time.sleep(0.05)

    def errors(self):
        return [line for line in self.browser.get_log("browser") if line["level"] == "SEVERE"]


def test_a_digit_is_uploaded_and_read(browser, digits, tmp_path):
    row = next(row for row in DIGITS if row["label"] == row["answer"] == 8)
    pixels = (np.array(row["image"]) * 255 / 16).round().astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    page = Page(browser, digits)
    assert page.find("#title").text == "digits"
    page.find("#picture-images").send_keys(str(tmp_path / "digit.png"))
    page.wait(lambda: page.all("canvas.pixels"))
    page.fill("#white-images", "16")
    answer = page.run()
    assert answer.splitlines()[:2] == ["probabilities", "8"]
    assert page.find(".bar.best").text.startswith("8")
    assert page.find("#status").text.startswith("200")
    assert page.find("#curl").get_attribute("textContent").startswith("curl http://127.0.0.1")
    assert page.errors() == []


def test_a_wrong_value_is_answered_with_what_was_expected(browser, digits):
    page = Page(browser, digits)
    page.fill("#field-images", "[[1, 2], [3, 4]]")
    answer = page.run()
    assert "another shape" in answer
    assert "expected: FP32 [-1, 8, 8]" in answer


def test_boxes_are_a_table_and_are_drawn(browser, serve, tmp_path):
    Image.new("RGB", (60, 40), "navy").save(tmp_path / "a.png")
    page = Page(browser, serve("Boxes"))
    page.find("#field-image").send_keys(str(tmp_path / "a.png"))
    page.wait(lambda: page.all(".pictures img"))
    page.fill("#field-threshold", "0.25")
    answer = page.run()
    assert [cell.text for cell in page.all("th")] == ["x", "y", "width", "height", "label"]
    assert "small 0.25" in answer
    assert len(page.all("#answer canvas")) == 1
    assert page.errors() == []


def test_a_picture_in_the_answer_is_shown(browser, serve, tmp_path):
    Image.new("RGB", (60, 40), "navy").save(tmp_path / "a.png")
    page = Page(browser, serve("Grey"))
    page.find("#field-image").send_keys(str(tmp_path / "a.png"))
    page.run()
    image = page.find("#answer img")
    page.wait(lambda: image.get_property("naturalWidth") == 60)
    assert page.errors() == []


def test_a_stream_grows_on_the_page(browser, serve):
    page = Page(browser, serve("Words"))
    page.fill("#field-text", "hello")
    page.fill("#field-times", "3")
    assert page.run() == "hello hello hello"
    assert page.errors() == []


def test_other_values_have_fields_of_their_own(browser, serve):
    page = Page(browser, serve("Numbers"))
    page.fill("#field-values", "[1, 2.5]")
    assert "result: 3.5" in page.run()
    page.fill("#field-values", "[1,")
    assert "values isn't JSON" in page.run()


def test_an_api_key_is_asked_for_and_sent(browser, start):
    server = start(
        "kept:double",
        textwrap.dedent("""\
        def double(x: float) -> float:
            return 2 * x
        """),
        "--api-key",
        "letmein",
    )
    browser.get(f"http://127.0.0.1:{server.port}/docs")
    page = object.__new__(Page)
    page.browser = browser
    page.wait(lambda: "An API key is needed" in page.find("#fields").text)
    page.find("#key").send_keys("letmein")
    page.find("#title").click()
    page.wait(lambda: page.find("#run").is_enabled())
    page.fill("#field-x", "21")
    assert page.run() == "42"
