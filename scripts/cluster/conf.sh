#!/usr/bin/env bash
# Part of cluster.sh: the folders and every configuration file of a cluster, with the reason for each setting.
# shellcheck disable=SC2154  # the options and BASE are cluster.sh's

make_folders() {
    mkdir -p "$BASE"/{run/munge,state,log,spool,dev,munge}
    chmod 755 "$BASE" "$BASE"/{run,run/munge,state,log,spool,dev}
    chmod 700 "$BASE/munge"
    local -i gpu
    # Slurm wants character devices whose names end in the index, or jobs see no CUDA_VISIBLE_DEVICES; plain files won't do.
    for ((gpu = 0; gpu < GPUS_PER_NODE; gpu++)); do ln -sfn /dev/null "$BASE/dev/nvidia$gpu"; done
}

use_cgroups() {
    if [[ -z $CGROUP ]]; then
        CGROUP=0
        if [[ -w /sys/fs/cgroup/freezer/tasks && -w /sys/fs/cgroup/memory/tasks ]]; then CGROUP=1; fi
    fi
    ((CGROUP == 1))
}

names() { # PREFIX COUNT
    local -i i
    for ((i = 1; i <= $2; i++)); do echo "$NODE_PREFIX$1$i"; done
}

nodes() { # of the cluster as it was written
    sed -n 's/^NodeName=\([^ ]*\).*/\1/p' "$BASE/slurm.conf" 2>/dev/null || true
}

node_lines() {
    local -i port=NODE_PORT
    local name gres
    for name in $(names cpu "$CPU_NODES") $(names gpu "$GPU_NODES"); do
        gres=
        [[ $name != "$NODE_PREFIX"gpu* ]] || gres="Gres=gpu:$GPU_TYPE:$GPUS_PER_NODE "
        echo "NodeName=$name NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$port Sockets=1 CoresPerSocket=$NODE_CPUS" \
            "ThreadsPerCore=1 RealMemory=$NODE_MEM ${gres}State=UNKNOWN"
        port+=1
    done
}

partition_line() { # NAME COUNT EXTRA
    (($2 > 0)) || return 0
    echo "PartitionName=$1 Nodes=$(names "$1" "$2" | paste -sd,) $3MaxTime=INFINITE DefaultTime=60 State=UP"
}

# With cgroups, as real clusters have them, strays die with their job and a job over its memory ends OUT_OF_MEMORY.
# Without them a process that left its session can outlive its job; `down` looks for those.
tracking_lines() {
    local tracking=linuxproc task=none gather=none
    if use_cgroups; then tracking=cgroup task=cgroup gather=linux; fi
    printf '%s\n' "ProctrackType=proctrack/$tracking" "TaskPlugin=task/$task" "JobAcctGatherType=jobacct_gather/$gather"
}

# AccountingStoragePass is the path of munge's socket: with a socket of one's own, sacctmgr would ask the system's munge.
# Comments of jobs are kept only if asked for. Without accounting a flat file keeps what ended.
accounting_lines() {
    if ((DBD == 0)); then
        printf '%s\n' AccountingStorageType=accounting_storage/none JobCompType=jobcomp/filetxt \
            "JobCompLoc=$BASE/log/jobcomp.txt"
        return
    fi
    printf '%s\n' AccountingStorageType=accounting_storage/slurmdbd AccountingStorageHost=127.0.0.1 \
        "AccountingStoragePort=$DBD_PORT" "AccountingStoragePass=$BASE/run/munge/socket" AccountingStorageTRES=gres/gpu \
        AccountingStoreFlags=job_comment "AccountingStorageEnforce=$DBD_ENFORCE"
}

