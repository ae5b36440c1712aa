#!/bin/bash
# Whether a version of every configured model is AVAILABLE: a status page can answer and list only
# failed versions. The CPU image has no curl, but both have bash.
names=$(/serving/models.sh "/config/${CONFIGURATION:-models.config}")
[ -n "$names" ] || exit 1
while read -r name; do
  exec 3<>/dev/tcp/127.0.0.1/8501 || exit 1
  printf 'GET /v1/models/%s HTTP/1.0\r\n\r\n' "$name" >&3
  grep -q '"state": "AVAILABLE"' <&3 || { echo "no version of $name is AVAILABLE"; exit 1; }
done <<<"$names"
