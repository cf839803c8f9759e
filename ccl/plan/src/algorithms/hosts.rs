//! Who is on which host.

use crate::algorithm::World;
use crate::host_map::HostMap;

/// The hosts of a world, as one rank sees them.
#[derive(Debug)]
pub(super) struct Hosts {
    map: HostMap,
    /// This rank's host.
    pub(super) mine: u32,
    /// This rank's number on its host.
    pub(super) local: u32,
}

impl Hosts {
    pub(super) fn new(world: &World, me: u32) -> Self {
        let map = world.host_of.clone();
        let mine = map[me as usize];
        let local = map.members(mine).binary_search(&me).expect("a rank is on its host");
        let local = u32::try_from(local).expect("ranks are numbered by u32");
        Self { map, mine, local }
    }

    /// Number of hosts.
    pub(super) fn count(&self) -> u32 {
        self.map.count()
    }

    /// The ranks of a host.
    pub(super) fn on(&self, host: u32) -> &[u32] {
        self.map.members(host)
    }

    /// Number of ranks of a host.
    pub(super) fn size(&self, host: u32) -> u32 {
        u32::try_from(self.on(host).len()).expect("ranks are numbered by u32")
    }

    /// Number of ranks of this rank's host.
    pub(super) fn my_size(&self) -> u32 {
        self.size(self.mine)
    }

    /// The rank that is number `index` on a host, counted modulo its size.
    pub(super) fn rank(&self, host: u32, index: u32) -> u32 {
        self.on(host)[(index % self.size(host)) as usize]
    }

    /// The rank that is number `index` on this rank's host, counted modulo its size.
    pub(super) fn neighbour(&self, index: u32) -> u32 {
        self.rank(self.mine, index)
    }

    /// The other hosts: for each distance the one that far on and the one that far back.
    pub(super) fn others(&self) -> impl Iterator<Item = (u32, u32)> {
        let (mine, count) = (self.mine, self.count());
        (1..count).map(move |s| ((mine + s) % count, (mine + count - s) % count))
    }

    /// The local numbers of the other ranks of this host: for each distance the one that far on and the one that far
    /// back.
    ///
    /// An exchange among them in which every rank sends to all of them before it receives from any needs one slot.
    pub(super) fn locals(&self) -> impl Iterator<Item = (u32, u32)> {
        let (local, size) = (self.local, self.my_size());
        (1..size).map(move |s| ((local + s) % size, (local + size - s) % size))
    }
}
