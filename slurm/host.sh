#!/bin/bash
# What a host says of itself that nobody can see inside an image, as lines NAME=VALUE (hpc/doctor/runtime.py reads them).
# `dayscribe doctor` runs it on the host that submits; 4_doctor_job.sh sources it on a node.
set -Eeuo pipefail

host_facts() {
    local runtime='' name config libexec setuid=no squashfuse=no fuse=absent profile=no driver=''
    for name in ${DAYSCRIBE_CONTAINERS__RUNTIME:-apptainer singularity}; do
        runtime=$(command -v "$name") && break
    done
    echo "runtime=$runtime"
    if [[ -n $runtime ]]; then
        echo "version=$(timeout 20 "$runtime" --version 2>/dev/null | head -n 1)"
        config=$(timeout 20 "$runtime" buildcfg 2>/dev/null || true)
        libexec=$(sed -n 's/^LIBEXECDIR=//p' <<<"$config")
        for name in "$libexec"/{apptainer,singularity}/bin/starter-suid; do
            [[ ! -u $name ]] || setuid=yes
        done
        grep -qs '^ *allow setuid *= *no' "$(sed -n 's/^[A-Z]*_CONF_FILE=//p' <<<"$config")" && setuid=no
        for name in squashfuse_ll squashfuse "$libexec"/{apptainer,singularity}/bin/squashfuse_ll; do
            ! command -v "$name" >/dev/null || squashfuse=yes
        done
    fi
    if [[ -c /dev/fuse ]]; then
        if (exec 3<>/dev/fuse) 2>/dev/null; then fuse=open; else fuse=closed; fi
    fi
    for name in /etc/apparmor.d/*apptainer* /etc/apparmor.d/*singularity*; do
        [[ ! -e $name ]] || profile=yes
    done
    if command -v nvidia-smi >/dev/null; then
        driver=$(timeout 20 nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1) || driver=''
    fi
    printf '%s\n' "setuid=$setuid" "squashfuse=$squashfuse" "fuse=$fuse" "profile=$profile" "driver=$driver" "user=$UID" \
        "userns_clone=$(kernel kernel/unprivileged_userns_clone)" "max_userns=$(kernel user/max_user_namespaces)" \
        "restrict_userns=$(kernel kernel/apparmor_restrict_unprivileged_userns)"
}

kernel() { cat "/proc/sys/$1" 2>/dev/null || true; }

[[ ${BASH_SOURCE[0]} != "$0" ]] || host_facts
