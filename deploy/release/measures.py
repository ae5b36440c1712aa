"""The metrics of a server, at the path of `server/monitoring.config`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from urllib import request

FLAGS = {"monitoring_config_file": Path(__file__).parents[1] / "server" / "monitoring.config"}
_URL = "{}/monitoring/prometheus/metrics"
_LINE = re.compile(r"^:tensorflow:([\w:]+)(?:\{.*\})? ([0-9.e+-]+)$", re.ASCII | re.MULTILINE)


def read(rest_url: str) -> Mapping[str, float]:
    """Name without `:tensorflow:` → value, summed over all labels; 0 if absent.

    Raises:
        OSError: the server does not answer.
    """
    with request.urlopen(_URL.format(rest_url), timeout=10) as answer:
        text = answer.read().decode()
    values: Counter[str] = Counter()
    for name, value in _LINE.findall(text):
        values[name] += float(value)  # type: ignore[assignment]  # a Counter adds floats, too
    return values
