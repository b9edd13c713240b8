# shellcheck shell=bash
# Sourced by every job script: strict mode, a clean Python, the job's settings, and one way in which our program is run.
set -Eeuo pipefail
shopt -s extglob

export PYTHONNOUSERSITE=1 PYTHONSAFEPATH=1
unset PYTHONPATH PYTHONHOME

at_the_end=() # folders to remove
trap 'rm -rf -- "${at_the_end[@]}" || true' EXIT

# shellcheck source=slurm/container.sh
source "${BASH_SOURCE[0]%/*}/container.sh"

die() {
    printf 'dayscribe: %s\n' "$1" >&2
    exit "${2:-78}"
}

# unfit SENTENCE: this node cannot run our program. Said in the task's exit record, as the program itself would say it; no
# recording is charged for it.
unfit() {
    record_unfit "$1"
    die "$1" 255
}

record_unfit() {
    local task=${SLURM_ARRAY_TASK_ID:-0} restart=${SLURM_RESTART_COUNT:-0} job=${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-}}
    local record=${DAYSCRIBE_JOB:-}/task-$task.$restart.ended.json reason now
    [[ -d ${DAYSCRIBE_JOB:-} && ! -e $record ]] || return 0
    printf -v now '%(%s)T' -1
    reason=${1//[\"\\]/} reason=${reason//[[:cntrl:]]/ }
    printf '{"task": %d, "restart": %d, "node": "%s", "began": %d, "job": "%s", "ended": %d,
"ended_as": "infrastructure", "exit_code": 255, "reason": "%s", "facts": {}}\n' "$task" "$restart" \
        "${SLURMD_NODENAME:-$(hostname -s)}" "$now" "$job" "$now" "$reason" >"$record.$$" &&
        mv "$record.$$" "$record" || true
}

# read_settings FILE: the job's variables, as a person (slurm/sites/*.env) or a tick (jobs/ID/job.env) wrote them.
read_settings() {
    [[ -r $1 ]] || die "no settings at $1: is this file system there on $(hostname -s)?" 255
    set -a
    # shellcheck disable=SC1090
    source "$1"
    set +a
}

