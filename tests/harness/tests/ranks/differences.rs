//! Ranks that call different things: an error on all of them that prints both sides.

use dure::ErrorKind;

use crate::over;

/// All ranks report a difference, in a text with all of `sides`.
fn differ(what: &str, ranks: u32, sides: &[&str]) {
    for transport in ["pool", "tcp"] {
        let report = over(transport, ranks).run("differ", &[what]);
        for rank in 0..ranks {
            let failure = report.failure(rank);
            assert_eq!(failure.kind, ErrorKind::InvalidUsage, "{what} over {transport}:\n{report}");
            for side in sides {
                assert!(failure.text.contains(side), "{what} over {transport}, {side}:\n{report}");
            }
        }
    }
}

#[test]
fn counts() {
    for ranks in [2, 4] {
        differ("count", ranks, &["all-reduce of 100 uint64, sum", "all-reduce of 101 uint64, sum"]);
        differ("long-count", ranks, &["of 400000 uint64", "of 300000 uint64"]);
    }
}

#[test]
fn types() {
    differ("type", 3, &["of 100 float", "of 100 int32"]);
}

#[test]
fn operations() {
    differ("op", 3, &["sum", "max"]);
}

#[test]
fn collectives() {
    differ("collective", 2, &["all-reduce of 100 uint64", "all-gather of 100 uint64"]);
    differ("collective", 4, &["all-reduce of 100 uint64", "all-gather of 100 uint64"]);
}

#[test]
fn roots() {
    differ("root", 3, &["root 0", "root 2"]);
}

#[test]
fn order() {
    differ("order", 2, &["all-reduce of 100 uint64", "barrier"]);
    differ("order", 4, &["all-reduce of 100 uint64", "barrier"]);
}

#[test]
fn one_call_less() {
    differ("number", 2, &["barrier", "all-reduce of 10 uint32"]);
    differ("number", 3, &["barrier", "all-reduce of 10 uint32"]);
}
