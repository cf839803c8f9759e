# Debian packages of any suite, without touching what the host has installed or the state of its apt.

apt=$cache/apt

# The mirror that the host's own apt uses, unless DEBIAN_MIRROR names one.
mirror() {
    [ -z "${DEBIAN_MIRROR:-}" ] || { echo "$DEBIAN_MIRROR" && return; }
    # shellcheck disable=SC2016 # apt's own placeholder
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' | awk '!/security/ && !seen++'
}

# An apt of its own, with suites as they are now: lists older than an hour are fetched again.
prepare_apt() {
    local from keyring=/usr/share/keyrings/debian-archive-keyring.gpg suite
    "$root/.ci/setup" cpio depmod strip xz zstd
    [ -z "$(find "$apt/updated" -mmin -60 2>/dev/null)" ] || return 0
    from=$(mirror)
    if [ -z "$from" ] || [ ! -f "$keyring" ]; then
        echo "needs Debian's packages: a Debian mirror in apt's sources or in DEBIAN_MIRROR, and $keyring" >&2
        return 1
    fi
    mkdir -p "$apt"/{conf.d,pref.d,state/lists/partial,cache/archives/partial}
    : >"$apt/status"
    : >"$apt/pref"
    for suite in trixie trixie-backports; do
        echo "deb [signed-by=$keyring] $from $suite main"
    done >"$apt/sources.list"
    debian apt-get -qq update
    touch "$apt/updated"
}

# debian COMMAND ARGUMENT...: a command of apt, in its private root.
debian() {
    "$1" -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts="$apt/conf.d" \
        -o Dir::Etc::preferences="$apt/pref" -o Dir::Etc::preferencesparts="$apt/pref.d" -o Dir::State="$apt/state" \
        -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root \
        -o APT::Install-Recommends=false -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "${@:2}"
}

# fetch FOLDER SUITE PACKAGE...: the packages and everything that they depend on, as files.
fetch() {
    mkdir -p "$1"
    rm -f "$apt"/cache/archives/*.deb
    debian apt-get -qq -y -d install -t "$2" "${@:3}"
    mv "$apt"/cache/archives/*.deb "$1"
}

# fetch_alone FOLDER PACKAGE...: the packages only.
fetch_alone() {
    mkdir -p "$1"
    (cd "$1" && debian apt-get -qq download "${@:2}")
}

# unpack FOLDER INTO: all but what only the scripts of packages use, and what nobody reads there.
unpack() {
    local file
    mkdir -p "$2"
    for file in "$1"/*.deb; do
        case ${file##*/} in
        *_all.deb | perl* | passwd_* | openssl-provider* | libdb5* | base-passwd* | libsemanage2_* | libsepol2_*) ;;
        *) dpkg-deb -x "$file" "$2" ;;
        esac
    done
    rm -rf "$2"/usr/share/{doc,man,locale,info,bash-completion,bug,lintian} "$2"/usr/lib/x86_64-linux-gnu/{gconv,perl*} \
        "$2/usr/include"
}

# pack TREE FILE: as an initial file system of a kernel.
pack() {
    (cd "$1" && find . -print0 | sort -z | cpio -o0 -H newc -R 0:0 --quiet) >"$2"
}
