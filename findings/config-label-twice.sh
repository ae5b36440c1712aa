#!/usr/bin/env bash
# Versions: tensorflow-serving-api 2.21.0, protobuf 7.36.2, Python 3.11.
# Expected: a models.config that says something twice is refused, as it is for a model's name.
# Seen: a label that is given twice is taken without a word, and the last one counts: labels are a
#   protobuf map, and text format refuses a repeated field but not a repeated key.
# Matters: two people, or a merge, add `stable` to one model, both versions exist, and every caller
#   of the label moves to whichever stands further down. Only a check of one's own finds it.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps tensorflow-serving-api==2.21.0 protobuf==7.36.2
"$work/venv/bin/python" - <<'EOF'
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2


def labels(lines):
    text = "model_config_list { config { %s } }" % lines
    try:
        read = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except text_format.ParseError as error:
        return str(error)
    return dict(read.model_config_list.config[0].version_labels)


one, two = ('version_labels { key: "stable" value: %d }' % n for n in (1, 2))
seen = labels('name: "a" name: "b"'), labels(one + two), labels(two + one)
print(*seen, sep="\n")
if seen[1:] != ({"stable": 2}, {"stable": 1}):
    raise SystemExit("Changed: a label that is given twice is read otherwise.")
if "multiple" not in seen[0]:
    raise SystemExit("Changed: a name that is given twice is not refused.")
EOF
