//! Limits of the process.

use super::{Finding, Host, Level};
use crate::size;

/// What RDMA needs at least to register the slots of a few peers.
const LOCKED: u64 = 1 << 30;
/// Connections of a host with many peers, and room for the program's own files.
const FILES: u64 = 4096;
/// Below this not even a few ranks can meet.
const FEWEST_FILES: u64 = 64;

/// The soft limit of a line of `/proc/self/limits`; `u64::MAX` when there is none.
fn limit(host: &Host, name: &str) -> Option<u64> {
    let text = host.text("proc/self/limits")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let soft = line.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

pub(super) fn locked_memory(host: &Host) -> Finding {
    const NAME: &str = "locked memory";
    match limit(host, "Max locked memory") {
        Some(u64::MAX) => {
            Finding::new(NAME, Level::Ok, "no limit", "memory can be registered with RDMA NICs")
        }
        Some(bytes) if bytes >= LOCKED => {
            let state = format!("limit {}", size::display(bytes));
            Finding::new(NAME, Level::Ok, state, "enough to register with RDMA NICs")
        }
        Some(bytes) => {
            let state = format!("limit {}", size::display(bytes));
            Finding::new(
                NAME,
                Level::Limited,
                state,
                "RDMA NICs refuse to register more memory; other transports do not need it",
            )
            .remedy("ulimit -l unlimited, LimitMEMLOCK=infinity, or docker run --ulimit memlock=-1")
        }
        None => Finding::new(NAME, Level::Absent, "unknown", "/proc/self/limits cannot be read"),
    }
}

pub(super) fn open_files(host: &Host) -> Finding {
    const NAME: &str = "open files";
    match limit(host, "Max open files") {
        Some(u64::MAX) => {
            Finding::new(NAME, Level::Ok, "no limit", "any number of peers can be connected")
        }
        Some(count) if count >= FILES => Finding::new(
            NAME,
            Level::Ok,
            format!("limit {count}"),
            "enough for thousands of connections",
        ),
        Some(count) => {
            let level = if count < FEWEST_FILES { Level::Broken } else { Level::Limited };
            let text = "all-to-all over TCP takes a few descriptors a peer";
            Finding::new(NAME, level, format!("limit {count}"), text).remedy("ulimit -n 65536")
        }
        None => Finding::new(NAME, Level::Absent, "unknown", "/proc/self/limits cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Tree;
    use super::*;

    fn limits(locked: &str, files: &str) -> Tree {
        let text = format!(
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max open files            {files:<20} 1048576              files     \n\
             Max locked memory         {locked:<20} unlimited            bytes     \n"
        );
        Tree::new(&[("proc/self/limits", &text)])
    }

    #[test]
    fn limits_are_judged() {
        let tree = limits("8388608", "1024");
        let (locked, files) = (locked_memory(&tree.host()), open_files(&tree.host()));
        assert_eq!((locked.level, locked.state.as_str()), (Level::Limited, "limit 8 MiB"));
        assert!(locked.remedy.unwrap().contains("ulimit -l"));
        assert_eq!(files.level, Level::Limited);
        let tree = limits("unlimited", "65536");
        assert_eq!(
            (locked_memory(&tree.host()).level, open_files(&tree.host()).level),
            (Level::Ok, Level::Ok)
        );
        assert_eq!(open_files(&limits("0", "16").host()).level, Level::Broken);
    }
}
