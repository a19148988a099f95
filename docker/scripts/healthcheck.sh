#!/usr/bin/env bash
# Says whether a container can do its work: exit status 0, or 1 with one line that says what is wrong.
#   healthcheck.sh api | worker | maintenance | beat
# The API answers for itself. The others have no port and, on purpose, no remote control: they are asked for by process
# number, and for what they cannot work without. That a job moves on is the lease's business, not this script's.
set -euo pipefail

role=${1:-}
pid_file=${PID_FILE:-/tmp/secateur.pid}

fail() {
    echo "unhealthy: $1" >&2
    exit 1
}

case $role in
    api)
        python - "http://127.0.0.1:${API_PORT:-8000}/healthz" <<'PYTHON' || fail "the API does not answer"
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
        ;;
    *)
        echo "usage: healthcheck.sh api | worker | maintenance | beat" >&2
        exit 64
        ;;
esac
