//! Processor, memory, and what the kernel allows.

use super::{Finding, Host, Level};
use crate::size;

pub(super) fn cpu(host: &Host) -> Finding {
    const NAME: &str = "vector unit";
    let field = |key| host.field("proc/cpuinfo", key);
    let flags = field("flags").or_else(|| field("Features")).unwrap_or_default();
    let has = |wanted: &[&str]| {
        wanted.iter().all(|flag| flags.split_whitespace().any(|known| known == *flag))
    };
    let model = field("model name").unwrap_or_else(|| "unknown processor".to_owned());
    if has(&["avx512f", "avx512bw", "avx512vl"]) {
        Finding::new(
            NAME,
            Level::Ok,
            format!("{model}, AVX-512"),
            "reductions take 64 bytes at a time",
        )
    } else if has(&["avx2"]) {
        Finding::new(
            NAME,
            Level::Ok,
            format!("{model}, AVX2"),
            "reductions take 32 bytes at a time",
        )
    } else if has(&["asimd"]) {
        Finding::new(
            NAME,
            Level::Ok,
            format!("{model}, NEON"),
            "reductions take 16 bytes at a time",
        )
    } else {
        Finding::new(
            NAME,
            Level::Limited,
            model,
            "reductions run on plain instructions, and are slower",
        )
    }
}

/// Processors in a list such as `0-3,8`.
fn listed(list: &str) -> Option<u64> {
    list.split(',').try_fold(0, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        Some(sum + last.checked_sub(first)? + 1)
    })
}

/// A file of the control group that this process is in: version 2, or the controller of version 1.
fn cgroup(host: &Host, unified: &str, legacy: &str) -> Option<String> {
    let own = host.text("proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    // In a container the path may be the host's, while only the own group is mounted, as the root.
    host.text(&format!("sys/fs/cgroup{path}/{unified}"))
        .or_else(|| host.text(&format!("sys/fs/cgroup/{unified}")))
        .or_else(|| host.text(&format!("sys/fs/cgroup/{legacy}")))
}

/// Tenths of a processor that the control group may use.
fn cpu_quota(host: &Host) -> Option<u64> {
    let (quota, period) = match cgroup(host, "cpu.max", "cpu/cpu.cfs_quota_us") {
        Some(line) if line.contains(' ') => {
            let (quota, period) = line.split_once(' ')?;
            (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?)
        }
        // Version 1 writes -1 for no quota.
        Some(quota) => (quota.parse().ok()?, host.number("sys/fs/cgroup/cpu/cpu.cfs_period_us")?),
        None => return None,
    };
    (period > 0).then(|| quota.saturating_mul(10) / period)
}

pub(super) fn cores(host: &Host) -> Finding {
    const NAME: &str = "cores";
    let Some(count) =
        host.field("proc/self/status", "Cpus_allowed_list").and_then(|list| listed(&list))
    else {
        return Finding::new(NAME, Level::Absent, "unknown", "/proc/self/status cannot be read");
    };
    match cpu_quota(host) {
        Some(tenths) if tenths < count * 10 => {
            let state = format!(
                "{count}, of which the control group may use {}.{}",
                tenths / 10,
                tenths % 10
            );
            Finding::new(
                NAME,
                Level::Limited,
                state,
                "ranks that spin use the quota up and are stopped for the rest of a period",
            )
            .remedy("set cpu.max of the control group to max, or run fewer ranks")
        }
        _ => Finding::new(NAME, Level::Ok, count.to_string(), "more ranks than these take turns"),
    }
}

pub(super) fn memory(host: &Host) -> Finding {
    const NAME: &str = "memory";
    let total = host.field("proc/meminfo", "MemTotal");
    let total = total
        .and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .map(|kib| kib << 10);
    let limit = cgroup(host, "memory.max", "memory/memory.limit_in_bytes")
        .and_then(|limit| limit.parse::<u64>().ok());
    match (total, limit) {
        (Some(total), Some(limit)) if limit < total => {
            let state = format!(
                "{}, of which the control group may use {}",
                size::display(total),
                size::display(limit)
            );
            Finding::new(
                NAME,
                Level::Limited,
                state,
                "shared segments and buffers beyond it end the job",
            )
            .remedy("raise memory.max of the control group")
        }
        (Some(total), _) => {
            Finding::new(NAME, Level::Ok, size::display(total), "no control group limits it")
        }
        (None, _) => Finding::new(NAME, Level::Absent, "unknown", "/proc/meminfo cannot be read"),
    }
}

pub(super) fn shared_memory(host: &Host) -> Finding {
    const NAME: &str = "/dev/shm";
    let mounts = host.text("proc/self/mounts").unwrap_or_default();
    let mount = mounts
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|m| m.get(1) == Some(&"/dev/shm"));
    let Some(mount) = mount else {
        return Finding::new(
            NAME,
            Level::Absent,
            "not mounted",
            "not needed: shared memory is anonymous",
        );
    };
    let options = mount.get(3).copied().unwrap_or_default();
    let size = options.split(',').find_map(|option| option.strip_prefix("size="));
    let state = size.map_or_else(|| "half of the memory".to_owned(), |size| format!("size {size}"));
    Finding::new(
        NAME,
        Level::Ok,
        state,
        "not needed: shared memory is anonymous and does not count against it",
    )
}

