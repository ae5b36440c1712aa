"""The measurements of both sides of a canary, from Prometheus."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping

from deploy.release.verdict import Histogram, Side

_TIMEOUT = 10  # seconds
_SERVED = 'digits_gateway_requests_total{outcome!="refused",method!="page"%s}'
_FAILED = 'digits_gateway_requests_total{outcome="failed"%s}'
_SECONDS = 'digits_gateway_request_seconds_bucket{method="predict",outcome="answered"%s}'
_AT_SERVER = ":tensorflow:serving:request_latency"  # microseconds
_JOBS = {"stable": "serving", "candidate": "candidate"}  # side → of monitoring/prometheus.yml


class Unmeasured(Exception):
    """Prometheus does not answer; says why."""


def measured(url: str, model: str, seconds: float, within: str = "") -> tuple[Side, Side]:
    """The stable side and the candidate side, over the last seconds.

    Args:
        url: of Prometheus.
        model: the model whose answers are compared. Requests and their times are those of all
            models: over gRPC the gateway does not know the model of a request.
        seconds: length of the window, which ends now.
        within: the namespace of a cluster; "": Prometheus watches one bundle.

    Raises:
        Unmeasured: Prometheus does not answer.
    """
    window = f"[{max(seconds, 1):.0f}s]"
    there = f",namespace={json.dumps(within)}" if within else ""
    served = _ask(url, f"sum by (side) (increase({_SERVED % there}{window}))", "side")
    failed = _ask(url, f"sum by (side) (increase({_FAILED % there}{window}))", "side")
    of_model = f"model={json.dumps(model)}{there}"
    at_server = f'{{API!="",{of_model}}}{window}'
    gateway = _histograms(url, f"sum by (side, le) (increase({_SECONDS % there}{window}))", "side")
    server = _histograms(
        url, f"sum by (job, le) (increase({_AT_SERVER}_bucket{at_server}))", "job", 1e-6
    )
    mean = _ask(
        url,
        f"sum by (job) (increase({_AT_SERVER}_sum{at_server})) / "
        f"sum by (job) (increase({_AT_SERVER}_count{at_server})) / 1e6",
        "job",
    )
    answers = {
        side: _ask(
            url,
            f"sum by (digit) (increase(digits_answers_total{{side={json.dumps(side)},{of_model}}}"
            f"{window}))",
            "digit",
        )
        for side in _JOBS
    }
    confidence = _ask(
        url,
        f"sum by (side) (increase(digits_answer_confidence_sum{{{of_model}}}{window})) / "
        f"sum by (side) (increase(digits_answer_confidence_count{{{of_model}}}{window}))",
        "side",
    )
    stable, candidate = (
        Side(
            requests=served.get(side, 0),
            failed=failed.get(side, 0),
            gateway=gateway.get(side, {}),
            server=server.get(job, {}),
            server_mean=mean.get(job, math.nan),
            answers=answers[side],
            confidence=confidence.get(side, math.nan),
        )
        for side, job in _JOBS.items()
    )
    return stable, candidate


def _ask(url: str, query: str, label: str) -> dict[str, float]:
    """Value by label of an instant query."""
    return {labels.get(label, ""): value for labels, value in _query(url, query)}


def _histograms(url: str, query: str, label: str, unit: float = 1.0) -> Mapping[str, Histogram]:
    """Histogram by label of an instant query; `unit` is that of the bounds in seconds."""
    found: dict[str, dict[float, float]] = {}
    for labels, value in _query(url, query):
        found.setdefault(labels.get(label, ""), {})[float(labels["le"]) * unit] = value
    return found


def _query(url: str, query: str) -> list[tuple[dict[str, str], float]]:
    """Labels and values."""
    asked = f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked, timeout=_TIMEOUT) as answer:
            found = json.load(answer)["data"]["result"]
            return [(one["metric"], float(one["value"][1])) for one in found]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unmeasured(f"Prometheus at {url} does not answer: {error}") from error
