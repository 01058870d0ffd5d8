#!/usr/bin/env bash
# The runbook by hand: one environment on one machine, as a careful operator scripts it over the months.
#   by_hand.sh rollout BRANCH | rollback
# Environment: CHECKOUT (a clone), PROJECT, PUBLISH (the published port), LOG (the release log), PYTHON (for the smoke).
set -Eeuo pipefail

: "${CHECKOUT:?}" "${PROJECT:?}" "${PUBLISH:?}" "${LOG:?}" "${PYTHON:?}" "${COMPOSE:=docker-compose}"
export SLUICE_URL="http://127.0.0.1:${PUBLISH}" PUBLISH IMAGE="${PROJECT}" TAG=latest
CRITICAL='Traceback|CRITICAL|FATAL|panic:|Out of memory'
SECRETS='-----BEGIN [A-Z ]*PRIVATE KEY|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|xox[baprs]-[A-Za-z0-9-]{10,}|(password|passwd|secret|token|api_?key)["'"'"' ]*[:=] *["'"'"'][^"'"'"'$]{12,}'

step() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$*"; }
die() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
compose() { "$COMPOSE" --project-name "$PROJECT" "$@"; }
record() { printf '%s\t%s\t%s\t%s\t%s\n' "$(date -u +%FT%TZ)" "$1" "$2" "$(git rev-parse HEAD)" "${USER:-$(id -un)}" >>"$LOG"; }

wait_healthy() {
  for _ in $(seq 1 150); do
    if curl --silent --fail --max-time 2 --output /dev/null "$SLUICE_URL/health"; then return 0; fi
    sleep 0.2
  done
  die "$SLUICE_URL/health does not answer 200 within 30 s"
}

checks() {
  step "containers"
  local expected running
  expected=$(compose config --services | sort)
  running=$(compose ps --services --status running | sort)
  [[ "$expected" == "$running" ]] || die "not every service is Up: $running"
  step "logs"
  if compose logs --no-color --tail=120 chat | grep -E "$CRITICAL"; then die "critical lines in the log"; fi
  step "health"
  curl --silent --fail --max-time 5 --output /dev/null "$SLUICE_URL/health" || die "GET /health"
  curl --silent --fail --max-time 5 --output /dev/null --head "$SLUICE_URL/health" || die "HEAD /health"
  step "version"
  curl --silent --fail --max-time 5 "$SLUICE_URL/version" | grep -q "\"sha\":\"$RELEASE_SHA\"" ||
    die "another commit is served"
  step "websocket handshake"
  # It answers 101 and stays open: curl ends at its time limit, which is no failure.
  { curl --silent --include --no-buffer --max-time 1 --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
    -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==' \
    "$SLUICE_URL/v1/realtime/ws" || true; } | head -n 1 | grep -q ' 101 ' || die "no WebSocket handshake"
  step "smoke"
  "$PYTHON" smoke.py all || die "the smoke"
}

named() {
  RELEASE_SHA=$(git rev-parse HEAD)
  RELEASE_TREE=$(git rev-parse 'HEAD^{tree}')
  export RELEASE_SHA RELEASE_TREE
}

back() {
  step "rolling back"
  docker image inspect "$PROJECT:previous" >/dev/null 2>&1 || die "there is no release before this one"
  docker tag "$PROJECT:previous" "$PROJECT:latest"
  git checkout --quiet --detach "$(cat "$CHECKOUT/.git/previous")"
  named
  compose up --detach --no-build
  wait_healthy
  checks
  record rollback "$1"
  step "rolled back"
}

rollout() {
  local branch=$1
  [[ "$branch" =~ ^feature/[a-z0-9][a-z0-9._-]*$ ]] || die "not a feature branch: $branch"
  step "fetch"
  git fetch --quiet --prune origin
  git merge-base --is-ancestor origin/main "origin/$branch" || die "$branch is behind main"
  step "secrets"
  if git diff origin/main..."origin/$branch" | grep -E '^\+' | grep -iE -e "$SECRETS"; then die "a secret in the diff"; fi
  step "keep what serves"
  git rev-parse HEAD >"$CHECKOUT/.git/previous"
  if docker image inspect "$PROJECT:latest" >/dev/null 2>&1; then docker tag "$PROJECT:latest" "$PROJECT:previous"; fi
  git checkout --quiet --detach "origin/$branch"
  named
  step "build"
  compose build --quiet
  step "up"
  compose up --detach --no-build
  step "wait"
  # A subshell: what fails in it ends it, and not this script.
  if (wait_healthy && checks); then
    record rollout ok
    step "done"
  else
    back "after a failed rollout"
    exit 3
  fi
}

exec 9>"$CHECKOUT/.git/by_hand.lock"
flock --nonblock 9 || die "somebody else is at it"
cd "$CHECKOUT"
case "${1:-}" in
  rollout) rollout "${2:?which branch}" ;;
  rollback) back "by hand" ;;
  *) die "usage: by_hand.sh rollout BRANCH | rollback" ;;
esac