load_modules() {
    local -a wanted
    read -r -a wanted <<<"${DAYSCRIBE_SLURM__MODULES:-}"
    ((${#wanted[@]} == 0)) && return
    type -t module >/dev/null || unfit "slurm.modules names modules, and there is no module command on $(hostname -s)"
    module load "${wanted[@]}" || unfit "module load ${wanted[*]} failed on $(hostname -s)"
}

# keep_kernels: where the driver keeps the kernels that it compiles, since CTranslate2 has no machine code for the newest GPUs.
# The folder has to outlive the job, which SLURM_TMPDIR may not, and is no image's; what lies in it is run, so it is this user's
# alone. Where there can be none, each process compiles anew.
keep_kernels() {
    local ours=${DAYSCRIBE_HOME:-}/cuda-$UID folder
    export CUDA_CACHE_MAXSIZE=${CUDA_CACHE_MAXSIZE:-4294967296} # the most that the driver takes
    [[ -n ${DAYSCRIBE_HOME:-} && -z ${CUDA_CACHE_PATH:-} ]] || return 0
    folder=$ours/$(kind_of_gpu)
    (umask 077 && mkdir -p "$folder") 2>/dev/null || return 0
    [[ -O $ours && ! -L $ours && -w $folder ]] || return 0
    chmod 700 "$ours"
    export CUDA_CACHE_PATH=$folder
}

# kind_of_gpu [FOLDER]: driver and GPUs, as a folder's name; "any" where the driver does not say. Nodes that are alike share
# what was compiled on one of them, and another driver, which would throw it away, has its own.
kind_of_gpu() {
    local about=${1:-/proc/driver/nvidia} said='' driver='' models
    if [[ -r $about/version ]]; then read -r said <"$about/version" || true; fi
    [[ ! " $said " =~ \ ([0-9]+(\.[0-9]+)+)\  ]] || driver=${BASH_REMATCH[1]}
    models=$(sed -n 's/^Model:[[:space:]]*//p' "$about"/gpus/*/information 2>/dev/null | sort -u | tr -cs '[:alnum:].\n-' - |
        paste -sd+ -) || true
    said=${driver:-any}${models:+-$models}
    echo "${said:0:100}"
}

# choose_program ROOT KIND: the one place that decides what runs; sets the array `program`. KIND is audio or utils: each may
# have an image. A job runs the copy of the code that its order names, in that image or with the Python that ordered it;
# without an order it is the clone's own code and environment.
choose_program() {
    local root=$1 kind=${2:-utils} image code=${DAYSCRIBE_CODE:-}
    if [[ $kind == audio ]]; then image=${DAYSCRIBE_CONTAINERS__AUDIO:-}; else image=${DAYSCRIBE_CONTAINERS__UTILS:-}; fi
    [[ $kind != audio ]] || keep_kernels
    if [[ -n $image ]]; then
        in_image "$kind" "$image" "${code:-$root}"
    elif [[ -n $code ]]; then
        local python=${DAYSCRIBE_PYTHON:?the settings name no Python}
        [[ -x $python ]] || unfit "no Python at $python: is this file system there on $(hostname -s)?"
        [[ -d $code ]] || unfit "no code at $code: is this file system there on $(hostname -s)?"
        local start='import sys; sys.path.insert(0, sys.argv.pop(1)); from hpc.cli.main import main; main()'
        program=("$python" -c "$start" "$code")
    else
        local script=$root/.venv/bin/dayscribe
        [[ -x $script ]] || die "no program at $script: run make install in the clone, and submit from there"
        # shellcheck disable=SC2034 # the scripts that source this use it
        program=("$script")
    fi
}

# run_on WORDS...: run it as a child and hand it the signals that SLURM sends to the batch shell alone.
run_on() {
    local child code=0 signalled=yes
    "$@" &
    child=$!
    trap 'signalled=yes; kill -USR1 "$child" 2>/dev/null || true' USR1
    trap 'signalled=yes; kill -TERM "$child" 2>/dev/null || true' TERM
    while [[ -n $signalled ]]; do # a signal ends the wait, not the child, which may have ended since
        code=0 signalled=''
        wait "$child" || code=$?
    done
    trap - USR1 TERM
    return "$code"
}

# do_task ROOT KIND SETTINGS: what every job script of an order does.
do_task() {
    local code=0
    (($# == 3)) || set -- "$1" audio "$2" # a script that SLURM has kept since before there were images
    read_settings "$3"
    load_modules
    choose_program "$1" "$2"
    run_on "${program[@]}" work --job "$DAYSCRIBE_JOB" || code=$?
    ((code != 255)) || record_unfit "$(last_words)"
    return "$code"
}

# last_words: what the runtime said when it could not start our program; SLURM keeps what we print beside the order.
last_words() {
    local log=$DAYSCRIBE_JOB/log/task-${SLURM_ARRAY_TASK_ID:-0}.log said=''
    [[ ! -r $log ]] || said=$(grep -a '^FATAL:' "$log" | tail -n 1)
    said=${said#FATAL:}
    echo "the image could not be started on ${SLURMD_NODENAME:-$(hostname -s)}: ${said##+([[:space:]])}"
}

# answer FOLDER PID: run the commands of SLURM that a program inside an image asks for in files, until it ends.
answer() {
    local folder=$1 child=$2 ask base
    export SLURM_BITSTR_LEN=0
    while kill -0 "$child" 2>/dev/null; do
        for ask in "$folder"/*.ask; do
            [[ -e $ask ]] || continue
            base=${ask%.ask}
            answer_one "$base" || true
        done
        sleep 0.1
    done
}

answer_one() {
    local base=$1 code=0
    local -a words
    mapfile -d '' -t words <"$base.ask" || return 0
    rm -f "$base.ask"
    case ${words[1]:-} in
        squeue | sacct | sbatch | scancel)
            command -v "${words[1]}" >/dev/null || code=127
            ((code)) || scrubbed timeout "${words[0]}" "${words[@]:1}" >"$base.out" 2>"$base.err" </dev/null || code=$?
            ;;
        *) code=126 ;; # nothing else is ever run for it
    esac
    touch "$base.out" "$base.err"
    echo "$code" >"$base.new"
    mv "$base.new" "$base.code"
}

# scrubbed WORDS...: without what the job that we are in would hand down (SLURM_MEM_PER_CPU breaks the jobs it submits).
scrubbed() (
    local name
    for name in $(compgen -e); do
        case $name in
            SLURM_CONF | SLURM_BITSTR_LEN) ;;
            SLURM_* | SBATCH_* | SQUEUE_* | SACCT_* | SALLOC_* | SRUN_* | SCANCEL_*) unset "$name" ;;
        esac
    done
    "$@"
)
