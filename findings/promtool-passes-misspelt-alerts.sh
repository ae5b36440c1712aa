#!/usr/bin/env bash
# Versions: promtool 2.42.0 (Debian 12's prometheus 2.42.0+ds-5+deb12u1).
# Expected: `promtool test rules` fails a test of an alert, or of a metric, that no file has.
# Seen: a test that an alert is quiet passes when its name is misspelt, while the right name would
#   fail; so does a test that a query is empty when its metric is misspelt.
# Matters: half of an alert's tests say when it must not fire. After a rename all of those pass for
#   ever and test nothing. Hold the names in tests to those in the rules by a check of one's own.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get download -qq prometheus=2.42.0+ds-5+deb12u1 && dpkg-deb --extract prometheus_*.deb .)
export PATH="$work/usr/bin:$PATH"
cat >"$work/rules.yml" <<'EOF'
groups:
  - name: serving
    rules:
      - alert: ServingDown
        expr: up{job="serving"} == 0
EOF
quiet() { # whether promtool takes it that the alert $1 is quiet and the metric $2 empty, all down
  cat >"$work/test.yml" <<EOF
rule_files: [rules.yml]
tests:
  - input_series: [{series: 'up{job="serving"}', values: 0x10}]
    alert_rule_test: [{alertname: $1, eval_time: 5m, exp_alerts: []}]
    promql_expr_test: [{expr: '$2{job="serving"}', eval_time: 5m}]
EOF
  if promtool test rules "$work/test.yml" &>/dev/null; then echo passes; else echo fails; fi
}
seen="misspelt $(quiet ServingDwon upp), alert right $(quiet ServingDown upp)"
seen="$seen, metric right $(quiet ServingDwon up)"
echo "a server is down, and a test says that all is quiet: $seen"
[ "$seen" = "misspelt passes, alert right fails, metric right fails" ] || {
  echo "Changed: promtool treats names that no rule has otherwise." >&2
  exit 1
}
