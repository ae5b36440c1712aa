"""What the gateway costs: images a second through it against the server's own port.

The gateway is this machine's nginx with the committed files, the server `python -m deploy.local`
or, with `SERVING_BINARY` or `SERVING_IMAGE`, the real one, on the newest version under
`models/mnist`. Prints a table in Markdown; exit status 1 if a limit is missed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from deploy.runner import serve
from tests.bench.paired import Row, tell, throughput
from tests.deploy.gateway import running
from tfserving_client import DigitClient

LIMIT = 0.75


def main() -> int:
    """Measure, and tell."""
    return tell(_rows(np.random.default_rng(0).integers(0, 256, (32, 28, 28), np.uint8)))


def _rows(images: NDArray[np.uint8]) -> Iterator[Row]:
    with serve(Path("models/mnist")) as server, tempfile.TemporaryDirectory() as folder:
        urls = {"grpcs": server.grpc_url, "https": server.rest_url}
        grpc_port, rest_port = (urlsplit(url).port or 0 for url in urls.values())
        with running(Path(folder), ["127.0.0.1"], (grpc_port, rest_port)) as gateway:
            key = gateway.new_key("bench")
            for scheme, url in urls.items():
                guarded = f"{scheme}://127.0.0.1:{gateway.tls_port}"
                with DigitClient(guarded, api_key=key, tls=gateway.tls) as through:
                    with DigitClient(url) as straight:
                        yield throughput(
                            f"{scheme} through the gateway, 32 at once, images/s",
                            partial(_classify, through, images),
                            partial(_classify, straight, images),
                            LIMIT,
                        )


def _classify(digits: DigitClient, images: NDArray[np.uint8]) -> int:
    return len(digits.classify(images))


if __name__ == "__main__":
    sys.exit(main())
