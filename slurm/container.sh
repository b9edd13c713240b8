# shellcheck shell=bash
# Sourced by common.sh: our program inside a Singularity or Apptainer image, with nothing of the host but what is named here.
#
# Paths are the host's own inside, so that settings and orders mean the same in both. Our code lies at /opt/dayscribe, with
# the order's copy bound over the image's. /tmp is node-local scratch of this start alone, /cache one that stays on the node.

# What a task needs to know of its job; --cleanenv drops these too.
passed_on=(
    CUDA_VISIBLE_DEVICES SLURM_JOB_ID SLURM_JOB_NAME SLURM_JOB_PARTITION SLURM_JOB_END_TIME SLURM_ARRAY_JOB_ID
    SLURM_ARRAY_TASK_ID SLURM_RESTART_COUNT SLURMD_NODENAME SLURM_CPUS_PER_TASK SLURM_JOB_GPUS SLURM_GPUS_ON_NODE
    CUDA_CACHE_PATH CUDA_CACHE_MAXSIZE
)

# in_image KIND IMAGE CODE: sets the array `program` to our program in this image. KIND is audio, which is given the GPU and
# no secret, or utils, which is given what libpq needs.
in_image() {
    local kind=$1 image=$2 code=$3 runtime
    runtime=$(find_runtime)
    forget_the_users_own
    [[ -e $image ]] || unfit "no image at $image on $(hostname -s)"
    make_scratch "$kind"
    verify_image "$image"
    program=("$runtime" --quiet exec --containall --cleanenv --no-home --home /tmp --pwd / --workdir "$scratch")
    bind_the_sites_own                        # first: what we need stands over it
    bind "$node_cache/inside-$kind" /cache rw # beside what we know of images, which nothing inside may change
    bind_code "$code"
    if [[ $kind == audio ]]; then
        program+=(--nv)
        bind_what_a_task_reads
        bind_kernels
    else
        bind_what_a_tick_reads "$image"
        bind_secrets
    fi
    say_binds
    pass_on "$kind" "$runtime"
    program+=("$image" /opt/venv/bin/dayscribe)
}

find_runtime() {
    local wanted=${DAYSCRIBE_CONTAINERS__RUNTIME:-} name
    for name in ${wanted:-apptainer singularity}; do
        if command -v "$name"; then return; fi
    done
    unfit "no ${wanted:-apptainer and no singularity} on $(hostname -s): does slurm.modules name its module?"
}

# A person's own settings of the runtime would bind and pass on things that nobody has named here.
forget_the_users_own() {
    local name
    for name in $(compgen -e); do
        case $name in
            APPTAINER_CACHEDIR | APPTAINER_TMPDIR | SINGULARITY_CACHEDIR | SINGULARITY_TMPDIR) ;;
            APPTAINER* | SINGULARITY*) unset "$name" ;;
        esac
    done
}

# make_scratch KIND. Two starts of one job may live at once, and clusters may share a disk, so each start has its own. What a
# killed one leaves behind, another finds by its age.
make_scratch() {
    local below name
    below=$(scratch_place)
    name=job-${SLURM_CLUSTER_NAME:-}-${SLURM_JOB_ID:-$$}.${SLURM_RESTART_COUNT:-0}
    scratch=$below/dayscribe-$UID-$name
    node_cache=$below/dayscribe-$UID-cache
    rm -rf "$scratch" || true
    find "$below" -maxdepth 1 -name "dayscribe-$UID-job-*" -user "$UID" -mtime +7 -exec rm -rf {} + 2>/dev/null || true
    (umask 077 && mkdir -p "$scratch" "$node_cache/inside-$1") || unfit "no scratch can be made in $below on $(hostname -s)"
    for below in "$scratch" "$node_cache"; do # in a folder that all may write, somebody else may have been there first
        [[ -O $below && ! -L $below ]] || unfit "$below on $(hostname -s) belongs to somebody else"
        chmod 700 "$below"
    done
    at_the_end+=("$scratch")
}

# scratch_place: what the settings say, or else the first of the usual places that is there. TMPDIR may be another host's.
scratch_place() {
    local place=${DAYSCRIBE_CONTAINERS__SCRATCH:-}
    if [[ -n $place ]]; then
        mkdir -p "$place" || unfit "no scratch can be made in $place on $(hostname -s)"
        echo "$place" && return
    fi
    for place in "${SLURM_TMPDIR:-}" "${TMPDIR:-}" /tmp; do
        [[ ! -d $place || ! -w $place ]] || { echo "$place" && return; }
    done
    unfit "no folder for temporary files can be written on $(hostname -s)"
}

