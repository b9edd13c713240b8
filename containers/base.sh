#!/usr/bin/env bash
# Makes a base image for our recipes out of Debian's packages, for machines that cannot or may not ask a registry of images.
#
#   base.sh OUT.sif [SUITE]
#
# SUITE is by itself the Debian whose Python is this machine's, so that the packages of an environment here fit into it.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=containers/steps/runtime.sh
. "$HERE/steps/runtime.sh"

die() {
    echo "base.sh: $2" >&2
    exit "$1"
}

# mirror LABEL: where this machine has these Debian packages from; nothing elsewhere, or when a password is in it.
mirror() {
    local found=''
    if is_debian; then
        # shellcheck disable=SC2016 # apt-get fills these in
        found=$(apt-get indextargets --format '$(REPO_URI) $(LABEL) $(COMPONENT)' | awk -v l="$1" '$2 == l && $3 == "main" { print $1; exit }')
    fi
    [[ $found == *@* ]] || echo "$found"
}

# sources: apt's lines for this machine's own mirrors. Without them mmdebstrap knows where Debian is.
sources() {
    local debian security
    debian=$(mirror Debian)
    security=$(mirror Debian-Security)
    [[ -n $debian ]] || return 0
    printf 'deb %s main\n' "$debian $suite" "$debian $suite-updates"
    [[ -z $security ]] || printf 'deb %s main\n' "$security $suite-security"
}

(($# == 1 || $# == 2)) || die 64 "usage: base.sh OUT.sif [SUITE]"
out=$1 suite=${2:-$(debian_with_python)}
[[ $suite =~ ^[a-z]+$ ]] || die 64 "$suite is no name of a Debian"
command -v mmdebstrap >/dev/null || die 69 "mmdebstrap is not installed: scripts/packages.sh containers"
find_runtime

work=$(mktemp -d)
trap 'remove "$work"' EXIT
export APPTAINER_TMPDIR=$work SINGULARITY_TMPDIR=$work

lines=$(sources)
# A tar and no folder: by it an ordinary user gets the same as root. Documents are left out; nobody reads them in an image.
# The host's name and resolver are what mmdebstrap lends its chroot; each run has its own.
mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-venv \
    --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --aptopt='Acquire::Languages "none"' \
    "$suite" "$work/system.tar" ${lines:+-} <<<"$lines"
mkdir "$work/system"
# Without devices, which a build in a user namespace could not make, and which the runtime brings.
tar -xf "$work/system.tar" -C "$work/system" --exclude='./dev/*'
rm -f "$work/system.tar"
: >"$work/system/etc/resolv.conf"
rm -f "$work/system/etc/hostname" "$work/system/etc/apt/apt.conf.d/99mmdebstrap"
"$RUNTIME" build --force --mksquashfs-args '-Xcompression-level 1' "$work/base.sif" "$work/system"
mv "$work/base.sif" "$out"
