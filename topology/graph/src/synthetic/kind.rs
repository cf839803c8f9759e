//! One host of a layout.

use std::fmt::Write as _;

use super::text::{Attribute, Item, What};
use super::{LayoutError, most};
use crate::cluster::MOST_DEVICES;
use crate::{HostKind, Reach, Source, usual};

/// A host as a layout describes it.
pub(super) struct Host {
    pub(super) kind: HostKind,
    /// Its ports: GB/s, and who says so.
    pub(super) ports: Vec<(f64, Source)>,
    /// Per device the port that is nearest to it, counted on the host; empty when it has no port.
    pub(super) nearest: Vec<u32>,
}

/// What stands in a host: where, and its figures.
struct Part {
    /// The innermost package or NUMA node that it is in, counted on the host.
    place: u32,
    gb_per_s: Option<f64>,
    latency_ns: Option<f64>,
}

#[derive(Default)]
struct Parts {
    npus: Vec<Part>,
    cpus: Vec<Part>,
    nics: Vec<Part>,
    /// Packages and NUMA nodes so far.
    places: u32,
    /// Bandwidth between packages or NUMA nodes, where it is given.
    socket_gb_per_s: Option<f64>,
}

impl Host {
    /// What an item says. A host without a port gets one when `joined` says that it needs one.
    pub(super) fn of(item: &Item<'_>, joined: bool) -> Result<Self, LayoutError> {
        let mut parts = Parts::default();
        parts.add(&item.body, 0)?;
        let on_processors = parts.npus.is_empty();
        let devices = if on_processors { &parts.cpus } else { &parts.npus };
        if devices.is_empty() {
            return Err(LayoutError::NoRanks { column: item.column });
        }
        let cores = match item.whole("cores")? {
            Some(cores) => cores,
            None if parts.cpus.is_empty() => usual::CORES,
            None => crate::cluster::small(parts.cpus.len()),
        };
        let count = crate::cluster::small(devices.len());
        let mut kind = HostKind::of_processors(name(item), count, cores);
        if let Some(memory) = item.number("gb_per_s")? {
            kind.memory_gb_per_s = memory;
        }
        let reach = if on_processors { shared } else { accelerators };
        let pairs =
            devices.iter().enumerate().flat_map(|(a, _)| (0..devices.len()).map(move |b| (a, b)));
        kind.reach = pairs.map(|(a, b)| reach([a, b], devices, parts.socket_gb_per_s)).collect();
        let usual_device =
            if on_processors { usual::SHARED_GB_PER_S } else { usual::PCIE_GB_PER_S };
        kind.device_gb_per_s =
            devices.iter().map(|device| device.gb_per_s.unwrap_or(usual_device)).collect();

        let port = |nic: &Part| match nic.gb_per_s {
            Some(given) => (given, Source::Declared),
            None => (usual::PORT_GBPS / 8.0, Source::Default),
        };
        let mut ports: Vec<(f64, Source)> = parts.nics.iter().map(port).collect();
        let mut nearest = nearest(devices, &parts.nics);
        if ports.is_empty() && joined {
            ports.push((usual::PORT_GBPS / 8.0, Source::Default));
            nearest = vec![0; devices.len()];
        }
        Ok(Self { kind, ports, nearest })
    }
}

