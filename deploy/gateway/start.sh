#!/bin/sh
# Runs nginx, and tells it what it cannot find out by itself: where the replicas and the exporter
# are, which keys there are, which certificate to show. A change is taken up within a second or two.
set -eu
secrets=/etc/gateway
run=/run/gateway
replicas=''

addresses() { # those of the name $1, in order; nothing if it has none
  getent ahostsv4 "$1" | awk '$2 == "STREAM" { print $1 }' | sort -u
}

servers() { # the replicas at port $1
  [ -n "$replicas" ] || echo 'server 127.0.0.1:1 down;' # nginx wants at least one
  for address in $replicas; do
    echo "server $address:$1 max_fails=1 fail_timeout=2s;"
  done
}

self_signed() { # a certificate to begin with
  [ -e "$run/server.pem" ] && return
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
    -keyout "$run/server.key" -out "$run/server.pem" 2>/dev/null
  echo "no certificate in $secrets: made one that nobody trusts" >&2
}

render() { # everything that nginx.conf includes, into the folder $1
  rm -rf "$1"
  mkdir "$1"
  # A name that does not resolve just now says nothing: better the replicas that were there last.
  now=$(addresses serving)
  replicas=${now:-$replicas}
  servers 8500 >"$1/grpc-servers.conf"
  servers 8501 >"$1/rest-servers.conf"
  echo "limit_req_zone \$limited zone=keys:1m rate=${KEY_RATE}r/s;
limit_req zone=keys burst=$KEY_RATE nodelay;" >"$1/rate.conf"
  for exporter in $(addresses exporter); do
    echo "access_log syslog:server=$exporter:1514,nohostname,tag=gateway json;"
  done >"$1/syslog.conf"
  cat "$secrets/keys.conf" >"$1/keys.conf" 2>/dev/null || :
  from=$secrets
  [ -e "$secrets/server.pem" ] || { self_signed; from=$run; }
  cp "$from/server.pem" "$from/server.key" "$1"
  if cp "$secrets/client-ca.pem" "$1" 2>/dev/null; then
    echo "ssl_verify_client on; ssl_client_certificate $run/now/client-ca.pem;"
  fi >"$1/mutual-tls.conf"
}

watch() { # until nginx, process $1, ends
  while sleep 1 && kill -0 "$1" 2>/dev/null; do
    render "$run/next" || continue
    diff -rq "$run/now" "$run/next" >/dev/null && continue
    rm -rf "$run/now"
    mv "$run/next" "$run/now"
    kill -HUP "$1"
  done
}

render "$run/now"
watch $$ &
# In the place of this shell, so that a signal to stop reaches it.
exec nginx -e stderr -c "$(dirname "$0")/nginx.conf" -g 'daemon off;'
