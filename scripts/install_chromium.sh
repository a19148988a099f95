#!/usr/bin/env bash
# The browser that `make test-ui` drives: Debian's, by apt, where it is not there yet.
set -euo pipefail

if [[ -x /usr/bin/chromium ]]; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "make test-ui needs /usr/bin/chromium. Install it with this system's package manager." >&2
    exit 1
fi
as_root=()
if [[ $EUID -ne 0 ]]; then
    as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y --no-install-recommends chromium
