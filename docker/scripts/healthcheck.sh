#!/usr/bin/env bash
# Says whether a container can do its work: exit status 0, or 1 with one line that says what is wrong.
#   healthcheck.sh api | worker | maintenance | beat
# The API answers for itself. The others have no port and, on purpose, no remote control: they are asked for by the age of their
# last sign of life, and for what they cannot work without. That a job moves on is the lease's business, not this script's.
#
# Docker starts a container again whose process has ended, not one that is unhealthy. So a process that stands still, with all that it
# needs at hand, for HEAL_AFTER checks in a row (of the API 8, of the others 3) is ended here, and the restart policy does the rest. A database or broker that does
# not answer ends nobody: a restart would not bring it back, and would cost the job that runs.
set -euo pipefail

role=${1:-}
pid_file=${PID_FILE:-/tmp/secateur.pid}
stuck_file=$pid_file.stuck

fail() {
    echo "unhealthy: $1" >&2
    exit 1
}

stuck() { # REASON CHECKS
    # Whoever has not been well yet is still starting.
    [[ -s $stuck_file ]] || fail "$1"
    local times=$(($(<"$stuck_file") + 1))
    echo "$times" >"$stuck_file"
    if ((times >= ${HEAL_AFTER:-$2})) && [[ -r $pid_file ]]; then
        rm -f "$stuck_file"
        kill -KILL "$(<"$pid_file")" 2>/dev/null || true
        fail "$1; ended after $times checks, to be started again"
    fi
    fail "$1"
}

case $role in
    api)
        python - "http://127.0.0.1:${API_PORT:-8000}/healthz" <<'PYTHON' || stuck "the API does not answer" 8
import sys
import urllib.request

# No proxy of the environment: the request stays inside the container.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with opener.open(sys.argv[1], timeout=5) as answer:
        sys.exit(answer.status != 200)
except OSError as error:
    sys.exit(str(error))
PYTHON
        ;;
    worker | maintenance | beat)
        [[ -r $pid_file ]] || fail "the $role has not started"
        kill -0 "$(<"$pid_file")" 2>/dev/null || fail "the $role has ended"
        wait-for.sh "$(setting.sh BROKER_URL)" 3 || fail "no broker"
        if [[ $role != beat ]]; then
            wait-for.sh "$(setting.sh DATABASE_URL)" 3 || fail "no database"
        fi
        age=$(($(date +%s) - $(stat -c %Y "$pid_file")))
        ((age <= ${SIGN_OF_LIFE_SECONDS:-120})) || stuck "the $role has given no sign of life for $age s" 3
        ;;
    *)
        echo "usage: healthcheck.sh api | worker | maintenance | beat" >&2
        exit 64
        ;;
esac
echo 0 >"$stuck_file"
