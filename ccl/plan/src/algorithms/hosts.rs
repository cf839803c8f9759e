//! Who is on which host.

use crate::algorithm::World;

/// The hosts of a world, as one rank sees them.
#[derive(Debug)]
pub(super) struct Hosts {
    /// The ranks of each host.
    members: Vec<Vec<u32>>,
    /// This rank's host.
    pub(super) mine: u32,
    /// This rank's number on its host.
    pub(super) local: u32,
}

impl Hosts {
    pub(super) fn new(world: &World, me: u32) -> Self {
        let mut hosts = Self { members: Vec::new(), mine: 0, local: 0 };
        for (rank, &host) in (0..world.ranks).zip(&world.host_of) {
            if host as usize >= hosts.members.len() {
                hosts.members.resize(host as usize + 1, Vec::new());
            }
            let members = &mut hosts.members[host as usize];
            if rank == me {
                hosts.mine = host;
                hosts.local = u32::try_from(members.len()).expect("ranks are numbered by u32");
            }
            members.push(rank);
        }
        hosts
    }

    /// Number of hosts.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.members.len()).expect("there are no more hosts than ranks")
    }

    /// The ranks of a host.
    pub(super) fn on(&self, host: u32) -> &[u32] {
        &self.members[host as usize]
    }

    /// Number of ranks of a host.
    pub(super) fn size(&self, host: u32) -> u32 {
        u32::try_from(self.on(host).len()).expect("ranks are numbered by u32")
    }

    /// Number of ranks of this rank's host.
    pub(super) fn my_size(&self) -> u32 {
        self.size(self.mine)
    }

    /// Number of ranks of the largest host.
    pub(super) fn widest(&self) -> u32 {
        (0..self.count()).map(|host| self.size(host)).max().unwrap_or(1)
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
