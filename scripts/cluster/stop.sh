#!/usr/bin/env bash
# Part of cluster.sh: ends jobs and daemons, by the numbers the cluster itself wrote down.
# shellcheck disable=SC2154  # BASE is cluster.sh's

stop_all() {
    ! running slurmctld || cancel_jobs
    stop_daemons
    kill_strays
    remove_cgroups
}

cancel_jobs() {
    local me
    me=$(id -un)
    answers || return 0
    timeout 20 scancel --user="$me" &>/dev/null || true
    timeout 20 scancel --full --signal=KILL --user="$me" &>/dev/null || true
    wait_for 5 quiet || true
}

quiet() {
    local left
    left=$(timeout 5 squeue -h -t R,CG,S -o %i) && [[ -z $left ]]
}

# First those that still have something to tell the others. A node's slurmd lingers for two seconds when it is asked to
# end; nothing of it is kept, so it is not asked.
stop_daemons() {
    local -a names
    mapfile -t names < <(nodes)
    end KILL "${names[@]}"
    end TERM slurmctld
    end TERM slurmdbd
    end TERM mariadbd munged
    rm -f "$BASE"/run/*.pid
}

end() { # SIGNAL DAEMON...
    local daemon
    local -a pids=()
    for daemon in "${@:2}"; do
        if running "$daemon"; then pids+=("$(pid_of "$daemon")"); fi
    done
    ((${#pids[@]} > 0)) || return 0
    kill "-$1" "${pids[@]}" 2>/dev/null || true
    kill -CONT "${pids[@]}" 2>/dev/null || true # a test may have stopped one
    wait_for 5 all_gone "${pids[@]}" || kill -KILL "${pids[@]}" 2>/dev/null || true
}

all_gone() {
    local pid
    for pid in "$@"; do
        if [[ -d /proc/$pid ]] && ! grep -q '^State:.*Z' "/proc/$pid/status" 2>/dev/null; then return 1; fi
    done
}

# Job processes and their step daemons that outlived all this. Shells that have sourced env.sh name our configuration too,
# but are no step daemon and have no job's number.
kill_strays() {
    local environment pid name
    for environment in /proc/[0-9]*/environ; do
        pid=${environment#/proc/} pid=${pid%/environ}
        read -r name 2>/dev/null <"/proc/$pid/comm" || continue
        grep -qzxF "SLURM_CONF=$SLURM_CONF" "$environment" 2>/dev/null || continue
        if [[ $name == slurmstepd ]] || grep -qz '^SLURM_JOB_ID=' "$environment" 2>/dev/null; then
            kill -KILL "$pid" 2>/dev/null || true
        fi
    done
}

remove_cgroups() {
    local node group
    local -a pids
    grep -q '^ProctrackType=proctrack/cgroup' "$BASE/slurm.conf" 2>/dev/null || return 0
    for node in $(nodes); do
        for group in /sys/fs/cgroup/*/"slurm_$node"; do
            [[ -d $group ]] || continue
            mapfile -t pids < <(find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null)
            ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
            find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
        done
    done
}
