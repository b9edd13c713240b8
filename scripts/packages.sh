#!/usr/bin/env bash
# Installs the Debian packages of the named groups that this machine lacks: demo (pipeline and tests), slurm (a real cluster),
# containers (real images), delivery (to deliver over ssh to oneself), browser (to look at the pages).
set -euo pipefail
(($#)) || { echo "usage: packages.sh demo|slurm|containers|delivery|browser ..." >&2 && exit 64; }

packages=()
for group in "$@"; do
    case $group in
        # python3-venv brings pip, espeak-ng speaks, PostgreSQL is the real server.
        demo) packages+=(python3-venv libespeak-ng1 espeak-ng-data postgresql ffmpeg) ;;
        # Slurm with its accounting; of MariaDB the programs only, so no server starts by itself. procps brings ps and pgrep.
        slurm) packages+=(slurmctld slurmd slurm-client munge slurmdbd mariadb-server-core mariadb-client-core procps) ;;
        # What builds images and a base for them, and what lets another Debian's Apptainer run here. No squashfuse: where
        # /dev/fuse is closed Apptainer fails with it, and unpacks images without it.
        containers) packages+=(mmdebstrap squashfs-tools uidmap patchelf) ;;
        # The tests start an sshd of their own, on loopback; the system's own is kept from starting (see install).
        # mount makes targets that are full or read-only.
        delivery) packages+=(rsync openssh-client openssh-server mount) ;;
        browser) packages+=(chromium fonts-dejavu-core libatomic1) ;;
        *) echo "packages.sh knows no group $group, only demo, slurm, containers, delivery and browser" >&2 && exit 64 ;;
    esac
done

missing() {
    local package
    for package in "${packages[@]}"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
    done
}

install() {
    local -a as=()
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
            echo "dayscribe needs these Debian packages, and this user may not install them: $*" >&2
            echo "Ask for, or run as root:   apt-get install --no-install-recommends $*" >&2
            exit 78
        fi
        as=(sudo -n)
    fi
    echo "installing Debian packages: $*"
    if [[ " $* " == *" postgresql "* ]]; then
        # No cluster of its own: dayscribe starts its servers itself, in its own folders.
        "${as[@]}" mkdir -p /etc/postgresql-common/createcluster.d
        echo "create_main_cluster = false" |
            "${as[@]}" tee /etc/postgresql-common/createcluster.d/dayscribe.conf >/dev/null
    fi
    if [[ " $* " == *" openssh-server "* && -d /etc/systemd/system ]]; then
        # Nobody asked for a door to this machine: what systemd would start is masked before it is there.
        "${as[@]}" ln -sf /dev/null /etc/systemd/system/ssh.service
        "${as[@]}" ln -sf /dev/null /etc/systemd/system/ssh.socket
        echo "sshd is only for the tests; to let the system run it: systemctl unmask ssh.service ssh.socket"
    fi
    "${as[@]}" apt-get update -qq
    "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

if command -v dpkg-query >/dev/null; then
    mapfile -t wanted < <(missing)
    ((${#wanted[@]} == 0)) || install "${wanted[@]}"
else
    echo "this is not a Debian system: install the equivalents of ${packages[*]} yourself" >&2
fi
