#!/usr/bin/env bash
# Part of cluster.sh: starts the daemons and knows which of them run.
# shellcheck disable=SC2154  # the options and BASE are cluster.sh's

pid_of() { cat "$BASE/run/$1.pid" 2>/dev/null || true; }

running() { # a number in a file may have become somebody else's by now
    local pid name
    pid=$(pid_of "$1")
    [[ -n $pid ]] && read -r name 2>/dev/null <"/proc/$pid/comm" && [[ $name =~ ^(slurm|munge|mariadb) ]] &&
        ! grep -q '^State:.*Z' "/proc/$pid/status" 2>/dev/null
}

# A bare environment: a job has what --export gives it, and not what the shell had that started the cluster.
bare() {
    env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin LANG=C.UTF-8 HOME="$HOME" \
        SLURM_CONF="$SLURM_CONF" "$@" </dev/null
}

# A key and a socket of its own: the system's munge is neither used nor touched. --force, for it dislikes others' folders.
start_munge() {
    if [[ ! -s $BASE/munge/key ]]; then (umask 077 && head -c 1024 /dev/urandom >"$BASE/munge/key"); fi
    bare munged --force --key-file="$BASE/munge/key" --socket="$BASE/run/munge/socket" --num-threads=4 \
        --pid-file="$BASE/run/munged.pid" --log-file="$BASE/log/munged.log" --seed-file="$BASE/munge/seed"
}

start_daemon() { # slurmctld, slurmdbd, or a node's name
    running "$1" && { say "$1 runs already" && return 1; }
    rm -f "$BASE/run/$1.pid"
    case $1 in
        slurmctld)
            bare slurmctld
            wait_for 30 answers
            ;;
        slurmdbd) # MYSQL_UNIX_PORT is the client library's way of naming another socket
            bare env MYSQL_UNIX_PORT="$BASE/run/mysql.sock" slurmdbd
            wait_for 60 timeout 5 sacctmgr -n list cluster
            ;;
        *)
            nodes | grep -qxF -- "$1" || { say "this cluster has no $1; it has slurmctld and $(nodes | paste -sd' ')" && return 1; }
            mkdir -p "$BASE/spool/$1"
            bare slurmd -N "$1"
            wait_for 30 running "$1"
            ;;
    esac
}

answers() { timeout 5 scontrol ping | grep -q ' UP'; }

sql() { mariadb --no-defaults -S "$BASE/run/mysql.sock" -u root -e "$1"; }

# MariaDB on a socket only, and slurmdbd on loopback. The two innodb settings are those slurmdbd asks for, in small.
start_accounting() {
    local -a common=(--no-defaults --datadir="$BASE/mysql/data")
    ((EUID != 0)) || common+=(--user=root)
    mkdir -p "$BASE/mysql/tmp"
    if [[ ! -d $BASE/mysql/data/mysql ]]; then
        mariadb-install-db "${common[@]}" --auth-root-authentication-method=normal --skip-test-db \
            &>"$BASE/log/mariadb-install.log"
    fi
    setsid mariadbd "${common[@]}" --socket="$BASE/run/mysql.sock" --pid-file="$BASE/run/mariadbd.pid" --skip-networking \
        --tmpdir="$BASE/mysql/tmp" --innodb-buffer-pool-size=64M --innodb-flush-log-at-trx-commit=0 \
        --innodb-lock-wait-timeout=900 --log-error="$BASE/log/mariadb.log" </dev/null &>/dev/null &
    echo "$!" >"$BASE/run/mariadbd.pid" # it writes the same later; a start that fails before then must find it too
    disown
    wait_for 60 sql "create database if not exists slurm_acct;
        create user if not exists slurm@localhost identified by 'slurm'; grant all on slurm_acct.* to slurm@localhost"
    start_daemon slurmdbd
    add cluster lab
    add account lab
    add user "$(id -un)" account=lab adminlevel=admin
    # root comes with an account of its own; root's jobs shall look like anybody's.
    sacctmgr -i modify user where "name=$(id -un)" set defaultaccount=lab >>"$BASE/log/sacctmgr.log" 2>&1 || true
}

add() { sacctmgr -i add "$@" >>"$BASE/log/sacctmgr.log" 2>&1 || true; } # it says 1 when there is nothing new
