//! Network interfaces, TCP, RDMA.

use super::{Finding, Host, Level};
use crate::size;

/// Bytes under way on a path of 25 Gb/s and 1 ms: what a socket buffer must be able to grow to.
const SOCKET_BUFFER: u64 = 3 << 20;

pub(super) fn interfaces(host: &Host) -> Finding {
    const NAME: &str = "interfaces";
    let describe = |name: &String| {
        let at = |file: &str| format!("sys/class/net/{name}/{file}");
        let state = host.text(&at("operstate")).unwrap_or_default();
        // Loopback and some virtual ones say unknown, and work.
        if name == "lo" || !matches!(state.as_str(), "up" | "unknown") {
            return None;
        }
        // Virtual interfaces report -1, or nothing.
        let speed = host.text(&at("speed")).and_then(|speed| speed.parse::<u64>().ok());
        Some(speed.map_or_else(|| name.clone(), |speed| format!("{name} {} Gb/s", gigabits(speed))))
    };
    let names = host.names("sys/class/net", &[""]);
    let up: Vec<_> = names.iter().filter_map(describe).collect();
    if !up.is_empty() {
        Finding::new(NAME, Level::Ok, up.join(", "), "TCP can reach other hosts")
    } else if names.iter().any(|name| name == "lo") {
        Finding::new(NAME, Level::Limited, "only loopback", "only ranks of this host can meet")
            .remedy("bring an interface up: ip link set IF up")
    } else {
        Finding::new(NAME, Level::Broken, "none", "ranks cannot meet")
            .remedy("bring loopback up: ip link set lo up")
    }
}

fn gigabits(megabits: u64) -> String {
    match megabits % 1000 {
        0 => (megabits / 1000).to_string(),
        _ => format!("{}.{}", megabits / 1000, megabits % 1000 / 100),
    }
}

pub(super) fn congestion_control(host: &Host) -> Finding {
    const NAME: &str = "congestion control";
    let file = |name: &str| host.text(&format!("proc/sys/net/ipv4/{name}"));
    let Some(current) = file("tcp_congestion_control") else {
        return Finding::new(NAME, Level::Absent, "unknown", "/proc/sys/net cannot be read");
    };
    let available = file("tcp_available_congestion_control").unwrap_or_default();
    let allowed = file("tcp_allowed_congestion_control").unwrap_or_default();
    let state = format!("{current} (available: {available}; allowed: {allowed})");
    if current == "bbr"
        && !allowed.split(' ').any(|name| matches!(name, "cubic" | "reno" | "dctcp"))
    {
        let text = "bbr stalls small messages that go both ways on one connection";
        return Finding::new(NAME, Level::Limited, state, text)
            .remedy("sysctl net.ipv4.tcp_allowed_congestion_control='bbr cubic'");
    }
    Finding::new(NAME, Level::Ok, state, "connections use what is allowed")
}

pub(super) fn buffers(host: &Host) -> Finding {
    const NAME: &str = "socket buffers";
    let most = |name: &str| {
        let text = host.text(&format!("proc/sys/net/ipv4/{name}"))?;
        text.split_whitespace().nth(2)?.parse::<u64>().ok()
    };
    let (Some(read), Some(write)) = (most("tcp_rmem"), most("tcp_wmem")) else {
        return Finding::new(NAME, Level::Absent, "unknown", "/proc/sys/net cannot be read");
    };
    let state =
        format!("grow to {} (receive) and {} (send)", size::display(read), size::display(write));
    if read.min(write) >= SOCKET_BUFFER {
        return Finding::new(NAME, Level::Ok, state, "enough for 25 Gb/s over a millisecond");
    }
    let remedy =
        "sysctl net.ipv4.tcp_rmem='4096 131072 16777216' net.ipv4.tcp_wmem='4096 65536 16777216'";
    Finding::new(NAME, Level::Limited, state, "fast or long paths are not filled by one connection")
        .remedy(remedy)
}

pub(super) fn rdma(host: &Host) -> Finding {
    const NAME: &str = "RDMA devices";
    let port = |device: &String, port: &String| {
        let at =
            |file: &str| host.text(&format!("sys/class/infiniband/{device}/ports/{port}/{file}"));
        // Written as "4: ACTIVE" and "100 Gb/sec (4X EDR)".
        let state = at("state").unwrap_or_default();
        let state = state.split_once(": ").map_or(state.as_str(), |(_, name)| name).to_owned();
        (
            state == "ACTIVE",
            format!("{device} port {port} {state} {}", at("rate").unwrap_or_default())
                .trim_end()
                .to_owned(),
        )
    };
    let mut ports = Vec::new();
    for device in host.names("sys/class/infiniband", &[""]) {
        let numbers = host.names(&format!("sys/class/infiniband/{device}/ports"), &[""]);
        ports.extend(numbers.iter().map(|number| port(&device, number)));
    }
    let state = ports.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(", ");
    if ports.is_empty() {
        return Finding::new(
            NAME,
            Level::Absent,
            "none: the kernel lists no RDMA device",
            "ranks of other hosts are reached over TCP",
        );
    }
    let files = host.names("dev/infiniband", &["uverbs"]);
    if files.is_empty() {
        return Finding::new(NAME, Level::Limited, state, "this process cannot open them")
            .remedy("give the container /dev/infiniband");
    }
    if !files.iter().any(|file| host.may_write(&format!("dev/infiniband/{file}"))) {
        return Finding::new(NAME, Level::Limited, state, "this process may not open them")
            .remedy("give the user the group that owns /dev/infiniband/uverbs*");
    }
    if ports.iter().any(|(active, _)| *active) {
        Finding::new(NAME, Level::Ok, state, "can be opened")
    } else {
        Finding::new(
            NAME,
            Level::Limited,
            state,
            "no port is active: ranks of other hosts are reached over TCP",
        )
        .remedy("check cable, switch and subnet manager")
    }
}

