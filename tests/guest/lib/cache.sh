# Things that are built once and kept: each in a folder named after what it is and the recipe it was made by.

cache=${XDG_CACHE_HOME:-$HOME/.cache}/dure-guest
building=""

# cached NAME FILE...: sees to it that $cache/NAME-KEY is there, made by the function make_NAME, and sets made to its path. The key is
# that of the files, which are the recipe.
cached() {
    local name=$1 key
    key=$(cat "${@:2}" | sha256sum)
    made=$cache/$name-${key:0:12}
    if [ ! -d "$made" ]; then
        # A group of its own, so that an interrupt ends all of it.
        set -m
        build "$name" "$made" </dev/null &
        building=$!
        set +m
        wait "$building" || exit 125
        building=""
    fi
    touch "$made"
}

# build NAME FOLDER: as others see it, the folder is not there, or complete.
build() (
    mkdir -p "$cache"
    exec {lock}>"$cache/lock"
    flock "$lock"
    # Somebody else may have made it while this one waited.
    [ ! -d "$2" ] || exit 0
    local begin=$SECONDS part
    part=$(mktemp -d "$cache/part.XXXXXX")
    trap 'rm -rf "$part" "$part.log"' EXIT
    trap 'exit 143' INT TERM
    forget_unused
    echo "guest: building $1, once" >&2
    # Outside of conditions, so that the first command that fails ends it.
    set +e
    (
        set -e
        "make_$1" "$part"
    ) >"$part.log" 2>&1 {lock}>&-
    local status=$?
    set -e
    if [ $status != 0 ]; then
        tail -n 20 "$part.log" >&2
        echo "guest: $1 could not be built" >&2
        exit 1
    fi
    chmod 755 "$part"
    mv -T "$part" "$2"
    echo "guest: $1 is built, $((SECONDS - begin)) s" >&2
)

# What no recipe of the last weeks asked for, and what a build left that was killed.
forget_unused() {
    find "$cache" -mindepth 1 -maxdepth 1 -type d -name '*-????????????' -mtime +21 -exec rm -rf {} +
    find "$cache" -mindepth 1 -maxdepth 1 -name 'part.*' -not -path "$part" -exec rm -rf {} +
}

stop_building() {
    [ -n "$building" ] || return 0
    kill -TERM -- "-$building" 2>/dev/null || true
    wait "$building" || true
}
