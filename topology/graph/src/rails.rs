//! Rails: ports that are alike on all hosts and meet the same part of the fabric.

use crate::graph::{Graph, Kind, NodeId, Source};

/// A port of a host, and its rail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rail {
    /// The port.
    pub port: NodeId,
    /// Its rail, counted from 0.
    pub number: u32,
    /// Whether a description states it. Otherwise it is by order, which the fabric has to confirm.
    pub source: Source,
}

impl Graph {
    /// The rails of a host: as its ports state them; where none does, by the order of the adapters, of those ports that
    /// together are the widest. Ports of other speeds, as for storage or management, are on no rail then.
    pub fn rails(&self, host: NodeId) -> Vec<Rail> {
        let mut ports = Vec::new();
        let mut left = vec![host];
        while let Some(id) = left.pop() {
            left.extend(self.children(id));
            if self.node(id).kind == Kind::Port {
                ports.push(id);
            }
        }
        ports.sort_by_key(|id| (self.parent(*id), *id));
        let stated: Vec<_> = ports
            .iter()
            .filter_map(|port| {
                let number = self.node(*port).attribute("rail")?.parse().ok()?;
                Some(Rail { port: *port, number, source: Source::Declared })
            })
            .collect();
        if stated.is_empty() { self.rails_by_order(&ports) } else { stated }
    }

    fn rails_by_order(&self, ports: &[NodeId]) -> Vec<Rail> {
        let is_real = |port: &&NodeId| {
            let adapter = self.parent(**port).map(|id| self.node(id));
            adapter
                .is_some_and(|node| node.kind == Kind::Nic && node.attribute("virtual").is_none())
        };
        let width = |port: NodeId| self.link_up(port).map_or(0.0, |link| link.gb_per_s);
        // Ports of one speed, and what they have together.
        let mut speeds: Vec<(f64, f64)> = Vec::new();
        for port in ports.iter().filter(is_real) {
            let width = width(*port);
            match speeds.iter_mut().find(|(speed, _)| *speed == width) {
                Some((_, total)) => *total += width,
                None => speeds.push((width, width)),
            }
        }
        let Some((speed, _)) = speeds.into_iter().max_by(|(_, a), (_, b)| a.total_cmp(b)) else {
            return Vec::new();
        };
        let alike = ports.iter().filter(is_real).filter(|port| width(**port) == speed);
        (0..)
            .zip(alike)
            .map(|(number, port)| Rail { port: *port, number, source: Source::Default })
            .collect()
    }
}
