# shellcheck shell=bash
# Sourced by build_containers.sh: what an image is made of, whether the one that is there is made of the same, and what it takes.

# collect NAME: copies what goes into the image to $CONTEXT, and fills the map `INPUTS` and the array `ARGUMENTS`.
collect() {
    local name=$1
    local -a locks=(requirements/audio.lock)
    [[ $name == audio_processing ]] || locks=(requirements/utils.lock requirements/globus-cli.lock)
    INPUTS=() ARGUMENTS=()
    copy_code "${locks[@]}"
    INPUTS["recipe"]=$(digest_of_files "$name.def" containers/inside)
    INPUTS["lock"]=$(digest_of_files "${locks[@]}")
    INPUTS["code"]=$(digest_of_files db hpc monitor models pyproject.toml README.md LICENSE)
    INPUTS["form"]=$FORM INPUTS["compression"]=$COMPRESSION INPUTS["packages"]=baked INPUTS["models"]=none
    choose_base "$name"
    if [[ $name == audio_processing ]]; then
        choose_packages
        choose_models
    fi
    ARGUMENTS+=(--build-arg "CODE_DIGEST=${INPUTS["code"]}" --build-arg "COMMIT=$(commit)")
}

# A copy, so that the code cannot change under a build, and nothing comes in that git ignores.
copy_code() {
    local -a wanted=(db hpc monitor models pyproject.toml README.md LICENSE containers/inside "$@")
    rm -rf "$CONTEXT" && mkdir -p "$CONTEXT"
    (
        cd "$ROOT" || exit 1
        if [[ -e .git ]] && git ls-files -z --cached --others --exclude-standard -- "${wanted[@]}" 2>/dev/null; then
            exit
        fi
        find "${wanted[@]}" -name __pycache__ -prune -o -type f -print0
    ) >"$WORK/files"
    # What git knows and is not there has been deleted, and is not to be in the image either.
    (cd "$ROOT" && xargs -0 -r stat --printf '%n\0' <"$WORK/files" 2>/dev/null || true) | sort -zu |
        tar -C "$ROOT" --null -T - --owner=0 --group=0 --mode=u=rwX,go=rX -cf - | tar -C "$CONTEXT" -xf -
    cp "$HERE/$name.def" "$CONTEXT/$name.def"
}

digest_of_files() {
    (cd "$CONTEXT" && find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) | sha256sum | cut -c 1-64
}

commit() { git -C "$ROOT" describe --always --dirty 2>/dev/null || echo unknown; }

