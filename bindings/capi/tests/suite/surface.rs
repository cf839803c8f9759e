//! What the library shows to the world: its symbols, its name, and what it needs.

use std::collections::BTreeSet;

use crate::library::{SONAME, library, package, tool};

/// The 40 functions of NCCL 2.28, without the prefix.
const NCCL: &str = "GetVersion GetUniqueId CommInitRank CommInitRankConfig CommInitRankScalable CommInitAll CommFinalize \
    CommDestroy CommAbort CommSplit CommShrink CommGetAsyncError GetErrorString GetLastError CommCount CommCuDevice \
    CommUserRank CommRegister CommDeregister CommWindowRegister CommWindowDeregister MemAlloc MemFree \
    RedOpCreatePreMulSum RedOpDestroy Reduce Bcast Broadcast AllReduce ReduceScatter AllGather AlltoAll Gather Scatter \
    Send Recv GroupStart GroupEnd GroupSimulateEnd ResetDebugInit";

fn exported() -> BTreeSet<String> {
    let symbols = tool("nm", &["-D", "--defined-only", library().to_str().unwrap()]);
    symbols.lines().map(|line| line.split_whitespace().last().unwrap().to_owned()).collect()
}

/// Functions that the header declares: names that a parenthesis follows, outside of comments.
fn declared() -> BTreeSet<String> {
    let header = std::fs::read_to_string(package().join("include/dure.h")).unwrap();
    let code: String = header
        .split("/*")
        .enumerate()
        .map(
            |(index, part)| {
                if index == 0 { part } else { part.split_once("*/").expect("comments end").1 }
            },
        )
        .collect();
    let name = |before: &str| {
        before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_owned()
    };
    let mut parts: Vec<&str> = code.split('(').collect();
    parts.pop();
    parts.into_iter().map(name).filter(|name| name.starts_with("dure")).collect()
}

#[test]
fn symbols_are_those_of_the_list_and_of_the_header() {
    let list = std::fs::read_to_string(package().join("symbols.txt")).unwrap();
    let list: BTreeSet<String> = list.lines().map(str::to_owned).collect();
    assert_eq!(exported(), list, "symbols.txt pins what is exported");
    assert_eq!(declared(), list, "dure.h declares what is exported");
}

#[test]
fn every_function_of_nccl_is_there() {
    let names: Vec<&str> = NCCL.split_whitespace().collect();
    assert_eq!(names.len(), 40);
    let exported = exported();
    for name in names {
        let name = if name == "CommCuDevice" { "CommDevice" } else { name };
        assert!(exported.contains(&format!("dure{name}")), "dure{name}");
    }
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
