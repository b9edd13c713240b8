#!/bin/bash
#SBATCH --job-name=ds-master
#SBATCH --ntasks=1 --cpus-per-task=1 --mem=2G --time=00:15:00
#SBATCH --open-mode=append --output=ds-master.log
# One tick of the master scheduler; as a job it submits itself again first, so that a tick that fails ends nothing.
# usage, in the clone:  sbatch slurm/0_master_scheduler.sh [SITE.env [EVERY_SECONDS]]      0 seconds: this once only
#                       slurm/0_master_scheduler.sh SITE.env 0        from cron or scrontab, where nodes reach no ledger
set -Eeuo pipefail

# SLURM runs a copy of this script: the clone is where it was submitted.
if [[ -n ${SLURM_JOB_ID:-} && ${SLURM_JOB_NAME:-} == ds-master ]]; then
    root=${SLURM_SUBMIT_DIR:?}
else
    root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
fi
if [[ ! -r $root/slurm/common.sh ]]; then
    echo "dayscribe: $root is not the clone: submit from its folder (cd CLONE; sbatch slurm/0_master_scheduler.sh)" >&2
    exit 78
fi
# shellcheck source=slurm/common.sh
source "$root/slurm/common.sh"

site=${1:-${DAYSCRIBE_SITE:-$root/slurm/sites/site.env}}
if (($# > 0)) || [[ -e $site ]]; then
    [[ $site == /* ]] || site=$root/$site
    read_settings "$site"
else
    site=''
fi
every=${2:-${DAYSCRIBE_SLURM__EVERY_SECONDS:-120}}
[[ $every =~ ^[0-9]+$ ]] || die "the second argument is a number of seconds, not $every"

if [[ -n ${SLURM_JOB_ID:-} ]] && ((every > 0)); then
    again=(sbatch --parsable --chdir="$root" --dependency=singleton --begin="now+$every")
    log=$(readlink -f "/proc/$$/fd/1") # where the person who submitted the first one wanted it
    [[ ! -f $log ]] || again+=(--output="${log//%/%%}")
    [[ -z ${SLURM_JOB_PARTITION:-} ]] || again+=(--partition="$SLURM_JOB_PARTITION")
    [[ -z ${SLURM_JOB_ACCOUNT:-} ]] || again+=(--account="$SLURM_JOB_ACCOUNT")
    next=$(cd "$root" && scrubbed timeout 60 "${again[@]}" "$root/slurm/0_master_scheduler.sh" ${site:+"$site" "$every"}) ||
        echo "dayscribe: the next tick could not be submitted ($?); this one goes on" >&2
    [[ -z ${next:-} ]] || echo "next tick: job $next, in $every seconds"
fi

load_modules
export DAYSCRIBE_SCRIPTS=$root/slurm
cd "$root"
exchange=''
if [[ -n ${DAYSCRIBE_CONTAINERS__UTILS:-} || ${DAYSCRIBE_EXCHANGE:-no} == yes ]]; then
    # An image has no SLURM: the tick asks for its commands in files, and they are run here.
    exchange=$(mktemp -d 2>/dev/null || mktemp -d -p /tmp) # TMPDIR may be another host's
    at_the_end+=("$exchange")
fi
choose_program "$root" utils
if [[ -n $exchange ]]; then
    "${program[@]}" schedule --once --exchange "$exchange" &
    answer "$exchange" $!
    code=0
    wait $! || code=$?
    exit "$code"
fi
run_on "${program[@]}" schedule --once
