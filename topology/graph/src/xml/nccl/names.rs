//! Names of elements and attributes.

use crate::device::kind_of_class;
use crate::graph::{Kind, Node};

/// The element that NCCL skips.
pub(super) const OWN: &str = "dure";
/// What the attributes of `<gpu>` and `<nic>` have before their name when they are kept beside those of `<pci>`.
pub(super) const GPU: &str = "gpu.";
pub(super) const NIC: &str = "nic.";
/// The text of an element that is kept as a node of kind other; no attribute can have this name.
pub(super) const TEXT: &str = "#text";

/// Attributes that NCCL knows, by element. It reads at most 16 of an element.
pub(super) const CPU: &[&str] =
    &["host_hash", "numaid", "affinity", "arch", "vendor", "familyid", "modelid"];
pub(super) const PCI: &[&str] = &[
    "busid",
    "class",
    "vendor",
    "device",
    "subsystem_vendor",
    "subsystem_device",
    "link_speed",
    "link_width",
];
pub(super) const GPU_KNOWN: &[&str] = &["dev", "sm", "gcn", "arch", "rank", "gdr"];
pub(super) const NET: &[&str] = &[
    "name", "dev", "speed", "port", "guid", "latency", "maxconn", "gdr", "coll", "net", "gin",
    "rma", "rail", "plane",
];

/// The elements that are links.
pub(super) const LINKS: &[&str] = &["nvlink", "xgmi", "c2c", "pcilink"];

/// The kind that a node has when it is read from `<pci>` without `<gpu>` and `<nic>`.
pub(super) fn kind_of_pci(class: Option<&str>, has_pci: bool) -> Kind {
    let other = if has_pci { Kind::Bridge } else { Kind::Other };
    class.and_then(kind_of_class).unwrap_or(other)
}

/// Whether a node is a PCI device.
pub(super) fn is_pci(node: &Node) -> bool {
    node.attribute("busid").is_some()
}
