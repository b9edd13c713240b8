#!/usr/bin/env bash
# Builds the images that jobs run in, tests them, and records their digests. Asks nothing and never calls sudo.
#
#   build_containers.sh [OPTIONS] [audio_processing] [pipeline_utils]
#
#   --out DIR            where images go; by itself containers/images
#   --base WHICH         NAME[@sha256:...] in a registry, a local image (file or folder), or `local`: one of Debian's
#                        packages, made once in DIR; by itself what the recipe names
#   --packages HOW       of audio_processing: `baked`, in the image, or `bound`, those of the clone's .venv, which are
#                        bound to /opt/packages when it runs
#   --models DIR         copy these models into audio_processing, to /opt/models
#   --sandbox            folders instead of files: for development, and where nodes lack FUSE
#   --fast               compress less
#   --force              build even what is up to date
#   --any-code           an image with other code of ours counts as up to date: jobs bind the code of their order over it
#   --check              say what would be built and why, and change nothing
#
# What is up to date is not built again. Killed at any moment, it does the rest when it is run again. The runtime is
# apptainer or else singularity, or what DAYSCRIBE_CONTAINERS__RUNTIME names. Temporary files go to TMPDIR.
# Exit codes: 64 usage, 66 no such base or models, 69 a program is missing or too old, 73 a folder cannot be written,
# 74 not enough disk, 78 a setting is wrong, 1 a build or a test failed.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
ROOT=${HERE%/*}
# shellcheck source=containers/steps/runtime.sh
. "$HERE/steps/runtime.sh"
# shellcheck source=containers/steps/inputs.sh
. "$HERE/steps/inputs.sh"
# shellcheck source=containers/steps/room.sh
. "$HERE/steps/room.sh"
# shellcheck source=containers/steps/work.sh
. "$HERE/steps/work.sh"
# shellcheck source=containers/steps/image.sh
. "$HERE/steps/image.sh"

say() { printf 'build_containers.sh: %s\n' "$*" >&2; }

die() {
    say "$2"
    exit "$1"
}

usage() { sed -n '2,/^set -/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

value() { [[ $# -ge 2 && $2 ]] || die 64 "$1 needs a value; --help tells more"; }

OUT=$HERE/images BASE='' PACKAGES=baked MODELS='' FORM=file COMPRESSION=gzip FORCE=0 CHECK=0 ANY_CODE=0
wanted=()
while (($#)); do
    case $1 in
        --out) value "$@" && OUT=$2 && shift ;;
        --base) value "$@" && BASE=$2 && shift ;;
        --packages) value "$@" && PACKAGES=$2 && shift ;;
        --models) value "$@" && MODELS=$2 && shift ;;
        --sandbox) FORM=folder ;;
        --fast) COMPRESSION=fast ;;
        --force) FORCE=1 ;;
        --any-code) ANY_CODE=1 ;;
        --check) CHECK=1 ;;
        --help) usage && exit ;;
        audio_processing | pipeline_utils) wanted+=("$1") ;;
        *) die 64 "there is no option and no image $1; --help tells more" ;;
    esac
    shift
done
((${#wanted[@]})) || wanted=(audio_processing pipeline_utils)
[[ $PACKAGES == baked || $PACKAGES == bound ]] || die 64 "--packages is baked or bound, and not $PACKAGES"
[[ $OUT != *[:,\"\\]* ]] || die 64 "--out: the runtime takes a colon and a comma for its own"
[[ ! $MODELS || -d $MODELS ]] || die 66 "--models: there is no folder $MODELS"
SUFFIX=.sif RECORD=.json
[[ $FORM == file ]] || { SUFFIX='' RECORD=.folder.json COMPRESSION=none; }
PACKAGES_FROM=''
if [[ $PACKAGES == bound ]]; then
    PACKAGES_FROM=$(compgen -G "$ROOT/.venv/lib/python3.*/site-packages" | head -n 1)
    [[ $PACKAGES_FROM ]] || die 78 "--packages bound needs the clone's .venv: make install"
fi

declare -A INPUTS
ARGUMENTS=()
find_runtime
OUT=$(realpath -m "$OUT")
if ((CHECK)); then
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
else
    claim_folder
    trap clean_up EXIT
    trap 'exit 129' HUP && trap 'exit 130' INT && trap 'exit 143' TERM
fi
# shellcheck disable=SC2034 # the steps use it
CONTEXT=$WORK/context
for name in "${wanted[@]}"; do
    collect "$name"
    why=$(why_build "$name")
    if [[ -z $why ]]; then
        say "$name: up to date"
    elif ((CHECK)); then
        say "$name would be built, as $why"
    else
        build "$name" "$why"
    fi
done