impl Parts {
    fn add(&mut self, items: &[Item<'_>], place: u32) -> Result<(), LayoutError> {
        for item in items {
            let list = match item.what {
                What::Npu => &mut self.npus,
                What::Nic => &mut self.nics,
                What::Cpu => &mut self.cpus,
                _ => {
                    if let Some(given) = item.number("gb_per_s")? {
                        self.socket_gb_per_s = Some(given);
                    }
                    most(
                        item.column,
                        "NUMA nodes of a host",
                        item.count.into(),
                        MOST_DEVICES.into(),
                    )?;
                    for _ in 0..item.count {
                        self.places += 1;
                        most(
                            item.column,
                            "NUMA nodes of a host",
                            self.places.into(),
                            MOST_DEVICES.into(),
                        )?;
                        self.add(&item.body, self.places)?;
                    }
                    continue;
                }
            };
            let count = list.len() as u64 + u64::from(item.count);
            most(item.column, "devices of a host", count, MOST_DEVICES.into())?;
            let gb_per_s = match item.number("gbps")? {
                Some(gbps) => Some(gbps / 8.0),
                None => item.number("gb_per_s")?,
            };
            let latency_ns = item.number("ns")?;
            list.extend((0..item.count).map(|_| Part { place, gb_per_s, latency_ns }));
        }
        Ok(())
    }
}

/// How ranks on processors reach each other.
fn shared([a, b]: [usize; 2], devices: &[Part], socket: Option<f64>) -> Reach {
    let [a, b] = [&devices[a], &devices[b]];
    let far = a.place != b.place;
    let given = least(a.gb_per_s, b.gb_per_s);
    let gb_per_s = given.unwrap_or(usual::SHARED_GB_PER_S);
    let latency = a.latency_ns.or(b.latency_ns).unwrap_or(usual::SHARED_NS);
    Reach {
        path: "SHM",
        gb_per_s: if far {
            gb_per_s.min(socket.unwrap_or(usual::SOCKET_GB_PER_S))
        } else {
            gb_per_s
        },
        latency_ns: if far { latency + usual::SOCKET_NS } else { latency },
        source: declared(given.is_some() || far && socket.is_some()),
    }
}

/// How accelerators reach each other: over links of their own where these have a bandwidth, else over PCIe.
fn accelerators([a, b]: [usize; 2], devices: &[Part], socket: Option<f64>) -> Reach {
    if a == b {
        let gb_per_s = usual::LOCAL_GB_PER_S;
        return Reach { path: "LOC", gb_per_s, latency_ns: 0.0, source: Source::Default };
    }
    let [a, b] = [&devices[a], &devices[b]];
    let latency_ns = a.latency_ns.or(b.latency_ns);
    if let (Some(one), Some(other)) = (a.gb_per_s, b.gb_per_s) {
        let latency_ns = latency_ns.unwrap_or(usual::ACCELERATOR_NS);
        return Reach {
            path: "NVL",
            gb_per_s: one.min(other),
            latency_ns,
            source: Source::Declared,
        };
    }
    let latency_ns = latency_ns.unwrap_or(usual::PCIE_NS);
    if a.place == b.place {
        let gb_per_s = usual::PCIE_GB_PER_S;
        return Reach { path: "PHB", gb_per_s, latency_ns, source: Source::Default };
    }
    Reach {
        path: "SYS",
        gb_per_s: socket.unwrap_or(usual::SOCKET_GB_PER_S).min(usual::PCIE_GB_PER_S),
        latency_ns: latency_ns + usual::SOCKET_NS,
        source: declared(socket.is_some()),
    }
}

/// Per device the nearest port: the devices of a NUMA node share its ports evenly; those of nodes without ports share
/// all ports, together with all devices.
fn nearest(devices: &[Part], nics: &[Part]) -> Vec<u32> {
    if nics.is_empty() {
        return Vec::new();
    }
    let port = |(device, part): (usize, &Part)| {
        let at_home = nics.iter().any(|nic| nic.place == part.place);
        let near = |other: &Part| !at_home || other.place == part.place;
        let ports: Vec<u32> =
            (0..).zip(nics).filter(|(_, nic)| near(nic)).map(|(number, _)| number).collect();
        let before = devices[..device].iter().filter(|other| near(other)).count();
        let mates = devices.iter().filter(|other| near(other)).count();
        ports[before * ports.len() / mates]
    };
    devices.iter().enumerate().map(port).collect()
}

fn least(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn declared(given: bool) -> Source {
    if given { Source::Declared } else { Source::Default }
}

/// What a host holds, written out: `8 npu + 8 nic[gbps=200]`. Hosts of one name are alike.
pub(super) fn name(host: &Item<'_>) -> String {
    let mut name = String::new();
    list(&host.body, &mut name);
    attributes(&host.attributes, &mut name);
    name
}

fn list(items: &[Item<'_>], to: &mut String) {
    for (number, item) in items.iter().enumerate() {
        let word = match item.what {
            What::Package => "package",
            What::Numa => "numa",
            What::Npu => "npu",
            What::Nic => "nic",
            _ => "cpu",
        };
        let between = if number == 0 { "" } else { " + " };
        let _ = write!(to, "{between}{} {word}", item.count);
        attributes(&item.attributes, to);
        match &*item.body {
            [] => {}
            [one] => {
                to.push_str(" * ");
                list(std::slice::from_ref(one), to);
            }
            several => {
                to.push_str(" * (");
                list(several, to);
                to.push(')');
            }
        }
    }
}

fn attributes(attributes: &[Attribute<'_>], to: &mut String) {
    for (number, Attribute { name, value, .. }) in attributes.iter().enumerate() {
        let _ = write!(to, "{}{name}={value}", if number == 0 { "[" } else { " " });
    }
    if !attributes.is_empty() {
        to.push(']');
    }
}
