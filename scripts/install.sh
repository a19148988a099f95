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

# pip compiles what it installs in one process, when all is there; here that is done beside it, and then in as many processes as
# there are cores. Some packages bring files for other versions of Python, which do not compile and are not run. Of the packages'
# own tests and of the hundreds of models in transformers hardly any is imported; Python compiles those when they are.
compile_installed() {
    .venv/bin/python -m compileall -q -j "$1" -x '/(tests|testing|transformers/models)/' .venv/lib > /dev/null || true
}
pip_install() {
    .venv/bin/python -m pip --disable-pip-version-check --quiet install --no-compile "$@"
}

# torch first and alone: pinned, so that what follows cannot replace a CPU build by another. 2.13.0 is the version that the
# project is tested with.
echo "Installing torch …"
if [[ -n ${TORCH_INDEX:-} ]]; then
    pip_install "torch==2.13.0" --extra-index-url "$TORCH_INDEX"
else
    pip_install "torch==2.13.0"
fi
compile_installed 1 &
echo "Installing Secateur …"
pip_install "torch==2.13.0" --editable ".[server,worker,export,tracing,dev,docs]" --editable ./server
# What quantizes results: apart, since transformers imports it in every process that has it. PYTHONPATH=.venv/apart adds it to one.
pip_install --no-deps --upgrade --target .venv/apart "$(grep -o 'torchao==[0-9.]*' pyproject.toml)"
wait
compile_installed 0
.venv/bin/python scripts/repair_torchaudio.py
