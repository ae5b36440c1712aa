#!/bin/sh
# Runs Alertmanager with the receivers from the environment:
#   ALERT_WEBHOOK  a URL that receives a POST
#   ALERT_MAIL     an address, with ALERT_SMTP (host:port) and ALERT_MAIL_FROM; if the mail server
#                  needs a password, ALERT_SMTP_USER, and the password in /etc/alerting/smtp-password
# With neither, alerts are shown, but not sent.
set -eu
configuration=/run/alertmanager/alertmanager.yml

quoted() { # as a YAML string
  printf "'%s'" "$(printf %s "$1" | sed "s/'/''/g")"
}

if [ -n "${ALERT_MAIL:-}" ] && [ -z "${ALERT_SMTP:-}" ]; then
  echo "ALERT_MAIL is set and ALERT_SMTP is not: set it to the mail server, as host:port" >&2
  exit 1
fi
{
  # One message for each alert, again every four hours, and one when it ends.
  echo 'route: { receiver: machine, group_by: [alertname], repeat_interval: 4h }'
  # If this one fires, the others add nothing.
  echo 'inhibit_rules:'
  echo '  - source_matchers: [alertname = AllReplicasDown]'
  echo '    target_matchers: [alertname =~ "FailuresFast|FailuresSlow|ReplicaRestarting"]'
  echo 'receivers:'
  echo '  - name: machine'
  if [ -n "${ALERT_WEBHOOK:-}" ]; then
    echo "    webhook_configs: [{ url: $(quoted "$ALERT_WEBHOOK") }]"
  fi
  if [ -n "${ALERT_MAIL:-}" ]; then
    echo "    email_configs:"
    echo "      - to: $(quoted "$ALERT_MAIL")"
    echo "        from: $(quoted "${ALERT_MAIL_FROM:-$ALERT_MAIL}")"
    echo "        smarthost: $(quoted "$ALERT_SMTP")"
    echo "        send_resolved: true"
    if [ -n "${ALERT_SMTP_USER:-}" ]; then
      echo "        auth_username: $(quoted "$ALERT_SMTP_USER")"
      echo "        auth_password_file: /etc/alerting/smtp-password"
    fi
  fi
} >"$configuration"
exec alertmanager --config.file="$configuration" "$@"
