"""A server that answers with bytes recorded from another, at once: what is measured is the client.

The program is `canned.c`, which is compiled when it is needed.
"""

from __future__ import annotations

import contextlib
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_SOURCE = Path(__file__).with_name("canned.c")
_NEEDED = "a C compiler and nghttp2 are needed: apt-get install gcc libc6-dev libnghttp2-dev"


class Answer(NamedTuple):
    """What a request is answered with.

    Attributes:
        key: bytes that stand in its path, or at the beginning of its body.
        least: its body has at least so many bytes.
        body: the answer.
    """

    key: bytes
    least: int
    body: bytes


class NotBuilt(Exception):
    """The server cannot be compiled here; says what is missing."""


@contextlib.contextmanager
def serve(answers: Sequence[Answer]) -> Iterator[str]:
    """Serve on a free port of 127.0.0.1, gRPC and REST alike: yields `127.0.0.1:port`.

    A request is answered with the first of `answers` that fits.

    Raises:
        NotBuilt: there is no compiler, or no nghttp2.
    """
    with tempfile.TemporaryDirectory() as folder:
        program, file = Path(folder, "canned"), Path(folder, "answers")
        _compile(program)
        file.write_bytes(b"".join(map(_record, answers)))
        process = subprocess.Popen([program, file], stdout=subprocess.PIPE, text=True)
        assert process.stdout
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _compile(program: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        raise NotBuilt(_NEEDED)
    command = [compiler, "-O2", "-o", str(program), str(_SOURCE), "-lnghttp2", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotBuilt(f"{_NEEDED}; {compiler} said: {done.stderr.strip()}")


def _record(answer: Answer) -> bytes:
    head = struct.pack("=3I", answer.least, len(answer.key), len(answer.body))
    return head + answer.key + answer.body
