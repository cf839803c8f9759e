# What scripts have in common that test something in guests, and how they say what came of it.

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What runs leave behind is looked for there.
export TMPDIR=$work/tmp
mkdir "$TMPDIR"

# run ARGUMENT...: of tests/guest/run; sets output, errors and status.
run() {
    status=0
    timeout 600 "$here/run" "$@" >"$work/output" 2>"$work/errors" || status=$?
    output=$(<"$work/output")
    errors=$(<"$work/errors")
}

# expect WHAT GOT WANTED
expect() {
    [ "$2" = "$3" ] && return
    printf '%s: wanted "%s", got "%s"\n' "$1" "$3" "$2"
    printf '%s\n' "output:" "$output" "errors:" "$errors"
    return 1
}

# expect_match WHAT GOT PATTERN
expect_match() {
    [[ $2 =~ $3 ]] && return
    printf '%s: wanted something like "%s", got "%s"\n' "$1" "$3" "$2"
    printf '%s\n' "errors:" "$errors"
    return 1
}

# run_tests NAME...: functions; prints what `cargo test` prints and what they have measured, and fails when one does.
run_tests() {
    local name word=ok passed=0 failed=0 status
    for name in "$@"; do
        # Outside of conditions, so that the first expectation that fails ends the test.
        set +e
        (
            set -e
            "$name"
        ) >"$work/said" 2>&1
        status=$?
        set -e
        if [ $status = 0 ]; then
            echo "test $name ... ok"
            grep '^measured: ' "$work/said" || true
            passed=$((passed + 1))
        else
            echo "test $name ... FAILED"
            cat "$work/said"
            failed=$((failed + 1))
        fi
    done
    [ $failed = 0 ] || word=FAILED
    echo "test result: $word. $passed passed; $failed failed; 0 ignored; 0 measured; 0 filtered out; finished in $SECONDS.00s"
    [ $failed = 0 ]
}
