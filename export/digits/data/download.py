"""One file over HTTP: shown as it comes, tried again where that may help, and accepted or not.

It is held in memory until the caller has accepted its contents, so that whatever ends a transfer
leaves nothing on the disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import TypeVar

import requests
from tqdm import tqdm
from urllib3.exceptions import MaxRetryError

from export.errors import InputError
from export.progress import say

_PAUSES = (1, 2, 4)  # seconds before the second try and each further one
_LONGEST_PAUSE = 60  # seconds, whatever the server asks for
_CONNECT_TIMEOUT = 2  # seconds for each of the host's addresses
_STALL_TIMEOUT = 10  # seconds without a byte
_MOST_BYTES = 1 << 26

_T = TypeVar("_T")


def download(url: str, accept: Callable[[bytes], _T]) -> _T:
    """Download a file and return what `accept` makes of its contents.

    A broken or stalled transfer, the statuses 429 and 5xx, and contents that `accept` refuses with
    an InputError are tried again. A host that cannot be reached at first is not: without a
    network, nobody should have to wait.

    Raises:
        InputError: in one sentence, what happened at last and how often it was tried.
    """
    say(f"data    downloading {url}")
    attempt = 1
    while True:
        try:
            return accept(_get(url))
        except (requests.RequestException, InputError) as error:
            reason = _reason(error)
            if attempt > len(_PAUSES) or not _may_pass(error, attempt):
                tried = "once" if attempt == 1 else f"{attempt} times"
                message = f"{url} cannot be downloaded: {reason} (tried {tried})"
                raise InputError(message) from error
            pause = _pause(error, attempt)
        say(f"data    {reason}; trying again in {pause:g} s")
        sleep(pause)
        attempt += 1


def put(content: bytes, path: Path) -> None:
    """Write a file in one step: a reader sees the old file or the new one, never a part.

    Raises:
        OSError: it cannot be written; nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        complete = Path(folder) / path.name
        complete.write_bytes(content)
        complete.replace(path)


def _get(url: str) -> bytes:
    content = bytearray()
    headers = {"Accept-Encoding": "identity"}
    timeout = (_CONNECT_TIMEOUT, _STALL_TIMEOUT)
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
        if response.status_code != 200:
            raise _BadStatus(response)
        total = response.raw.length_remaining
        # disable=None: no bar if the output is no terminal.
        with tqdm(total=total, unit="B", unit_scale=True, disable=None) as bar:
            for piece in response.iter_content(1 << 16):
                content += piece
                bar.update(len(piece))
                if len(content) > _MOST_BYTES:
                    raise InputError(f"the download is longer than {_MOST_BYTES:,} bytes")
    return bytes(content)


class _BadStatus(InputError):
    def __init__(self, response: requests.Response) -> None:
        super().__init__(f"the server answers {response.status_code} {response.reason}")
        self.may_pass = response.status_code == 429 or response.status_code >= 500
        asked = response.headers.get("Retry-After", "")  # its other form, a date, is ignored
        self.pause = min(float(asked), _LONGEST_PAUSE) if asked.isdecimal() else 0


def _may_pass(error: Exception, attempt: int) -> bool:
    """Whether it may go better the next time."""
    if isinstance(error, _BadStatus):
        return error.may_pass
    # requests wraps in a MaxRetryError what prevented a connection, and only that.
    unreachable = any(isinstance(cause, MaxRetryError) for cause in error.args)
    return not unreachable or attempt > 1


def _pause(error: Exception, attempt: int) -> float:
    asked = error.pause if isinstance(error, _BadStatus) else 0
    return max(_PAUSES[attempt - 1], asked)


def _reason(error: BaseException) -> str:
    """What happened, without the layers of libraries around it."""
    if isinstance(error, InputError):
        return str(error)
    while error.__context__:
        error = error.__context__
    return str(error) or type(error).__name__
