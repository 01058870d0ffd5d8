#!/bin/sh
# coturn takes its secret from a file or from its arguments, which everybody on the machine can read: so a file in memory.
set -eu
: "${TURN_SECRET:?}" "${TURN_REALM:?}" "${TURN_EXTERNAL_IP:?}" "${TURN_MIN_PORT:?}" "${TURN_MAX_PORT:?}"
umask 077
cat /etc/coturn/turnserver.conf >/tmp/turnserver.conf
printf '%s\n' \
  "static-auth-secret=$TURN_SECRET" "realm=$TURN_REALM" "external-ip=$TURN_EXTERNAL_IP" \
  "min-port=$TURN_MIN_PORT" "max-port=$TURN_MAX_PORT" >>/tmp/turnserver.conf
unset TURN_SECRET
exec turnserver -c /tmp/turnserver.conf
