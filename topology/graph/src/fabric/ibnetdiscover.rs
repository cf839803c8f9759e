//! The output of `ibnetdiscover` (infiniband-diags): switches, channel adapters and routers with what each of their
//! ports is cabled to. Every link stands in it twice, once for each end.
//!
//! Devices are known by their GUIDs. Names are for people: cards of one host need not be named alike, and a card that
//! nobody configured has its maker's name.

mod adapters;

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Warning;
use super::build::Builder;
use crate::{Graph, Kind, LinkKind, Node, NodeId};

/// Reads a dump.
pub(super) fn read(text: &str) -> (Graph, Vec<Warning>) {
    let mut dump = Dump::default();
    for (number, line) in (1..).zip(text.lines()) {
        dump.line(number, line.trim_end());
    }
    dump.assemble()
}

/// What a dump says, line by line.
#[derive(Default)]
struct Dump {
    devices: Vec<Device>,
    by_guid: HashMap<String, usize>,
    ends: Vec<End>,
    /// `name=value` lines of the device that comes next.
    said: Vec<(String, String)>,
    /// The device that port lines belong to.
    current: Option<usize>,
    builder: Builder,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Switch,
    Adapter,
    Router,
}

struct Device {
    sort: Sort,
    guid: String,
    /// Its node description, as it is.
    description: String,
    said: Vec<(String, String)>,
    /// The line of its own block; 0 for one that others name only.
    line: usize,
}

/// A port, as the device that has it lists it.
struct End {
    line: usize,
    at: (usize, u32),
    far: (usize, u32),
    /// GUIDs of the port and of the one at the far end; those of switches are not said.
    guids: [Option<String>; 2],
    /// `4xNDR`.
    speed: Option<String>,
}

impl Device {
    /// The GUID of the system that it is a part of.
    fn system(&self) -> Option<&str> {
        let system = self.said.iter().find(|(name, _)| name == "sysimgguid");
        system.map(|(_, guid)| guid.as_str())
    }

    /// A switch's name without what firmware puts around it: `MF0;LEAF-1:MQM9701/U1` is LEAF-1.
    fn short(&self) -> &str {
        let name = self.description.split_once(';').map_or(&*self.description, |(_, name)| name);
        let name = name.split_once(':').map_or(name, |(name, _)| name).trim();
        if name.is_empty() { &self.guid } else { name }
    }
}

impl Dump {
    fn line(&mut self, number: usize, line: &str) {
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        if line.starts_with('[') {
            if self.port(number, line).is_none() {
                self.builder.warn(number, format!("no port that can be read: `{line}`"));
            }
            return;
        }
        let sort = match line.split_whitespace().next() {
            Some("Switch") => Some(Sort::Switch),
            Some("Ca") => Some(Sort::Adapter),
            Some("Rt") => Some(Sort::Router),
            _ => None,
        };
        if let Some(sort) = sort {
            if self.device(number, sort, line).is_none() {
                self.current = None;
                self.builder.warn(number, format!("no device that can be read: `{line}`"));
            }
            return;
        }
        match line.split_once('=').filter(|(name, _)| name.bytes().all(|c| c.is_ascii_lowercase()))
        {
            Some((name, value)) => self.said.push((name.to_owned(), value.trim().to_owned())),
            None => self.builder.warn(number, format!("unknown: `{line}`")),
        }
    }

    /// `Switch  65 "S-2c5eab0300b87b40"   # "MF0;LEAF:MQM9701/U1" enhanced port 0 lid 73 lmc 0`
    fn device(&mut self, line: usize, sort: Sort, text: &str) -> Option<()> {
        let mut said = std::mem::take(&mut self.said);
        let (head, comment) = text.split_once('#').unwrap_or((text, ""));
        let guid = id(quoted(head)?.0)?;
        said.push(("ports".to_owned(), head.split_whitespace().nth(1)?.to_owned()));
        let (description, rest) = quoted(comment).unwrap_or(("", comment));
        if !rest.trim().is_empty() {
            said.push(("state".to_owned(), rest.trim().to_owned()));
        }
        let description = description.trim().to_owned();
        let device = Device { sort, guid: guid.clone(), description, said, line };
        let number = *self.by_guid.entry(guid).or_insert(self.devices.len());
        self.current = Some(number);
        match self.devices.get_mut(number) {
            None => self.devices.push(device),
            Some(named) if named.line == 0 => *named = device,
            Some(twice) => {
                let text =
                    format!("the device {} stands in line {} already", twice.guid, twice.line);
                self.builder.warn(line, text);
            }
        }
        Some(())
    }

