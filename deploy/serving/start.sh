#!/bin/bash
# Runs the image's own start without the lines that the server writes each time it reads models.config
# again: twice a minute, they bury what one looks for on a bad day.
filtered() { # to the end, whoever is told to stop: the last words are the ones that matter
  trap '' TERM INT
  exec grep --text --line-buffered --invert-match --extended-regexp \
    ' (Adding/updating models\.|\(Re-\)adding model: .*)$'
}
# A candidate has a list of models of its own.
set -- "${@/models.config/${CONFIGURATION:-models.config}}"
exec 3> >(filtered)
filter=$!
/usr/bin/tf_serving_entrypoint.sh "$@" >&3 2>&1 3>&- &
server=$!
exec 3>&-
# To the whole group: the image's start is a shell that does not pass a signal on.
trap 'trap "" TERM INT; kill -TERM 0' TERM INT
wait "$server"
status=$?
# A signal ends the wait, but not yet the server.
while kill -0 "$server" 2>/dev/null; do
  wait "$server"
  status=$?
done
wait "$filter"
exit "$status"
