from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.commands import main
from deploy.release import capacity, service
from deploy.release.capacity import MOST_BUSY, TooSlow, plan
from deploy.release.service import Service
from tests.deploy.release import queues

# Alone 5 ms, in batches of 64 at most 3,200 a second.
BATCHED = Service(5.0, 5.0, 3_200.0, 64, 20.0, 8, 3_200, "a device")


@pytest.mark.parametrize(
    ("p99", "lanes", "replicas", "busy"),
    [
        (5.0, 1, 1, 0.3),
        (5.0, 1, 1, 0.8),
        (5.0, 2, 3, 0.8),
        (8.0, 1, 3, 0.6),
        (8.0, 8, 1, 0.8),
        (20.0, 1, 1, 0.6),
        (20.0, 1, 3, 0.8),
        (20.0, 2, 1, 0.3),
    ],
)
def test_one_by_one_it_predicts_what_a_simulation_finds(
    p99: float, lanes: int, replicas: int, busy: float
) -> None:
    one = capacity.given(5.0, p99, lanes)
    rate = busy * replicas * one.requests_per_second
    found = queues.p99(one, lanes, rate, replicas, 20_000)
    assert capacity.p99(one, rate, replicas) == pytest.approx(found, rel=0.25)


@pytest.mark.parametrize(
    ("p99", "batch", "lanes", "replicas", "busy"),
    [
        (5.0, 7.0, 1, 1, 0.02),
        (5.0, 7.0, 1, 3, 0.8),
        (5.0, 20.0, 1, 1, 0.1),
        (5.0, 20.0, 2, 3, 0.6),
        (5.0, 60.0, 1, 1, 0.8),
        (8.0, 20.0, 1, 1, 0.6),
        (8.0, 60.0, 1, 3, 0.3),
        (8.0, 60.0, 2, 3, 0.75),
        (8.0, 60.0, 2, 1, 0.6),
    ],
)
def test_in_batches_it_predicts_what_a_simulation_finds(
    p99: float, batch: float, lanes: int, replicas: int, busy: float
) -> None:
    stretch = 5.0 * capacity.given(5.0, p99, 1).requests_per_second / 1e3  # p50 over mean
    one = Service(5.0, p99, stretch * lanes * 64e3 / batch, 64, batch, lanes, 0, "")
    rate = busy * replicas * one.requests_per_second
    found = queues.p99(one, lanes, rate, replicas, 30_000)
    assert capacity.p99(one, rate, replicas) == pytest.approx(found, rel=0.15)


def test_a_single_queue_is_as_the_books_say() -> None:
    # M/M/1 at half load waits half the time, and then for twice the service time: Kleinrock, 1975.
    # 0.5 exp(-t/10 ms) = 0.01, and the service of 5 ms, which here is always the same, halves it.
    always = capacity.given(5.0, 5.0, 1)
    assert always.requests_per_second == pytest.approx(200)
    assert capacity.p99(always, 100, 1) == pytest.approx(5 + 5 * math.log(50), rel=1e-3)
    assert capacity.p99(always, 200, 1) == math.inf
    assert capacity.p99(always, 1, 1_000) == pytest.approx(5, rel=1e-3)


SERVICES = st.builds(
    lambda p50, tail, most, rows, batch: Service(
        p50, p50 * tail, most * 1e3 / p50, rows, p50 * batch, 2, 100, ""
    ),
    st.floats(0.01, 1_000),
    st.floats(1, 20),
    st.floats(0.5, 64),
    st.sampled_from([1, 2, 64]),
    st.floats(1, 60),
)


@settings(max_examples=30)
@given(SERVICES, st.floats(0.1, 1e6), st.floats(1.01, 100))
def test_a_plan_holds_and_with_one_less_it_would_not(
    one: Service, rate: float, slack: float
) -> None:
    limit = one.p99_ms * slack
    try:
        found = plan(one, rate, limit)
    except TooSlow:
        assert slack < 1.5, "a request alone takes far less"
        return
    assert found.p99_ms <= limit
    assert found.busy <= MOST_BUSY
    fewer = found.replicas - 1
    assert (
        not fewer
        or capacity.p99(one, rate, fewer) > limit
        or rate / (fewer * one.requests_per_second) > MOST_BUSY
    )