    /// `[1](e09d7303007a5a68)  "S-2c5eab0300b87b40"[17]   # lid 657 lmc 0 "LEAF" lid 73 4xNDR`
    fn port(&mut self, line: usize, text: &str) -> Option<()> {
        let current = self.current?;
        let (head, comment) = text.split_once('#').unwrap_or((text, ""));
        let (port, rest) = bracket(head)?;
        let (guid, rest) = port_guid(rest);
        let (far, rest) = quoted(rest)?;
        let far_guid = id(far)?;
        let (far_port, rest) = bracket(rest)?;
        let (far_port_guid, _) = port_guid(rest);
        let speed =
            comment.split_whitespace().next_back().filter(|speed| gb_per_s(speed).is_some());
        if speed.is_none() {
            self.builder.warn(line, "the speed is not said, or not known");
        }
        let described = quoted(comment).map_or("", |(description, _)| description);
        let far = self.named(far, &far_guid, described);
        self.ends.push(End {
            line,
            at: (current, port),
            far: (far, far_port),
            guids: [guid, far_port_guid],
            speed: speed.map(str::to_owned),
        });
        Some(())
    }

    /// The device of a GUID. One that is named before its own block comes is known, until then, by what is said of it
    /// here.
    fn named(&mut self, id: &str, guid: &str, description: &str) -> usize {
        if let Some(known) = self.by_guid.get(guid) {
            return *known;
        }
        let sort = match id.chars().next() {
            Some('S') => Sort::Switch,
            Some('R') => Sort::Router,
            _ => Sort::Adapter,
        };
        let (guid, description) = (guid.to_owned(), description.trim().to_owned());
        self.by_guid.insert(guid.clone(), self.devices.len());
        self.devices.push(Device { sort, guid, description, said: Vec::new(), line: 0 });
        self.devices.len() - 1
    }
}

/// `"S-2c5e..."` gives what is between the first two quotation marks, and what comes after.
fn quoted(text: &str) -> Option<(&str, &str)> {
    text.split_once('"')?.1.split_once('"')
}

/// The GUID in `S-2c5eab0300b87b40`.
fn id(text: &str) -> Option<String> {
    let (sort, guid) = text.split_once('-')?;
    (sort.len() == 1).then(|| super::guid(&format!("0x{guid}")))?
}

/// `[12]`, or `[12][ext 3]`, at the start of a text.
fn bracket(text: &str) -> Option<(u32, &str)> {
    let (number, mut rest) = text.trim_start().strip_prefix('[')?.split_once(']')?;
    if let Some(external) = rest.strip_prefix("[ext") {
        rest = external.split_once(']')?.1;
    }
    Some((number.parse().ok()?, rest))
}

/// `(e09d7303007a5a68)` at the start of a text, where it stands.
fn port_guid(text: &str) -> (Option<String>, &str) {
    let read = || {
        let (guid, rest) = text.trim_start().strip_prefix('(')?.split_once(')')?;
        Some((super::guid(&format!("0x{guid}"))?, rest))
    };
    match read() {
        Some((guid, rest)) => (Some(guid), rest),
        None => (None, text),
    }
}

/// What a link of a width and a speed carries, GB/s: `4xNDR` is 50. Line coding is taken off (InfiniBand Architecture
/// Specification, volume 2, signaling rates).
fn gb_per_s(speed: &str) -> Option<f64> {
    let (width, rate) = speed.split_once('x')?;
    let width: u8 = width.parse().ok()?;
    let gbps = match rate {
        "SDR" => 2.0,
        "DDR" => 4.0,
        "QDR" => 8.0,
        "FDR10" => 10.0,
        "FDR" => 13.64,
        "EDR" => 25.0,
        "HDR" => 50.0,
        "NDR" => 100.0,
        "XDR" => 200.0,
        _ => return None,
    };
    (width > 0).then(|| f64::from(width) * gbps / 8.0)
}

impl Dump {
    fn assemble(mut self) -> (Graph, Vec<Warning>) {
        let cables = self.cables();
        for device in self.devices.iter().filter(|device| device.line == 0) {
            self.builder.warn(
                0,
                format!(
                    "{} ({}) is named by others and not described",
                    device.short(),
                    device.guid
                ),
            );
        }
        let inside = self.inside();
        let cards: Vec<usize> = (0..self.devices.len())
            .filter(|device| self.devices[*device].sort == Sort::Adapter && !inside[*device])
            .collect();
        let hosts = adapters::hosts(&self.devices, &cards, &cables, &mut self.builder);
        let nodes = self.nodes(&hosts, &inside, &cables);

        let mut ports: HashMap<(usize, u32), NodeId> = HashMap::new();
        for cable in &cables {
            let [upper, lower] = cable.ends.map(|(device, port)| {
                if self.devices[device].sort != Sort::Adapter || inside[device] {
                    return nodes[device];
                }
                *ports.entry((device, port)).or_insert_with(|| {
                    let mut node = Node::new(Kind::Port, format!("port {port}"));
                    let guid = cable.guids.get(&(device, port));
                    node.attributes.extend(guid.map(|guid| ("guid".to_owned(), guid.clone())));
                    let node = self.builder.add(Some(nodes[device]), node);
                    self.builder.join(nodes[device], node, LinkKind::Inside, None);
                    node
                })
            });
            let is_inside = cable.ends.iter().any(|(device, _)| inside[*device]);
            let kind = if is_inside { LinkKind::Inside } else { LinkKind::Cable };
            self.builder.join(upper, lower, kind, cable.gb_per_s);
        }
        self.builder.finish()
    }

