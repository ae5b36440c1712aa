#!/usr/bin/env bash
# Versions: prometheus-client 0.26.0, Python 3.11.
# Expected: Prometheus' Python library reads an exposition and gives the samples that it holds.
# Seen: a counter that does not end in `_total` gets that ending: TensorFlow Serving's
#   :tensorflow:serving:request_count is read as :tensorflow:serving:request_count_total. Gauges and
#   histograms keep their names, and Prometheus itself scrapes the counter as it is.
# Matters: a test or an adapter that reads the server's metrics this way looks for a name which
#   dashboards and alerts must not use, and the other way round.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet prometheus-client==0.26.0
"$work/venv/bin/python" - <<'EOF'
from prometheus_client.parser import text_string_to_metric_families

text = """\
# TYPE :tensorflow:serving:request_count counter
:tensorflow:serving:request_count{model_name="digits",status="OK"} 4
# TYPE :tensorflow:core:graph_runs gauge
:tensorflow:core:graph_runs 4
"""
seen = [
    sample.name for family in text_string_to_metric_families(text) for sample in family.samples
]
print(seen)
if seen != [":tensorflow:serving:request_count_total", ":tensorflow:core:graph_runs"]:
    raise SystemExit("Changed: counters are read under other names.")
EOF
