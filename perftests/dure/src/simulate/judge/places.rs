//! Where the ranks of a measured cell were: so many on each host, one host after the other, on one ideal switch.

use std::collections::BTreeMap;

use dure_plan::World;
use dure_topology::{Cluster, HostKind, Port, Reach, Site, Source};

use super::table::Key;

/// A world, and the cluster that it is on.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) world: World,
    pub(super) cluster: Cluster,
}

/// The places of all cells.
#[derive(Debug, Default)]
pub(super) struct Places {
    known: BTreeMap<(u32, u32), Place>,
}

impl Places {
    pub(super) fn of<'k>(keys: impl Iterator<Item = &'k Key>) -> Self {
        let mut known = BTreeMap::new();
        for key in keys {
            let (ranks, each) = (key.ranks, key.tasks_per_node.min(key.ranks));
            known.entry((ranks, each)).or_insert_with(|| place(ranks, each));
        }
        Self { known }
    }

    pub(super) fn get(&self, key: &Key) -> &Place {
        &self.known[&(key.ranks, key.tasks_per_node.min(key.ranks))]
    }
}

/// Nothing but the constants bounds the rates: those of ports and memories are what is fitted.
fn place(ranks: u32, each: u32) -> Place {
    let hosts = ranks.div_ceil(each);
    let reach =
        Reach { path: "SHM", gb_per_s: f64::INFINITY, latency_ns: 0.0, source: Source::Default };
    let kind = HostKind {
        name: format!("{each} ranks"),
        devices: each,
        cores: each,
        reach: vec![reach; each as usize * each as usize].into(),
        memory_gb_per_s: f64::INFINITY,
        device_gb_per_s: vec![f64::INFINITY; each as usize].into(),
    };
    let port =
        |host| Port { host, rail: 0, group: 0, gb_per_s: f64::INFINITY, source: Source::Default };
    let site = |rank| Site { host: rank / each, device: rank % each, port: Some(rank / each) };
    let host_of = (0..ranks).map(|rank| rank / each).collect();
    Place {
        world: World { host_of, ..World::flat(ranks) },
        cluster: Cluster {
            ranks: (0..ranks).map(site).collect(),
            hosts: vec![0; hosts as usize].into(),
            names: Box::default(),
            kinds: vec![kind].into(),
            ports: (0..hosts).map(port).collect(),
            levels: Box::default(),
            pools: Box::default(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_fill_one_host_after_the_other() {
        let Place { world, cluster } = place(7, 3);
        assert_eq!(&*world.host_of, [0, 0, 0, 1, 1, 1, 2]);
        assert_eq!((world.ranks, cluster.hosts.len(), cluster.ports.len()), (7, 3, 3));
        assert_eq!(cluster.ranks[5], Site { host: 1, device: 2, port: Some(1) });
    }
}
