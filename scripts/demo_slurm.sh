#!/usr/bin/env bash
# The demonstration on a cluster: a throw-away Slurm with make-believe GPUs, images from our own recipes, the day through the
# job scripts inside them, watched by squeue and the API; then everything is taken down. What it made stays in BASE.
# usage: demo_slurm.sh BASE [IMAGES]           SLOTS and CLIPS, from the environment, make the day smaller
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "${1:?usage: demo_slurm.sh BASE [IMAGES]}"
base=$(realpath "$1") images=${2:-$PWD/.images}
size=(--slots "${SLOTS:-6}" --clips "${CLIPS:-30}")
readonly base images size
dayscribe=$PWD/.venv/bin/dayscribe
export DAYSCRIBE_HOME=$base/home
began=$SECONDS

say() { printf '\n\e[1m%s\e[0m\n' "$*"; }
show() { # a command, and what it prints
    printf '$ %s\n' "$*"
    "$@"
}

api='' follower=''
take_down() {
    local code=$?
    trap - EXIT
    say "taking it down"
    [[ -z $follower ]] || kill "$follower" 2>/dev/null || true
    [[ -z $api ]] || kill "$api" 2>/dev/null || true
    scripts/cluster.sh down "$base/slurm" --purge || true
    "$dayscribe" db stop >/dev/null || true
    rm -rf "$base/scratch"
    echo "no daemon of it is left; results, logs and orders lie in $base/home"
    exit "$code"
}
trap take_down EXIT
trap 'exit 130' INT TERM HUP

say "1. images, from containers/*.def"
# Only a changed recipe or lock makes them anew: jobs bind the code of their order over the image's.
IMAGES_ANY_CODE=1 scripts/images.sh "$images" >"$base/images.env"
# shellcheck source=/dev/null
source "$base/images.env" # PATH, where the images are, and the packages that are bound into them

say "2. a PostgreSQL of one's own, and a Slurm with one node without and two nodes with two GPUs each"
dsn=$("$dayscribe" --quiet db start --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["dsn"])')
socket=${dsn#*host=} socket=${socket%% *}
NODE_PREFIX=demo CTLD_PORT=${CTLD_PORT:-17817} NODE_PORT=${NODE_PORT:-17900} scripts/cluster.sh up "$base/slurm"
# shellcheck source=/dev/null
source "$base/slurm/env.sh"

say "3. a day of speech, some of it broken on purpose"
models=$PWD/models/demo
cat >"$base/site.env" <<SITE
DAYSCRIBE_HOME=$base/home
DAYSCRIBE_LEDGER__DSN="$dsn"
DAYSCRIBE_ENGINE__MODEL=$models/asr.en
DAYSCRIBE_ENGINE__ALIGNER=$models/aligner
DAYSCRIBE_ENGINE__LANGUAGE=en
DAYSCRIBE_ENGINE__CHUNK_SIZE=8
# Slurm believes in these GPUs and the engine does not: without this word a task would refuse to work without one.
DAYSCRIBE_ENGINE__DEVICE=cpu
DAYSCRIBE_CONTAINERS__AUDIO=$DAYSCRIBE_CONTAINERS__AUDIO
DAYSCRIBE_CONTAINERS__UTILS=$DAYSCRIBE_CONTAINERS__UTILS
DAYSCRIBE_CONTAINERS__RUNTIME=$(command -v apptainer || command -v singularity)
DAYSCRIBE_CONTAINERS__BINDS="$DAYSCRIBE_CONTAINERS__BINDS $socket"
DAYSCRIBE_CONTAINERS__SCRATCH=$base/scratch
DAYSCRIBE_SLURM__PARTITION=gpu
DAYSCRIBE_SLURM__CPU_PARTITION=cpu
DAYSCRIBE_SLURM__CPUS=1
DAYSCRIBE_SLURM__MEMORY_GB=6
DAYSCRIBE_SLURM__FIRST_TASKS=2
DAYSCRIBE_WORKER__PART_RECORDINGS=16
# The day is listed by a job of its own, 1_globus_transfer_job.sh, as days are that take long.
DAYSCRIBE_SCHEDULE__LIST_SECONDS=0
SITE
location=$("$dayscribe" demo-day "$base/home/day" "${size[@]}" --json | .venv/bin/python -c 'import json, sys; print(json.load(sys.stdin)["location"])')
"$dayscribe" --quiet days add 2025-01-31 --site demo --location "$location"

say "4. the API, from pipeline_utils.sif, and the one command that starts everything"
# shellcheck disable=SC2016 # the inner bash fills these in
serve='source slurm/common.sh; read_settings "$1"; choose_program "$PWD" utils; run_on "${program[@]}" serve --port 0'
bash -c "$serve" - "$base/site.env" >"$base/api.log" 2>&1 &
api=$!
show sbatch --output="$base/master.log" slurm/0_master_scheduler.sh "$base/site.env" 4

say "5. squeue, and what the API says"
.venv/bin/python scripts/demo_follow.py "$base/api.log" &
follower=$!
# The API ends before the day only if it cannot go on.
wait -n "$follower" "$api" || { tail -v -n 20 "$base/api.log" "$base/master.log" && exit 1; }
follower=''
echo "the day took $((SECONDS - began)) seconds from nothing, images included"

say "6. what was heard, against what was said"
for _ in {1..30}; do # until a tick has heard all witnesses
    "$dayscribe" jobs list --json | grep -qE '"state": *"(intent|submitted|running)"' || break
    sleep 1
done
"$dayscribe" jobs list
"$dayscribe" demo --no-serve "${size[@]}"
