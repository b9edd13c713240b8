# shellcheck shell=bash
# Sourced by build_containers.sh: builds one image under another name, tests it, puts it in its place, and records it.

# build NAME WHY
build() {
    local name=$1 image=$OUT/$1$SUFFIX new=$PARTIAL/$1$SUFFIX began=$SECONDS
    local -a how=() more=()
    say "$name: building, as ${2}"
    : >"$OUT/log/$name.log"
    need_room "$name"
    find_builder
    keep_downloads
    [[ $FORM == file ]] || how+=(--sandbox)
    [[ $COMPRESSION != fast ]] || how+=(--mksquashfs-args '-Xcompression-level 1')
    [[ ${INPUTS["packages"]} != bound ]] || more=(--bind "$PACKAGES_FROM:/opt/packages:ro")
    # Not tested while it is built, but as it will be run: closed, and from the file that will be used.
    run_logged "$name" "$name: build" env -C "$CONTEXT" "${BUILDER[@]}" --force --notest "${how[@]}" "${more[@]}" \
        --bind "$OUT/cache:/var/cache/build" "${ARGUMENTS[@]}" "$new" "$name.def" || exit 1
    run_logged "$name" "$name: test" "$RUNTIME" test --containall --cleanenv --no-home --pwd / "${more[@]}" "$new" || exit 1
    put_in_place "$name" "$new" "$image" $((SECONDS - began))
}

# keep_downloads: what outlives a build, and the authorities that this machine trusts, for networks with their own.
keep_downloads() {
    local file
    for file in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
        [[ -r $file ]] || continue
        cp "$file" "$OUT/cache/ca.crt"
        return
    done
}

# put_in_place NAME NEW IMAGE SECONDS: whoever is killed here leaves an image that no record speaks for, and jobs refuse it.
put_in_place() {
    local name=$1 new=$2 image=$3 digest='' old=$PARTIAL/old
    [[ $FORM == folder ]] || digest=$(sha256sum <"$new" | cut -c 1-64)
    rm -f "$OUT/$name$RECORD"
    [[ $FORM == file || ! -e $image ]] || mv "$image" "$old"
    mv -f "$new" "$image"
    [[ $FORM == folder ]] || record_digest "$name$SUFFIX" "$digest"
    write_record "$name" "$image" "$4" "$digest" >"$PARTIAL/record"
    mv "$PARTIAL/record" "$OUT/$name$RECORD"
    remove "$old"
    say "$name: $(megabytes "$image") MB, in $image"
}

# record_digest FILE DIGEST: one line of images.sha256; the lines of others stay.
record_digest() {
    local list=$OUT/images.sha256
    { grep -v "^[0-9a-f]\{64\} [ *]$1\$" "$list" 2>/dev/null || true; } >"$PARTIAL/list"
    echo "$2  $1" >>"$PARTIAL/list"
    mv "$PARTIAL/list" "$list"
}

write_record() {
    local key
    echo "{"
    for key in $(printf '%s\n' "${!INPUTS[@]}" | sort); do printf '  "%s": "%s",\n' "$key" "${INPUTS[$key]}"; done
    printf '  "sha256": "%s",\n  "file": "%s",\n  "runtime": "%s",\n' "$4" "$(file_state "$2")" "$VERSION"
    printf '  "built_by": "%s",\n' "$(built_by)"
    printf '  "seconds": %d,\n  "megabytes": %d\n}\n' "$3" "$(megabytes "$2")"
}

built_by() {
    if ((EUID != 0)); then
        echo "an ordinary user"
    elif [[ ${BUILDER[0]} == python3 ]]; then
        echo "root in a user namespace"
    else
        echo root
    fi
}

megabytes() { du -sm --apparent-size "$1" | cut -f 1; }
