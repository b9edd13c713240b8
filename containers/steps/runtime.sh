# shellcheck shell=bash
# Sourced by build_containers.sh and base.sh: the program that builds and runs images, and as whom it builds.

# find_runtime: sets `RUNTIME`. 78: the one that was named is not there; 69: there is none, or one without build arguments.
find_runtime() {
    local name
    RUNTIME=''
    for name in ${DAYSCRIBE_CONTAINERS__RUNTIME:-apptainer singularity}; do
        RUNTIME=$(command -v "$name") && break
    done
    if [[ -z $RUNTIME && ${DAYSCRIBE_CONTAINERS__RUNTIME:-} ]]; then
        die 78 "DAYSCRIBE_CONTAINERS__RUNTIME names $DAYSCRIBE_CONTAINERS__RUNTIME, and there is no such program"
    elif [[ -z $RUNTIME ]]; then
        die 69 "no apptainer and no singularity in PATH: load your site's module, or on Debian run scripts/apptainer.sh FOLDER"
    fi
    forget_own_settings
    check_version
}

# A person's own settings would bind and pass things into what is built. Where downloads lie and who asks for them may stay.
forget_own_settings() {
    local name
    for name in $(compgen -e); do
        case $name in
            *_CACHEDIR | *_DOCKER_USERNAME | *_DOCKER_PASSWORD) ;;
            APPTAINER* | SINGULARITY*) unset "$name" ;;
        esac
    done
}

check_version() {
    local least
    VERSION=$("$RUNTIME" --version 2>/dev/null) || die 69 "$RUNTIME does not say its version"
    case $VERSION in
        apptainer*) least=1.2 ;;
        singularity-ce*) least=4.0 ;;
        *) die 69 "$VERSION knows no build arguments: Apptainer 1.2 or SingularityCE 4.0 is needed" ;;
    esac
    at_least "$least" "${VERSION##* }" || die 69 "$VERSION is too old: build arguments need ${VERSION%% *} $least"
}

# at_least 1.2 1.10.3-rc1
at_least() { [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }

# find_builder: sets the array `BUILDER`. Never by sudo.
find_builder() {
    BUILDER=("$RUNTIME" build)
    if ((EUID != 0)); then
        BUILDER+=(--fakeroot)
    elif ! has_every_capability; then
        command -v python3 >/dev/null || die 69 "this root lacks capabilities, and without python3 it cannot be given them"
        BUILDER=(python3 "$HERE/as_root.py" "${BUILDER[@]}")
    fi
}

has_every_capability() {
    local last held
    read -r last </proc/sys/kernel/cap_last_cap
    held=$(sed -n 's/^CapEff:[[:space:]]*/0x/p' /proc/self/status)
    ((held == (1 << (last + 1)) - 1))
}

# remove PATH...: also what belongs to the mapped users of a build by an ordinary user.
remove() {
    rm -rf -- "$@" 2>/dev/null || unshare --map-root-user --map-auto rm -rf -- "$@" 2>/dev/null || rm -rf -- "$@"
}

# debian_with_python [MINOR]: the Debian whose Python is 3.MINOR, by itself this machine's; else this Debian, or the one before.
debian_with_python() {
    case ${1:-$(python3 -c 'import sys; print(sys.version_info[1])' 2>/dev/null)} in
        11) echo bookworm ;;
        13) echo trixie ;;
        *) if is_debian; then (. /etc/os-release && echo "$VERSION_CODENAME"); else echo bookworm; fi ;;
    esac
}

is_debian() { (. /etc/os-release && [[ $ID == debian ]]) 2>/dev/null; }
