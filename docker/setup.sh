#!/usr/bin/env bash
# Makes what Compose needs beside docker-compose.yml, where it is not there yet; changes nothing that is. Run it before the first start,
# and once after an upgrade from a version that kept the password in docker/.env: it is taken over.
#   docker/setup.sh [cpu | gpu]       which worker `docker compose up` starts; without it gpu where there is an NVIDIA GPU, else cpu
# docker/.env: settings. docker/secrets: one file a secret, in a folder that nobody else may enter. The files themselves can be read by
# all, since Compose shows them to a container as they are, and its user is not theirs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

profile=${1:-}
case $profile in
    cpu | gpu | "") ;;
    *)
        sed -n '2,7p' "${BASH_SOURCE[0]##*/}" >&2
        exit 64
        ;;
esac

of_env() { # NAME -> its value in .env, if any
    sed -n "s/^$1=//p" .env | tail -n 1 | sed "s/^\(['\"]\)\(.*\)\1\$/\2/"
}

secret() { # NAME VALUE -> secrets/NAME, if it is not there
    if [[ ! -s secrets/$1 ]]; then
        printf '%s\n' "$2" >"secrets/$1"
        chmod 0444 "secrets/$1"
        echo "made docker/secrets/$1"
    fi
}

random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

before=yes
if [[ ! -e .env ]]; then
    before=
    (umask 077 && cp env.example .env)
    # Three quarters of the machine are for jobs.
    sed -i "s/^WORKER_MEMORY=.*/WORKER_MEMORY=$(awk '/^MemTotal:/ {print int($2 * 3 / 4)}' /proc/meminfo)k/" .env
    echo "made docker/.env"
fi
chmod 0600 .env

if [[ -z $(of_env COMPOSE_PROFILES) ]]; then
    if [[ -z $profile ]]; then
        # Whoever has an .env without the setting has run the worker for GPUs: there was no other.
        profile=cpu
        if [[ -n $before ]] || nvidia-smi --list-gpus >/dev/null 2>&1; then profile=gpu; fi
    fi
    if grep -q '^COMPOSE_PROFILES=' .env; then
        sed -i "s/^COMPOSE_PROFILES=.*/COMPOSE_PROFILES=$profile/" .env
    else
        printf '\n# Which worker, gpu or cpu; and the proxy: gpu,tls.\nCOMPOSE_PROFILES=%s\n' "$profile" >>.env
    fi
    echo "set COMPOSE_PROFILES=$profile in docker/.env"
fi

mkdir -p secrets
chmod 0700 secrets
password=$(of_env POSTGRES_PASSWORD)
secret database_password "${password:-$(random)}"
secret broker_password "$(random)"
# Valkey reads a password from nothing but its configuration.
secret broker.conf "requirepass $(<secrets/broker_password)"
