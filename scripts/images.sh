#!/usr/bin/env bash
# Makes the images that the tests and the demonstration run in, on this machine alone: no registry, nothing downloaded twice.
#
#   images.sh OUT
#
# pipeline_utils.sif is whole. audio_processing.sif has no packages of its own: the clone's .venv is bound into it, which
# saves gigabytes. Prints the settings of both, one a line, as for a file of settings. Quick when nothing has changed, and with
# IMAGES_ANY_CODE=1 also when only our code has: jobs bind the code of their order over the image's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=$(realpath -m "${1:?usage: images.sh OUT}")

bin=$(scripts/apptainer.sh "$OUT/apptainer")
export PATH=$bin:$PATH
scripts/packages.sh containers >&2
containers/build_containers.sh --out "$OUT" --base local --packages bound --fast ${IMAGES_ANY_CODE:+--any-code}

packages=$(compgen -G "$PWD/.venv/lib/python3.*/site-packages" | head -n 1)
printf '%s\n' "PATH=$bin:\$PATH" "DAYSCRIBE_CONTAINERS__AUDIO=$OUT/audio_processing.sif" \
    "DAYSCRIBE_CONTAINERS__UTILS=$OUT/pipeline_utils.sif" "DAYSCRIBE_CONTAINERS__BINDS=$packages:/opt/packages"
