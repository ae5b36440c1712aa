#!/bin/sh
# Runs nginx, and writes the part of its configuration that changes: addresses of the replicas and the
# exporter, models, keys and certificate. nginx loads a change within a second or two.
set -eu
secrets=/etc/gateway
canary=/config/canary.config # the share in percent, model and version, and the side of each key
shadow=/config/shadow.config # model, share in percent, requests per second, end time
run=/run/gateway
configuration=$(dirname "$0")/nginx.conf
models=$(dirname "$0")/../serving/models.sh
javascript=/usr/lib/nginx/modules/ngx_http_js_module.so # in the official image
replicas=''
candidates=''
told=''

addresses() { # of the host name $1, sorted; empty if it has none
  getent ahostsv4 "$1" | awk '$2 == "STREAM" { print $1 }' | sort -u
}

servers() { # at port $1 of the addresses $2, with the parameters $3
  [ -n "$2" ] || echo 'server 127.0.0.1:1 down;' # nginx needs at least one
  for address in $2; do
    echo "server $address:$1 max_fails=1 fail_timeout=2s${3:+ $3};"
  done
}

sides() { # the servers, and the share of callers of the candidate, into the folder $1
  for protocol in grpc:8500 rest:8501; do
    servers "${protocol#*:}" "$replicas" >"$1/${protocol%:*}-stable.conf"
    servers "${protocol#*:}" "$candidates" >"$1/${protocol%:*}-candidate.conf"
    # If it fails, the others answer.
    servers "${protocol#*:}" "$replicas" backup >>"$1/${protocol%:*}-candidate.conf"
  done
  { # keys as `canary` wrote them; other callers get a random side, always the same one
    echo "split_clients \$whose \$by_chance {"
    [ -z "$candidates" ] || sed -n '1s/ .*/% candidate;/p' "$canary"
    echo "* stable; } map \$key_name \$side { default \$by_chance;"
    [ -z "$candidates" ] || sed '1d; s/$/;/' "$canary"
    echo '}'
  } >"$1/canary.conf"
}

self_signed() { # a certificate, if there is none
  [ -e "$run/server.pem" ] && return
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
    -keyout "$run/server.key" -out "$run/server.pem" 2>/dev/null
  echo "no certificate in $secrets: made one that no client trusts" >&2
}

resolve() {
  # If the name does not resolve at the moment, keep the last replicas.
  found=$(addresses serving)
  replicas=${found:-$replicas}
  found=''
  [ ! -e "$canary" ] || found=$(addresses candidate)
  candidates=$found
  exporter=$(addresses exporter)
}

answers() { # how answers are sampled, into the folder $1; an nginx without JavaScript does not
  if [ -e "$javascript" ]; then
    echo "load_module $javascript;" >"$1/modules.conf"
    echo "js_import answers from $(dirname "$configuration")/answers.js;
js_var \$answers; js_var \$answering;" >"$1/answers.conf"
    echo "js_body_filter answers.look buffer_type=buffer;" >"$1/look.conf"
  else
    : >"$1/modules.conf"
    echo "map '' \$answers { default ''; } map '' \$answering { default ''; }" >"$1/answers.conf"
    : >"$1/look.conf"
  fi
}

