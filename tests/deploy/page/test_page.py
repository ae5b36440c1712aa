"""Drawing, pictures, keys, small and dark windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from export.publication.serving_path import ServedModel
from tests.conftest import Version
from tests.deploy.page.conftest import Page
from tests.deploy.page.proxy import Proxy
from tests.deploy.page.strokes import Stroke
from tests.ways_up import ORIENTATION


@pytest.fixture
def example(page: Page) -> list[list[int]]:
    """What the fresh page shows as an example of what the model sees."""
    return page.seen()


def test_a_fresh_page_shows_an_example_and_asks_nothing(
    page: Page, proxy: Proxy, example: list[list[int]], published: Version
) -> None:
    assert (page.answer(), page.text("words")) == ("?", "Nothing drawn yet.")
    assert page.text("invitation") == "An example. Draw your own here."
    assert page.text("view").startswith("An example of what the model sees")
    assert not proxy.images()
    # It is a 3, for the model too.
    with ServedModel(published.path) as model:
        images = np.array([example], np.uint8)
        assert model.run("serving_default", images)["digits"].tolist() == [3]


def test_the_example_makes_way_for_a_drawing(page: Page, zero: Stroke) -> None:
    page.draw(zero)
    page.answer()
    assert page.text("invitation") == ""
    assert page.text("view").startswith("What the model sees")
    assert page.run("return getComputedStyle(document.getElementById('ink')).opacity") == "1"


def test_it_tells_of_its_data_its_abilities_and_how_sure_it_is(page: Page) -> None:
    data, reads, sure = (dd.text for dd in page.at("about").find_elements(By.TAG_NAME, "dd")[:3])
    assert data.startswith("MNIST, ")
    assert "from 0 to 9" in reads
    assert "It cannot read letters" in reads
    for words in ("Almost certainly", "probably", "It can be wrong"):
        assert words in sure


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ((0.98, 0.02), "Almost certainly a 0."),
        ((0.72, 0.28), "Probably a 0."),
        ((0.5, 0.5), "Not sure. Perhaps a 0, or a 1."),
    ],
)
def test_doubt_is_told_in_the_words_that_the_page_explains(
    page: Page, proxy: Proxy, shares: tuple[float, float], words: str
) -> None:
    proxy.answer = {"predictions": [{"probabilities": [*shares, *[0.0] * 8]}]}
    page.draw([(0.4, 0.4), (0.6, 0.6)])
    page.until(lambda: page.text("words") == words, words)


def test_drawing_with_the_mouse(page: Page, zero: Stroke) -> None:
    page.draw(zero)
    assert page.answer() == "0"
    assert page.text("words") == "Almost certainly a 0."
    assert page.text("facts").startswith("version ")
    assert page.text("facts").endswith(" ms")
    # Ten bars, of which the zero's is the longest, as is said beside it.
    rows = [row.text.split("\n") for row in page.at("bars").find_elements(By.TAG_NAME, "li")]
    shares = [float(share.removesuffix(" %")) for _, share in rows]
    assert [digit for digit, _ in rows] == list("0123456789")
    assert max(shares) == shares[0]
    assert sum(shares) == pytest.approx(100, abs=1)
    widths = page.run(
        "return [...document.querySelectorAll('#bars li')]"
        ".map((row) => Number(row.style.getPropertyValue('--share')))"
    )
    assert [100 * width for width in widths] == pytest.approx(shares, abs=0.1)


def test_answers_come_while_drawing(page: Page, proxy: Proxy, zero: Stroke) -> None:
    first, *more = page.in_window(*zero)
    page.send("Mouse", type="mousePressed", button="left", **first)
    for place in more:
        page.send("Mouse", type="mouseMoved", button="left", **place)
    assert page.answer() == "0"

    def is_asked_again() -> bool:
        page.send("Mouse", type="mouseMoved", button="left", **place)
        return len(proxy.images()) > 1

    page.until(is_asked_again, "a second answer")
    page.send("Mouse", type="mouseReleased", button="left", **place)


def test_what_is_shown_is_what_the_model_saw(page: Page, proxy: Proxy, zero: Stroke) -> None:
    page.draw(zero)
    page.answer()
    assert page.seen() == proxy.images()[-1]


def test_a_finger_draws_and_does_not_scroll(page: Page, zero: Stroke) -> None:
    page.browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        scrolled = page.run("return scrollY")
        page.touch(zero)
        assert page.answer() == "0"
        assert page.run("return scrollY") == scrolled
    finally:
        page.browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_a_second_finger_does_not_draw(page: Page, zero: Stroke) -> None:
    page.browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        page.touch(zero)
        assert page.answer() == "0"
        alone = page.seen()
        page.at("clear").click()
        assert page.answer() == "?"

        palm, first, *more = page.in_window((0.95, 0.95), *zero)
        palm["id"] = 1
        page.send("Touch", type="touchStart", touchPoints=[{**first, "id": 0}])
        page.send("Touch", type="touchStart", touchPoints=[{**first, "id": 0}, palm])
        for place in more:
            page.send("Touch", type="touchMove", touchPoints=[{**place, "id": 0}, palm])
        page.send("Touch", type="touchEnd", touchPoints=[])
        assert page.answer() == "0"
        assert page.seen() == alone
    finally:
        page.browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_a_pen_draws(page: Page, zero: Stroke) -> None:
    first, *more = page.in_window(*zero)
    pen = {"button": "left", "pointerType": "pen", "force": 0.5}
    page.send("Mouse", type="mousePressed", **pen, **first)
    for place in more:
        page.send("Mouse", type="mouseMoved", **pen, **place)
    page.send("Mouse", type="mouseReleased", **pen, **place)
    assert page.answer() == "0"


def test_drawing_with_keys(page: Page) -> None:
    """After the choice of a model, the first that Tab reaches: an octagon, its slopes by two arrows
    at once.
    """
    page.press(Keys.TAB, Keys.TAB)
    assert page.run("return document.activeElement.id") == "paper"
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert page.run(outline) == "solid"
    page.press(*[Keys.ARROW_UP] * 9, *[Keys.ARROW_LEFT] * 2)
    assert page.answer() == "?"

    def aslant(across: str, down: str) -> None:
        both = ActionChains(page.browser, duration=0).key_down(down)
        both.send_keys(*[across] * 4).key_up(down).perform()

    page.press(" ", *[Keys.ARROW_RIGHT] * 4)
    aslant(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    page.press(*[Keys.ARROW_DOWN] * 10)
    aslant(Keys.ARROW_LEFT, Keys.ARROW_DOWN)
    page.press(*[Keys.ARROW_LEFT] * 4)
    aslant(Keys.ARROW_LEFT, Keys.ARROW_UP)
    page.press(*[Keys.ARROW_UP] * 10)
    aslant(Keys.ARROW_RIGHT, Keys.ARROW_UP)
    page.press(Keys.ESCAPE, *[Keys.ARROW_UP] * 9)
    assert page.answer() == "0"
    page.press(Keys.BACKSPACE)
    assert page.answer() == "?"


def test_undo_and_clear(page: Page, example: list[list[int]], zero: Stroke) -> None:
    page.draw(zero)
    page.answer()
    one = page.seen()
    page.draw([(0.1, 0.9), (0.9, 0.9)])
    page.answer()
    assert page.seen() != one
    page.at("undo").click()
    assert page.answer() == "0"
    assert page.seen() == one
    page.at("clear").click()
    assert page.answer() == "?"
    assert page.seen() == example
    ActionChains(page.browser).key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()
    assert page.answer() == "0"
    for _ in range(3):  # once more than there is
        page.at("undo").click()
    assert page.answer() == "?"


def test_a_tap_leaves_a_dot(page: Page, example: list[list[int]]) -> None:
    page.draw([(0.5, 0.5), (0.5, 0.5)])
    page.answer()
    assert np.any(page.seen())
    assert page.seen() != example


@pytest.mark.parametrize("size", [0.3, 1.3])
def test_a_small_drawing_and_a_large_one(page: Page, zero: Stroke, size: float) -> None:
    page.draw([(0.5 + size * (x - 0.5), 0.5 + size * (y - 0.5)) for x, y in zero])
    assert page.answer() == "0"


@pytest.mark.parametrize("kind", ["dark ink", "chalk"])
@pytest.mark.parametrize("way", ["drop", "choose"])
def test_a_picture(
    page: Page, golden: dict[str, NDArray[Any]], tmp_path: Path, kind: str, way: str
) -> None:
    label, image = golden["labels"][35], golden["images"][35]
    picture = Image.fromarray(image).resize((600, 600)).resize((1200, 900))
    file = tmp_path / "digit.png"
    (picture if kind == "chalk" else ImageOps.invert(picture)).save(file)
    if way == "drop":
        page.drop(file)
    else:
        page.at("file").send_keys(str(file))
    page.until(lambda: page.text("digit") != "?", "an answer")
    assert page.answer() == str(label)
    page.at("undo").click()
    assert page.answer() == "?"


def test_a_picture_lies_as_its_camera_was_held(
    page: Page, golden: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    upright = ImageOps.invert(Image.fromarray(golden["images"][35]).resize((300, 300)))
    turned, tags = upright.rotate(90, expand=True), Image.Exif()
    tags[ORIENTATION] = 6  # to be turned a quarter to the right
    turned.save(tmp_path / "digit.jpg", exif=tags)
    page.drop(tmp_path / "digit.jpg")
    page.until(lambda: page.text("digit") != "?", "an answer")
    assert page.answer() == str(golden["labels"][35])


def test_a_photograph_larger_than_a_server_takes(
    page: Page, golden: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    picture = ImageOps.invert(Image.fromarray(golden["images"][35]).resize((2000, 1500)))
    noise = np.random.default_rng(0).integers(0, 20, (1500, 2000))
    photograph = Image.fromarray((np.asarray(picture) * 0.9 + noise).astype(np.uint8))
    photograph.save(tmp_path / "digit.png")
    assert (tmp_path / "digit.png").stat().st_size > 1 << 20
    page.drop(tmp_path / "digit.png")
    page.until(lambda: page.text("digit") != "?", "an answer")
    assert page.answer() == str(golden["labels"][35])


def test_a_pasted_picture(page: Page) -> None:
    page.browser.execute_async_script(
        """
        const done = arguments[0];
        const canvas = new OffscreenCanvas(100, 100), pen = canvas.getContext("2d");
        pen.fillStyle = "white"; pen.fillRect(0, 0, 100, 100);
        pen.lineWidth = 10; pen.strokeRect(50, 20, 1, 60);
        canvas.convertToBlob().then((blob) => {
          const clipboardData = new DataTransfer();
          clipboardData.items.add(new File([blob], "image.png"));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
          done();
        });
        """
    )
    page.until(lambda: page.text("digit") == "1", "an answer")


def test_what_is_no_picture_and_what_shows_nothing(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    page.drop(tmp_path / "notes.png")
    page.until(lambda: "cannot read this file" in page.text("why"), "the refusal")
    Image.new("L", (200, 100), 220).save(tmp_path / "blank.png")
    page.drop(tmp_path / "blank.png")
    page.until(lambda: page.text("words") == "There is no digit in this picture.", "the words")
    assert page.text("why") == ""
    assert not page.at("view").is_displayed()


def test_a_picture_of_something_else_is_told(page: Page, tmp_path: Path) -> None:
    two = Image.new("L", (300, 200), 255)
    for x in (60, 220):
        two.paste(0, (x, 40, x + 16, 160))
    two.save(tmp_path / "eleven.png")
    page.drop(tmp_path / "eleven.png")
    page.until(lambda: page.text("words").startswith("This does not look like one"), "the words")


def test_drawing_after_a_picture_begins_on_new_paper(
    page: Page, zero: Stroke, tmp_path: Path
) -> None:
    Image.new("L", (200, 100), 220).save(tmp_path / "blank.png")
    page.drop(tmp_path / "blank.png")
    page.until(lambda: page.text("words").startswith("There is no digit"), "the words")
    page.draw(zero)
    assert page.answer() == "0"


def test_a_picture_that_comes_while_the_pen_is_down(page: Page, tmp_path: Path) -> None:
    Image.new("L", (200, 100), 220).save(tmp_path / "blank.png")
    page.press(Keys.TAB, Keys.TAB, " ", *[Keys.ARROW_DOWN] * 3)
    page.drop(tmp_path / "blank.png")
    page.until(lambda: page.text("words").startswith("There is no digit"), "the words")
    page.press(*[Keys.ARROW_DOWN] * 9)  # the pen is up
    assert page.answer() == "?"
    page.press(" ", *[Keys.ARROW_UP] * 12)
    assert page.answer() != "?"  # which digit a bare line is, is the model's to say
    inked = [row for row in page.seen() if any(row)]
    assert len(inked) >= 16  # upright, as it was drawn


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_no_window_scrolls_sideways(page: Page, zero: Stroke, width: int) -> None:
    metrics = {"width": width, "height": 740, "deviceScaleFactor": 2, "mobile": width < 700}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.draw(zero)
    assert page.answer() == "0"
    assert page.run("return document.documentElement.scrollWidth") <= width
    # The answer is visible while drawing.
    page.run("scrollTo(0, 0)")
    assert page.run("return document.getElementById('digit').getBoundingClientRect().bottom") < 740


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_either_scheme(page: Page, scheme: str) -> None:
    """By WCAG's contrast of 4.5, and the ink's of 3, to what lies behind."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        colours = page.run(
            "const style = (name) => getComputedStyle(document.documentElement)"
            ".getPropertyValue(name).trim();"
            "return ['--desk', '--sheet', '--text', '--quiet', '--alarm', '--ink'].map(style)"
        )
    finally:
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    desk, sheet, text, quiet, alarm, ink = map(_luminance, colours)
    assert (desk > 0.5) == (scheme == "light")
    for front in (text, quiet, ink):
        assert _contrast(front, desk) >= 4.5
    for front in (text, alarm, ink):
        assert _contrast(front, sheet) >= 4.5


def test_every_control_has_a_name(page: Page, proxy: Proxy, zero: Stroke) -> None:
    proxy.key = "dk_right"
    page.draw(zero)
    page.until(page.at("key-form").is_displayed, "the question for a key")
    for element in page.browser.find_elements(
        By.CSS_SELECTOR, "button, input, select, #paper, #seen"
    ):
        assert element.accessible_name or not element.is_displayed(), element.tag_name


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
