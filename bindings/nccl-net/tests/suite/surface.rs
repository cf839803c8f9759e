//! What the library shows to the world: its symbols, its name, and what it needs.

use std::collections::BTreeSet;

use crate::SONAME;
use crate::library::{library, package, tool};

#[test]
fn the_tables_are_all_that_it_exports() {
    let symbols = tool("nm", &["-D", "--defined-only", library().to_str().unwrap()]);
    let exported: BTreeSet<&str> =
        symbols.lines().map(|line| line.split_whitespace().last().unwrap()).collect();
    let list = std::fs::read_to_string(package().join("symbols.txt")).unwrap();
    assert_eq!(exported, list.lines().collect(), "symbols.txt pins what is exported");
    for line in symbols.lines() {
        assert!(line.contains(" D "), "a table is data: {line}");
    }
}

#[test]
fn it_needs_nothing_but_the_c_library_and_stays_loaded() {
    let dynamic = tool("readelf", &["-d", "-W", library().to_str().unwrap()]);
    let bracketed = |line: &str| line.split(['[', ']']).nth(1).map(str::to_owned);
    let soname: Vec<_> =
        dynamic.lines().filter(|line| line.contains("(SONAME)")).filter_map(bracketed).collect();
    assert_eq!(soname, [SONAME]);
    assert!(dynamic.lines().any(|line| line.contains("(FLAGS_1)") && line.contains("NODELETE")));
    let family =
        ["libc.so", "libm.so", "libgcc_s.so", "libpthread.so", "libdl.so", "librt.so", "ld-linux"];
    for needed in dynamic.lines().filter(|line| line.contains("(NEEDED)")).filter_map(bracketed) {
        assert!(family.iter().any(|name| needed.starts_with(name)), "it needs {needed}");
    }
}
