//! What the communicator takes of memory: `--memory`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dure::{Communicator, ErrorKind, Footprint};
use serde::{Deserialize, Serialize};

use super::latency;

/// One rank's part of the communicator, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Rank {
    rank: u32,
    /// All of it, but for what the process shares.
    total: u64,
    scratch: u64,
    allocated: u64,
    plans: u64,
    records: u64,
    ranks: u64,
    peers: Vec<Peer>,
    /// What all communicators of the process share.
    process: Process,
}

/// What one connected peer takes of a rank's memory, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Peer {
    rank: u32,
    transport: String,
    slots: u64,
    /// Addresses that the slots take.
    reserved: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Process {
    segment: u64,
    reserved: u64,
    neighbours: usize,
    neighbours_reserved: u64,
}

/// Of all ranks, as rank 0 knows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Memory {
    /// A rank's part.
    communicator: Spread,
    /// A rank's slots for one peer, by transport.
    connected_peer: BTreeMap<String, Spread>,
    ranks: Vec<Rank>,
}

/// Bytes of several, in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Spread {
    count: u64,
    max: u64,
    sum: u64,
}

impl Spread {
    fn of(bytes: impl Iterator<Item = u64>) -> Self {
        bytes.fold(Self::default(), |Self { count, max, sum }, bytes| Self {
            count: count + 1,
            max: max.max(bytes),
            sum: sum + bytes,
        })
    }
}

impl Rank {
    fn new(rank: u32, footprint: &Footprint) -> Self {
        let Footprint { scratch, allocated, plans, records, ranks, process, .. } = *footprint;
        let peers = footprint.peers.iter().map(|peer| Peer {
            rank: peer.rank,
            transport: peer.transport.to_owned(),
            slots: peer.slots,
            reserved: peer.reserved,
        });
        Self {
            rank,
            total: footprint.total(),
            scratch,
            allocated,
            plans,
            records,
            ranks,
            peers: peers.collect(),
            process: Process {
                segment: process.segment,
                reserved: process.reserved,
                neighbours: process.neighbours,
                neighbours_reserved: process.neighbours_reserved,
            },
        }
    }

    fn slots(&self) -> u64 {
        self.peers.iter().map(|peer| peer.slots).sum()
    }
}

/// Looks on all ranks, and brings it to rank 0. Collective.
pub(crate) fn take(comm: &Communicator) -> dure::Result<Option<Memory>> {
    let mine = Rank::new(comm.rank(), &comm.memory());
    let bytes = serde_json::to_vec(&mine).expect("numbers and names are JSON");
    let Some(all) = latency::bring(comm, bytes)? else { return Ok(None) };
    let decode = |bytes: &Vec<u8>| {
        serde_json::from_slice(bytes).map_err(|error| {
            dure::Error::new(
                ErrorKind::Internal,
                format!("what a rank says of its memory: {error}"),
            )
        })
    };
    Ok(Some(Memory::of(all.iter().map(decode).collect::<dure::Result<_>>()?)))
}

impl Memory {
    fn of(ranks: Vec<Rank>) -> Self {
        let mut connected_peer = BTreeMap::new();
        for peer in ranks.iter().flat_map(|rank| &rank.peers) {
            connected_peer.entry(peer.transport.clone()).or_insert_with(Vec::new).push(peer.slots);
        }
        let spread = |(name, slots): (String, Vec<u64>)| (name, Spread::of(slots.into_iter()));
        Self {
            communicator: Spread::of(ranks.iter().map(|rank| rank.total)),
            connected_peer: connected_peer.into_iter().map(spread).collect(),
            ranks,
        }
    }

    /// The lines after the table.
    pub(crate) fn lines(&self) -> String {
        let mut text = format!(
            "#\n# {:<42}  {:>6}  {:>12}  {:>12}\n",
            "Memory in bytes", "count", "largest", "sum"
        );
        let mut line = |what: &str, Spread { count, max, sum }| {
            let _ = writeln!(text, "# {what:<42}  {count:>6}  {max:>12}  {sum:>12}");
        };
        let each = |bytes: fn(&Rank) -> u64| Spread::of(self.ranks.iter().map(bytes));
        line("A rank's part of the communicator", self.communicator);
        line("  slots for messages of its peers", each(Rank::slots));
        line("  scratch", each(|rank| rank.scratch));
        line("  allocated for the user", each(|rank| rank.allocated));
        line("  plans, and calls made before", each(|rank| rank.plans));
        line("  flight record", each(|rank| rank.records));
        line("  names and addresses of ranks", each(|rank| rank.ranks));
        for (transport, spread) in &self.connected_peer {
            line(&format!("A connected peer, by {transport}"), *spread);
        }
        line("A process's segment, all communicators", each(|rank| rank.process.segment));
        line("  its addresses, at no cost", each(|rank| rank.process.reserved));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(rank: u32, slots: &[u64]) -> Rank {
        let peer = |(of, slots): (u32, &u64)| Peer {
            rank: of,
            transport: if of == 0 { "pool" } else { "tcp" }.to_owned(),
            slots: *slots,
            reserved: 1 << 20,
        };
        let process =
            Process { segment: 99_999, reserved: 1 << 36, neighbours: 1, neighbours_reserved: 0 };
        Rank {
            rank,
            total: 100 + slots.iter().sum::<u64>(),
            scratch: 0,
            allocated: 0,
            plans: 60,
            records: 30,
            ranks: 10,
            peers: (0..).zip(slots).map(peer).collect(),
            process,
        }
    }

    #[test]
    fn ranks_and_peers_are_summed_up() {
        let memory = Memory::of(vec![rank(0, &[8192, 4096]), rank(1, &[4096])]);
        assert_eq!(memory.communicator, Spread { count: 2, max: 12_388, sum: 16_584 });
        assert_eq!(memory.connected_peer["pool"], Spread { count: 2, max: 8192, sum: 12_288 });
        assert_eq!(memory.connected_peer["tcp"], Spread { count: 1, max: 4096, sum: 4096 });
        let lines = memory.lines();
        assert!(lines.lines().all(|line| line.starts_with('#')), "{lines}");
        let peer = lines.lines().find(|line| line.contains("by tcp")).unwrap();
        assert!(peer.split_whitespace().eq("# A connected peer, by tcp 1 4096 4096".split(' ')));
    }

    #[test]
    fn what_a_rank_says_survives_the_wire() {
        let said = rank(3, &[1, 2, 3]);
        let bytes = serde_json::to_vec(&said).unwrap();
        assert_eq!(serde_json::from_slice::<Rank>(&bytes).unwrap(), said);
    }
}
