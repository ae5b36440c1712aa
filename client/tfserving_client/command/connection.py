"""What a command line says of the client that it wants."""

from __future__ import annotations

import argparse
from typing import Any


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
