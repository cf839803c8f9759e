//! What a library shows to the world: its symbols, its name, and what it needs. For the tests of each interface.

use std::collections::BTreeSet;

use crate::library::{library, package, tool};
use crate::{HEADER, PREFIXES, SONAME};

/// The 40 functions of NCCL 2.28, without the prefix.
const NCCL: &str = "GetVersion GetUniqueId CommInitRank CommInitRankConfig CommInitRankScalable CommInitAll CommFinalize \
    CommDestroy CommAbort CommSplit CommShrink CommGetAsyncError GetErrorString GetLastError CommCount CommCuDevice \
    CommUserRank CommRegister CommDeregister CommWindowRegister CommWindowDeregister MemAlloc MemFree \
    RedOpCreatePreMulSum RedOpDestroy Reduce Bcast Broadcast AllReduce ReduceScatter AllGather AlltoAll Gather Scatter \
    Send Recv GroupStart GroupEnd GroupSimulateEnd ResetDebugInit";

fn is_ours(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

pub(crate) fn exported() -> BTreeSet<String> {
    let symbols = tool("nm", &["-D", "--defined-only", library().to_str().unwrap()]);
    symbols.lines().map(|line| line.split_whitespace().last().unwrap().to_owned()).collect()
}

/// Functions that the header declares: names that a parenthesis follows, as the preprocessor leaves it.
fn declared() -> BTreeSet<String> {
    let header = package().join("include").join(HEADER);
    let code = tool("cc", &["-E", "-P", header.to_str().unwrap()]);
    let name = |before: &str| {
        let end = before.trim_end().rsplit(|c: char| !c.is_ascii_alphanumeric()).next();
        end.unwrap_or_default().to_owned()
    };
    let mut parts: Vec<&str> = code.split('(').collect();
    parts.pop();
    parts.into_iter().map(name).filter(|name| is_ours(name)).collect()
}

#[test]
fn symbols_are_those_of_the_list_and_of_the_header() {
    let list = std::fs::read_to_string(package().join("symbols.txt")).unwrap();
    let list: BTreeSet<String> = list.lines().map(str::to_owned).collect();
    assert_eq!(exported(), list, "symbols.txt pins what is exported");
    assert_eq!(declared(), list, "{HEADER} declares what is exported");
}

#[test]
fn every_function_of_nccl_is_there() {
    let names: Vec<&str> = NCCL.split_whitespace().collect();
    assert_eq!(names.len(), 40);
    let exported = exported();
    for prefix in PREFIXES {
        for name in &names {
            let name = match *name {
                "CommCuDevice" if *prefix == "dure" => "CommDevice",
                name => name,
            };
            assert!(exported.contains(&format!("{prefix}{name}")), "{prefix}{name}");
        }
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
