from __future__ import annotations

import math

import pytest

from deploy.release import load
from deploy.runner import serve
from tests.conftest import Version
from tfserving_client.errors import CallContext
from tfserving_client.serving.protocols import wire


def test_requests_are_answered_and_counted_from_when_they_were_due(published: Version) -> None:
    status = wire(True).status(CallContext("", "mnist"))
    other = wire(True).status(CallContext("", "other"))
    requests = [load.Request(one.method, one.body) for one in (status, other)]
    with serve(published.path.parent) as server:
        address = server.grpc_url.removeprefix("grpc://")
        with load.generator(requests[:1]) as generator:
            first = generator.probe(address, 100, 0.5)
            assert (first.rate, first.failed) == (100, 0)
            assert 0 <= first.late <= first.p99 < math.inf
        with load.generator(requests) as generator:
            half = generator.probe(address, 100, 0.5)
            assert half.failed == pytest.approx(0.5, abs=0.05)
            assert half.p99 == math.inf
            alone, four = (generator.pace(address, callers, 0.5) for callers in (1, 4))
            for pace in (alone, four):
                assert pace.rate > 0
                assert 0 < pace.p50 <= pace.p99
                assert pace.size > len(requests[0].body)  # the answer's bytes, too


def test_a_server_that_is_gone_fails_every_request(closed_port: int) -> None:
    with load.generator([load.Request("/a/b", b"")]) as generator:
        probe = generator.probe(f"127.0.0.1:{closed_port}", 20, 0.2)
        pace = generator.pace(f"127.0.0.1:{closed_port}", 2, 0.2)
    assert (probe.failed, probe.p99) == (1, math.inf)
    assert pace == (0, 0, 0, 0)
