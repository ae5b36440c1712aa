"""When the gateway's certificate expires, as a caller sees it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

TIMEOUT = 1.5  # seconds
_VERSION, _GENERALIZED_TIME = 0xA0, 0x18  # DER tags


class Certificate(Collector):
    """Makes a TLS handshake with the gateway at each scrape; without an answer there is no metric.

    Args:
        place: host and TLS port, `gateway:8443`.
    """

    def __init__(self, place: str) -> None:
        host, _, port = place.rpartition(":")
        self._place = (host, int(port))
        self._thread = ThreadPoolExecutor(1, "certificate")

    def collect(self) -> Iterator[Metric]:
        """The metric, if the gateway answers in time."""
        try:
            # In a thread, because name resolution can block: see `replicas`.
            der = self._thread.submit(_presented, self._place).result(2 * TIMEOUT)
        except (OSError, TimeoutError):
            return
        metric = GaugeMetricFamily(
            "digits_certificate_expiry_timestamp_seconds",
            "When the gateway's certificate expires (notAfter).",
        )
        metric.add_metric([], not_after(der).timestamp())
        yield metric


def _presented(place: tuple[str, int]) -> bytes:
    # Without verification, so that an expired certificate can be read, too.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(place, TIMEOUT) as connected,
        context.wrap_socket(connected, server_hostname=place[0]) as encrypted,
    ):
        return encrypted.getpeercert(binary_form=True) or b""


def not_after(der: bytes) -> datetime:
    """When a certificate expires (RFC 5280, section 4.1).

    `ssl` gives it only for verified certificates, so not for expired ones.
    """
    _, certificate, _ = _element(der, 0)
    _, at, _ = _element(der, certificate)  # the signed part
    tag, _, end = _element(der, at)
    # An optional version; then serial number, signature algorithm, issuer.
    for _ in range(4 if tag == _VERSION else 3):
        *_, at = _element(der, at)
    _, not_before, _ = _element(der, at)
    *_, at = _element(der, not_before)
    tag, start, end = _element(der, at)
    form = "%Y%m%d%H%M%SZ" if tag == _GENERALIZED_TIME else "%y%m%d%H%M%SZ"
    return datetime.strptime(der[start:end].decode(), form).replace(tzinfo=UTC)


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start and end of the content of the element that begins at `at`."""
    tag, length = der[at], der[at + 1]
    start = at + 2
    if length & 0x80:
        digits = length & 0x7F
        length = int.from_bytes(der[start : start + digits], "big")
        start += digits
    return tag, start, start + length
