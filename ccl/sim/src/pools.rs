//! Pools of memory that hosts share: which devices two hosts have in common, and where the bytes of a message lie.
//!
//! A message through pools is written by its sender and read by its receiver. It lies in granules, one device after the
//! other; each lane of each rank begins on another device, and goes on where its message before ended. What is sent to
//! several ranks one after the other is written once, and each of them reads it.

use dure_topology::{Cluster, Pool, Source};

use crate::constants::{Adapter, Wire};
use crate::error::Error;
use crate::network::{Route, Stage, count, per_byte};

/// The devices, and who reaches them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pools {
    devices: Box<[Device]>,
    /// Per host, the devices that it reaches and others do too, in ascending order.
    of_host: Box<[Box<[u32]>]>,
    /// Link of the first device. Behind the last one are the adapters of all hosts: writing and reading of each in turn.
    first: u32,
    /// Every host can write to every other one.
    join_all: bool,
}

#[derive(Clone, Copy, Debug)]
struct Device {
    /// Seconds a byte, of all who read and write together.
    per_byte: f64,
    /// Seconds.
    latency: f64,
}

/// How the bytes of a message lie on devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stripes {
    /// Number of devices that both ends reach, at least 1.
    pub devices: u32,
    /// Bytes on one of them before the next one follows, at least 1.
    pub granule: u64,
}

impl Stripes {
    /// Of the stages of a way, as many belong to the writing of the message: the sender's adapter and the devices.
    pub(crate) fn writes(self) -> u32 {
        1 + self.devices
    }

    /// How many bytes of a message that begins on device `begin` lie on device `at`.
    pub(crate) fn share(self, bytes: u64, (begin, at): (u32, u32)) -> u64 {
        let place = u64::from((at + self.devices - begin) % self.devices);
        let round = self.granule.saturating_mul(self.devices.into());
        let rest = (bytes % round).saturating_sub(place.saturating_mul(self.granule));
        bytes / round * self.granule + rest.min(self.granule)
    }

    /// Granules of a message, or as many less as is a multiple of 2^32.
    #[expect(clippy::cast_possible_truncation, reason = "only remainders count")]
    pub(crate) fn granules(self, bytes: u64) -> u32 {
        bytes.div_ceil(self.granule) as u32
    }

    /// The most that lies on one device.
    pub(crate) fn most(self, bytes: u64) -> u64 {
        self.share(bytes, (0, 0))
    }
}

impl Pools {
    /// The pools of a cluster that `check` has nothing against, with their links from `first` on.
    pub(crate) fn of(cluster: &Cluster, first: u32) -> Self {
        let mut of_host = vec![Vec::new(); cluster.hosts.len()];
        let joins = |pool: &Pool| pool.hosts.iter().any(|host| *host != pool.hosts[0]);
        for (device, pool) in (0..).zip(&cluster.pools).filter(|(_, pool)| joins(pool)) {
            for host in &pool.hosts {
                let known: &mut Vec<u32> = &mut of_host[*host as usize];
                if known.last() != Some(&device) {
                    known.push(device);
                }
            }
        }
        let device = |pool: &Pool| Device {
            per_byte: per_byte(pool.gb_per_s),
            latency: pool.latency_ns * 1e-9,
        };
        let by_all = |device: u32| of_host.iter().all(|known| known.binary_search(&device).is_ok());
        Self {
            devices: cluster.pools.iter().map(device).collect(),
            join_all: (0..count(cluster.pools.len())).any(by_all),
            of_host: of_host.into_iter().map(Into::into).collect(),
            first,
        }
    }

    /// Whether all numbers and figures of a cluster's pools make sense.
    pub(crate) fn check(cluster: &Cluster) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Cluster(what));
        for pool in &cluster.pools {
            if let Some(host) =
                pool.hosts.iter().find(|host| **host as usize >= cluster.hosts.len())
            {
                let hosts = cluster.hosts.len();
                return wrong(format!("{} is reached by host {host} of {hosts}", pool.name));
            }
            if pool.gb_per_s.is_nan() || pool.gb_per_s <= 0.0 {
                let name = &pool.name;
                return wrong(format!("{name} has a bandwidth that is none (allowed: above 0)"));
            }
        }
        Ok(())
    }

    /// Number of links of the pools of a cluster.
    pub(crate) fn links_of(cluster: &Cluster) -> usize {
        if cluster.pools.is_empty() { 0 } else { cluster.pools.len() + 2 * cluster.hosts.len() }
    }

    /// Whether no pool joins any hosts.
    pub(crate) fn is_empty(&self) -> bool {
        self.of_host.iter().all(|devices| devices.is_empty())
    }

    /// Whether all messages between hosts go through pools.
    pub(crate) fn join_all(&self) -> bool {
        self.join_all
    }

    /// Whether a host reaches any that others do too.
    pub(crate) fn has(&self, host: u32) -> bool {
        !self.of_host[host as usize].is_empty()
    }

    /// The shortest latency to any device, seconds.
    pub(crate) fn least_latency(&self) -> f64 {
        self.devices.iter().map(|device| device.latency).fold(f64::INFINITY, f64::min)
    }

    /// The devices that both hosts reach.
    fn common(&self, a: u32, b: u32) -> impl Iterator<Item = u32> {
        let theirs = &self.of_host[b as usize];
        let mine = self.of_host[a as usize].iter().copied();
        mine.filter(|device| theirs.binary_search(device).is_ok())
    }

    /// The way of a message from a host to another, by the wire of pools; none where they have no device in common.
    pub(crate) fn route(
        &self,
        (from, to): (u32, u32),
        mut wire: Wire,
        adapter: &Adapter,
    ) -> Option<Route> {
        let devices: Vec<u32> = self.common(from, to).collect();
        if devices.is_empty() {
            return None;
        }
        let device = |at: &u32| Stage {
            link: self.first + at,
            per_byte: self.devices[*at as usize].per_byte,
        };
        let adapters = self.first + count(self.devices.len());
        let write = Stage { link: adapters + 2 * from, per_byte: adapter.write_per_byte };
        let read = Stage { link: adapters + 2 * to + 1, per_byte: adapter.read_per_byte };
        let twice = devices.iter().chain(&devices).map(device);
        let stages = std::iter::once(write).chain(twice).chain([read]).collect();
        if wire.source == Source::Default {
            let latencies = devices.iter().map(|device| self.devices[*device as usize].latency);
            wire.latency = latencies.fold(0.0, f64::max);
        }
        let stripes = Stripes { devices: count(devices.len()), granule: adapter.granule.max(1) };
        Some(Route { wire, between: true, stages, leaves_by_port: false, stripes: Some(stripes) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn granules_go_round_the_devices() {
        let stripes = Stripes { devices: 3, granule: 10 };
        let shares = |bytes, begin| [0, 1, 2].map(|at| stripes.share(bytes, (begin, at)));
        assert_eq!(shares(7, 0), [7, 0, 0]);
        assert_eq!(shares(25, 1), [5, 10, 10]);
        assert_eq!(shares(75, 2), [25, 20, 30]);
        assert_eq!([7, 25, 75].map(|bytes| stripes.most(bytes)), [7, 10, 30]);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost(devices in 1_u32..9, granule in 1_u64..99, bytes in 0_u64..9999) {
            let stripes = Stripes { devices, granule };
            let begin = devices / 2;
            let all: u64 = (0..devices).map(|at| stripes.share(bytes, (begin, at))).sum();
            prop_assert_eq!(all, bytes);
        }
    }
}
