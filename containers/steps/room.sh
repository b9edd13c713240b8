# shellcheck shell=bash
# Sourced by build_containers.sh: how much free disk a build needs, and whether it is there.

# MB, measured on Debian's base and rounded up: temporary files at their most, what stays with the downloads, and what stays
# where the image is a folder, which is made in its place.
needs_of() {
    local folder
    case $1-${INPUTS["packages"]} in
        audio_processing-baked) temporary=14000 lasting=9500 folder=13000 ;;
        audio_processing-bound) temporary=500 lasting=200 folder=500 ;;
        *) temporary=1000 lasting=500 folder=1000 ;;
    esac
    if [[ $FORM == folder ]]; then temporary=200 lasting=$folder; fi
    [[ ! $MODELS || $1 != audio_processing ]] || temporary=$((temporary + 2 * $(du -sm "$MODELS" | cut -f 1)))
}

# need_room NAME: 74 when it is not there. Both folders may lie on one file system.
need_room() {
    local temporary lasting
    needs_of "$1"
    if [[ $(device_of "$WORK") == "$(device_of "$OUT")" ]]; then
        enough "$OUT and $WORK" "$OUT" $((temporary + lasting)) "$1"
    else
        enough "$WORK, where temporary files go by TMPDIR," "$WORK" "$temporary" "$1"
        enough "$OUT, where images go by --out," "$OUT" "$lasting" "$1"
    fi
}

enough() {
    local free
    free=$(df --output=avail -BM "$2" | tail -n 1 | tr -dc 0-9)
    ((free >= $3)) || die 74 "$1: $free MB are free, and building $4 takes $3 MB"
}

device_of() { stat -c %d "$1"; }
