"""One Chromium, one server, and a proxy between them, for all tests of the page."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from deploy.runner import Server, free_ports, serve
from export.publication.golden import PATH as GOLDEN
from tests.client.models import echo, example, house, save
from tests.conftest import Version
from tests.deploy.page.proxy import Proxy
from tests.deploy.page.strokes import Stroke

DEADLINE = 60  # seconds
UNREACHED = "The server cannot be reached. Trying again …"
_CHROMIUM, _DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


class Page:
    """The page in the browser, as a person meets it."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser

    def at(self, identity: str) -> WebElement:
        """The element of that id."""
        return self.browser.find_element(By.ID, identity)

    def text(self, identity: str) -> str:
        """What the element shows; nothing if it is hidden."""
        return self.at(identity).text

    def run(self, script: str, *arguments: Any) -> Any:
        """A script's result."""
        return self.browser.execute_script(script, *arguments)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """The condition's first true value."""
        wait = WebDriverWait(self.browser, DEADLINE, 0.02)
        return wait.until(lambda _: condition(), f"waited {DEADLINE} s for {what}")

    def open(self, url: str) -> None:
        """Go there, and wait until the server was found or trouble is told."""
        self.until(lambda: self.loads(url), "the page to load")
        passing = {"", UNREACHED}
        self.until(lambda: self.is_settled() or self.text("why") not in passing, "it to start")

    def loads(self, url: str) -> bool:
        """Go there; whether all of the page has arrived.

        When a network interface comes or goes, as those of other tests' containers do, Chromium
        drops what it is loading, the page or a part of it. Then it is to be loaded again.
        """
        self.browser.get("about:blank")  # the same address again would not load anew
        with contextlib.suppress(WebDriverException):  # what has arrived tells
            self.browser.get(url)
        return bool(
            self.run(
                "return document.getElementById('answer') !== null"
                " && document.getElementById('incomplete') === null"
            )
        )

    def is_settled(self) -> bool:
        """Whether what is shown is the answer to what is on the paper."""
        return self.at("answer").get_attribute("aria-busy") == "false"

    def answer(self) -> str:
        """The digit shown, once it belongs to what is on the paper; "?" is none."""
        self.until(self.is_settled, "an answer")
        return self.text("digit")

    def seen(self) -> list[list[int]]:
        """What the page says that the model saw: 28 rows of 28."""
        rows: list[list[int]] = self.run(
            "const { data } = document.getElementById('seen').getContext('2d')"
            ".getImageData(0, 0, 28, 28);"
            "return Array.from({ length: 28 }, (_, y) =>"
            " Array.from({ length: 28 }, (_, x) => data[4 * (28 * y + x)]))"
        )
        return rows

    def log(self, kind: str) -> list[dict[str, Any]]:
        """What the browser wrote since the last time: `browser` or `performance`."""
        rows: list[dict[str, Any]] = self.browser.get_log(kind)  # type: ignore[no-untyped-call]
        return [row for row in rows if "ERR_NETWORK_CHANGED" not in row["message"]]

    # Real input, as the browser gets it from its window

    def send(self, event: str, **parameters: Any) -> None:
        self.browser.execute_cdp_cmd(f"Input.dispatch{event}Event", parameters)

    def in_window(self, *places: tuple[float, float]) -> list[dict[str, float]]:
        """Places in 0..1 of the paper, in the window's pixels."""
        left, top, side = self.run(
            "const paper = document.getElementById('paper');"
            "paper.scrollIntoView({ block: 'nearest' });"
            "const { left, top, width } = paper.getBoundingClientRect();"
            "return [left, top, width]"
        )
        return [{"x": left + x * side, "y": top + y * side} for x, y in places]

    def draw(self, *strokes: Stroke) -> None:
        """With the mouse."""
        button = {"button": "left", "clickCount": 1}
        for stroke in strokes:
            first, *more = self.in_window(*stroke)
            self.send("Mouse", type="mousePressed", **button, **first)
            for place in more:
                self.send("Mouse", type="mouseMoved", **button, **place)
            self.send("Mouse", type="mouseReleased", **button, **place)

    def touch(self, *strokes: Stroke) -> None:
        """With a finger."""
        for stroke in strokes:
            first, *more = self.in_window(*stroke)
            self.send("Touch", type="touchStart", touchPoints=[first])
            for place in more:
                self.send("Touch", type="touchMove", touchPoints=[place])
            self.send("Touch", type="touchEnd", touchPoints=[])

    def drop(self, file: Path) -> None:
        """A file, from the desktop onto the paper."""
        (place,) = self.in_window((0.5, 0.5))
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Drag", type=kind, data=data, **place)

    def press(self, *keys: str) -> None:
        """On the keyboard, one after the other."""
        ActionChains(self.browser, duration=0).send_keys(*keys).perform()


@pytest.fixture(scope="session")
def browser() -> Iterator[webdriver.Chrome]:
    if not _CHROMIUM or not _DRIVER:
        pytest.skip("needs chromium and chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = _CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1280,900"):
        options.add_argument(f"--{argument}")
    options.accept_insecure_certs = True  # no browser trusts the gateway's own authority
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the driver's path named, selenium looks for none on the network.
    browser = webdriver.Chrome(options=options, service=Service(_DRIVER, free_ports(1)[0]))
    browser.set_script_timeout(DEADLINE)
    yield browser
    browser.quit()


@pytest.fixture(scope="session")
def repository(published: Version, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published version in a folder of these tests, which may add to it."""
    folder = tmp_path_factory.mktemp("page") / "mnist"
    shutil.copytree(published.path, folder / published.path.name)
    return folder


@pytest.fixture(scope="session")
def models_config(repository: Path) -> Path:
    """Of the digits' model, and of others, which are asked by a form."""
    others = {"house": house, "echo": echo, "bytes": example}
    for name, build in others.items():
        save(repository.parent / name / "1", build)
    path = repository.parent / "models.config"
    rows = (
        f'config {{ name: "{name}" base_path: "{repository.parent / name}" '
        'model_platform: "tensorflow" }'
        for name in (repository.name, *others)
    )
    path.write_text(f"model_config_list {{ {' '.join(rows)} }}")
    return path


@pytest.fixture(scope="session")
def server(repository: Path, models_config: Path) -> Iterator[Server]:
    with serve(repository, flags=[f"--model_config_file={models_config}"]) as server:
        yield server


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.rest_url).open() as proxy:
        yield proxy


@pytest.fixture
def page(browser: webdriver.Chrome, proxy: Proxy) -> Page:
    """The page, opened through the proxy, in a window as large as on a desktop."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page = Page(browser)
    page.open(proxy.url)
    return page


@pytest.fixture(scope="session")
def golden(published: Version) -> dict[str, NDArray[Any]]:
    """The version's golden digits: `images`, `labels`, `probabilities` …"""
    with np.load(published.path / GOLDEN) as golden:
        return dict(golden)


@pytest.fixture(scope="session")
def zero() -> Stroke:
    """A zero as anyone would draw it."""
    turns = np.linspace(0, 2 * np.pi, 17)
    return [(0.5 - 0.2 * np.sin(turn), 0.5 - 0.3 * np.cos(turn)) for turn in turns.tolist()]
