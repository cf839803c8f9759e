//! What the cost model must know of the host that a rank runs on, and the cluster that all ranks' hosts make.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use dure_topology::Cluster;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::bootstrap::wire::{HostId, Member};

/// A rank's processors, and the wires of its host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hardware {
    /// Processors that it may run on, as a set of bits.
    pub(crate) processors: Vec<u64>,
    /// How many of them it may keep busy at once: fewer where a quota says so.
    pub(crate) cores: u16,
    /// Speed of the host's fastest network interface or of its RDMA ports together, Mb/s; 0 where nothing tells.
    pub(crate) megabits: u32,
}

/// Speeds of the host's fastest interface and of its RDMA ports, Mb/s, as they were when the first communicator was made.
static PORTS: LazyLock<(u32, u32)> = LazyLock::new(|| {
    let class = Path::new("/sys/class");
    (fastest_interface(&class.join("net")), rdma_ports(&class.join("infiniband")))
});

/// Ports of RDMA that are used at once (see dure-rdma's rails).
const RAILS: usize = 4;

impl Hardware {
    /// This process's.
    pub(crate) fn find(rdma: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let processors =
            sched_getaffinity(Pid::from_raw(0)).map_or_else(|_| Vec::new(), |set| words(&set));
        let (net, rdma_ports) = *PORTS;
        let megabits = if rdma { net.max(rdma_ports) } else { net };
        Self { processors, cores: u16::try_from(cores).unwrap_or(u16::MAX), megabits }
    }

    /// Whether a quota allows fewer processors than the rank may run on.
    fn has_quota(&self) -> bool {
        let processors: u32 = self.processors.iter().map(|word| word.count_ones()).sum();
        u32::from(self.cores) < processors
    }
}

fn words(set: &CpuSet) -> Vec<u64> {
    let mut words = Vec::new();
    for processor in
        (0..CpuSet::count()).filter(|processor| set.is_set(*processor).unwrap_or(false))
    {
        words.resize(words.len().max(processor / 64 + 1), 0);
        words[processor / 64] |= 1 << (processor % 64);
    }
    words
}

/// The speed of the fastest interface that tells one, Mb/s.
fn fastest_interface(folder: &Path) -> u32 {
    let speed = |interface: fs::DirEntry| {
        // A link that is down, or virtual, has no speed or a negative one.
        fs::read_to_string(interface.path().join("speed")).ok()?.trim().parse::<u32>().ok()
    };
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(speed).max().unwrap_or(0)
}

/// The speeds of the fastest ports together, as many as are used, Mb/s.
fn rdma_ports(folder: &Path) -> u32 {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let ports = entries(folder).flat_map(|device| entries(&device.path().join("ports")));
    let mut speeds: Vec<u32> = ports
        .filter_map(|port| {
            let rate = fs::read_to_string(port.path().join("rate")).ok()?;
            // `100 Gb/sec (4X EDR)`, `2.5 Gb/sec (1X SDR)`
            let gigabits: f64 = rate.split_whitespace().next()?.parse().ok()?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float saturates as an integer"
            )]
            Some((gigabits * 1000.0) as u32)
        })
        .collect();
    speeds.sort_unstable_by(|a, b| b.cmp(a));
    speeds.into_iter().take(RAILS).fold(0, u32::saturating_add)
}

/// How many cores the ranks of some hosts have among them.
pub(crate) fn cores<'m>(members: impl Iterator<Item = &'m Member> + Clone) -> u32 {
    let quota = members
        .clone()
        .filter(|member| member.hardware.has_quota())
        .map(|member| member.hardware.cores)
        .min();
    let mut all: Vec<u64> = Vec::new();
    for member in members {
        let words = &member.hardware.processors;
        all.resize(all.len().max(words.len()), 0);
        for (all, word) in all.iter_mut().zip(words) {
            *all |= word;
        }
    }
    let processors = all.iter().map(|word| word.count_ones()).sum::<u32>();
    quota.map_or(processors, |quota| processors.min(quota.into())).max(1)
}

/// The cluster of the members, with one ideal switch between their hosts. Namespaces of one machine share its cores.
pub(crate) fn cluster(members: &[Member], host_of: &[u32]) -> Cluster {
    let hosts = host_of.iter().max().map_or(1, |last| *last as usize + 1);
    let mut of_host: Vec<Vec<&Member>> = vec![Vec::new(); hosts];
    for (member, host) in members.iter().zip(host_of) {
        of_host[*host as usize].push(member);
    }
    let cores: Vec<u32> = of_host.iter().map(|members| cores(members.iter().copied())).collect();
    // The slowest port that is known holds up all others.
    let megabits =
        members.iter().map(|member| member.hardware.megabits).filter(|speed| *speed > 0).min();
    Cluster::of_processors(host_of, &cores, megabits.map(|speed| f64::from(speed) / 8e3))
}

/// Members whose processes share cores with those of `host`.
pub(crate) fn neighbours(
    members: &[Member],
    host: HostId,
) -> impl Iterator<Item = &Member> + Clone {
    members.iter().filter(move |member| member.host.boot == host.boot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::wire::tests::member;

    fn on(processors: &[u64], cores: u16) -> Member {
        Member {
            hardware: Hardware { processors: processors.to_vec(), cores, megabits: 0 },
            ..member(0)
        }
    }

    #[test]
    fn cores_of_bound_ranks_add_up_and_quotas_do_not() {
        let of = |members: &[Member]| cores(members.iter());
        assert_eq!(of(&[on(&[1], 1), on(&[2], 1)]), 2);
        assert_eq!(of(&[on(&[3], 2), on(&[3], 2)]), 2);
        assert_eq!(of(&[on(&[0xff], 3), on(&[0xff], 3)]), 3);
        assert_eq!(of(&[on(&[0, 1], 1), on(&[], 1)]), 1);
    }

    #[test]
    fn speeds_are_read_where_there_are_any() {
        let folder = tempfile::tempdir().unwrap();
        for (interface, speed) in
            [("lo", ""), ("down", "-1\n"), ("slow", "1000\n"), ("fast", "25000\n")]
        {
            fs::create_dir(folder.path().join(interface)).unwrap();
            fs::write(folder.path().join(interface).join("speed"), speed).unwrap();
        }
        assert_eq!(fastest_interface(folder.path()), 25_000);
        for (device, rate) in
            [("mlx5_0", "100 Gb/sec (4X EDR)"), ("mlx5_1", "2.5 Gb/sec (1X SDR)"), ("mlx5_2", "?")]
        {
            let port = folder.path().join("rdma").join(device).join("ports/1");
            fs::create_dir_all(&port).unwrap();
            fs::write(port.join("rate"), rate).unwrap();
        }
        assert_eq!(rdma_ports(&folder.path().join("rdma")), 102_500);
        assert_eq!((rdma_ports(Path::new("/none")), fastest_interface(Path::new("/none"))), (0, 0));
    }

    #[test]
    fn this_process_has_a_core() {
        let found = Hardware::find(true);
        assert!(found.cores >= 1 && !found.processors.is_empty());
    }
}
