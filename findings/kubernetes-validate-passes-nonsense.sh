#!/usr/bin/env bash
# Versions: kubernetes-validate 1.37.0, Python 3.11.
# Expected: strict validation of a Deployment against the schema of Kubernetes 1.37 finds what would
#   keep it from running.
# Seen: it finds a misspelt field, and passes memory of "1Gb", port 99999, imagePullPolicy
#   "Sometimes", two kinds of probe in one, a mount without a volume, and a selector that does not
#   select the pods: the published schema has types, and hardly any rule about values.
# Matters: a green check in CI says that fields are spelt right. What a value may be is decided by
#   the API server alone (`kubectl apply --dry-run=server`).
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet kubernetes-validate==1.37.0
"$work/venv/bin/python" - <<'EOF'
import kubernetes_validate


def passes(selected="digits", **fields):
    container = {"name": "serving", "image": "tensorflow/serving:2.21.0"} | fields
    template = {"metadata": {"labels": {"app": "digits"}}, "spec": {"containers": [container]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "digits"},
        "spec": {"selector": {"matchLabels": {"app": selected}}, "template": template},
    }
    try:
        kubernetes_validate.validate(deployment, "1.37", strict=True)
    except kubernetes_validate.ValidationError:
        return False
    return True


probe = {"httpGet": {"port": 8501}, "grpc": {"port": 8500}}
nonsense = {
    "memory": passes(resources={"limits": {"memory": "1Gb"}}),
    "port": passes(ports=[{"containerPort": 99999}]),
    "pull policy": passes(imagePullPolicy="Sometimes"),
    "two probes": passes(livenessProbe=probe),
    "mount": passes(volumeMounts=[{"name": "nowhere", "mountPath": "/models"}]),
    "selector": passes(selected="letters"),
}
misspelt = passes(livnessProbe={})
print("passes:", nonsense, "a misspelt field:", misspelt)
if not all(nonsense.values()) or misspelt:
    raise SystemExit("Changed: the validation finds more, or less, than spelling.")
EOF
