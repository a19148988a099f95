#!/usr/bin/env bash
# Prints the setting SECATEUR_<NAME>, or what the file holds that SECATEUR_<NAME>_FILE names; nothing where neither is set.
#   setting.sh NAME
set -euo pipefail

variable=SECATEUR_${1:?a name} file=SECATEUR_$1_FILE
if [[ -n ${!file:-} ]]; then
    cat -- "${!file}"
else
    printf %s "${!variable:-}"
fi
