#!/usr/bin/env bash
# Makes the virtual environment on a machine that has only git, make and python3: system packages, uv, the locked requirements.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?usage: bootstrap.sh FOLDER}

scripts/packages.sh demo

python3 - <<'PY' || exit 78
import sys
if not (3, 11) <= sys.version_info < (3, 14):
    sys.exit(f"dayscribe needs Python 3.11 to 3.13; python3 here is {sys.version.split()[0]}")
PY

if [[ ! -x $venv/bin/uv ]]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
fi
echo "installing the locked Python packages (about 3.5 GB with CUDA's libraries, downloaded once)"
"$venv/bin/uv" pip sync --require-hashes requirements/bootstrap.lock requirements/dev.lock
"$venv/bin/uv" pip install -q --no-deps --no-build-isolation -e .
