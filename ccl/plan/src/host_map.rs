//! Which rank is on which host.

use std::fmt::{self, Debug};
use std::ops::Deref;
use std::sync::Arc;

/// The host of each rank: a slice by rank, and the ranks of each host. Shared by whoever knows the same cluster, so that
/// it is cheap to copy.
///
/// ```
/// use dure_plan::HostMap;
///
/// let map = HostMap::from([0, 1, 0]);
/// assert_eq!((map[1], map.members(0)), (1, &[0, 2][..]));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct HostMap(Arc<Hosts>);

#[derive(PartialEq, Eq)]
struct Hosts {
    host_of: Box<[u32]>,
    members: Vec<Vec<u32>>,
    widest: u32,
}

impl HostMap {
    /// Hosts are numbered from 0 in the order in which they first appear.
    ///
    /// # Panics
    /// When a host's number is not below the number of ranks.
    fn new(host_of: Box<[u32]>) -> Self {
        let mut members: Vec<Vec<u32>> = Vec::new();
        for (rank, &host) in (0..).zip(&host_of) {
            let host = host as usize;
            assert!(host < host_of.len(), "there are no more hosts than ranks: {host}");
            if host >= members.len() {
                members.resize(host + 1, Vec::new());
            }
            members[host].push(rank);
        }
        let widest = members.iter().map(Vec::len).max().unwrap_or(1);
        let widest = u32::try_from(widest).expect("ranks are numbered by u32");
        Self(Arc::new(Hosts { host_of, members, widest }))
    }

    /// Number of hosts.
    pub fn count(&self) -> u32 {
        u32::try_from(self.0.members.len()).expect("there are no more hosts than ranks")
    }

    /// The ranks of a host, in ascending order.
    pub fn members(&self, host: u32) -> &[u32] {
        &self.0.members[host as usize]
    }

    /// Number of ranks of the largest host.
    pub fn widest(&self) -> u32 {
        self.0.widest
    }
}

impl Deref for HostMap {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.0.host_of
    }
}

impl Debug for HostMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl From<Vec<u32>> for HostMap {
    fn from(host_of: Vec<u32>) -> Self {
        Self::new(host_of.into())
    }
}

impl<const N: usize> From<[u32; N]> for HostMap {
    fn from(host_of: [u32; N]) -> Self {
        Self::new(host_of.into())
    }
}

impl FromIterator<u32> for HostMap {
    fn from_iter<I: IntoIterator<Item = u32>>(host_of: I) -> Self {
        Self::new(host_of.into_iter().collect())
    }
}
