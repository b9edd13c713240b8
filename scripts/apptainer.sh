#!/usr/bin/env bash
# Gives this machine a real Apptainer where its Debian has none: Debian unstable's signed package, below one folder.
#
#   apptainer.sh PREFIX
#
# Prints the folder for PATH, and does nothing when one is in PATH already. Nothing of the system is replaced: the program
# brings the libc that it was built for. Needs root, for patchelf and the other packages of scripts/packages.sh containers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PREFIX=${1:?usage: apptainer.sh PREFIX}

say() { echo "apptainer.sh: $*" >&2; }

if found=$(command -v apptainer || command -v singularity); then
    dirname "$found"
    exit
fi
mkdir -p "$PREFIX"
PREFIX=$(cd "$PREFIX" && pwd -P)
exec 9>"$PREFIX/.lock"
flock 9
if [[ -e $PREFIX/ready ]]; then
    echo "$PREFIX/usr/bin"
    exit
fi
(. /etc/os-release && [[ $ID == debian ]]) 2>/dev/null || { say "this is no Debian: install Apptainer as its documentation says" && exit 69; }
[[ $(dpkg --print-architecture) == amd64 ]] || { say "only tried on amd64: install Apptainer as its documentation says" && exit 69; }
scripts/packages.sh containers >&2

# An apt of its own, so that the system's knows nothing of unstable. Its signatures are checked; of a mirror that stands still
# only the date is not.
debs=$PREFIX/debs apt=$PREFIX/apt
mkdir -p "$debs" "$apt"/{lists/partial,cache/archives/partial}
# shellcheck disable=SC2016 # apt-get fills these in
mirror=$(apt-get indextargets --format '$(REPO_URI) $(LABEL) $(COMPONENT)' | awk '$2 == "Debian" && $3 == "main" { print $1; exit }')
[[ -n $mirror ]] || { say "apt knows no Debian mirror here: install Apptainer as its documentation says" && exit 69; }
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$apt/sources.list"
cat >"$apt/apt.conf" <<CONF
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
APT::Sandbox::User "root";
CONF
say "fetching Apptainer from Debian unstable"
rm -f "$debs"/*.deb
(
    export APT_CONFIG=$apt/apt.conf
    apt-get update -qq && cd "$debs" && apt-get download -qq apptainer libc6 libseccomp2 libsqlite3-0 zlib1g
) >&2

rm -rf "${PREFIX:?}"/{usr,etc,var,lib,libraries}
dpkg -x "$debs"/apptainer_*.deb "$PREFIX"
for deb in "$debs"/{libc6,libseccomp2,libsqlite3-0,zlib1g}_*.deb; do dpkg -x "$deb" "$PREFIX/libraries"; done
mkdir "$PREFIX/lib"
cp -a "$PREFIX"/libraries/usr/lib/*-linux-gnu/*.so* "$PREFIX/lib/"
for program in "$PREFIX/usr/bin/apptainer" "$PREFIX"/usr/lib/*/apptainer/bin/starter; do
    patchelf --set-interpreter "$PREFIX/lib/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$PREFIX/lib" "$program"
done

# Away from its place it looks for etc and var beside usr/bin and, from the starter, beside usr/lib.
mv "$PREFIX/etc" "$PREFIX/var" "$PREFIX/usr/"
ln -s ../etc ../var "$PREFIX/usr/lib/"
ln -sfn apptainer "$PREFIX/usr/bin/singularity"

# As root it asks for every capability there is, and does not start where one is lacking: name those that it needs.
sed -i 's/^root default capabilities = .*/root default capabilities = file/' "$PREFIX/usr/etc/apptainer/apptainer.conf"
names=(CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP SYS_CHROOT MKNOD)
printf '{"users":{"root":[%s]}}\n' "$(printf '"CAP_%s",' "${names[@]}" | sed 's/,$//')" >"$PREFIX/usr/etc/apptainer/capability.json"
rm -rf "$PREFIX/libraries" "$apt" "$debs"
chmod -R a+rX "$PREFIX"
"$PREFIX/usr/bin/apptainer" --version >&2
touch "$PREFIX/ready"
echo "$PREFIX/usr/bin"
