//! What a library shows to the linker: its symbols, its name, and what it needs. For the tests of each interface.

use std::collections::BTreeSet;

use crate::SONAME;
use crate::library::{library, package, tool};

pub(crate) fn exported() -> BTreeSet<String> {
    let symbols = tool("nm", &["-D", "--defined-only", library().to_str().unwrap()]);
    symbols.lines().map(|line| line.split_whitespace().last().unwrap().to_owned()).collect()
}

#[test]
fn symbols_are_those_of_the_list() {
    let list = std::fs::read_to_string(package().join("symbols.txt")).unwrap();
    let list: BTreeSet<String> = list.lines().map(str::to_owned).collect();
    assert_eq!(exported(), list, "symbols.txt pins what is exported");
}

#[test]
fn it_needs_nothing_but_the_c_library() {
    let dynamic = tool("readelf", &["-d", "-W", library().to_str().unwrap()]);
    let bracketed = |line: &str| line.split(['[', ']']).nth(1).map(str::to_owned);
    let soname: Vec<_> =
        dynamic.lines().filter(|line| line.contains("(SONAME)")).filter_map(bracketed).collect();
    assert_eq!(soname, [SONAME]);
    let family =
        ["libc.so", "libm.so", "libgcc_s.so", "libpthread.so", "libdl.so", "librt.so", "ld-linux"];
    for needed in dynamic.lines().filter(|line| line.contains("(NEEDED)")).filter_map(bracketed) {
        assert!(family.iter().any(|name| needed.starts_with(name)), "it needs {needed}");
    }
}