pub(super) fn verbs_library(host: &Host) -> Finding {
    const NAME: &str = "libibverbs";
    if !cfg!(feature = "verbs") {
        let text = "this program was built without the feature verbs";
        return Finding::new(NAME, Level::Absent, "not used", text);
    }
    const LIBRARY: &str = "libibverbs.so.1";
    const FOLDERS: [&str; 5] = [
        "usr/lib/x86_64-linux-gnu",
        "usr/lib/aarch64-linux-gnu",
        "usr/lib64",
        "usr/lib",
        "usr/local/lib",
    ];
    // The loader's cache holds the names as text.
    let cached = host
        .bytes("etc/ld.so.cache")
        .is_some_and(|cache| cache.windows(LIBRARY.len()).any(|name| name == LIBRARY.as_bytes()));
    if cached || FOLDERS.iter().any(|folder| host.exists(&format!("{folder}/{LIBRARY}"))) {
        Finding::new(NAME, Level::Ok, "installed", "opened when an RDMA device is used")
    } else {
        Finding::new(NAME, Level::Absent, "not installed", "RDMA devices cannot be used: TCP is")
            .remedy("apt-get install libibverbs1 ibverbs-providers")
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Tree;
    use super::*;

    #[test]
    fn interfaces_that_are_up() {
        let files = [
            ("sys/class/net/lo/operstate", "unknown"),
            ("sys/class/net/eth0/operstate", "up"),
            ("sys/class/net/eth0/speed", "25000"),
            ("sys/class/net/eth1/operstate", "down"),
            ("sys/class/net/veth1/operstate", "up"),
            ("sys/class/net/veth1/speed", "-1"),
        ];
        let found = interfaces(&Tree::new(&files).host());
        assert_eq!((found.level, found.state.as_str()), (Level::Ok, "eth0 25 Gb/s, veth1"));
        assert_eq!(interfaces(&Tree::new(&files[..1]).host()).level, Level::Limited);
        assert_eq!(interfaces(&Tree::new(&[]).host()).level, Level::Broken);
        assert_eq!(gigabits(2500), "2.5");
    }

    #[test]
    fn congestion_control_without_a_choice() {
        let tree = |allowed| {
            Tree::new(&[
                ("proc/sys/net/ipv4/tcp_congestion_control", "bbr"),
                ("proc/sys/net/ipv4/tcp_available_congestion_control", "reno bbr"),
                ("proc/sys/net/ipv4/tcp_allowed_congestion_control", allowed),
            ])
        };
        assert_eq!(congestion_control(&tree("bbr").host()).level, Level::Limited);
        assert_eq!(congestion_control(&tree("bbr reno").host()).level, Level::Ok);
    }

    #[test]
    fn socket_buffers() {
        let level = |read| {
            let files = [
                ("proc/sys/net/ipv4/tcp_rmem", read),
                ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304"),
            ];
            buffers(&Tree::new(&files).host()).level
        };
        assert_eq!(
            (level("4096\t131072\t6291456"), level("4096\t87380\t212992")),
            (Level::Ok, Level::Limited)
        );
    }

    #[test]
    fn rdma_devices_and_library() {
        let files = [
            ("sys/class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE"),
            ("sys/class/infiniband/mlx5_0/ports/1/rate", "100 Gb/sec (4X EDR)"),
            ("dev/infiniband/uverbs0", ""),
            (
                "etc/ld.so.cache",
                "glibc-ld.so.cache1.1\0libibverbs.so.1\0/usr/lib/libibverbs.so.1\0",
            ),
        ];
        let host = Tree::new(&files);
        let found = rdma(&host.host());
        assert_eq!(
            (found.level, found.state.as_str()),
            (Level::Ok, "mlx5_0 port 1 ACTIVE 100 Gb/sec (4X EDR)")
        );
        assert_eq!(verbs_library(&host.host()).level, Level::Ok);
        assert_eq!(rdma(&Tree::new(&files[..2]).host()).level, Level::Limited);
        assert_eq!(verbs_library(&Tree::new(&files[..1]).host()).level, Level::Absent);
        assert_eq!(rdma(&Tree::new(&[]).host()).level, Level::Absent);
    }
}