/// Major and minor number of the kernel.
fn kernel(host: &Host) -> Option<(u32, u32)> {
    let release = host.text("proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

pub(super) fn anonymous_memory(host: &Host) -> Finding {
    const NAME: &str = "memfd";
    match kernel(host) {
        Some(version) if version >= (3, 17) => Finding::new(
            NAME,
            Level::Ok,
            format!("Linux {}.{}", version.0, version.1),
            "ranks of a host share memory",
        ),
        Some((major, minor)) => Finding::new(
            NAME,
            Level::Limited,
            format!("Linux {major}.{minor}"),
            "no shared memory: ranks of a host use TCP",
        )
        .remedy("a kernel from 3.17"),
        None => Finding::new(
            NAME,
            Level::Absent,
            "unknown",
            "/proc/sys/kernel/osrelease cannot be read",
        ),
    }
}

pub(super) fn io_uring(host: &Host) -> Finding {
    const NAME: &str = "io_uring";
    const WITHOUT: &str = "TCP uses epoll";
    if kernel(host).is_none_or(|version| version < (5, 11)) {
        return Finding::new(NAME, Level::Absent, "not in this kernel", WITHOUT)
            .remedy("a kernel from 5.11");
    }
    let filtered = host.field("proc/self/status", "Seccomp").is_some_and(|mode| mode == "2");
    match host.number("proc/sys/kernel/io_uring_disabled") {
        Some(2) => Finding::new(NAME, Level::Absent, "disabled", WITHOUT).remedy("sysctl kernel.io_uring_disabled=0"),
        Some(1) => Finding::new(NAME, Level::Limited, "only for privileged processes and a group", WITHOUT)
            .remedy("sysctl kernel.io_uring_disabled=0, or join the group of kernel.io_uring_group"),
        _ if filtered => Finding::new(NAME, Level::Limited, "a seccomp filter is in force", "the filter may refuse it; then TCP uses epoll")
            .remedy("allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile"),
        _ => Finding::new(NAME, Level::Ok, "allowed", "TCP may use it"),
    }
}

pub(super) fn ptrace(host: &Host) -> Finding {
    const NAME: &str = "ptrace (yama)";
    match host.number("proc/sys/kernel/yama/ptrace_scope") {
        None => Finding::new(
            NAME,
            Level::Ok,
            "not restricted",
            "debuggers can attach to a rank that hangs",
        ),
        Some(0) => {
            Finding::new(NAME, Level::Ok, "scope 0", "debuggers can attach to a rank that hangs")
        }
        Some(scope) => {
            let text =
                "data does not need it; debuggers attach to a rank that hangs only with privileges";
            Finding::new(NAME, Level::Limited, format!("scope {scope}"), text)
                .remedy("sysctl kernel.yama.ptrace_scope=0")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Tree;
    use super::*;

    #[test]
    fn the_widest_vector_unit_counts() {
        let unit = |flags: &str| {
            let text = format!("processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\n");
            cpu(&Tree::new(&[("proc/cpuinfo", &text)]).host()).state
        };
        assert_eq!(unit("sse2 avx2"), "Some CPU, AVX2");
        assert_eq!(unit("avx2 avx512f avx512bw avx512vl"), "Some CPU, AVX-512");
        assert_eq!(unit("sse2"), "Some CPU");
        let arm = Tree::new(&[("proc/cpuinfo", "Features\t: fp asimd\n")]);
        assert!(cpu(&arm.host()).state.contains("NEON"));
    }

    #[test]
    fn quotas_of_both_versions() {
        let status = ("proc/self/status", "Name:\tdure\nCpus_allowed_list:\t0-3,8\n");
        let own = ("proc/self/cgroup", "0::/job\n");
        let two = Tree::new(&[status, own, ("sys/fs/cgroup/job/cpu.max", "150000 100000\n")]);
        assert_eq!(cores(&two.host()).state, "5, of which the control group may use 1.5");
        let one = [
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000"),
        ];
        assert_eq!(cores(&Tree::new(&[status, one[0], one[1]]).host()).level, Level::Limited);
        let free = Tree::new(&[status, own, ("sys/fs/cgroup/cpu.max", "max 100000\n")]);
        assert_eq!(
            (cores(&free.host()).level, cores(&free.host()).state),
            (Level::Ok, "5".to_owned())
        );
    }

    #[test]
    fn memory_of_the_control_group() {
        let total = ("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\n");
        let limited = Tree::new(&[total, ("sys/fs/cgroup/memory.max", "2147483648")]);
        assert_eq!(
            memory(&limited.host()).state,
            "16 GiB, of which the control group may use 2 GiB"
        );
        assert_eq!(
            memory(&Tree::new(&[total, ("sys/fs/cgroup/memory.max", "max")]).host()).level,
            Level::Ok
        );
    }

    #[test]
    fn shared_memory_of_a_container() {
        let tree =
            Tree::new(&[("proc/self/mounts", "shm /dev/shm tmpfs rw,nosuid,size=65536k 0 0\n")]);
        assert_eq!(shared_memory(&tree.host()).state, "size 65536k");
    }

    #[test]
    fn io_uring_by_kernel_setting_and_filter() {
        let level = |release: &str, disabled: &str, seccomp: &str| {
            let status = format!("Seccomp:\t{seccomp}\n");
            let tree = Tree::new(&[
                ("proc/sys/kernel/osrelease", release),
                ("proc/sys/kernel/io_uring_disabled", disabled),
                ("proc/self/status", &status),
            ]);
            io_uring(&tree.host()).level
        };
        assert_eq!(level("4.19.0-1", "0", "0"), Level::Absent);
        assert_eq!(level("6.1.0", "0", "0"), Level::Ok);
        assert_eq!(level("6.6.0", "2", "0"), Level::Absent);
        assert_eq!(level("6.6.0", "1", "0"), Level::Limited);
        assert_eq!(level("6.6.0", "0", "2"), Level::Limited);
    }

    #[test]
    fn old_kernels_have_no_anonymous_shared_memory() {
        let level = |release| {
            anonymous_memory(&Tree::new(&[("proc/sys/kernel/osrelease", release)]).host()).level
        };
        assert_eq!((level("3.10.0-1160.el7"), level("5.15.0")), (Level::Limited, Level::Ok));
    }

    #[test]
    fn ptrace_scope() {
        let level = |scope| {
            ptrace(&Tree::new(&[("proc/sys/kernel/yama/ptrace_scope", scope)]).host()).level
        };
        assert_eq!((level("0"), level("1")), (Level::Ok, Level::Limited));
    }
}
