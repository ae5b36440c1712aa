"""The page through the real gateway: over TLS, with a real key, past a real outage."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from selenium import webdriver

from deploy.runner import Server
from tests.deploy.gateway import Gateway, running
from tests.deploy.page.conftest import Page
from tests.deploy.page.strokes import Stroke


@pytest.fixture(scope="module")
def gateway(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    ports = urlsplit(server.grpc_url).port or 0, urlsplit(server.rest_url).port or 0
    with running(tmp_path_factory.mktemp("gateway"), ["127.0.0.1"], ports) as gateway:
        yield gateway


@pytest.fixture
def page(browser: webdriver.Chrome) -> Page:
    return Page(browser)


def test_a_key_opens_the_door_and_a_revoked_one_does_not(
    page: Page, gateway: Gateway, zero: Stroke
) -> None:
    key = gateway.new_key("visitor")
    url = f"https://127.0.0.1:{gateway.tls_port}/"
    page.open(url)
    page.until(page.at("key-form").is_displayed, "the question for a key")
    page.at("key").send_keys(f"{key}\n")
    page.draw(zero)
    assert page.answer() == "0"
    gateway.revoke("visitor")

    def is_refused() -> bool:
        page.draw([(0.2, 0.9), (0.2, 0.9)])
        return page.text("why") == "This key is not known here."

    page.until(is_refused, "the revocation")
    page.open(f"{url}#key={gateway.new_key('other')}")
    page.draw(zero)
    assert page.answer() == "0"
    assert page.browser.current_url == url


def test_on_the_machine_itself_no_key_is_needed(page: Page, gateway: Gateway, zero: Stroke) -> None:
    page.log("browser")
    page.open(f"http://127.0.0.1:{gateway.rest_port}/")
    page.draw(zero)
    assert page.answer() == "0"
    assert page.log("browser") == []  # the gateway's policy and types of files fit the page


def test_it_outlives_an_outage_of_all_replicas(page: Page, gateway: Gateway, zero: Stroke) -> None:
    page.open(f"http://127.0.0.1:{gateway.rest_port}/")
    gateway.replicas("127.0.0.2")  # where nobody listens

    def is_told() -> bool:
        page.draw([(0.2, 0.9), (0.2, 0.9)])
        return page.text("why") == "The server is not ready. Trying again …"

    page.until(is_told, "the outage to be told")
    page.at("clear").click()
    page.draw(zero)
    gateway.replicas("127.0.0.1")
    assert page.answer() == "0"
    assert page.text("why") == ""