shadows() { # which requests are kept for `compare --live`, into the folder $1; none after the end time
  until=0
  [ ! -e "$shadow" ] || [ ! -e "$javascript" ] || read -r model share rate until <"$shadow"
  now=$(date +%s)
  for kept in "$run/shadow"/*; do # one minute to fetch them
    [ "$kept" = "$run/shadow/$until" ] && [ "$now" -lt $((until + 60)) ] || rm -rf "$kept"
  done
  if [ "$now" -lt "$until" ]; then
    mkdir -p "$run/shadow/$until" 2>/dev/null || : # without it nothing is kept; everything else works
    echo "js_import shadow from $(dirname "$configuration")/shadow.js;
split_clients \$request_id \$in_shadow { $share% yes; * ''; }
map '' \$shadow_model { default $model; }
map '' \$shadow_rate { default $rate; }
map '' \$shadow_folder { default $run/shadow/$until; }
# Over gRPC the model is in the body.
map \"\$in_shadow \$request_method \$model\" \$shadowed {
default ''; 'yes POST $model' yes; 'yes POST ' yes; }" >"$1/shadow.conf"
    echo 'js_content shadow.keep;' >"$1/keep.conf"
  else
    echo "map '' \$shadowed { default ''; }" >"$1/shadow.conf"
    echo 'return 404;' >"$1/keep.conf"
  fi
}

render() ( # everything that nginx.conf includes, into the folder $1
  set -e
  rm -rf "$1"
  mkdir "$1"
  sides "$1"
  shadows "$1"
  echo "limit_req_zone \$limited zone=keys:1m rate=${KEY_RATE}r/s;
limit_req zone=keys burst=$KEY_RATE nodelay;" >"$1/rate.conf"
  # Without key and TLS, so not on a network: Compose publishes them on this machine only.
  echo "listen ${LOCAL_ADDRESS:-0.0.0.0}:8500 http2;" >"$1/listen-grpc.conf"
  echo "listen ${LOCAL_ADDRESS:-0.0.0.0}:8501;" >"$1/listen-rest.conf"
  for address in $exporter; do
    echo "access_log syslog:server=$address:1514,nohostname,tag=gateway json;"
  done >"$1/syslog.conf"
  names=$("$models" /config/models.config | sed 's/.*/"&"/' | paste -sd , -)
  echo "{\"models\": [$names]}" >"$1/models.json"
  : >"$1/keys.conf"
  answers "$1"
  if [ -e "$secrets/keys.conf" ]; then
    # Without expired keys. Times are written so that an earlier one is the smaller text.
    awk -v now="$(date -u +%Y-%m-%dT%H:%M:%SZ)" 'NF < 2 || $(NF - 1) != "ends" || $NF > now' \
      "$secrets/keys.conf" >"$1/keys.conf"
  fi
  awk 'NF > 2 && $(NF - 1) == "ends" { print $1, $NF ";" }' "$1/keys.conf" >"$1/key-ends.conf"
  from=$secrets
  [ -e "$secrets/server.pem" ] || { self_signed; from=$run; }
  cp "$from/server.pem" "$from/server.key" "$1"
  if [ -e "$secrets/client-ca.pem" ]; then
    cp "$secrets/client-ca.pem" "$1"
    echo "ssl_verify_client on; ssl_client_certificate $run/now/client-ca.pem;"
  fi >"$1/mutual-tls.conf"
)

swap() { # what nginx has loaded, and what it has to load
  mv "$run/now" "$run/last"
  mv "$run/next" "$run/now"
  mv "$run/last" "$run/next"
}

refused() { # whether nginx would refuse the new files; each reason is logged once
  why=$(nginx -t -e stderr -c "$configuration" 2>&1) && told='' && return 1
  why=$(echo "$why" | sed 's/^[0-9/]* [0-9:]* //; s/ [0-9]*#[0-9]*:/:/') # without time and process
  [ "$why" = "$told" ] || printf 'not loaded, still using the last files:\n%s\n' "$why" >&2
  told=$why
}

watch() { # until nginx, process $1, ends
  set +e
  while sleep 1 && kill -0 "$1" 2>/dev/null; do
    resolve
    render "$run/next"
    [ $? -eq 0 ] || continue # not `render || continue`: with it the shell would ignore `set -e`
    diff -rq "$run/now" "$run/next" >/dev/null && continue
    # nginx reads only on a signal, so the new files can be tested in place. If it refused them, nginx
    # would silently keep the old ones, and a revoked key would still work. So retry.
    swap
    if refused; then swap; else kill -HUP "$1"; fi
  done
}

resolve
render "$run/now"
[ "${1:-}" != check ] || exec nginx -t -q -e stderr -c "$configuration"
watch $$ &
# `exec`, so that a signal to stop reaches nginx.
exec nginx -e stderr -c "$configuration" -g 'daemon off;'
