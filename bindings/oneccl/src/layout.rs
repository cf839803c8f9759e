//! Where oneCCL's communicators have their functions: that differs from version to version, and no public header says it.
//! `layouts.txt` beside this crate has the same offsets for people; a test compares, and another asks an installed oneCCL.

use std::ffi::c_int;

use dure::{Error, Result};

use crate::dispatcher;

/// The communicators of one version.
#[derive(Debug)]
pub(crate) struct Layout {
    /// As `onecclGetVersion` has it.
    version: c_int,
    /// Bytes from the begin of the structure to its first function.
    first: usize,
    /// Its functions, which follow one another, under the names that oneCCL's sources have for them.
    functions: &'static [&'static str],
}

/// The latest version that is known.
pub(crate) const LATEST: c_int = KNOWN[KNOWN.len() - 1].version;

const KNOWN: &[Layout] = &[
    // 2021.17.1 says so too.
    Layout { version: 20_211_700, first: 4176, functions: WITHOUT_REGISTERING },
    Layout { version: 20_211_702, first: 4184, functions: WITHOUT_REGISTERING },
    Layout { version: 20_220_000, first: 4184, functions: WITHOUT_ALLTOALLV },
    // 2022.1.1 and 2022.1.2 say so too.
    Layout { version: 20_220_100, first: 4184, functions: WITHOUT_ALLTOALLV },
    Layout { version: 20_220_200, first: 4184, functions: WITH_ALLTOALLV },
];

const WITHOUT_REGISTERING: &[&str] = &[
    "allreduce",
    "allgather",
    "alltoall",
    "broadcast",
    "reduce",
    "reduce_scatter",
    "send",
    "recv",
    "barrier",
    "get_rank",
    "get_local_rank",
    "get_size",
    "get_local_size",
    "get_device",
    "create_pre_mul_sum",
    "reduction_destroy",
    "split",
    "destroy",
    "finalize",
    "abort",
];

const WITHOUT_ALLTOALLV: &[&str] = &[
    "allreduce",
    "allgather",
    "alltoall",
    "broadcast",
    "reduce",
    "reduce_scatter",
    "send",
    "recv",
    "barrier",
    "get_rank",
    "get_local_rank",
    "get_size",
    "get_local_size",
    "get_device",
    "mem_alloc",
    "mem_free",
    "comm_register",
    "comm_deregister",
    "comm_window_register",
    "comm_window_deregister",
    "create_pre_mul_sum",
    "reduction_destroy",
    "split",
    "destroy",
    "finalize",
    "abort",
];

const WITH_ALLTOALLV: &[&str] = &[
    "allreduce",
    "allgather",
    "alltoall",
    "alltoallv",
    "broadcast",
    "reduce",
    "reduce_scatter",
    "scatter",
    "send",
    "recv",
    "barrier",
    "get_rank",
    "get_local_rank",
    "get_size",
    "get_local_size",
    "get_device",
    "mem_alloc",
    "mem_free",
    "comm_register",
    "comm_deregister",
    "comm_window_register",
    "comm_window_deregister",
    "dev_comm_create",
    "dev_comm_destroy",
    "create_pre_mul_sum",
    "reduction_destroy",
    "split",
    "destroy",
    "finalize",
    "abort",
];

/// Functions that came in the course of a version, whose number does not tell: oneCCL exports each of them where its
/// communicators have it.
const LATER: &[(&str, &str)] = &[
    ("alltoallv", "onecclAllToAllV"),
    ("scatter", "onecclScatter"),
    ("comm_register", "onecclCommRegister"),
    ("comm_window_register", "onecclCommWindowRegister"),
    ("dev_comm_create", "onecclDevCommCreate"),
];

impl Layout {
    /// Name and offset of each function.
    pub(crate) fn functions(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let offset = |index| self.first + index * size_of::<*const ()>();
        self.functions.iter().enumerate().map(move |(index, name)| (*name, offset(index)))
    }

    /// Whether this is the oneCCL that calls, whose version is `version`.
    fn is_of(&self, version: c_int) -> bool {
        let has = |(name, exported): &(&str, &str)| {
            self.functions.contains(name) == dispatcher::exports(exported)
        };
        self.version == version && LATER.iter().all(has)
    }
}

/// The communicators of the oneCCL that calls.
///
/// # Errors
/// `Unsupported` when its version is not known: nothing of its structures may be touched.
pub(crate) fn current() -> Result<&'static Layout> {
    let version = dispatcher::version().ok_or_else(|| {
        Error::unsupported("whoever loaded this library has no onecclGetVersion: it is not oneCCL")
    })?;
    KNOWN.iter().find(|layout| layout.is_of(version)).ok_or_else(|| {
        let known: Vec<_> = KNOWN.iter().map(|layout| dotted(layout.version)).collect();
        Error::unsupported(format!(
            "this is oneCCL {}, whose communicators the plug-in of Dure {} does not know (known: {}, as they were \
             published): take another version of one of them, or unset CCL_PLUGIN",
            dotted(version),
            env!("CARGO_PKG_VERSION"),
            known.join(", ")
        ))
    })
}

fn dotted(version: c_int) -> String {
    format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_for_people_has_the_same() {
        let lines = |layout: &Layout| {
            let version = layout.version;
            let line = move |(name, offset)| format!("{version} {offset} {name}");
            layout.functions().map(line).collect::<Vec<_>>()
        };
        let ours: Vec<_> = KNOWN.iter().flat_map(lines).collect();
        let listed = include_str!("../layouts.txt").lines();
        let listed: Vec<_> = listed.filter(|line| !line.starts_with('#')).collect();
        assert_eq!(ours, listed);
    }
}
