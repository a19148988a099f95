#!/usr/bin/env bash
# First process of every container: waits for what its role needs, then becomes that role.
#   entrypoint.sh api | worker | maintenance | beat | migrate        anything else is run as it is
set -euo pipefail

role=${1:-}
pid_file=${PID_FILE:-/tmp/secateur.pid}
log_level=${SECATEUR_LOG_LEVEL:-info}

wait_for() {
    local url
    for url in "$@"; do
        wait-for.sh "$url" "${WAIT_SECONDS:-60}"
    done
}

case $role in
    api | worker | maintenance | beat)
        # A role keeps this process's number: `exec` below does not change it, and the health check asks for it. All but the API
        # touch the file that PID_FILE names as a sign of life (store/queue/sign_of_life.py).
        export PID_FILE=$pid_file
        echo "$$" >"$pid_file"
        ;;
esac

case $role in
    api)
        if [[ ${SECATEUR_AUTH:-none} != keys ]]; then
            echo "A container is reached from outside, so the API needs keys: set SECATEUR_AUTH=keys (docs/deploy.md)." >&2
            exit 78
        fi
        wait_for "$(setting.sh DATABASE_URL)"
        # Requests are answered to their end on a stop; the proxy in front, if any, is named by FORWARDED_ALLOW_IPS.
        exec uvicorn --factory service.app:create_app --host 0.0.0.0 --port "${API_PORT:-8000}" \
            --http service.middleware.slow_clients:BoundedProtocol --ws none --log-level "$log_level" --no-server-header \
            --timeout-graceful-shutdown 20
        ;;
    worker)
        wait_for "$(setting.sh DATABASE_URL)" "$(setting.sh BROKER_URL)"
        exec celery --app worker.app worker --queues jobs --hostname "worker@%h" --loglevel "$log_level"
        ;;
    maintenance)
        wait_for "$(setting.sh DATABASE_URL)" "$(setting.sh BROKER_URL)"
        exec celery --app worker.maintenance worker --queues maintenance --hostname "maintenance@%h" \
            --loglevel "$log_level"
        ;;
    beat)
        wait_for "$(setting.sh BROKER_URL)"
        exec celery --app worker.maintenance beat --loglevel "$log_level"
        ;;
    migrate)
        wait_for "$(setting.sh DATABASE_URL)"
        exec migrate.sh
        ;;
    "")
        echo "usage: entrypoint.sh api | worker | maintenance | beat | migrate | COMMAND…" >&2
        exit 64
        ;;
    *)
        exec "$@"
        ;;
esac
