#!/usr/bin/env bash
# Make .venv for one purpose and install this project in it, editable.
#   scripts/venv.sh dev      everything: tests, linters, every extra   (requirements/dev.txt)
#   scripts/venv.sh demo     only what the example site needs          (requirements/demo.txt)
#   scripts/venv.sh bench    a .venv-bench with the peers to measure   (benchmarks/requirements.txt)
# PYTHON=/path/to/python chooses the interpreter; otherwise the newest of 3.14, 3.13, 3.12 that runs.
# The Makefile calls this only when the requirements are newer than the stamp left here.
set -euo pipefail
cd "$(dirname "$0")/.."

purpose=${1:?"usage: scripts/venv.sh dev|demo|bench"}
case $purpose in
    dev | demo) venv=.venv requirements=requirements/$purpose.txt ;;
    bench) venv=.venv-bench requirements=benchmarks/requirements.txt ;;
    *) echo "scripts/venv.sh: unknown purpose '$purpose': say dev, demo or bench" >&2 && exit 2 ;;
esac

# A pyenv shim stands on PATH but runs nothing unless its version is selected, so each one is tried.
runs() {
    "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 12))' >/dev/null 2>&1
}

find_python() {
    local candidate root=${PYENV_ROOT:-$HOME/.pyenv}
    for candidate in \
        ${PYTHON:+"$PYTHON"} \
        python3.14 python3.13 python3.12 python3 \
        "$root"/versions/3.14*/bin/python "$root"/versions/3.13*/bin/python "$root"/versions/3.12*/bin/python; do
        if runs "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    if command -v uv >/dev/null; then
        uv python find '>=3.12' 2>/dev/null || { uv python install 3.13 >&2 && uv python find 3.13; }
        return
    fi
    return 1
}

make_venv() {
    local python=$1
    "$python" -m venv "$venv" 2>/dev/null && return
    rm -rf "$venv"
    if command -v uv >/dev/null; then
        uv venv --seed --quiet --python "$python" "$venv"
        return
    fi
    echo "$python cannot make a virtual environment: install its venv module (Debian: python3-venv) or uv." >&2
    return 1
}

install() {
    if command -v uv >/dev/null; then
        VIRTUAL_ENV=$PWD/$venv uv pip install --quiet "$@"
    else
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$@"
    fi
}

if ! runs "$venv/bin/python"; then
    python=$(find_python) || {
        echo "Backroom needs Python 3.12 or newer: none of python3.14, python3.13, python3.12, pyenv or uv gave one." >&2
        echo "Install one, or say which: make PYTHON=/path/to/python3.12 …" >&2
        exit 1
    }
    echo "Making $venv with $("$python" --version)" >&2
    make_venv "$python"
fi

# Two makes at once would install over each other.
exec 9>"$venv/.lock"
if command -v flock >/dev/null; then flock 9; fi

echo "Installing $requirements into $venv" >&2
install -r "$requirements"
if [ "$purpose" = bench ]; then
    install --no-deps -e .
else
    install --no-deps --no-build-isolation -e .
fi
touch "$venv/.$purpose-stamp"
