# shellcheck shell=sh
# Sourced by the %post of both recipes, in the image that is being built: the steps they share.

code=/opt/dayscribe
cache=/var/cache/build # build_containers.sh binds a folder here, so that a second try downloads nothing
authorities=$cache/ca.crt
unset PYTHONPATH PYTHONHOME
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive PYTHONDONTWRITEBYTECODE=1
# No setting of pip's comes in, neither the builder's nor the base's.
export PIP_CONFIG_FILE=/dev/null PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1
# The builder's authorities, where a network shows certificates of its own; they do not stay in the image.
[ ! -s $authorities ] || export PIP_CERT=$authorities
umask 022

step() { printf '== %s\n' "$*"; }

fail() {
    printf 'dayscribe: %s\n' "$*" >&2
    exit 1
}

# debian PACKAGE...: only what is missing, so that a base that has everything asks no mirror.
debian() {
    missing=''
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    step "Debian packages:$missing"
    mkdir -p $cache/apt/partial
    # A mapped root cannot become the user _apt, and what is built is thrown away when it is interrupted: no fsync.
    set -- -q -o Acquire::Languages=none -o Dir::Cache::archives=$cache/apt -o APT::Sandbox::User=root -o Dpkg::Options::=--force-unsafe-io
    [ ! -s $authorities ] || set -- "$@" -o Acquire::https::CAInfo=$authorities
    apt-get update "$@"
    # shellcheck disable=SC2086 # a list of names
    apt-get install "$@" -y --no-install-recommends $missing
}

# site_packages FOLDER: where the environment has its packages, whatever Python the base has.
site_packages() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

# environment FOLDER: a virtual environment of the base's Python, with nothing but an installer.
environment() {
    step "environment $1 of $(python3 --version)"
    python3 -m venv "$1"
    lies=$(site_packages "$1")
    rm -rf "$lies"/setuptools* "$lies/pkg_resources" "$lies/_distutils_hack" "$lies/distutils-precedence.pth"
}

# packages FOLDER LOCK: what the lock names, each file checked against its hash. Nothing is resolved and nothing compiled.
packages() {
    step "Python packages of ${2##*/}"
    lock=$2
    set -- "$1/bin/python"
    if kept; then
        mkdir -p $cache/tmp # not /tmp, which is the builder's and may be small
        TMPDIR=$cache/tmp "$1" $code/containers/inside/fetch_packages.py "$lock" $cache/wheels
        set -- "$1" --no-index --find-links $cache/wheels
    fi
    python=$1 && shift
    "$python" -m pip install --no-cache-dir --progress-bar off --no-compile --only-binary :all: --require-hashes --no-deps "$@" -r "$lock"
}

# kept: downloads go to a folder of the builder's, and not into the image.
kept() { grep -q " $cache " /proc/self/mountinfo; }

# bound_packages FOLDER: those that are bound to /opt/packages, when the image is built and whenever it runs.
bound_packages() {
    here=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    theirs=$(find /opt/packages -maxdepth 4 -name '*.cpython-3*.so' | sed -E -n 's/.*\.cpython-3([0-9]+)-[^/]*/3.\1/p' | sort -u)
    [ -n "$theirs" ] || fail "no packages are bound: apptainer build --bind SITE-PACKAGES:/opt/packages"
    [ "$theirs" = "$here" ] || fail "the bound packages are for Python $theirs, and the base has Python $here"
    # Python does not read the .pth files of a folder that is itself named in one: a clone's own code stays outside.
    echo /opt/packages >"$(site_packages "$1")/packages.pth"
}

# our_code FOLDER: editable, so that a checkout that is bound over /opt/dayscribe is what runs.
our_code() {
    step "our code"
    find $code -name __pycache__ -type d -prune -exec rm -rf {} +
    "$1/bin/python" -m pip install -q --no-deps --no-build-isolation --no-compile -e $code
}

# seal FOLDER: the installer goes, and what is there is compiled; nobody can write it down later.
seal() {
    step "bytecode of $1"
    lies=$(site_packages "$1")
    rm -rf "$lies"/pip "$lies"/pip-*.dist-info "$1"/bin/pip*
    # Some packages carry files that are no Python of this version; they are not imported either.
    env -u PYTHONDONTWRITEBYTECODE "$1/bin/python" -m compileall -q -j 0 "$lies" >/dev/null || true
}

# label NAME VALUE: what only the finished image can say of itself.
label() { echo "dayscribe.$1 $2" >>"${APPTAINER_LABELS:-$SINGULARITY_LABELS}"; }

# tidy BOOTSTRAP: the traces of the build, and of the mirror that it used, when the base was made here.
tidy() {
    env -u PYTHONDONTWRITEBYTECODE python3 -m compileall -q $code
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old
    rm -rf /var/log/apt /var/log/dpkg.log /var/log/alternatives.log
    [ "$1" != localimage ] || rm -f /etc/apt/sources.list
    if kept; then rm -rf $cache/tmp; else rm -rf $cache; fi
    chown -R 0:0 /opt/dayscribe /opt/models
    chmod -R u=rwX,go=rX /opt/dayscribe /opt/models
}
