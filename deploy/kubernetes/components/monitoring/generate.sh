#!/bin/sh
# Writes the PrometheusRules beside it from the rules of Compose: `make rules`
#
# Without the groups about the machine and about Prometheus itself, which a cluster has its own alerts
# for. In what the alerts advise, kubectl stands for Compose.
set -eu
cd "$(dirname "$0")"
for name in recording alerts; do
  {
    cat <<YAML
# Written by generate.sh from deploy/monitoring/$name.yml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: { name: serving-$name }
spec:
YAML
    awk '/^groups:/ { body = 1 } /^  - name:/ { skipped = $3 ~ /^(machine|monitoring)$/ }
      body && !skipped { print ($0 == "" ? "" : "  " $0) }' "../../../monitoring/$name.yml" |
      sed -e 's/docker compose ps --all/kubectl get pods/' \
        -e 's/docker compose ps/kubectl get pods/' \
        -e 's/docker compose logs \([a-z]*\)/kubectl logs -l app.kubernetes.io\/component=\1/' \
        -e 's/deploy up --scale N/kubectl scale deployment\/serving --replicas=N/' \
        -e 's/python -m kubectl/kubectl/' \
        -e 's/smaller `--scale`/smaller number of replicas/' \
        -e 's/`SERVING_MEMORY`/its limit/' \
        -e 's/`python -m deploy status` shows/The status page, `\/v1\/models\/NAME`, shows/' \
        -e 's/`python -m deploy status` says/The server'\''s log says/' \
        -e 's/`\(python -m deploy [^`]*\)`/`\1 --kubernetes`/'
  } >"$name.yaml"
done
