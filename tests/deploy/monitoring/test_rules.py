"""Configuration and rules, held against Prometheus's own tool."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.monitoring.prometheus import MONITORING, ROOT

CASES = sorted(Path(__file__).parent.glob("*.test.yml"))
ALERTS = " ".join((MONITORING / "alerts.yml").read_text().split())
NAMES = re.findall(r"- alert: (\w+)", ALERTS)


def promtool(*arguments: str | Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    command = ["promtool", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_and_the_rules_are_valid() -> None:
    promtool("check", "config", MONITORING / "prometheus.yml")
    promtool("check", "rules", *MONITORING.glob("[ar]*.yml"))


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.name)
def test_alerts_fire_when_they_should_and_only_then(cases: Path) -> None:
    promtool("test", "rules", cases)


def test_each_alert_has_a_case_where_it_fires_and_one_where_it_does_not() -> None:
    case = r'alertname="(\w+)",alertstate="firing"\}\)\s+eval_time: \w+\s+exp_samples: (\[\]|\[\{)'
    found = {match for path in CASES for match in re.findall(case, path.read_text())}
    assert found == {(name, expected) for name in NAMES for expected in ("[]", "[{")}


def test_each_alert_says_what_to_do() -> None:
    texts = re.split(r"- alert: ", ALERTS)[1:]
    for name, text in zip(NAMES, texts, strict=True):
        assert re.search(r"severity: (critical|warning) ", text), name
        # The second of a pair says what the first does.
        if not re.search(r"annotations: \*\w+", text):
            assert "summary: " in text, name
            assert re.search(r'deploy/README\.md, "Troubleshooting": [\w ]+\.', text), name
    assert len(set(NAMES)) == len(NAMES)


def test_the_sections_that_alerts_name_exist() -> None:
    troubleshooting = (
        (ROOT / "deploy" / "README.md").read_text().partition("## Troubleshooting\n")[2]
    )
    if not troubleshooting:
        pytest.skip("deploy/README.md has no section Troubleshooting")
    for words in re.findall(r'"Troubleshooting": ([\w ]+)\.', ALERTS):
        assert words.lower() in troubleshooting.lower(), words
