#!/usr/bin/env bash
# How a day comes by Globus: a Globus of one's own on loopback, two collections that are folders of this machine, and one file
# that is harmed on its way. Nothing outside is asked; at the end nothing runs. What it made stays in BASE.
# usage: demo_globus.sh BASE               CLIPS, from the environment, makes the day smaller; ENGINE=echo needs no model
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "${1:?usage: demo_globus.sh BASE}"
base=$(realpath "$1")
readonly base day=2025-03-30 harmed=0_2025-03-30_00_20.tar.xz
bin=$PWD/.venv/bin models=$PWD/models/demo

say() { printf '\n\e[1m%s\e[0m\n' "$*"; }
show() { # a command, as a person would type it, and what it prints
    local word typed=''
    for word in "$@"; do
        [[ $word =~ ^[A-Za-z0-9_./:,=-]+$ ]] || word="'$word'"
        typed+=" $word"
    done
    printf '$%s\n' "$typed"
    "$@"
    echo
}

service='' finished=''
take_down() {
    local code=$?
    trap - EXIT
    trap '' INT TERM HUP # a second Ctrl-C shall not leave the half of it
    [[ -z $service ]] || { kill "$service" && wait "$service"; } 2>/dev/null || true
    [[ ! -d $base/home ]] || dayscribe --quiet db stop >/dev/null || true
    if [[ -z $finished ]]; then
        echo "taken down before its end; what there is lies in $base" >&2
    else
        say "taken down after $SECONDS seconds: nothing of it runs. To look at it again:"
        echo "$ export DAYSCRIBE_CONFIG=$DAYSCRIBE_CONFIG"
        echo "$ dayscribe days show $day --site demo        (starts its PostgreSQL; dayscribe db stop ends it)"
    fi
    exit "$code"
}

# Settings of other ledgers are none of ours.
for name in $(compgen -e | grep -E '^(DAYSCRIBE|GLOBUS)_' | grep -vx DAYSCRIBE_PG_BINDIR || true); do unset "$name"; done
export PATH=$bin:$PATH DAYSCRIBE_CONFIG=$base/dayscribe.toml
printf 'home = "%s"\n' "$base/home" >"$DAYSCRIBE_CONFIG"
trap take_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
[[ ! -d $base/home ]] || dayscribe --quiet db stop >/dev/null # one that was killed may have left it
rm -rf "${base:?}"/{home,here,globus.json}

say "1. a day of speech in the far collection: the Sunday on which the clocks go forward"
show dayscribe demo-day "$base/far" --date "$day" --clips "${CLIPS:-10}" --trouble missing-slot

say "2. a Globus on loopback that harms one file on its way, and our settings"
"$bin/python" tests/globus_service/globus_loopback.py "$base" --harm "$harmed=flip" >"$base/globus.json" &
service=$!
until [[ -s $base/globus.json ]]; do
    kill -0 "$service" 2>/dev/null || exit 1 # it has said why
    sleep 0.1
done
# shellcheck disable=SC2016 # Python
told='import json, shlex, sys
said = json.load(open(sys.argv[1]))
names = {"far": said["far"], "here": said["here"], "client": said["client_id"], "secret": said["secret"]}
for name, value in names.items(): print(f"{name}={shlex.quote(value)}")
for name, value in said["environment"].items(): print(f"export {name}={shlex.quote(value)}")'
far='' here='' client='' secret=''
eval "$("$bin/python" -c "$told" "$base/globus.json")"
(umask 077 && printf '%s\n' "$secret" >"$base/secret")
cat >>"$DAYSCRIBE_CONFIG" <<SETTINGS
[globus]
client_id = "$client"
secret_file = "$base/secret"
[transfer]
staging = "$base/here/staging"
SETTINGS
if [[ ${ENGINE:-} == echo || ! -d $models/asr.en ]]; then
    printf '[engine]\nname = "echo"\n' >>"$DAYSCRIBE_CONFIG"
else
    cat >>"$DAYSCRIBE_CONFIG" <<SETTINGS
[engine]
model = "$models/asr.en"
aligner = "$models/aligner"
language = "en"
chunk_size = 8
device = "cpu"
[worker]
held_recordings = 64
SETTINGS
fi
show cat "$DAYSCRIBE_CONFIG"
printf '$ export DAYSCRIBE_CONFIG=%s\n' "$DAYSCRIBE_CONFIG"

say "3. the site: which collection, which folder in it, and where staging is"
# shellcheck disable=SC2016 # a template of dayscribe's
show dayscribe sites add demo --collection "$far" --location / --folder '{site}_{year}_{monthname}/prepped_data' \
    --destination "$here" --destination-folder /staging --time-zone Europe/Zurich
show dayscribe globus login # a service account is asked nothing; a person opens an address and brings back a code
show dayscribe globus check --site demo --date "$day"

tick() { show dayscribe schedule --once; }
until_over() { # ticks until no transfer is under way, as the master scheduler does every two minutes
    local -i left=60
    tick
    while [[ $(dayscribe transfers list --live --json) != '[]' ]]; do
        ((left-- > 0)) || { echo "the transfer does not end" >&2 && exit 1; }
        sleep 0.5
        tick
    done
}

say "4. a day, and a tick: it lists the day and asks Globus. Nobody waits for a transfer: the next tick looks again"
echo "(On a cluster a tick also orders jobs. Without SLURM it says that it gives no orders, and goes on.)"
show dayscribe days add "$day" --site demo
tick
until_over

say "5. \"Succeeded\", says Globus. Each file was looked at: one is not what was sent. It is named, and marked ! on the map"
show dayscribe days show "$day" --site demo

say "6. it is fetched again by itself, after a pause; now at once. What is here is not moved twice"
show dayscribe days relist "$day" --site demo
tick
until_over

say "7. transcribed where it was staged, as the jobs of a cluster do"
show dayscribe run "$day" --site demo
show dayscribe days show "$day" --site demo
show dayscribe transfers list

finished=yes
