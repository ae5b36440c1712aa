from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.commands import main
from deploy.local import text_files
from deploy.local.batching import limits
from deploy.release import golden, measures, service, tune, tune_report
from deploy.release.load import Probe
from deploy.release.tune import Batching, Setting, chosen, highest
from deploy.runner import kind, serve


def _setting(name: str, *rates: float, text: str = "x") -> Setting:
    return Setting(name, text, found=[Probe(rate, 10.0, 0.0, 0.0) for rate in rates])


RATES = st.lists(st.sampled_from([0.0, 100.0, 103.0, 150.0, 300.0]), min_size=3, max_size=3)


@given(RATES, RATES, RATES)
def test_what_is_chosen_is_never_worse_than_the_baselines(
    defaults: list[float], shipped: list[float], best: list[float]
) -> None:
    settings = [_setting("a", *defaults), _setting("b", *shipped), _setting("c", *best)]
    use = chosen(*settings)
    assert use.rate * tune.MARGIN >= max(settings[0].rate, settings[1].rate)
    if use is settings[2]:
        assert use.rate > max(settings[0].rate, settings[1].rate)


@pytest.mark.parametrize(
    ("defaults", "shipped", "best", "use"),
    [
        ([100, 100, 100], [100, 100, 100], [100, 100, 100], "defaults"),
        ([100, 100, 100], [103, 103, 103], [104, 104, 104], "defaults"),
        ([100, 100, 100], [150, 150, 150], [150, 150, 150], "shipped"),
        ([100, 100, 100], [150, 150, 150], [200, 200, 200], "best"),
        ([100, 250, 100], [150, 150, 150], [200, 200, 200], "shipped"),  # once it was not better
        ([0, 0, 0], [0, 0, 0], [5, 5, 5], "best"),
        ([0, 0, 0], [0, 0, 0], [0, 0, 0], "defaults"),
    ],
)
def test_ties_are_the_baselines(
    defaults: list[float], shipped: list[float], best: list[float], use: str
) -> None:
    settings = _setting("defaults", *defaults), _setting("shipped", *shipped)
    assert chosen(*settings, _setting("best", *best)).name == use


@pytest.mark.parametrize("capacity", [0, 3, 6, 90, 199, 200, 201, 5_000, 150_000])
@pytest.mark.parametrize("near", [20, 200, 3_000])
def test_the_highest_rate_is_found_to_within_an_eighth(capacity: float, near: float) -> None:
    asked: list[float] = []

    def holds(rate: float) -> bool:
        asked.append(rate)
        return rate <= capacity

    found = highest(holds, near)
    assert found <= capacity
    assert found * 1.125 >= capacity or capacity < 6
    assert len(asked) < 30


def test_each_batching_is_one_that_the_server_takes(tmp_path: Path) -> None:
    for batching in (Batching(), Batching(1, 0, 1, 1), Batching(256, 2_000, 4, 128)):
        file = tmp_path / "batching.config"
        file.write_text(batching.text())
        read = limits.read(text_files.read(file, text_files.BatchingParameters()))
        assert (read.batch_rows, read.batches) == (batching.rows, batching.queue)
        assert read.wait_seconds == batching.timeout / 1e6
        assert read.split


def test_the_report_says_when_batching_loses_and_who_was_too_slow() -> None:
    settings = [_setting("defaults", 300, text=""), _setting("shipped", 200), _setting("c", 100)]
    for setting in settings:
        setting.probes = [*setting.found, Probe(400, 90.0, 0.0, 1.0), Probe(500, math.inf, 1, 0)]
    lines = list(tune_report.lines(settings, settings[0], 50, is_generator_limit=True))
    assert lines[-1] == (
        "batching loses: the server's defaults answer 300 requests/s with 99 of 100 within 50 ms, "
        "the best batching (shipped) 200"
    )
    assert "this machine cannot send more" in "\n".join(lines)
    lucky = [settings[0], _setting("shipped", 310), settings[2]]
    lines = list(tune_report.lines(lucky, lucky[0], 50, is_generator_limit=False))
    assert lines[-1].startswith(
        "batching is not better in every measurement: the server's defaults answer 300"
    )
    lines = list(tune_report.lines(settings, settings[1], 50, is_generator_limit=False))
    assert lines[-1].startswith("use shipped: 200 requests/s")
    assert "cannot send more" not in "\n".join(lines)
    none = [_setting("defaults", text=""), _setting("shipped"), _setting("c")]
    lines = list(tune_report.lines(none, none[0], 50, is_generator_limit=False))
    assert lines[-1] == "no setting answers 99 of 100 requests within 50 ms: raise --p99-ms"


@pytest.fixture
def quick(levels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`python -m deploy tune` on a model of several signatures, with tenths of seconds."""
    monkeypatch.setattr(service, "MEASURED", tmp_path / "measured")
    monkeypatch.setenv("MODELS", str(levels.parents[1]))
    monkeypatch.setattr(tune, "SWEPT", {"timeout": (500,)})
    real = tune.Tuner

    def faster(
        folder: Path, name: str, limit: float, _: float, say: Callable[[str], None]
    ) -> object:
        return real(folder, name, limit, 0.1, say)

    monkeypatch.setattr(tune, "Tuner", faster)
    return lambda *arguments: main(["tune", "--name=levels", "--p99-ms=15", *arguments])


def test_what_is_written_is_what_is_told(
    quick: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "batching.config"
    assert quick(f"--output={output}") == 0
    told, progress = capsys.readouterr()
    for name in ("server's defaults", "shipped", str(Batching()), str(Batching(timeout=500))):
        assert f"  {name}  " in told
        assert f"tune    {name}: " in progress
    wins = told.splitlines()[-1].startswith("use ")
    assert output.exists() == wins
    assert f"{output} is {'' if wins else 'not '}written" in progress
    assert main(["capacity", "--name=levels", "--rate=1", "--p99-ms=10000"]) == 0
    assert f", on {kind()}, " in capsys.readouterr().out


def test_what_a_replica_can_do_is_measured_with_and_without_batching(
    levels: Path, tmp_path: Path
) -> None:
    file = tmp_path / "batching.config"
    file.write_text(Batching(rows=4, timeout=100_000, threads=1).text())  # so that they fill
    for flags, files in (([], {}), (["--enable_batching"], {"batching_parameters_file": file})):
        files = {**measures.FLAGS, **files}
        with serve(levels, name="levels", version=1, flags=flags, files=files) as server:
            found = tune.measured(server, "levels", golden.read(levels), 0.5, "it")
        assert (found.batch_rows > 1) == bool(flags)
        assert 0 < found.p50_ms <= found.p99_ms
        assert found.p50_ms <= found.batch_ms
        assert found.requests_per_second > 0
        assert found.request_bytes > 0
        assert found.of == "it"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--p99-ms=0"], "'0': expected milliseconds"),
        (["--output=/none/file"], "/none/file cannot be written"),
        (["--name=none"], "No such file or directory"),
    ],
)
def test_bad_usage(
    levels: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    monkeypatch.setenv("MODELS", str(levels.parents[1]))
    try:
        status = main(["tune", "--name=levels", *arguments])
    except SystemExit as usage:
        status = int(str(usage.code))
    assert status == 2
    assert told in capsys.readouterr().err
