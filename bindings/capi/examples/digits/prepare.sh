# Sourced by demo.sh and check.sh: installs what is missing, builds libdure.so and the program, gets the data.
# Sets: root (of the repository), build (where everything goes), program, data.
#
# PROFILE=dev builds the library without full optimisation.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../../.." && pwd)
build=$root/build
library=$build/lib
program=$build/digits
data=$build/digits.csv
PATH=$PATH:$HOME/.cargo/bin
export DURE_TIMEOUT=${DURE_TIMEOUT:-60s} # for ranks to wait for one another

say() {
    printf '==> %s\n' "$*"
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# need TEST PACKAGE...: where the test fails, installs the packages if apt is at hand and this is root.
need() {
    local test=$1
    shift
    eval "$test" >/dev/null 2>&1 && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing $*"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends "$@"; } \
            >"$build/apt.log" 2>&1 || die "apt-get could not install $*: see $build/apt.log"
    fi
    eval "$test" >/dev/null 2>&1 || die "\"$test\" fails: please install $*"
}

build_library() {
    command -v cargo >/dev/null || die "cargo is not there: install Rust 1.95 or later (https://rustup.rs)"
    local profile=${PROFILE:-release} start=$SECONDS
    say "building libdure.so ($profile; the first time takes some minutes)"
    (cd "$root" && cargo build --quiet --locked --profile "$profile" -p dure-capi) || die "libdure.so does not build"
    local file=${CARGO_TARGET_DIR:-$root/target}/${profile/#dev/debug}/libdure.so
    # Programs look for the library by the name that it gives itself, not by the one that they were linked with.
    local soname
    soname=$(readelf --dynamic "$file" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
    mkdir -p "$library"
    ln -sf "$file" "$library/libdure.so"
    ln -sf libdure.so "$library/$soname"
    say "$file after $((SECONDS - start)) s"
}

build_program() {
    cc -std=c11 -O2 -Wall -Wextra -Werror -I "$root/bindings/capi/include" "$here/digits.c" "$here/network.c" \
        -o "$program" -L "$library" "-Wl,-rpath,$library" -ldure -lm || die "digits.c does not compile"
}

# The digits are a file inside the scikit-learn package, which is downloaded and not installed.
get_data() {
    [ -s "$data" ] && return
    need "python3 -m pip --version" python3 python3-pip
    say "downloading the scikit-learn package for its handwritten digits"
    local wheel
    wheel=$(mktemp -d "$build/wheel.XXXXXX")
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --dest "$wheel" scikit-learn || die "pip could not download scikit-learn"
    python3 - "$wheel" "$data" <<'PYTHON' || die "the package does not hold the digits"
import gzip, pathlib, sys, zipfile
folder, data = map(pathlib.Path, sys.argv[1:])
wheel, = folder.glob("*.whl")
rows = gzip.decompress(zipfile.ZipFile(wheel).read("sklearn/datasets/data/digits.csv.gz"))
part = data.with_suffix(".part")
part.write_bytes(rows)
part.rename(data)
PYTHON
    rm -r "$wheel"
}

mkdir -p "$build"
need "command -v cc" gcc libc6-dev
build_library
build_program
get_data
