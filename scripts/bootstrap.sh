#!/usr/bin/env bash
# Makes the virtual environment on a machine that has only git, make and python3: system packages, uv, the locked requirements.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?usage: bootstrap.sh FOLDER}

# What the demo and the tests need of the system; python3-venv brings pip, espeak-ng speaks, PostgreSQL is the real server.
packages=(python3-venv libespeak-ng1 espeak-ng-data postgresql ffmpeg)

missing() {
    local package
    for package in "${packages[@]}"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
    done
}

install() {
    local -a as=()
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
            echo "dayscribe needs these Debian packages, and this user may not install them: $*" >&2
            echo "Ask for, or run as root:   apt-get install --no-install-recommends $*" >&2
            exit 78
        fi
        as=(sudo -n)
    fi
    echo "installing Debian packages: $*"
    # No cluster of its own: dayscribe starts its servers itself, in its own folders.
    "${as[@]}" mkdir -p /etc/postgresql-common/createcluster.d
    echo "create_main_cluster = false" |
        "${as[@]}" tee /etc/postgresql-common/createcluster.d/dayscribe.conf >/dev/null
    "${as[@]}" apt-get update -qq
    "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

if command -v dpkg-query >/dev/null; then
    mapfile -t wanted < <(missing)
    ((${#wanted[@]} == 0)) || install "${wanted[@]}"
else
    echo "this is not a Debian system: install the equivalents of ${packages[*]} yourself" >&2
fi

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