slurm_conf() {
    cat <<CONF
ClusterName=lab
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
# A requeued job waits for its credential to expire: 120 s by default, 7 s with 5, and less than 5 is refused.
AuthInfo=socket=$BASE/run/munge/socket,cred_expire=$CRED_EXPIRE
CredType=cred/munge
# Without these every daemon listens on all interfaces.
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort=$CTLD_PORT
SlurmctldPidFile=$BASE/run/slurmctld.pid
SlurmdPidFile=$BASE/run/%n.pid
SlurmdSpoolDir=$BASE/spool/%n
StateSaveLocation=$BASE/state
SlurmctldLogFile=$BASE/log/slurmctld.log
SlurmdLogFile=$BASE/log/slurmd.%n.log
# What would be mailed is a line of log/mail.txt.
MailProg=$BASE/mail.sh
MpiDefault=none
SwitchType=switch/none
$(tracking_lines)
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
# Nodes are as big as this file says: scripts for real machines are scheduled unchanged on a small one.
SlurmdParameters=config_overrides
# Otherwise a job that asks for no memory takes the whole node.
DefMemPerCPU=1024
ReturnToService=2
JobRequeue=1
# Failures are seen in seconds.
KillWait=3
SlurmctldTimeout=10
SlurmdTimeout=10
BatchStartTimeout=10
# Ended jobs stay visible without accounting; a real site forgets them after 300 s.
MinJobAge=$MIN_JOB_AGE
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=1,batch_sched_delay=0
PriorityType=priority/basic
MaxArraySize=10001
MaxJobCount=20000
$(accounting_lines)
$(node_lines)
$(partition_line cpu "$CPU_NODES" "Default=YES ")
$(partition_line gpu "$GPU_NODES" "")
$EXTRA_CONF
CONF
}

gres_conf() {
    echo "AutoDetect=off"
    ((GPU_NODES > 0 && GPUS_PER_NODE > 0)) || return 0
    echo "NodeName=$(names gpu "$GPU_NODES" | paste -sd,) Name=gpu Type=$GPU_TYPE" \
        "File=$BASE/dev/nvidia[0-$((GPUS_PER_NODE - 1))]"
}

# slurmd loads this plugin in any case. That of v1 also starts where there is no v1, as long as nothing is asked of it;
# from 24 on one can say so instead, which older ones take for a missing plugin.
cgroup_conf() {
    local version
    if ! use_cgroups; then
        version=$(slurmd -V)
        if [[ $version =~ (2[0-3])\.[0-9]+ ]]; then echo CgroupPlugin=cgroup/v1; else echo CgroupPlugin=disabled; fi
        return
    fi
    printf '%s\n' CgroupPlugin=cgroup/v1 CgroupMountpoint=/sys/fs/cgroup ConstrainRAMSpace=yes ConstrainCores=no \
        ConstrainDevices=no
}

# slurmdbd has a NoInAddrAny of its own, and refuses a configuration that others can read.
slurmdbd_conf() {
    printf '%s\n' AuthType=auth/munge "AuthInfo=socket=$BASE/run/munge/socket" CommunicationParameters=NoInAddrAny \
        DbdHost=localhost DbdAddr=127.0.0.1 "DbdPort=$DBD_PORT" "SlurmUser=$(id -un)" "LogFile=$BASE/log/slurmdbd.log" \
        "PidFile=$BASE/run/slurmdbd.pid" StorageType=accounting_storage/mysql StorageHost=localhost \
        StorageLoc=slurm_acct StorageUser=slurm StoragePass=slurm
}

write_configuration() {
    use_cgroups || true # decided here, once, and not in each subshell below
    slurm_conf >"$BASE/slurm.conf"
    gres_conf >"$BASE/gres.conf"
    cgroup_conf >"$BASE/cgroup.conf"
    ((DBD == 0)) || (umask 077 && slurmdbd_conf >"$BASE/slurmdbd.conf")
    # shellcheck disable=SC2016  # PATH and the mail's words are for the file's reader
    {
        printf 'export SLURM_CONF=%q\nexport PATH="$PATH:/usr/sbin"\n' "$SLURM_CONF" >"$BASE/env.sh"
        printf '#!/bin/sh\nprintf "%%s\\n" "$*" >>%q\n' "$BASE/log/mail.txt" >"$BASE/mail.sh"
    }
    chmod 755 "$BASE/mail.sh"
}
