//! What PCI devices are, by class and vendor, and how they hang together.

use crate::graph::{Graph, Kind, Link, LinkKind, NodeId, Source};
use crate::speed;

/// Vendors whose devices this library has a use for, by PCI vendor number.
const VENDORS: [(&str, &str); 22] = [
    ("0x1000", "Broadcom"),
    ("0x1002", "AMD"),
    ("0x1022", "AMD"),
    ("0x10b5", "Broadcom"),
    ("0x10de", "NVIDIA"),
    ("0x10ee", "AMD Xilinx"),
    ("0x1137", "Cisco"),
    ("0x1344", "Micron"),
    ("0x1414", "Microsoft"),
    ("0x144d", "Samsung"),
    ("0x14e4", "Broadcom"),
    ("0x15b3", "Mellanox"),
    ("0x177d", "Marvell"),
    ("0x19e5", "Huawei"),
    ("0x1ae0", "Google"),
    ("0x1af4", "Red Hat virtio"),
    ("0x1c5c", "SK hynix"),
    ("0x1d0f", "Amazon"),
    ("0x1da3", "Habana"),
    ("0x1e52", "Tenstorrent"),
    ("0x1eff", "Rebellions"),
    ("0x8086", "Intel"),
];

/// The name of a PCI vendor by its number in sysfs' form, `0x10de`; none for those that make nothing of use here.
pub fn vendor(number: &str) -> Option<&'static str> {
    VENDORS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// What a device is by its class in sysfs' form, `0x030200`, as NCCL takes it; none when the class says nothing.
pub(crate) fn kind_of_class(class: &str) -> Option<Kind> {
    let class = class.trim_start_matches("0x");
    let starts = |prefix| class.starts_with(prefix);
    match () {
        () if starts("03") || starts("12") => Some(Kind::Accelerator),
        () if starts("02") => Some(Kind::Nic),
        () if starts("0680") => Some(Kind::AcceleratorSwitch),
        () if starts("0502") => Some(Kind::CxlMemory),
        () if starts("06") => Some(Kind::Bridge),
        () => None,
    }
}

/// What a device is by its class and vendor, in sysfs' form. A display adapter is an accelerator when it is made by
/// who makes accelerators, and not when it is there for a console.
pub(crate) fn kind(class: &str, maker: &str) -> Option<Kind> {
    let kind = kind_of_class(class)?;
    let fits = match kind {
        Kind::Accelerator => {
            !class.starts_with("0x03") || matches!(maker, "0x10de" | "0x1002" | "0x8086")
        }
        // Other bridges than these of NVIDIA are parts of chip sets.
        Kind::AcceleratorSwitch => maker == "0x10de",
        Kind::Bridge => class.starts_with("0x0604"),
        _ => true,
    };
    fits.then_some(kind)
}

/// Joins a PCI device with what is above it, whose link has a bandwidth, GB/s, where anybody says so.
///
/// Below a host bridge come root ports; below a root port comes the upper port of a switch, and below that the lower
/// ports. Between ports of one chip is no PCIe link.
pub(crate) fn join(graph: &mut Graph, above: NodeId, id: NodeId, gb_per_s: Option<f64>) {
    let bridges = graph.ancestors(id).filter(|id| graph.node(*id).kind == Kind::Bridge).count();
    let kind = graph.node(id).kind;
    let under_host = graph.node(above).kind == Kind::HostBridge;
    let inside = kind == Kind::Bridge && (under_host || bridges % 2 == 0);
    let (kind, latency_ns) = match kind {
        _ if inside => (LinkKind::Inside, speed::INSIDE_NS),
        Kind::CxlMemory => (LinkKind::Cxl, speed::CXL_NS),
        _ => (LinkKind::Pcie, speed::PCIE_NS),
    };
    let (rate, width) = speed::USUAL_PCIE;
    let (gb_per_s, source) = match gb_per_s {
        _ if inside => (speed::LOCAL_GB_PER_S, Source::Default),
        Some(gb_per_s) => (gb_per_s, Source::Declared),
        None => (speed::pcie(rate, width), Source::Default),
    };
    graph.join(Link { ends: [above, id], kind, gb_per_s, latency_ns, source });
}

/// Joins a host bridge with the NUMA nodes that it may be at: inside of the one, or by an unknown way to all.
pub(crate) fn join_bridge(graph: &mut Graph, numas: &[NodeId], bridge: NodeId) {
    let (kind, latency_ns) = match numas {
        [_] => (LinkKind::Inside, speed::INSIDE_NS),
        _ => (LinkKind::Socket, speed::SOCKET_NS),
    };
    for numa in numas {
        let (gb_per_s, source) = (speed::LOCAL_GB_PER_S, Source::Default);
        graph.join(Link { ends: [*numa, bridge], kind, gb_per_s, latency_ns, source });
    }
}

/// Joins NUMA nodes of one host: `distance` is what the firmware says of two of them, by their places in `numas`.
pub(crate) fn join_numas(
    graph: &mut Graph,
    numas: &[NodeId],
    gb_per_s: f64,
    distance: impl Fn(usize, usize) -> Option<f64>,
) {
    for (at, first) in numas.iter().enumerate() {
        for (other, second) in numas.iter().enumerate().skip(at + 1) {
            let latency_ns = distance(at, other).map_or(speed::SOCKET_NS, speed::socket_ns);
            let (kind, source) = (LinkKind::Socket, Source::Default);
            graph.join(Link { ends: [*first, *second], kind, gb_per_s, latency_ns, source });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_are_no_accelerators() {
        assert_eq!(kind("0x030000", "0x1234"), None);
        assert_eq!(kind("0x030000", "0x1a03"), None);
        assert_eq!(kind("0x030200", "0x10de"), Some(Kind::Accelerator));
        assert_eq!(kind("0x038000", "0x1002"), Some(Kind::Accelerator));
        assert_eq!(kind("0x120000", "0x1eff"), Some(Kind::Accelerator));
        assert_eq!(kind("0x020700", "0x15b3"), Some(Kind::Nic));
        assert_eq!(kind("0x068000", "0x10de"), Some(Kind::AcceleratorSwitch));
        assert_eq!(kind("0x068000", "0x8086"), None);
        assert_eq!(kind("0x060100", "0x8086"), None);
        assert_eq!(kind("0x010802", "0x144d"), None);
    }

    #[test]
    fn vendors_are_sorted() {
        assert!(VENDORS.is_sorted());
        assert_eq!(vendor("0x1eff"), Some("Rebellions"));
        assert_eq!(vendor("0xffff"), None);
    }
}
