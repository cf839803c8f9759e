# Sourced by demo.sh and check.sh: installs what is missing, builds libdure.so and the program, gets the data.
# Sets: build (where everything goes), program, data.
#
# PROFILE=dev builds the library without full optimisation.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../../.." && pwd)
build=$root/build
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

build_library() {
    local profile=${PROFILE:-release} start=$SECONDS
    local target=${CARGO_TARGET_DIR:-$root/target}/${profile/#dev/debug}
    say "building libdure.so ($profile; the first time takes some minutes)"
    (cd "$root" && cargo build --quiet --locked --profile "$profile" -p dure-capi) || die "libdure.so does not build"
    "$root/bindings/capi/install.sh" "$build/prefix" "$target"
    say "installed under $build/prefix after $((SECONDS - start)) s"
}

build_program() {
    cc -std=c11 -O2 -Wall -Wextra -Werror -I "$build/prefix/include" "$here/digits.c" "$here/network.c" -o "$program" \
        -L "$build/prefix/lib" "-Wl,-rpath,$build/prefix/lib" -ldure -lm || die "digits.c does not compile"
}

need_pip() {
    "$root/.ci/setup" python3
    python3 -m pip --version >/dev/null 2>&1 && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing python3-pip"
        { apt-get update -q && apt-get install -yq --no-install-recommends python3-pip; } >"$build/apt.log" 2>&1 || true
    fi
    python3 -m pip --version >/dev/null || die "please install python3-pip"
}

# The digits are a file inside the scikit-learn package, which is downloaded and not installed.
get_data() {
    [ -s "$data" ] && return
    need_pip
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
"$root/.ci/setup" cc
build_library
build_program
get_data