# verify_image IMAGE: it is the one that was ordered. Reading gigabytes once a node is enough, until the file changes.
verify_image() {
    local image=$1 wanted=${DAYSCRIBE_IMAGE_SHA256:-} found='' stamp
    [[ ! -d $image ]] || return 0 # a folder, for development, has no digest
    [[ -n $wanted ]] || wanted=$(recorded_digest "$image")
    stamp=$node_cache/image-$(stat -Lc %d-%i-%s-%Y "$image")
    [[ ! -r $stamp ]] || found=$(<"$stamp")
    if [[ ! $found =~ ^[0-9a-f]{64}$ ]]; then
        found=$(sha256sum <"$image") || unfit "the image $image cannot be read on $(hostname -s)"
        found=${found%% *}
        echo "$found" >"$stamp.$$" && mv "$stamp.$$" "$stamp"
    fi
    [[ $found == "$wanted" ]] ||
        unfit "the image $image is not the one that was ordered: its sha256 is ${found:0:12}…, not ${wanted:0:12}…"
}

# recorded_digest IMAGE: what build_containers.sh wrote down beside it.
recorded_digest() {
    local digest name
    while read -r digest name || [[ -n $digest ]]; do
        [[ ${name#\*} != "${1##*/}" ]] || { echo "$digest" && return; }
    done 2>/dev/null <"${1%/*}/images.sha256"
    die "no digest of $1 in ${1%/*}/images.sha256: containers/build_containers.sh writes it"
}

# bind SOURCE [DESTINATION [rw|ro]]: the later word counts, but that what may be written stays so.
bind() {
    local source=$1 destination=${2:-$1} how=${3:-ro}
    [[ $source$destination != *[:,$'\n']* ]] || unfit "$source cannot be bound: a colon or a comma is in its name"
    [[ ${binds[$destination]:-} != "$source:$destination:rw" ]] || how=rw
    binds[$destination]=$source:$destination:$how
}

# say_binds: the shortest first, so that none covers what lies below it; not every runtime sees to that.
say_binds() {
    local destination
    while read -r _ destination; do
        program+=(--bind "${binds[$destination]}")
    done < <(for destination in "${!binds[@]}"; do echo "${#destination} $destination"; done | sort -n -k 1,1)
}

bind_code() {
    local package
    for package in db hpc monitor; do
        [[ -d $1/$package ]] || unfit "no code at $1: is this file system there on $(hostname -s)?"
        bind "$1/$package" "/opt/dayscribe/$package"
    done
}

# What is transcribed and the models can only be read; parts and records are all that a task writes. What it decodes may be
# hostile: of the job's folder it may not change what the host reads as a script or writes to by its name.
bind_what_a_task_reads() {
    local path
    local -a paths
    if [[ -n ${DAYSCRIBE_JOB:-} ]]; then
        bind "$DAYSCRIBE_JOB" "$DAYSCRIBE_JOB" rw
        for path in "$DAYSCRIBE_JOB"/{job.env,job.json,log}; do
            [[ ! -e $path ]] || bind "$path"
        done
    fi
    bind_results
    IFS=: read -r -a paths <<<"${DAYSCRIBE_STAGED:-}:${DAYSCRIBE_MODELS:-}"
    for path in "${paths[@]}" "${DAYSCRIBE_ENGINE__MODEL:-}" "${DAYSCRIBE_ENGINE__ALIGNER:-}"; do
        [[ $path != /* || $path == /opt/dayscribe/* ]] || bind "$path"
    done
}

# What keep_kernels chose (common.sh); else they are kept on this node, as long as its cache is.
bind_kernels() {
    if [[ -d ${CUDA_CACHE_PATH:-} && $CUDA_CACHE_PATH == /* && $CUDA_CACHE_PATH != *[:,$'\n']* ]]; then
        bind "$CUDA_CACHE_PATH" "$CUDA_CACHE_PATH" rw
    else
        export CUDA_CACHE_PATH=/cache/nv
    fi
}

bind_what_a_tick_reads() {
    local path
    [[ -n ${DAYSCRIBE_HOME:-} ]] || die "with an image the settings have to name DAYSCRIBE_HOME"
    mkdir -p "$DAYSCRIBE_HOME"
    bind "$DAYSCRIBE_HOME" "$DAYSCRIBE_HOME" rw
    bind_results
    [[ -z ${exchange:-} ]] || bind "$exchange" "$exchange" rw
    bind_what_comes
    find_config
    path=${DAYSCRIBE_CONTAINERS__AUDIO:-}
    for path in "${1%/*}" "${path%/*}" "${DAYSCRIBE_SCRIPTS:-}" "${DAYSCRIBE_CONFIG:-}"; do
        [[ ! -e $path ]] || bind "$path"
    done
}

# Where days are put that come from elsewhere, and the logins of who moves them, which are renewed there.
bind_what_comes() {
    local path
    for path in "${DAYSCRIBE_TRANSFER__STAGING:-}" "${DAYSCRIBE_GLOBUS__TOKENS:-}"; do
        [[ -n $path ]] || continue
        mkdir -p "$path" || unfit "$path cannot be made on $(hostname -s)"
        bind "$path" "$path" rw
    done
    for path in "${DAYSCRIBE_GLOBUS__SECRET_FILE:-}" "${DAYSCRIBE_DELIVER__SSH_KEY:-}" "${DAYSCRIBE_DELIVER__KNOWN_HOSTS:-}"; do
        [[ ! -r $path ]] || bind "$path"
    done
}

# The file of settings that our program would find outside. A job has no need of one: its order holds all settings.
find_config() {
    local file
    [[ -z ${DAYSCRIBE_CONFIG:-}${DAYSCRIBE_JOB:-} ]] || return 0
    for file in "$PWD/dayscribe.toml" "${XDG_CONFIG_HOME:-$HOME/.config}/dayscribe/dayscribe.toml"; do
        [[ ! -e $file ]] || { export DAYSCRIBE_CONFIG=$file && return; }
    done
}

bind_results() {
    local results=${DAYSCRIBE_RESULTS:-${DAYSCRIBE_HOME:?the settings name no DAYSCRIBE_HOME}/results}
    mkdir -p "$results" || unfit "the results' folder $results cannot be made on $(hostname -s)"
    bind "$results" "$results" rw
}

# libpq's files, each where it says it is, or where it looks by itself: inside, HOME is another.
bind_secrets() {
    local name path below
    while read -r name below; do
        path=${!name:-$HOME/$below}
        [[ -r $path ]] || continue
        bind "$path"
        secrets+=("$name=$path")
    done <<<"PGPASSFILE .pgpass
PGSERVICEFILE .pg_service.conf
PGSSLROOTCERT .postgresql/root.crt
PGSSLCERT .postgresql/postgresql.crt
PGSSLKEY .postgresql/postgresql.key"
}

# SOURCE[:DESTINATION[:rw]], as the setting containers.binds has been checked to be.
bind_the_sites_own() {
    local words source destination how
    local -a all
    IFS=' ' read -r -a all <<<"${DAYSCRIBE_CONTAINERS__BINDS:-}"
    for words in "${all[@]}"; do
        IFS=: read -r source destination how <<<"${words//\'/}" # what an order was given may be quoted
        bind "$source" "${destination:-$source}" "${how:-ro}"
    done
}

# By variables and not by --env: a value may hold commas. Their names differ between the two runtimes.
pass_on() {
    local kind=$1 prefix=SINGULARITYENV_ name
    [[ $("$2" --version 2>/dev/null) != apptainer* ]] || prefix=APPTAINERENV_
    for name in $(compgen -e); do
        case $name in
            DAYSCRIBE_CODE | DAYSCRIBE_SITE) continue ;;
            DAYSCRIBE_PYTHON | DAYSCRIBE_LEDGER__* | DAYSCRIBE_MONITOR_DSN | DAYSCRIBE_API_TOKEN_FILE | PG* | \
                DAYSCRIBE_GLOBUS_* | GLOBUS_SDK_* | HTTPS_PROXY | https_proxy | NO_PROXY | no_proxy) [[ $kind == utils ]] || continue ;;
            DAYSCRIBE_*) ;;
            *) [[ " ${passed_on[*]} " == *" $name "* ]] || continue ;;
        esac
        export "$prefix$name=${!name}"
    done
    for name in "${secrets[@]}" "DAYSCRIBE_INSIDE=$kind" XDG_CACHE_HOME=/cache; do
        export "$prefix$name"
    done
}

scratch='' node_cache=''
secrets=()
declare -A binds=()
