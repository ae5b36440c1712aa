"""The drawing page, from a folder of the test's own, on an aiohttp server in this process."""

import asyncio
import http.client
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from deploy.local.rest.server import RestServer

_GUARDS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


async def fetch(page: Path, path: str) -> Any:
    """Status, Content-Type, the headers that guard the page, and body of one GET."""
    handlers: Any = None
    runner = RestServer(handlers, threads=1, folder=page).runner(0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()

    def get() -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", runner.addresses[0][1], timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        guards = [answer.getheader(name) for name in _GUARDS]
        row = (answer.status, answer.getheader("Content-Type"), guards, answer.read())
        connection.close()
        return row

    try:
        return await asyncio.to_thread(get)
    finally:
        await runner.cleanup()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("<p>index")
    (folder / "page.css").write_text("p {}")
    (folder / "page.js").write_text("1")
    (tmp_path / "secret").write_text("secret")
    return folder


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/", "text/html; charset=utf-8", b"<p>index"),
        ("/index.html", "text/html; charset=utf-8", b"<p>index"),
        ("/?model=/../secret", "text/html; charset=utf-8", b"<p>index"),
        ("/page.css", "text/css; charset=utf-8", b"p {}"),
        ("/page.js", "text/javascript; charset=utf-8", b"1"),
        ("http://here:8501/page.js", "text/javascript; charset=utf-8", b"1"),
        ("http://here:8501/", "text/html; charset=utf-8", b"<p>index"),
    ],
)
def test_files_of_the_page(page: Path, path: str, kind: str, body: bytes) -> None:
    assert asyncio.run(fetch(page, path)) == (200, kind, [*_GUARDS.values()], body)


@pytest.mark.parametrize(
    "path",
    ["/PAGE.css", "/page", "/x/page.js", "//page.js", "//x/page.js", "/../secret", "/%2e%2e/secret",
     "/../", "/..", "//../", "/../page.js", "/x/../", "/x/../page.js", "/%2e%2e/page.js", "/./"],
)  # fmt: skip
def test_what_is_not_in_the_folder_or_leads_out_of_it(page: Path, path: str) -> None:
    assert asyncio.run(fetch(page, path))[0] == 404


def test_without_the_folder_the_root_is_not_found(tmp_path: Path) -> None:
    status, kind, guards, _ = asyncio.run(fetch(tmp_path / "none", "/"))
    assert (status, kind, guards) == (404, "text/html", [None] * len(_GUARDS))
