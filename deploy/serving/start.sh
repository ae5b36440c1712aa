#!/bin/bash
# Runs the image's entry point, without the lines that the server logs each time it reads
# models.config: every two seconds, they would hide everything else.
filtered() { # ignores signals to stop, because the last lines matter most
  trap '' TERM INT
  exec grep --text --line-buffered --invert-match --extended-regexp \
    ' (Adding/updating models\.|\(Re-\)adding model: .*)$'
}
# A candidate has its own list of models.
set -- "${@/models.config/${CONFIGURATION:-models.config}}"
exec 3> >(filtered)
filter=$!
/usr/bin/tf_serving_entrypoint.sh "$@" >&3 2>&1 3>&- &
server=$!
exec 3>&-
# To the whole group: the entry point is a shell that does not forward signals.
trap 'trap "" TERM INT; kill -TERM 0' TERM INT
wait "$server"
status=$?
# A signal ends the `wait`, but not yet the server.
while kill -0 "$server" 2>/dev/null; do
  wait "$server"
  status=$?
done
wait "$filter"
exit "$status"
