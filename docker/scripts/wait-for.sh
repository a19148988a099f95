#!/usr/bin/env bash
# Waits until the server of a URL accepts connections; gives up, and says so, after a number of seconds.
#   wait-for.sh URL [SECONDS]
# URLs without a host (a SQLite file, a socket, an empty setting) need no waiting. Nothing of the URL but host and port is
# printed: it may hold a password.
set -euo pipefail

url=${1-}
seconds=${2:-60}

case $url in
    *+socket://* | *:///*) exit 0 ;;
    *://*) ;;
    "") exit 0 ;;
    *)
        echo "wait-for: not a URL" >&2
        exit 64
        ;;
esac

address=${url#*://}
address=${address%%[/?#]*}
address=${address##*@}
case $url in
    redis* | valkey*) port=6379 ;;
    postgres*) port=5432 ;;
    *) port= ;;
esac
if [[ $address =~ ^(.*):([0-9]+)$ ]]; then
    address=${BASH_REMATCH[1]}
    port=${BASH_REMATCH[2]}
fi
host=${address#[}
host=${host%]}
if [[ -z $port ]]; then
    echo "wait-for: no port known for $host" >&2
    exit 64
fi

deadline=$((SECONDS + seconds))
# A try of its own bound: a host that swallows packets must not hold up the deadline.
# shellcheck disable=SC2016 # the inner shell expands its own arguments
until timeout 2 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$host" "$port" 2>/dev/null; do
    if ((SECONDS >= deadline)); then
        echo "wait-for: $host:$port did not answer within $seconds s" >&2
        exit 1
    fi
    sleep 0.5
done
