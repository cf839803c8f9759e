//! What a library shows to its users: the functions of its header, and those that NCCL has. For the tests of each interface.

use std::collections::BTreeSet;

use crate::dynamic::exported;
use crate::library::{package, tool};
use crate::{HEADER, PREFIXES};

/// The 40 functions of NCCL 2.28, without the prefix.
const NCCL: &str = "GetVersion GetUniqueId CommInitRank CommInitRankConfig CommInitRankScalable CommInitAll CommFinalize \
    CommDestroy CommAbort CommSplit CommShrink CommGetAsyncError GetErrorString GetLastError CommCount CommCuDevice \
    CommUserRank CommRegister CommDeregister CommWindowRegister CommWindowDeregister MemAlloc MemFree \
    RedOpCreatePreMulSum RedOpDestroy Reduce Bcast Broadcast AllReduce ReduceScatter AllGather AlltoAll Gather Scatter \
    Send Recv GroupStart GroupEnd GroupSimulateEnd ResetDebugInit";

fn is_ours(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
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
fn the_header_declares_what_is_exported() {
    assert_eq!(declared(), exported(), "{HEADER} declares what is exported");
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
