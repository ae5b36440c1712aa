"""The table "Troubleshooting": each row caused on a real engine, alerted, and ended as it says."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deploy.commands import main
from deploy.operate.access import secret_files
from tests.deploy.conftest import ROOT
from tests.deploy.gateway import secrets_in
from tests.deploy.monitoring.conftest import Bundle, docker
from tests.deploy.monitoring.prometheus import MONITORING, until

README = (ROOT / "deploy" / "README.md").read_text()
ELSEWHERE = {
    # In test_compose_monitoring and test_queries, where nothing has to go on after it.
    "ExporterDown",
    "MetricsNotStored",
    "FailuresFast",
    "FailuresSlow",
    # Of a canary: promtool has the rule, and tests of deploy/release begin and end one.
    "CandidateFails",
    # The same rule over six hours, or at another number of days.
    "LatencySlow",
    "CertificateExpiring",
    # What no test can have: a GPU, and a week of answers. promtool has the rules.
    "BatchQueueFilling",
    "GpuMemoryFull",
    "AnswersDrifting",
    "ConfidenceFalling",
}


def _rows() -> dict[str, list[str]]:
    """What is wrong → its alerts."""
    table = README.partition("## Troubleshooting\n")[2].partition("\n## ")[0]
    cells = [line.split("|") for line in table.splitlines() if line.startswith("| ")]
    return {row[1].strip(): re.findall(r"[A-Z]\w+", row[2]) for row in cells[1:]}


def test_every_alert_has_a_row_and_every_row_an_alert_that_exists_and_is_caused() -> None:
    alerts = re.findall(r"- alert: (\w+)", (MONITORING / "alerts.yml").read_text())
    named = [alert for row in _rows().values() for alert in row]
    assert sorted(named) == sorted(alerts)
    caused = set(
        re.findall(r"^def test_\w+\(.*?(?=^def |\Z)", Path(__file__).read_text(), re.M | re.S)
    )
    text = "".join(caused)
    assert {alert for alert in alerts if f'"{alert}"' not in text} == ELSEWHERE


def _ends(bundle: Bundle, alert: str, mend: Callable[[], Any]) -> None:
    """It fires now; what is done then ends it."""
    bundle.prometheus.becomes(alert, "firing")
    mend()
    bundle.prometheus.becomes(alert, "inactive")


def _deploy(bundle: Bundle, *arguments: str) -> None:
    """An operator's command about secrets, on the bundle's."""
    with secrets_in(bundle.folder):
        assert main([*arguments]) == 0


def _asked(bundle: Bundle, key: str | None, port: int | None = None) -> int:
    """The status of a prediction over REST."""
    scheme = "http" if port else "https"
    request = urllib.request.Request(
        f"{scheme}://127.0.0.1:{port or bundle.tls_port}/v1/models/mnist:predict",
        json.dumps({"instances": [[[0] * 28] * 28]}).encode(),
        {"x-api-key": key} if key else {},
    )
    context = None
    if not port:
        context = ssl.create_default_context(
            cafile=bundle.folder / "secrets" / "gateway" / "ca.pem"
        )
    try:
        with urllib.request.urlopen(request, timeout=60, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@contextlib.contextmanager
def _publishing(bundle: Bundle, number: int) -> Iterator[Path]:
    """The folder of a new version, which is put in its place when it is filled."""
    base = bundle.folder / "models" / "mnist"
    staged = base / f".staging-{number}"
    staged.mkdir()
    yield staged
    staged.rename(base / str(number))


def _aside(bundle: Bundle, *numbers: int) -> Callable[[], None]:
    """Move versions out of the models' folder; gives what moves them back."""
    base, elsewhere = bundle.folder / "models" / "mnist", bundle.folder / "aside"
    elsewhere.mkdir(exist_ok=True)

    def move(source: Path, target: Path) -> None:
        for number in numbers:
            (source / str(number)).rename(target / str(number))

    move(base, elsewhere)
    return lambda: move(elsewhere, base)


def test_the_server_is_down(bundle: Bundle) -> None:
    names = [bundle.container(f"serving-{number}") for number in (1, 2, 3)]
    docker("kill", *names)
    bundle.prometheus.becomes("AllReplicasDown", "firing")
    assert _asked(bundle, None, bundle.rest) == 503
    up = "up", "--detach", "--no-recreate", "--scale=serving=3"
    _ends(bundle, "AllReplicasDown", lambda: bundle.compose(*up, "serving"))
    until(lambda: _asked(bundle, None, bundle.rest) == 200, "an answer")


def test_a_replica_is_down(bundle: Bundle) -> None:
    until(bundle.watches_all, "three replicas")
    name = bundle.container("serving-2")
    bundle.prometheus.becomes("ReplicaDown", "inactive")
    for _ in range(2):
        docker("kill", name)
        _ends(bundle, "ReplicaDown", lambda: docker("start", name))
        until(bundle.watches_all, "three replicas")
    bundle.prometheus.becomes("ReplicaRestarting", "firing")


def test_no_version_is_available_and_a_version_flaps(bundle: Bundle) -> None:
    until(bundle.watches_all, "three replicas")
    for _ in range(2):
        back = _aside(bundle, 1)
        _ends(bundle, "NoVersionAvailable", back)
    bundle.prometheus.becomes("VersionFlapping", "firing")


def test_a_version_fails_to_load(bundle: Bundle) -> None:
    with _publishing(bundle, 7):
        pass
    # While it is tried again and again, it is just not there.
    bundle.prometheus.becomes("VersionNotServed", "firing")
    bundle.prometheus.becomes("VersionFailed", "firing")
    bundle.prometheus.becomes("VersionNotServed", "inactive")
    ((labels, _), *_) = bundle.prometheus.query('digits_model_differs{kind="failed"}')
    assert "version 7 of mnist failed to load: " in labels["what"]
    assert _asked(bundle, None, bundle.rest) == 200  # by the version before
    _ends(bundle, "VersionFailed", lambda: _aside(bundle, 7))


