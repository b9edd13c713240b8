#!/bin/bash
# One CPU task that delivers the days that somebody wants elsewhere: packs them, makes their audio, sends and verifies.
# A tick submits it, with one argument: the file of the job's settings. What it asks of SLURM stands in that sbatch.
set -Eeuo pipefail

settings=${1:?usage: 5_deliver_job.sh SETTINGS}
root=${SLURM_SUBMIT_DIR:-$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)}
if [[ ! -r $root/slurm/common.sh ]]; then
    echo "dayscribe: no clone at $root on $(hostname -s): is this file system there?" >&2
    exit 255
fi
# shellcheck source=slurm/common.sh
source "$root/slurm/common.sh"
do_task "$root" utils "$settings"
