"""The drawing page: the files of a folder at their names, and index.html at `/`."""

import re
from pathlib import Path
from typing import NamedTuple

from deploy import FOLDER

PAGE = FOLDER / "page"
MODELS = "/models.json"  # the names that it chooses from; the gateway has them by itself
# As the gateway sends them.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
}
_SERVER = re.compile(r"https?://[^/]*", re.IGNORECASE)  # a target may name it


class File(NamedTuple):
    """A file of the page."""

    content_type: str
    body: bytes


def read(folder: Path, target: str) -> File | None:
    """The file that a request's target names as it was sent, whatever its query, or None.

    Names are compared, never followed, so that no target leads out of the folder and back.
    """
    path = _SERVER.sub("", target, count=1).partition("?")[0]
    name = "index.html" if path == "/" else path.removeprefix("/")
    if folder.is_dir():
        for file in folder.iterdir():
            if file.name == name and file.is_file():
                return File(_TYPES.get(file.suffix, "application/octet-stream"), file.read_bytes())
    return None