    /// Per device whether it is a part of a switch.
    fn inside(&self) -> Vec<bool> {
        let switches: HashSet<&str> = self
            .devices
            .iter()
            .filter(|device| device.sort == Sort::Switch)
            .filter_map(Device::system)
            .collect();
        // What a switch has inside for reductions on the way calls itself an adapter; its system is the switch's.
        self.devices
            .iter()
            .map(|device| {
                device.sort == Sort::Adapter
                    && device.system().is_some_and(|guid| switches.contains(guid))
            })
            .collect()
    }

    /// The node of each device: switches and routers, what is inside of switches, cards in their hosts.
    fn nodes(
        &mut self,
        hosts: &BTreeMap<String, Vec<usize>>,
        inside: &[bool],
        cables: &[Cable],
    ) -> Vec<NodeId> {
        let mut nodes = vec![NodeId(0); self.devices.len()];
        for (number, device) in self.devices.iter().enumerate() {
            let kind = match device.sort {
                Sort::Switch => Kind::Switch,
                Sort::Router => Kind::Other,
                Sort::Adapter => continue,
            };
            nodes[number] = self.builder.add(None, node(kind, device.short(), device));
        }
        for cable in cables {
            for (near, far) in [(0, 1), (1, 0)] {
                let device = cable.ends[near].0;
                if inside[device] {
                    let parent = nodes[cable.ends[far].0];
                    let device_node =
                        node(Kind::Other, &self.devices[device].description, &self.devices[device]);
                    nodes[device] = self.builder.add(Some(parent), device_node);
                }
            }
        }
        for (name, cards) in hosts {
            let host = self.builder.host(name);
            for card in cards {
                let device = &self.devices[*card];
                let name =
                    adapters::named(&device.description).map_or(&*device.guid, |(_, card)| card);
                nodes[*card] = self.builder.add(Some(host), node(Kind::Nic, name, device));
                self.builder.join(host, nodes[*card], LinkKind::Inside, None);
            }
        }
        nodes
    }

    /// The cables, each once, in the order of their lower ends.
    fn cables(&mut self) -> Vec<Cable> {
        let mut both: BTreeMap<[(usize, u32); 2], Vec<&End>> = BTreeMap::new();
        for end in &self.ends {
            both.entry([end.at.min(end.far), end.at.max(end.far)]).or_default().push(end);
        }
        let mut cables = Vec::with_capacity(both.len());
        for (ends, listed) in both {
            let first = listed[0];
            if listed.iter().all(|end| end.at == first.at) {
                let [at, far] = [first.at, first.far].map(|(device, port)| {
                    format!(
                        "port {port} of {} ({})",
                        self.devices[device].short(),
                        self.devices[device].guid
                    )
                });
                self.builder.warn(
                    first.line,
                    format!("only one end of a link is listed: {far} does not name {at}"),
                );
            }
            let mut speeds = listed.iter().filter_map(|end| end.speed.as_deref());
            let speed = speeds.next();
            let mut slowest = speed.and_then(gb_per_s);
            for other in speeds.filter(|other| Some(*other) != speed) {
                let text =
                    format!("the ends of a link say {} and {other}", speed.unwrap_or_default());
                self.builder.warn(first.line, text);
                slowest = slowest.zip(gb_per_s(other)).map(|(a, b)| a.min(b));
            }
            let mut guids = HashMap::new();
            for end in &listed {
                for (place, guid) in [end.at, end.far].into_iter().zip(&end.guids) {
                    if let Some(guid) = guid {
                        guids.insert(place, guid.clone());
                    }
                }
            }
            cables.push(Cable { ends, gb_per_s: slowest, guids });
        }
        cables
    }
}

/// A cable between two ports.
struct Cable {
    ends: [(usize, u32); 2],
    gb_per_s: Option<f64>,
    /// GUIDs of its ends, where they are said.
    guids: HashMap<(usize, u32), String>,
}

/// A node with all that the dump says of its device.
fn node(kind: Kind, name: &str, device: &Device) -> Node {
    let mut node = Node::new(kind, name);
    node.attributes.push(("guid".to_owned(), device.guid.clone()));
    node.attributes.push(("description".to_owned(), device.description.clone()));
    node.attributes.extend(device.said.iter().cloned());
    node
}