@pytest.mark.parametrize("one", [capacity.given(1.2, 2.4, 2), BATCHED], ids=["cores", "device"])
def test_a_million_a_second_takes_many_replicas_but_no_wonder(one: Service) -> None:
    found = [plan(one, 10.0**i, 50) for i in range(7)]
    assert [each.replicas for each in found] == sorted(each.replicas for each in found)
    assert found[0].replicas == 1
    most = 1e6 / one.requests_per_second
    assert most / MOST_BUSY <= found[-1].replicas < 1.05 * most / MOST_BUSY
    assert all(math.isfinite(each.p99_ms) for each in found)


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What tune wrote of mnist on a machine that has nothing else."""
    monkeypatch.setattr(service, "MEASURED", tmp_path)
    return service.write("mnist", BATCHED)


@pytest.mark.usefixtures("measured")
def test_what_tune_measured_is_planned_by(capsys: pytest.CaptureFixture[str]) -> None:
    assert service.read("mnist") == BATCHED
    arguments = ["capacity", "--rate=100,1e6", "--p99-ms=40", "--gpus=1", "--price=0.5"]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert told.startswith("a device\na request alone takes 5 ms (p99 5 ms), and a replica answers")
    header, few, many = (re.split(r"  +", line) for line in told.splitlines()[-3:])
    assert header[5:] == ["GPUS", "GPU-HOURS A DAY", "COST A DAY", "MBIT/S"]
    assert few[:2] == ["100", "1"]
    assert few[4:] == ["none left", "1", "24", "12.00", "2.6"]
    assert many[0] == "1,000,000"
    assert many[-1] == "25,600"
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["replica"] == asdict(BATCHED)
    assert found["unit"] == "gpu"
    first, last = found["plans"]
    assert (first["units"], first["cost_a_day"], first["p99_one_lost_ms"]) == (1, 12.0, None)
    assert f"{last['replicas']:,}" == many[1]
    assert last["unit_hours_a_day"] == 24 * last["replicas"]


def test_without_a_measurement_it_takes_what_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service, "MEASURED", tmp_path)
    assert main(["capacity", "--rate=2000", "--p99-ms=20"]) == 2
    told = capsys.readouterr().err
    assert "there are no measurements of mnist on this machine" in told
    assert "`python -m deploy tune --name mnist`" in told
    arguments = ["--rate=2000", "--p99-ms=20", "--service-ms=5,8", "--cores=4"]
    assert main(["capacity", *arguments]) == 0
    header, row = (re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()[-2:])
    assert header[-1] == "CORE-HOURS A DAY"  # neither a price nor the size of a request is known
    assert int(row[5]) == 4 * int(row[1])


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--service-ms=5,8", "--p99-ms=7"], 1, "99 of 100 requests alone take up to 8 ms"),
        (["--service-ms=8,5"], 2, "'8,5': expected P50 or P50,P99"),
        (["--service-ms=1,2,3"], 2, "'1,2,3': expected P50 or P50,P99"),
        (["--service-ms=nan"], 2, "'nan': expected milliseconds"),
        (["--rate=0"], 2, "'0': expected requests per second"),
        (["--rate=1,inf"], 2, "'inf': expected requests per second"),
        (["--rate=1,"], 2, "'': expected requests per second"),
        (["--service-ms=5", "--price=-1"], 2, "'-1': expected a price"),
        (["--cores=2"], 2, "--cores goes with --service-ms"),
        (["--service-ms=5", "--cores=2", "--gpus=1"], 2, "not allowed with"),
        (["--name=../x"], 2, "'../x' is not a valid name"),
    ],
)
def test_what_cannot_be_planned_is_told_in_a_sentence(
    arguments: list[str], status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        found = main(["capacity", *arguments])
    except SystemExit as usage:
        found = int(str(usage.code))
    assert found == status
    said, errors = capsys.readouterr()
    assert not said
    assert told in errors.splitlines()[-1]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not what `python -m deploy tune` writes: Expecting"),
        ("[]", "is not what `python -m deploy tune` writes"),
        ("{}", "missing 8 required positional arguments"),
        ({"more": 1}, "unexpected keyword argument 'more'"),
        ({"p50_ms": 0}, "p50_ms is 0; expected a number above 0"),
        ({"requests_per_second": math.inf}, "requests_per_second is inf"),
        ({"cores": "2"}, "cores is '2'"),
        ({"batch_rows": True}, "batch_rows is True"),
        ({"p99_ms": 4.0}, "have to be at least p50_ms"),
    ],
)
def test_a_damaged_measurement_is_refused(
    measured: Path,
    content: str | dict[str, Any],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if isinstance(content, dict):
        content = json.dumps({**asdict(BATCHED), **content})
    measured.write_text(content)
    assert main(["capacity"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(measured) in line
    assert told in line