# choose_base NAME: from a registry by the recipe or by --base, else a local image, which lies beside the recipe for the build.
choose_base() {
    local reference digest=unknown
    reference=${BASE:-$(argument_of "$1" BASE)}
    if [[ $reference == local ]]; then
        reference=$OUT/base-$(suite).sif
        if ((CHECK)) && [[ ! -e $reference ]]; then
            INPUTS["base"]=${reference##*/} INPUTS["base_digest"]='not made yet'
            return
        fi
        make_base "$reference"
    fi
    if [[ -e $reference ]]; then
        digest=$(digest_of_base "$reference")
        ln -sfn "$(realpath "$reference")" "$CONTEXT/base.sif"
        INPUTS["base"]=$(basename "$reference" | tr -d '"')
        ARGUMENTS+=(--build-arg BOOTSTRAP=localimage --build-arg BASE=base.sif)
    else
        [[ $reference =~ ^[a-z0-9][A-Za-z0-9._/:-]*(@sha256:[0-9a-f]{64})?$ ]] ||
            die 66 "--base: there is no image at $reference, and it is no name of one in a registry"
        [[ $reference != *@* ]] || digest=${reference##*:}
        # What the runtime is built on takes a tag or a digest, and not both.
        if [[ $reference == *@* && ${reference%@*} =~ ^(.*/)?[^/:]+:[^/:]+$ ]]; then
            INPUTS["base"]=${reference%@*} reference=${reference%:*@*}@${reference##*@}
        else
            INPUTS["base"]=$reference
        fi
        ARGUMENTS+=(--build-arg BOOTSTRAP=docker --build-arg "BASE=$reference")
        [[ $BASE ]] || INPUTS["base"]=$(argument_of "$1" BASED_ON)
    fi
    INPUTS["base_digest"]=$digest
    ARGUMENTS+=(--build-arg "BASED_ON=${INPUTS["base"]}" --build-arg "BASE_DIGEST=$digest")
}

argument_of() { sed -n "s/^    $2=//p" "$HERE/$1.def"; }

# A folder has no digest: names, sizes and times stand for it.
digest_of_base() {
    if [[ -d $1 ]]; then digest_of_tree "$1"; else sha256sum <"$1" | cut -c 1-64; fi
}

digest_of_tree() {
    (cd "$1" && find . ! -name __pycache__ -printf '%P %s %T@ %l\n' | LC_ALL=C sort) | sha256sum | cut -c 1-64
}

# The Debian that has the Python of the packages that are to be bound, or this machine's.
suite() {
    local minor=${PACKAGES_FROM##*/python3.}
    debian_with_python "${minor%%/*}"
}

make_base() {
    [[ ! -e $1 ]] || return 0
    run_logged base "base image of Debian's packages" "$HERE/base.sh" "$PARTIAL/base.sif" "$(suite)"
    mv "$PARTIAL/base.sif" "$1"
}

choose_packages() {
    INPUTS["packages"]=$PACKAGES
    ARGUMENTS+=(--build-arg "PACKAGES=$PACKAGES")
    [[ $PACKAGES == bound ]] || return 0
    # Their names and versions; the files may be many, and are not in the image.
    INPUTS["bound"]=$(cd "$PACKAGES_FROM" && printf '%s\n' *.dist-info | LC_ALL=C sort | sha256sum | cut -c 1-64)
}

choose_models() {
    local link target
    [[ $MODELS ]] || return 0
    while IFS= read -r link; do
        target=$(realpath -m "$link")
        [[ -e $target && $target == "$(realpath "$MODELS")"/* ]] || die 66 "--models: $link leads out of the folder, or nowhere"
    done < <(find "$MODELS" -type l)
    INPUTS["models"]=$(digest_of_tree "$MODELS")
    # By a link: the recipe, as the image keeps it, need not say where they lay.
    ln -sfn "$(realpath "$MODELS")" "$CONTEXT/site-models"
    ARGUMENTS+=(--build-arg MODELS=site-models)
}

# why_build NAME: says why the image has to be built, or nothing.
why_build() {
    local image=$OUT/$1$SUFFIX known=$OUT/$1$RECORD key other=''
    if ((FORCE)); then
        echo "--force says so"
    elif [[ ! -e $image ]]; then
        echo "there is none"
    elif [[ ! -r $known ]]; then
        echo "nothing is recorded of the one that is there"
    elif [[ $(recorded "$known" file) != "$(file_state "$image")" ]]; then
        echo "the one that is there has changed since it was built"
    elif [[ $FORM == file ]] && ! grep -q "^$(recorded "$known" sha256)  $1$SUFFIX\$" "$OUT/images.sha256" 2>/dev/null; then
        echo "its digest is not recorded"
    else
        for key in $(printf '%s\n' "${!INPUTS[@]}" | sort); do
            if ((ANY_CODE)) && [[ $key == code ]]; then continue; fi
            [[ $(recorded "$known" "$key") == "${INPUTS[$key]}" ]] || other+=" and another ${key//_/ }"
        done
        echo "${other:+it has${other# and}}"
    fi
}

# recorded FILE KEY: a value of a record, which has one a line.
recorded() { sed -n "s/^ *\"$2\": \"\\{0,1\\}\\([^\"]*[^\",]\\)\"\\{0,1\\},\\{0,1\\}\$/\\1/p" "$1" | head -n 1; }

file_state() { stat -c '%s %Y' "$1"; }
