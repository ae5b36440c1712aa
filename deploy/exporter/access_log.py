"""Metrics from the gateway's access log: nginx sends each line by UDP, as syslog.

Lost datagrams are not counted, so the counts are for monitoring, not for billing.
"""

from __future__ import annotations

import json
import math
import re
import socket
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from deploy.exporter.models import Models

_METHODS = {
    "Predict": "predict",
    "Classify": "classify",
    "Regress": "regress",
    "MultiInference": "multi_inference",
    "GetModelMetadata": "metadata",
    "GetModelStatus": "status",
}
_GRPC = re.compile(r"/tensorflow\.serving\.(?:Prediction|Model)Service/(\w+)")
_REST = re.compile(r"/v1/models/[^/:]+(?:/(?:versions|labels)/[^/:]+)?(:\w+|/metadata)?")
_ENDINGS = {
    None: "status",
    "/metadata": "metadata",
    ":predict": "predict",
    ":classify": "classify",
    ":regress": "regress",
}
_SIDES = ("stable", "candidate")  # of a canary
_FAULTS = {2, 4, 13, 14, 15}  # UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS
_RESOURCE_EXHAUSTED, _TOO_MANY = 8, 429
_GAVE_UP = 499  # nginx's own: the caller closed the connection before there was an answer
_PROMISED = 0.25  # seconds, as in monitoring/recording.yml
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CONFIDENCES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_CLASSES = 32  # as in gateway/answers.js
_LONGEST = 1 << 16  # bytes of a datagram
_BUFFER = 1 << 20  # bytes of the receive buffer, for the time of a scrape


class AccessLog:
    """Counts requests by key, model, outcome and side of a canary.

    Args:
        registry: where the metrics are registered.
        models: the names that may become labels; others are "other".
    """

    def __init__(self, registry: CollectorRegistry, models: Models) -> None:
        self._models = models
        self._requests = Counter(
            "digits_gateway_requests",
            "Requests at the gateway.",
            ["key", "model", "method", "status", "outcome", "side"],
            registry=registry,
        )
        self._seconds = Histogram(
            "digits_gateway_request_seconds",
            "Seconds from the first byte of the request to the last byte of the answer.",
            ["model", "method", "outcome", "side"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._answers = Counter(
            "digits_answers",
            "Rows of each class, in the one of ten answers that the gateway samples.",
            ["model", "digit", "side"],
            registry=registry,
        )
        self._confidence = Histogram(
            "digits_answer_confidence",
            "Probability of the most probable class, in the same answers.",
            ["model", "side"],
            buckets=_CONFIDENCES,
            registry=registry,
        )
        self._key_ends = Gauge(
            "digits_key_expiry_timestamp_seconds",
            "When the key expires that this name used last; absent if it does not expire.",
            ["key"],
            registry=registry,
        )
        self._bad_lines = Counter(
            "digits_gateway_bad_lines",
            "Datagrams that are not a line of the access log.",
            registry=registry,
        )

    def count(self, datagram: bytes) -> None:
        """Count one line, after any syslog header; never raises."""
        try:
            line = json.loads(datagram[datagram.index(b"{") :])
            key, method = str(line["key"]), _method(line)
            model = self._known(line["model"])
            answering = self._known(line.get("answering", "")) or model
            seconds = float(line["seconds"])
            if not 0 <= seconds < math.inf:
                raise ValueError(seconds)
            status, result = _outcome(line, seconds)
            if (side := line.get("side", "stable")) not in _SIDES:
                raise ValueError(side)
            ends = datetime.fromisoformat(said) if (said := line.get("key_ends")) else None
            answers = _answers(line.get("answers", ""))
        except (KeyError, RecursionError, TypeError, ValueError):
            self._bad_lines.inc()
            return
        self._requests.labels(key, model, method, status, result, side).inc()
        self._seconds.labels(model, method, result, side).observe(seconds)
        for digit, confidence in answers:
            self._answers.labels(answering, digit, side).inc()
            self._confidence.labels(answering, side).observe(confidence)
        if ends:
            self._key_ends.labels(key).set(ends.timestamp())
        else:
            self._key_ends.remove(key)  # if it is there

    def _known(self, model: object) -> str:
        name = str(model)
        return name if not name or name in self._models.names else "other"

    def listen(self, opened: socket.socket) -> None:
        """Count arriving lines, forever."""
        while True:
            self.count(opened.recv(_LONGEST))


def bind(port: int) -> socket.socket:
    """The socket that receives the lines."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    opened.bind(("", port))
    return opened


def _method(line: dict[str, Any]) -> str:
    path = line["path"]
    if grpc := _GRPC.fullmatch(path):
        return _METHODS.get(grpc[1], "other")
    if rest := _REST.fullmatch(path):
        return _ENDINGS.get(rest[1], "other")
    # The files of the page and /healthz need neither a key nor a server.
    is_file = line["method"] in ("GET", "HEAD") and not line["upstream"] and line["status"] < 400
    return "page" if is_file else "other"


def _answers(text: str) -> list[tuple[int, float]]:
    """Class and probability of each row, from `7:0.98 3:0.55`."""
    rows = [row.split(":") for row in text.split()]
    found = [(int(digit), float(confidence)) for digit, confidence in rows]
    if not all(0 <= digit < _CLASSES and 0 <= confidence <= 1 for digit, confidence in found):
        raise ValueError(text)
    return found


def _outcome(line: dict[str, Any], seconds: float) -> tuple[str, str]:
    """The status as a label, and the outcome."""
    status, code = int(line["status"]), int(line["grpc_status"] or 0)
    if not (100 <= status <= 599 and 0 <= code <= 16):
        raise ValueError(f"{status} {code}")
    label = str(status) if line["grpc_status"] == "" else f"grpc {code}"
    if status < 400 and code == 0:
        return label, "answered"
    if status == _GAVE_UP:  # a caller who gives up after the promised time does not make a mistake
        return label, "failed" if seconds >= _PROMISED else "rejected"
    # Of several replicas the last counts; "-" is one without an answer.
    by_server = line["upstream_status"][-1:].isdigit()
    # The server's queue is full, or a key is over its limits.
    exhausted = status == _TOO_MANY or code == _RESOURCE_EXHAUSTED
    if status >= 500 or code in _FAULTS or (exhausted and by_server):
        return label, "failed"
    return label, "rejected" if by_server else "refused"
