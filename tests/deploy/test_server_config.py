"""The server's configuration, read with the official messages and run by the local server."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from deploy.local import text_files
from deploy.local.batching import limits as batch_limits
from deploy.local.flags import Flags, parse
from deploy.runner import serve
from export.publication.warmup import BATCH_SIZES
from tests.conftest import Version
from tests.deploy.conftest import ROOT
from tfserving_client import DigitClient

CONFIG = ROOT / "deploy" / "server"


def _flags(part: str) -> list[str]:
    """Those of the server's `entrypoint`, on a GPU, or `command`."""
    name = "docker-compose.gpu.yml" if part == "entrypoint" else "docker-compose.yml"
    text = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", (ROOT / "deploy" / name).read_text())
    (block,) = re.findall(rf"^    {part}:\n((?:     .*\n)+)", text.partition("  gateway:")[0], re.M)
    return re.findall(r"^ +- (--\S+)$", block, re.MULTILINE)


def _parsed(*parts: str) -> Flags:
    """A misspelt flag is only a line in the real server's log."""
    flags, unknown = parse([flag for part in parts for flag in _flags(part)])
    assert not unknown
    return flags


def test_one_model_is_served_and_nothing_is_logged() -> None:
    config = text_format.Parse((CONFIG / "models.config").read_text(), ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("mnist", "/models/mnist")
    assert model.model_platform == "tensorflow"
    assert not model.HasField("logging_config")


def test_batches_have_the_sizes_that_the_warm_up_has_run() -> None:
    parameters = text_files.read(CONFIG / "batching.config", text_files.BatchingParameters())
    limits = batch_limits.read(parameters)
    assert limits.sizes == (*BATCH_SIZES, limits.task_rows)
    assert limits.split
    assert limits.batch_rows == BATCH_SIZES[-1]
    assert limits.batch_rows * limits.batches >= limits.task_rows
    assert limits.wait_seconds == 0


def test_metrics_are_where_prometheus_looks() -> None:
    monitoring = text_files.read(CONFIG / "monitoring.config", text_files.MonitoringConfig())
    assert monitoring.prometheus_config.enable
    assert monitoring.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_no_flag_is_a_trap() -> None:
    flags = _parsed("command")
    assert flags.num_load_threads > 0
    assert flags.load_retry_interval_micros < 60_000_000
    assert flags.enable_profiler is False
    assert flags.enable_grpc_healthcheck_service
    assert flags.allow_version_labels_for_unavailable_models
    assert 0 < flags.model_config_file_poll_wait_seconds <= 5  # a rollback waits for it
    assert not flags.enable_batching


def test_a_gpu_has_a_thread_for_every_row_of_its_batches() -> None:
    parameters = text_files.read(CONFIG / "batching.config", text_files.BatchingParameters())
    rows = BATCH_SIZES[-1] * parameters.num_batch_threads.value
    flags = _parsed("entrypoint", "command")
    assert flags.enable_batching
    assert min(flags.grpc_max_threads, flags.rest_api_num_threads) >= 2 * rows


def test_all_files_that_flags_name_are_there() -> None:
    named = re.findall(r"/config/(\S+)", " ".join(_flags("entrypoint") + _flags("command")))
    assert sorted(named) == sorted(path.name for path in CONFIG.glob("*.config"))


def test_the_flags_of_a_gpu_serve_a_thousand_digits(published: Version, tmp_path: Path) -> None:
    for path in CONFIG.glob("*.config"):
        text = path.read_text().replace("/models/mnist", str(published.path.parent))
        (tmp_path / path.name).write_text(text)
    flags = [
        flag.replace("/config/", f"{tmp_path}/")
        for flag in _flags("entrypoint") + _flags("command")
    ]
    with np.load(published.path / "assets.extra" / "golden.npz") as golden:
        images, probabilities = golden["images"], golden["probabilities"]
    with serve(published.path.parent, flags=flags) as server:
        for url in (server.grpc_url, server.rest_url):
            with DigitClient(url) as digits:
                answer = digits.classify(np.resize(images, (1_000, 28, 28)))
                expected = np.resize(probabilities, (1_000, 10))
                np.testing.assert_allclose(answer.probabilities, expected, atol=1e-5)
