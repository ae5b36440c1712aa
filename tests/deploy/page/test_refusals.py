"""What stands between the page and an answer: keys, refusals, outages, and a strict policy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from deploy.runner import Server
from tests.deploy.page.conftest import UNREACHED, Page
from tests.deploy.page.proxy import Proxy
from tests.deploy.page.strokes import Stroke


@pytest.fixture
def fresh(page: Page) -> Page:
    """Without a key from another test: each proxy is another origin, so there is none."""
    assert page.run("return sessionStorage.length") == 0
    return page


def test_without_a_key_in_force_none_is_asked_for(page: Page) -> None:
    assert not page.at("key-form").is_displayed()
    assert not page.at("trouble").is_displayed()


def test_a_key_is_asked_for_kept_and_not_shown(fresh: Page, proxy: Proxy, zero: Stroke) -> None:
    proxy.key = "dk_right"
    fresh.draw(zero)
    fresh.until(lambda: fresh.text("why") == "This server asks for a key.", "the question")
    fresh.at("key").send_keys("dk_wrong\n")
    fresh.until(lambda: fresh.text("why") == "This key is not known here.", "the refusal")
    assert not proxy.images()
    fresh.at("key").send_keys(" dk_right \n")
    assert fresh.answer() == "0"
    assert not fresh.at("trouble").is_displayed()
    fresh.open(proxy.url)  # the tab keeps it
    fresh.draw(zero)
    assert fresh.answer() == "0"
    assert "dk_right" not in fresh.browser.page_source
    assert fresh.run("return localStorage.length") == 0
    assert fresh.browser.get_cookies() == []


def test_a_key_in_the_address_is_used_and_taken_away(
    page: Page, proxy: Proxy, zero: Stroke
) -> None:
    proxy.key = "dk_right"
    page.open(f"{proxy.url}#key=dk_right")
    page.draw(zero)
    assert page.answer() == "0"
    assert page.browser.current_url == proxy.url
    assert proxy.refused == 0
    assert all("dk_right" not in call.path for call in proxy.passed)


def test_a_key_pasted_into_the_address_of_the_page_that_asks_for_one(
    fresh: Page, proxy: Proxy, zero: Stroke
) -> None:
    proxy.key = "dk_right"
    fresh.draw(zero)
    fresh.until(lambda: fresh.text("why") == "This server asks for a key.", "the question")
    fresh.run("window.isTheSame = true; location.hash = '#key=dk_right'")
    assert fresh.answer() == "0"
    assert fresh.browser.current_url == proxy.url
    assert fresh.run("return window.isTheSame")


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((429, {"Retry-After": "1"}), "Too many requests. Trying again in 1 s."),
        ((503, {"Retry-After": "1"}), "The server is not ready. Trying again …"),
        ((500, {}), "The server is not ready. Trying again …"),
    ],
)
def test_it_goes_on_by_itself(
    page: Page, proxy: Proxy, zero: Stroke, refusal: tuple[int, dict[str, str]], words: str
) -> None:
    proxy.refusal = refusal
    page.draw(zero)
    page.until(lambda: page.text("why") == words, "the trouble to be told")
    proxy.refusal = None
    assert page.answer() == "0"
    assert page.text("why") == ""


def test_retry_after_is_waited_for(page: Page, proxy: Proxy, zero: Stroke) -> None:
    proxy.refusal = (429, {"Retry-After": "3600"})
    page.draw(zero)
    page.until(lambda: "3600 s" in page.text("why"), "the trouble to be told")
    proxy.refusal = None
    page.draw(zero)
    assert proxy.refused == 1
    assert not proxy.images()


def test_what_is_refused_for_good_is_not_asked_again(
    page: Page, proxy: Proxy, zero: Stroke
) -> None:
    proxy.refusal = (403, {})
    page.draw(zero)
    page.until(page.is_settled, "it to give up")
    assert page.text("why") == "The server refused the request (403)."


def test_the_server_goes_and_comes_back(
    browser: webdriver.Chrome, server: Server, zero: Stroke
) -> None:
    page, proxy = Page(browser), Proxy(server.rest_url)
    with proxy.open():
        page.open(proxy.url)
    page.draw(zero)
    page.until(lambda: page.text("why") == UNREACHED, "the outage to be told")
    with proxy.open():
        assert page.answer() == "0"
        assert page.text("why") == ""


@pytest.mark.parametrize("lost", ["page.css", "page.js", "digit.js", "server.js"])
def test_a_page_of_which_a_part_is_lost_asks_to_be_loaded_again(
    page: Page, proxy: Proxy, zero: Stroke, lost: str
) -> None:
    assert not page.browser.find_elements(By.ID, "incomplete")
    proxy.lost = f"/{lost}"
    page.until(lambda: not page.loads(proxy.url) and page.at("incomplete"), "the rest of the page")
    page.until(lambda: page.text("incomplete").endswith("Please load it again."), "the notice")
    proxy.lost = ""
    page.open(proxy.url)
    page.draw(zero)
    assert page.answer() == "0"


def test_one_question_at_a_time(page: Page, proxy: Proxy, zero: Stroke) -> None:
    page.draw(zero, [(0.3, 0.5), (0.7, 0.5)], zero)
    page.answer()
    assert proxy.most_at_once == 1


def test_a_new_version_is_shown_when_it_answers(
    page: Page, proxy: Proxy, repository: Path, zero: Stroke
) -> None:
    page.draw(zero)
    page.answer()
    old = proxy.versions()[-1]
    assert page.text("facts").startswith(f"version {old} · ")
    new = str(int(old) + 1)
    shutil.copytree(repository / old, repository / f".{new}")
    (repository / f".{new}").rename(repository / new)

    def answers_as_new() -> bool:
        page.draw([(0.2, 0.9), (0.2, 0.9)])
        page.at("undo").click()
        page.answer()
        return page.text("facts").startswith(f"version {new} · ")

    page.until(answers_as_new, "the new version")
    assert proxy.versions()[-1] == new
    assert page.text("why") == ""


# The policy


def test_nothing_comes_from_elsewhere_and_nothing_is_forbidden(
    page: Page, proxy: Proxy, zero: Stroke
) -> None:
    page.log("performance")
    page.log("browser")
    page.open(proxy.url)
    page.draw(zero)
    assert page.answer() == "0"
    events = [json.loads(row["message"])["message"] for row in page.log("performance")]
    hosts = {
        urlsplit(event["params"]["request"]["url"]).netloc
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert hosts - {"blank", ""} == {urlsplit(proxy.url).netloc}
    assert page.log("browser") == []


@pytest.mark.parametrize(
    "insertion",
    [
        "const script = document.createElement('script'); script.textContent = 'window.harm = 1';"
        "document.body.append(script)",
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.harm = 1\">')",
        "document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\" id=red>x</p>');"
        "const { color } = getComputedStyle(document.getElementById('red'));"
        "if (color === 'rgb(255, 0, 0)') window.harm = 1",
        "const script = document.createElement('script'); script.src = 'data:,window.harm = 1';"
        "document.body.append(script)",
    ],
)
def test_what_is_slipped_in_does_not_run(page: Page, insertion: str) -> None:
    done: Any = page.browser.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('securitypolicyviolation',"
        " (event) => done([window.harm ?? null, event.effectiveDirective]));" + insertion
    )
    harm, directive = done
    assert harm is None
    assert directive.startswith(("script-src", "style-src"))
