#!/usr/bin/env bash
# Runs a real Slurm on loopback under one folder, from Debian's packages, without systemd, as root or as an ordinary user.
#
#   cluster.sh up BASE              start it, and write BASE/env.sh for the shell that will use it
#   cluster.sh down BASE [--purge]  end its jobs and its daemons; with --purge remove the folder too
#   cluster.sh status BASE          say what runs; 1 when the controller does not
#   cluster.sh start BASE DAEMON    start slurmctld, slurmdbd or one node's slurmd again
#
# Two at once need another BASE, other ports and another NODE_PREFIX. Options for `up`, from the environment:
: "${CPU_NODES:=1}" "${GPU_NODES:=2}" "${GPUS_PER_NODE:=2}" "${GPU_TYPE:=h100}" "${NODE_PREFIX:=}"
: "${NODE_CPUS:=64}" "${NODE_MEM:=512000}"                         # what each node claims to have, whatever is here
: "${CTLD_PORT:=16817}" "${NODE_PORT:=17000}" "${DBD_PORT:=16819}" # node n listens on NODE_PORT + n
: "${DBD:=0}" "${DBD_ENFORCE:=associations,limits,qos}"            # DBD=1: accounting, in a MariaDB of its own
: "${CGROUP:=}"                                                    # 0 or 1; by itself 1 where cgroup v1 is ours to write
: "${CRED_EXPIRE:=5}" "${MIN_JOB_AGE:=86400}" "${EXTRA_CONF:=}"
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/cluster/conf.sh
. "$here/cluster/conf.sh"
# shellcheck source=scripts/cluster/daemons.sh
. "$here/cluster/daemons.sh"
# shellcheck source=scripts/cluster/stop.sh
. "$here/cluster/stop.sh"

# Debian puts the daemons where an ordinary user's PATH does not look; a caller's choice of output would spoil ours.
export PATH="$PATH:/usr/sbin"
for name in $(compgen -e | grep -E '^(SLURM|SBATCH|SQUEUE|SINFO|SACCT|SCANCEL)_' || true); do unset "$name"; done

say() { echo "cluster.sh: $*" >&2; }

usage() {
    sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
    exit 64
}

wait_for() {                           # SECONDS COMMAND...
    local -i give_up=$((SECONDS + $1)) # and not a number of tries: a try may take seconds itself
    until "${@:2}" &>/dev/null; do
        ((SECONDS < give_up)) || { say "gave up after $1 seconds on: ${*:2}" && return 1; }
        sleep 0.1
    done
}

need_programs() {
    local program
    local -a programs=(munged slurmctld slurmd sinfo)
    ((DBD == 0)) || programs+=(slurmdbd mariadbd mariadb-install-db)
    for program in "${programs[@]}"; do
        command -v "$program" >/dev/null || { say "$program is not installed: scripts/packages.sh slurm" && exit 78; }
    done
    # munge's socket lies below it, and a socket's path may have 107 characters.
    ((${#BASE} <= 80)) || { say "this path is too long for a socket below it: $BASE" && exit 64; }
}

clean_up_after_failure() {
    local code=$?
    ((code != 0)) || return 0
    tail -q -n 20 "$BASE"/log/{munged,slurm}*.log >&2 2>/dev/null || true
    stop_all
    say "the start failed; nothing of it is left running, the logs are in $BASE/log"
    exit "$code"
}

up() {
    if running slurmctld; then
        echo "already up: $BASE"
        return
    fi
    need_programs
    trap clean_up_after_failure EXIT
    # Without these bash runs the line above with the last command's status, which is mostly 0, and cleans nothing up.
    trap 'exit 129' HUP && trap 'exit 130' INT && trap 'exit 143' TERM
    stop_all # what an earlier controller's death may have left
    make_folders
    write_configuration
    start_munge
    ((DBD == 0)) || start_accounting
    start_daemon slurmctld
    local node
    for node in $(nodes); do start_daemon "$node"; done
    wait_for "$((30 + $(nodes | wc -l) / 5))" all_idle
    trap - EXIT HUP INT TERM
    sinfo -o "%P %D %t %c %m %G %N"
}

all_idle() {
    local -a idle
    mapfile -t idle < <(sinfo -h -N -t idle -o %N | sort -u)
    ((${#idle[@]} >= $(nodes | wc -l)))
}

status() {
    local daemon
    for daemon in munged mariadbd slurmdbd slurmctld $(nodes); do
        if running "$daemon"; then echo "$daemon runs as process $(pid_of "$daemon")"; fi
    done
    running slurmctld || { echo "not up: $BASE" && return 1; }
    timeout 10 sinfo -o "%P %D %t %c %m %G %N"
}

(($# >= 2)) || usage
command=$1 BASE=$2
[[ $command != up ]] || mkdir -p "$BASE"
if [[ ! -d $BASE ]]; then
    [[ $command == down ]] || { say "there is no cluster at $BASE" && exit 66; }
    exit 0
fi
BASE=$(cd "$BASE" && pwd -P)
export SLURM_CONF=$BASE/slurm.conf
case $command in
    up) up ;;
    down)
        stop_all
        [[ ${3:-} != --purge ]] || rm -rf "$BASE"
        ;;
    status) status ;;
    start) start_daemon "${3:?usage: cluster.sh start BASE DAEMON}" ;;
    *) usage ;;
esac
