"""The client that a command line asks for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

# numpy and gRPC load slowly: within functions, where Ctrl-C is met, and not for --help.
if TYPE_CHECKING:
    from tfserving_client import DigitClient


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a client, but for its timeout."""
    from tfserving_client import Tls

    files = {"ca": options.ca, "certificate": options.cert, "key": options.key}
    return {
        "url": options.url,
        "model": options.model,
        "api_key": options.api_key,
        "tls": Tls(**files) if any(files.values()) else None,
    }


def connect(options: argparse.Namespace) -> DigitClient:
    """A client of the server, model and key that the options name."""
    from tfserving_client import DigitClient

    return DigitClient(**settings(options), timeout=options.timeout)