@pytest.mark.parametrize("text", ["model_config_list { config {", None])
def test_the_configuration_is_refused(text: str | None, bundle: Bundle) -> None:
    path = bundle.folder / "config" / "models.config"
    good = path.read_text()
    secret_files.replace(path, (text or good.replace("/models/mnist", "/models/nosuch")).encode())
    bundle.prometheus.becomes("ConfigurationRefused", "firing")
    assert _asked(bundle, None, bundle.rest) == 200
    _ends(bundle, "ConfigurationRefused", lambda: secret_files.replace(path, good.encode()))


def test_answers_are_slow(bundle: Bundle) -> None:
    bundle.prometheus.becomes("LatencyFast", "inactive")
    names = [bundle.container(f"serving-{number}") for number in (1, 2, 3)]

    def slowly(callers: ThreadPoolExecutor) -> list[int]:
        docker("pause", *names)
        answers = [callers.submit(_asked, bundle, None, bundle.rest) for _ in range(16)]
        threading.Event().wait(1)
        docker("unpause", *names)
        return [answer.result() for answer in answers]

    def firing() -> bool:
        (rule,) = (one for one in bundle.prometheus.rules() if one["name"] == "LatencyFast")
        return bool(rule["state"] == "firing")

    with ThreadPoolExecutor(16) as callers:
        until(lambda: slowly(callers) and firing(), "LatencyFast")


def test_many_refusals(bundle: Bundle) -> None:
    def refused() -> bool:
        with ThreadPoolExecutor(8) as callers:
            assert set(callers.map(lambda _: _asked(bundle, "dk_wrong"), range(200))) == {401}
        (rule,) = (one for one in bundle.prometheus.rules() if one["name"] == "RefusalsSpike")
        return bool(rule["state"] == "firing")

    until(refused, "RefusalsSpike")


def test_the_certificate_expires(bundle: Bundle) -> None:
    _deploy(bundle, "certificates", "--days", "1")
    renew = "certificates", "--days", "365"
    _ends(bundle, "CertificateExpiresNow", lambda: _deploy(bundle, *renew))


def test_a_key_ends_and_one_leaks(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    def key(*arguments: str) -> str:
        capsys.readouterr()
        _deploy(bundle, "keys", *arguments)
        return capsys.readouterr().out.strip()

    old = key("create", "alice", "--days", "3")
    until(lambda: _asked(bundle, old) == 200, "the key")

    def calls() -> bool:
        assert _asked(bundle, old) == 200
        (rule,) = (one for one in bundle.prometheus.rules() if one["name"] == "KeyExpiring")
        return bool(rule["state"] == "firing")

    until(calls, "KeyExpiring")
    new = key("rotate", "alice", "--days", "90")
    until(lambda: _asked(bundle, new) == 200, "the next key")
    _ends(bundle, "KeyExpiring", lambda: _asked(bundle, new))
    assert _asked(bundle, old) == 200
    key("revoke", "alice")
    until(lambda: {_asked(bundle, old), _asked(bundle, new)} == {401}, "no key")


def test_memory_runs_out(bundle: Bundle) -> None:
    container = "serving-1"
    query = f'digits_container_memory_bytes{{container="{container}"}}'
    ((_, used),) = until(lambda: bundle.prometheus.query(query), "memory")

    def limit(size: int) -> None:
        docker("update", f"--memory={size}", f"--memory-swap={size}", bundle.container(container))

    limit(int(used * 1.05))
    _ends(bundle, "ContainerMemoryFull", lambda: limit(8 << 30))


def test_the_disk_is_full(bundle: Bundle) -> None:
    with pytest.raises(AssertionError, match="No space left"):
        bundle.compose("exec", "exporter", "sh", "-c", "cat /dev/zero > /small/full")
    clean = "exec", "exporter", "rm", "/small/full"
    _ends(bundle, "DiskFilling", lambda: bundle.compose(*clean))


def test_the_gateway_is_down(bundle: Bundle) -> None:
    bundle.compose("kill", "gateway")
    _ends(bundle, "GatewayDown", lambda: bundle.compose("start", "gateway"))


@contextlib.contextmanager
def _receiver() -> Iterator[tuple[int, list[dict[str, Any]], list[int]]]:
    """A webhook: its port, what it was told, and the status that it answers with."""
    told: list[dict[str, Any]] = []
    status = [500]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, told, status
        finally:
            server.shutdown()
            thread.join()


def test_monitoring_fails(bundle: Bundle) -> None:
    """First nobody hears of an alert, then its messages arrive, then Alertmanager is gone."""
    with _receiver() as (port, told, status):
        bundle.environment["ALERT_WEBHOOK"] = f"http://this-machine:{port}/"
        bundle.compose("up", "--detach", "--no-deps", "alertmanager")
        until(
            lambda: bundle.prometheus.query("sum(alertmanager_integrations)") == [({}, 1)],
            "one receiver",
        )
        docker("kill", bundle.container("serving-3"))
        bundle.prometheus.becomes("AlertsUndelivered", "firing")
        status[0] = 200
        told.clear()

        def names() -> set[str]:
            return {alert["labels"]["alertname"] for message in told for alert in message["alerts"]}

        until(lambda: "ReplicaDown" in names(), "a message")
        docker("start", bundle.container("serving-3"))
    bundle.compose("kill", "alertmanager")
    _ends(bundle, "TargetUnreachable", lambda: bundle.compose("start", "alertmanager"))
