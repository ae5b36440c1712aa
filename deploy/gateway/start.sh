#!/bin/sh
# Runs nginx, and tells it what it cannot find out by itself: where the replicas and the exporter
# are, which models and keys there are, which certificate to show. A change is taken up within a
# second or two.
set -eu
secrets=/etc/gateway
canary=/config/canary.config # the share in percent, of what, and each key's side
shadow=/config/shadow.config # a model, the share in percent, how many a second, until when
run=/run/gateway
configuration=$(dirname "$0")/nginx.conf
models=$(dirname "$0")/../serving/models.sh
javascript=/usr/lib/nginx/modules/ngx_http_js_module.so # in the official image
replicas=''
candidates=''
told=''

addresses() { # those of the name $1, in order; nothing if it has none
  getent ahostsv4 "$1" | awk '$2 == "STREAM" { print $1 }' | sort -u
}

servers() { # those at the addresses $2, at port $1; $3: what else there is to say of them
  [ -n "$2" ] || echo 'server 127.0.0.1:1 down;' # nginx wants at least one
  for address in $2; do
    echo "server $address:$1 max_fails=1 fail_timeout=2s${3:+ $3};"
  done
}

sides() { # the servers, and how many callers the candidate answers, into the folder $1
  for protocol in grpc:8500 rest:8501; do
    servers "${protocol#*:}" "$replicas" >"$1/${protocol%:*}-stable.conf"
    servers "${protocol#*:}" "$candidates" >"$1/${protocol%:*}-candidate.conf"
    # In its place, when it fails.
    servers "${protocol#*:}" "$replicas" backup >>"$1/${protocol%:*}-candidate.conf"
  done
  { # by what `canary` wrote down of each key; who is not in it falls to a side by chance, and stays
    echo "split_clients \$whose \$by_chance {"
    [ -z "$candidates" ] || sed -n '1s/ .*/% candidate;/p' "$canary"
    echo "* stable; } map \$key_name \$side { default \$by_chance;"
    [ -z "$candidates" ] || sed '1d; s/$/;/' "$canary"
    echo '}'
  } >"$1/canary.conf"
}

self_signed() { # a certificate to begin with
  [ -e "$run/server.pem" ] && return
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
    -keyout "$run/server.key" -out "$run/server.pem" 2>/dev/null
  echo "no certificate in $secrets: made one that nobody trusts" >&2
}

resolve() {
  # A name that does not resolve just now says nothing: better the replicas that were there last.
  found=$(addresses serving)
  replicas=${found:-$replicas}
  found=''
  [ ! -e "$canary" ] || found=$(addresses candidate)
  candidates=$found
  exporter=$(addresses exporter)
}

answers() { # how answers are looked at, into the folder $1; not at all by an nginx without JavaScript
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

shadows() { # which requests are kept for `compare --live`, into the folder $1; none after its time
  until=0
  [ ! -e "$shadow" ] || [ ! -e "$javascript" ] || read -r model share rate until <"$shadow"
  now=$(date +%s)
  for kept in "$run/shadow"/*; do # a minute is left to fetch them
    [ "$kept" = "$run/shadow/$until" ] && [ "$now" -lt $((until + 60)) ] || rm -rf "$kept"
  done
  if [ "$now" -lt "$until" ]; then
    mkdir -p "$run/shadow/$until" 2>/dev/null || : # without it nothing is kept, and all else goes on
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
  # Without key and encryption, so not on a network: Compose publishes them on this machine alone.
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
    # But those that have ended. Times are written so that the earlier one is the smaller text.
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

swap() { # what nginx has read, and what it is to read
  mv "$run/now" "$run/last"
  mv "$run/next" "$run/now"
  mv "$run/last" "$run/next"
}

refused() { # whether nginx would not take what it finds; each reason is told once
  why=$(nginx -t -e stderr -c "$configuration" 2>&1) && told='' && return 1
  why=$(echo "$why" | sed 's/^[0-9/]* [0-9:]* //; s/ [0-9]*#[0-9]*:/:/') # without time and process
  [ "$why" = "$told" ] || printf 'not taken up yet:\n%s\n' "$why" >&2
  told=$why
}

watch() { # until nginx, process $1, ends
  set +e
  while sleep 1 && kill -0 "$1" 2>/dev/null; do
    resolve
    render "$run/next"
    [ $? -eq 0 ] || continue # not `render || continue`: with it the shell would ignore `set -e`
    diff -rq "$run/now" "$run/next" >/dev/null && continue
    # nginx reads only when told to, so it may be tried out in place. If it is refused, nginx would
    # go on with what it had and say nothing of it: a revoked key would stay one. So try again.
    swap
    if refused; then swap; else kill -HUP "$1"; fi
  done
}

resolve
render "$run/now"
[ "${1:-}" != check ] || exec nginx -t -q -e stderr -c "$configuration"
watch $$ &
# In the place of this shell, so that a signal to stop reaches it.
exec nginx -e stderr -c "$configuration" -g 'daemon off;'
