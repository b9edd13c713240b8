# shellcheck shell=bash
# Sourced by build_containers.sh: one build of a folder at a time, what an interrupted one left, and steps that are watched.

# claim_folder: makes $OUT ours until we end, and clears away what a build that was killed has left there and in $WORK.
claim_folder() {
    mkdir -p "$OUT/log" 2>/dev/null || die 73 "$OUT cannot be made"
    [[ -w $OUT ]] || die 73 "$OUT cannot be written"
    exec 9>>"$OUT/.lock"
    if ! flock -n 9; then
        say "another build is at work in $OUT: waiting for it to end"
        flock 9 || die 73 "$OUT is on a file system without locks: choose another by --out"
    fi
    PARTIAL=$OUT/.partial
    WORK=${TMPDIR:-/tmp}/dayscribe-build-$UID-$(cksum <<<"$OUT" | cut -d ' ' -f 1)
    clear_leftovers
    (umask 077 && mkdir -p "$WORK") 2>/dev/null || die 73 "$WORK cannot be made: set TMPDIR to a folder of yours"
    # In a folder that all may write, somebody else may have been there first.
    [[ -O $WORK && ! -L $WORK ]] || die 73 "$WORK belongs to somebody else: set TMPDIR to a folder of yours"
    mkdir -p "$WORK/tmp" "$PARTIAL" "$OUT/cache"
    echo "$WORK" >"$OUT/.work"
    export APPTAINER_TMPDIR=$WORK/tmp SINGULARITY_TMPDIR=$WORK/tmp
}

# Processes first: those of a killed build may go on, and would write into what we make.
clear_leftovers() {
    local sid boot started now left
    # Numbers of another machine, or of before a restart, mean nothing here.
    if read -r sid boot started 2>/dev/null <"$OUT/.session" && [[ $boot == "$(this_boot)" ]]; then
        now=$(started_at "$sid")
        [[ $now && $now != "$started" ]] || end_session "$sid"
    fi
    if read -r left 2>/dev/null <"$OUT/.work" && [[ $left == */dayscribe-build-"$UID"-* && -O $left ]]; then remove "$left"; fi
    remove "$PARTIAL" "$WORK"
    rm -f "$OUT/.session" "$OUT/.work"
}

clean_up() {
    local code=$?
    trap - EXIT
    [[ ! -r $OUT/.session ]] || end_session "$(cut -d ' ' -f 1 "$OUT/.session")"
    [[ ! ${WORK:-} ]] || remove "$WORK" "$PARTIAL"
    rm -f "$OUT/.session" "$OUT/.work"
    exit "$code"
}

# started_at PID: in clock ticks since the machine's start, which tells apart two processes of one number.
started_at() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    awk '{ print $20 }' <<<"${stat##*) }"
}

this_boot() { cat /proc/sys/kernel/random/boot_id; }

# end_session SID: the runtime starts many processes, and some of them outlive the one that started them.
end_session() {
    local stat pid rest found=yes
    while [[ $found ]]; do
        found=''
        for stat in /proc/[0-9]*/stat; do
            pid=${stat#/proc/} pid=${pid%/stat}
            rest=$(cat "$stat" 2>/dev/null) || continue
            read -r -a rest <<<"${rest##*) }"
            # Fields of proc(5), counted behind the program's name: the state, and the session.
            [[ ${rest[3]} == "$1" && ${rest[0]} != [ZX] ]] || continue
            kill -KILL "$pid" 2>/dev/null && found=yes
        done
        [[ ! $found ]] || sleep 0.1
    done
}

# run_logged NAME WHAT COMMAND...: in a session of its own, with its words in the log and a sign of life on a terminal.
run_logged() {
    local log=$OUT/log/$1.log what=$2 began=$SECONDS child pulse='' code=0
    shift 2
    printf '== %(%F %T)T %s\n' -1 "$what" >>"$log"
    setsid "$@" </dev/null >>"$log" 2>&1 9>&- &
    child=$!
    echo "$child $(this_boot) $(started_at "$child")" >"$OUT/.session"
    if [[ -t 2 ]]; then
        beat "$what" "$log" 9>&- &
        pulse=$!
    fi
    wait "$child" || code=$?
    if [[ $pulse ]]; then
        kill "$pulse" && wait "$pulse" || true
        printf '\r\e[K' >&2
    fi
    rm -f "$OUT/.session"
    if ((code)); then
        say "$what failed (exit code $code) after $((SECONDS - began)) s. The end of $log:"
        tail -n 20 "$log" | sed 's/^/  | /' >&2
        advise "$log"
        return "$code"
    fi
    say "$what: $((SECONDS - began)) s"
}

# beat WHAT LOG: every second the time that has passed and the last line of the log, on one line of the terminal.
beat() {
    local began=$SECONDS last
    trap 'exit 0' TERM
    while sleep 1 && [[ -d /proc/$$ ]]; do # a script that is killed cannot end it
        last=$(tail -n 1 "$2" 2>/dev/null | tr -d '[:cntrl:]')
        printf '\r\e[K%s, %d:%02d  %.*s' "$1" $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60)) $((${COLUMNS:-100} - 40)) "$last" >&2
    done
}

# What helps, by the words of the log.
advise() {
    local end
    end=$(tail -n 60 "$1")
    case $end in
        *"user namespace"* | *newuidmap* | *subuid*)
            say "this machine lets you make no user namespace, or lacks subordinate ids: see Troubleshooting in containers/README.md"
            ;;
        *"No space left"* | *"Disk quota"*) say "set TMPDIR and --out to roomier folders; the caches of pip and of images count too" ;;
        *CERTIFICATE_VERIFY* | *"certificate verify"*)
            say "the network's certificates are not known: name a file of authorities in SSL_CERT_FILE"
            ;;
        *"name resolution"* | *"Could not resolve"* | *"Connection refused"* | *"timed out"*)
            say "no network: what was downloaded is kept, and a second try goes on from there"
            ;;
        *) say "mend what the log says, and run the same again: what was downloaded is kept" ;;
    esac
}
