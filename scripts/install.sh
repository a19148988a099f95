#!/usr/bin/env bash
# Makes .venv and installs the project into it, with everything its tests and its demo need. `make install` runs it.
#   PYTHON=python3.12        the Python to build on (3.11 or later)
#   TORCH_INDEX=URL          where torch comes from, beside the usual index
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "$python is not Python 3.11 or later. Name one that is: make install PYTHON=python3.12" >&2
    exit 1
fi
if [[ ! -x .venv/bin/pip ]]; then
    if ! "$python" -m venv .venv; then
        rm -rf .venv
        echo "$python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
fi

# Python compiles a module when it is imported for the first time; here that is done at once, in as many processes as there are
# cores. Some packages bring files for other versions of Python, which do not compile and are not run. Of the packages' own tests and
# of the hundreds of models in transformers hardly any is imported.
compile_installed() {
    .venv/bin/python -m compileall -q -j "$1" -x '/(tests|testing|transformers/models)/' .venv/lib > /dev/null || true
}

# uv installs the same in a fifth of pip's time. It does not read pip's settings, so those that say where packages come from are
# handed on. pip takes over where uv fails: it knows further settings.
pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet install --no-compile)
pip_settings=$(.venv/bin/python -m pip config list)
setting() { sed -nE "s/^(global|install|:env:)\.$1='(.*)'$/\2/p" <<< "$pip_settings" | tail -n 1; }
sources=()
for name in index-url extra-index-url find-links; do
    for place in $(setting "$name"); do sources+=("--$name" "$place"); done
done
[[ -z ${TORCH_INDEX:-} ]] || sources+=(--extra-index-url "$TORCH_INDEX")
certificates=$(setting cert)
[[ -z $certificates ]] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$certificates}
"${pip[@]}" "$(grep -oE 'uv==[0-9.]+' pyproject.toml)" || true
# Copies, not links to uv's cache: scripts/repair_torchaudio.py changes an installed file.
uv=(.venv/bin/uv pip install --python .venv/bin/python --quiet --link-mode copy --index-strategy unsafe-best-match)
install_packages() {
    "${uv[@]}" ${sources[@]+"${sources[@]}"} "$@" || "${pip[@]}" ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$@"
}

# torch first and alone: pinned, so that what follows cannot replace a CPU build by another. 2.13.0 is the version that the
# project is tested with.
echo "Installing torch …"
install_packages "torch==2.13.0"
compile_installed 1 &
echo "Installing Secateur …"
install_packages "torch==2.13.0" --editable ".[server,worker,export,tracing,dev,docs]" --editable ./server
# What quantizes results: apart, since transformers imports it in every process that has it. PYTHONPATH=.venv/apart adds it to one.
install_packages --no-deps --upgrade --target .venv/apart "$(grep -o 'torchao==[0-9.]*' pyproject.toml)"
wait
compile_installed 0
.venv/bin/python scripts/repair_torchaudio.py
