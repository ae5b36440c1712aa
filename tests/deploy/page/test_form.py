"""Models of anything but digits: chosen, asked by a form of their inputs, answered in a table."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from tests.deploy.page.conftest import Page
from tests.deploy.page.proxy import Proxy
from tests.deploy.page.strokes import Stroke


class Form:
    """The form of one model."""

    def __init__(self, page: Page, proxy: Proxy, model: str) -> None:
        self.page = page
        page.open(f"{proxy.url}?model={model}")
        page.until(lambda: page.text("name") == model, "the form")

    def fill(self, **values: str) -> None:
        for name, value in values.items():
            field = self.page.browser.find_element(By.NAME, name)
            field.clear()
            field.send_keys(value)

    def send(self) -> None:
        self.page.at("send").click()
        self.page.until(self.page.is_settled, "an answer")

    def choose(self, signature: str) -> None:
        Select(self.page.at("signature")).select_by_visible_text(signature)

    def labels(self) -> list[str]:
        labels = self.page.browser.find_elements(By.CSS_SELECTOR, "#fields label")
        return [label.text for label in labels]

    def rows(self) -> list[list[str]]:
        found = self.page.browser.find_elements(By.CSS_SELECTOR, "#rows tr")
        return [[cell.text for cell in row.find_elements(By.CSS_SELECTOR, "*")] for row in found]


def test_a_model_is_chosen_and_asked_with_mixed_inputs(page: Page, proxy: Proxy) -> None:
    page.log("browser")  # what other tests left
    Select(page.at("model")).select_by_visible_text("house")
    page.until(lambda: page.text("name") == "house", "the form")
    form = Form(page, proxy, "house")
    assert not page.at("paper").is_displayed()
    assert form.labels() == ["area float", "city string", "place float, 3", "rooms int64"]
    page.at("send").click()  # the browser wants the numbers first
    assert not proxy.images()
    form.fill(area="20.5", city='St. "Pölten"', rooms="3")  # a place of zeros stands there
    form.send()
    assert form.rows() == [["label", 'St. "Pölten":3'], ["price", "3205.0"]]
    assert page.text("said").startswith("version 1 · ")
    assert proxy.images()[-1]["inputs"]["place"] == [[0, 0, 0]]
    form.fill(place="[1, 2, 3]")
    form.send()
    assert form.rows()[1] == ["price", "3211.0"]
    assert page.log("browser") == []


def test_each_signature_has_its_fields_and_what_the_server_refuses_is_told(
    page: Page, proxy: Proxy
) -> None:
    form = Form(page, proxy, "house")
    form.choose("scaled")
    assert form.labels() == ["area float", "factor float"]
    form.fill(area="4", factor="2.5")
    form.send()
    assert form.rows() == [["scaled", "10.0"]]
    form.fill(area="four")
    form.send()
    assert page.text("why") == "area is not a valid float: four"
    form.fill(area='"four"')
    form.send()
    assert page.text("why").startswith("The server refused the request: ")
    form.fill(area="4")
    form.send()
    assert page.text("why") == ""


@pytest.mark.parametrize(
    ("signature", "value", "rows"),
    [
        ("DT_INT64", "[9007199254740993]", [["y", "9007199254740993"]]),
        ("DT_FLOAT", "[1.5, 2]", [["y[0]", "1.5"], ["y[1]", "2.0"]]),
        ("DT_INT32", "[[1, 2], [3, 4]]", [["y[0]", "[1,2]"], ["y[1]", "[3,4]"]]),
        ("DT_BOOL", "true", [["y", "true"]]),
        ("text", "NaN, said he", [["text", "NaN, said he"]]),
        ("wide", "[1e39]", [["wide[0]", "Infinity"]]),
        (
            "DT_DOUBLE",
            str([0.5] * 101),
            [*([f"y[{i}]", "0.5"] for i in range(100)), ["y", "1 more"]],
        ),
    ],
)
def test_values_come_and_go_as_they_are(
    page: Page, proxy: Proxy, signature: str, value: str, rows: list[list[str]]
) -> None:
    form = Form(page, proxy, "echo")
    form.choose(signature)
    form.fill(**{"x" if signature.startswith("DT_") else signature: value})
    form.send()
    assert page.text("why") == ""
    assert form.rows() == rows


def test_back_to_the_digits_with_a_key(page: Page, proxy: Proxy, zero: Stroke) -> None:
    proxy.key = "dk_right"
    page.open(f"{proxy.url}?model=house#key=dk_right")
    assert page.text("name") == "house"
    Select(page.at("model")).select_by_visible_text("mnist")
    page.until(page.at("paper").is_displayed, "the paper")
    page.draw(zero)
    assert page.answer() == "0"
    assert urlsplit(page.browser.current_url).query == "model=mnist"


def test_names_are_no_strangers_business(page: Page, proxy: Proxy) -> None:
    proxy.key = "dk_right"
    page.open(proxy.url)
    assert page.text("why") == "This server asks for a key."
    assert Select(page.at("model")).options == []


@pytest.mark.parametrize("model", ["house", "mnist"])
def test_controls_have_names_and_no_window_scrolls_sideways(
    page: Page, proxy: Proxy, model: str
) -> None:
    metrics = {"width": 320, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.open(f"{proxy.url}?model={model}")
    assert page.run("return document.documentElement.scrollWidth") <= 320
    for element in page.browser.find_elements(By.CSS_SELECTOR, "button, input, select, textarea"):
        assert element.accessible_name or not element.is_displayed(), element.tag_name
