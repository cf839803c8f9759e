//! Profiles that come with the library: what predictions rest on where nobody measured.

use std::sync::{Arc, LazyLock};

use dure_topology::Cluster;

use crate::constants::Constants;
use crate::profile::Profile;

/// What joins ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wires {
    /// Ranks of one host share memory; otherwise they talk as those of different hosts do.
    pub shared_memory: bool,
    /// Hosts talk by RDMA; otherwise by TCP.
    pub rdma: bool,
}

impl Wires {
    /// The usual constants.
    pub fn constants(self) -> Constants {
        match (self.shared_memory, self.rdma) {
            (true, true) => Constants::default(),
            (true, false) => Constants::tcp(),
            // Between the ranks of a host, too.
            (false, true) => {
                Constants { inside: Constants::default().between, ..Constants::default() }
            }
            (false, false) => Constants::wired(),
        }
    }
}

/// A profile of ranks on the processors of one host, measured by `dure perf --regret` and fitted by `dure profile fit`
/// (docs/cost-model.md has the machine, the date and the commands).
macro_rules! measured {
    ($name:literal) => {
        LazyLock::new(|| {
            let text = include_str!(concat!("../profiles/", $name, ".json"));
            Arc::new(Profile::from_json(text).expect("a test reads the library's own profiles"))
        })
    };
}

static SHARED_MEMORY: LazyLock<Arc<Profile>> = measured!("shared-memory");
static SHARED_MEMORY_CROWDED: LazyLock<Arc<Profile>> = measured!("shared-memory-crowded");
static LOOPBACK: LazyLock<Arc<Profile>> = measured!("loopback");
static LOOPBACK_CROWDED: LazyLock<Arc<Profile>> = measured!("loopback-crowded");

impl Profile {
    /// The profile for a cluster where nobody measured one. For the processors of one host it was measured, once with a
    /// core for each rank and once with fewer cores than ranks; between hosts it is the usual constants.
    pub fn usual(cluster: &Cluster, wires: Wires) -> Arc<Self> {
        let of_processors = |host: u32| {
            cluster.kind(host).reach.iter().all(|reach| matches!(reach.path, "SHM" | "LOC"))
        };
        if cluster.hosts.len() == 1 && of_processors(0) {
            let profile = match (wires.shared_memory, cluster.is_crowded()) {
                (true, false) => &SHARED_MEMORY,
                (true, true) => &SHARED_MEMORY_CROWDED,
                (false, false) => &LOOPBACK,
                (false, true) => &LOOPBACK_CROWDED,
            };
            return Arc::clone(profile);
        }
        let constants = wires.constants();
        Arc::new(Self { constants, ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_librarys_own_profiles_are_read() {
        for (ranks, cores) in [(2, 2), (8, 2)] {
            for shared_memory in [true, false] {
                let profile = Profile::usual(
                    &Cluster::local(ranks, cores),
                    Wires { shared_memory, rdma: false },
                );
                assert_ne!(profile.corrections, crate::Corrections::default());
            }
        }
    }

    #[test]
    fn between_hosts_the_usual_constants_count() {
        let cluster = Cluster::of_processors(&[0, 1], &[2, 2], None);
        let profile =
            |shared_memory, rdma| Profile::usual(&cluster, Wires { shared_memory, rdma }).constants;
        assert_eq!(profile(true, true), Constants::default());
        assert_eq!(profile(true, false), Constants::tcp());
        assert_eq!(profile(false, false), Constants::wired());
        assert_eq!(profile(false, true).inside, Constants::default().between);
    }
}
