#!/usr/bin/env bash
# Write requirements/*.txt from pyproject.toml: every version pinned and hashed, no index named, one
# file for every supported Python. `scripts/lock.sh --upgrade` takes newer versions.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v uv >/dev/null; then
    .venv/bin/python -m pip install --quiet uv
    PATH=$PWD/.venv/bin:$PATH
fi

compile() {
    uv pip compile pyproject.toml --quiet --universal --python-version 3.12 --generate-hashes \
        --no-emit-index-url --no-header "$@"
}

compile --group dev --all-extras -o requirements/dev.txt "$@"
compile --group demo --extra api --extra redis --extra celery --extra sessions -c requirements/dev.txt -o requirements/demo.txt

if grep -nE '://|index-url|find-links' requirements/*.txt; then
    echo "A lock file names a host; it must carry names, versions and hashes only." >&2
    exit 1
fi
