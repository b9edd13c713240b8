#!/bin/bash
# One short task that starts our program as a GPU job does, and has it write what this node has and lacks.
# `dayscribe doctor --gpu-node` submits it, with one argument: the file of the job's settings.
set -Eeuo pipefail

settings=${1:?usage: 4_doctor_job.sh SETTINGS}
root=${SLURM_SUBMIT_DIR:-$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)}
if [[ ! -r $root/slurm/common.sh ]]; then
    echo "dayscribe: no clone at $root on $(hostname -s): is this file system there?" >&2
    exit 255
fi
# shellcheck source=slurm/common.sh
source "$root/slurm/common.sh"
# shellcheck source=slurm/host.sh
source "$root/slurm/host.sh"

read_settings "$settings"
load_modules
host_facts >"$DAYSCRIBE_JOB/host.txt"
choose_program "$root" audio
echo "began=$(date +%s.%N)" >>"$DAYSCRIBE_JOB/host.txt"
code=0
run_on "${program[@]}" doctor --on-node --write "$DAYSCRIBE_JOB/findings.json" || code=$?
((code != 255)) || record_unfit "$(last_words)"
((code != 78)) || code=0 # what is wanting is said to whoever reads the findings
exit "$code"
