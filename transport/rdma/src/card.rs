//! What travels between ranks: the address of a rank, the offer for one pair of ranks, and the key of a region. Numbers
//! are little-endian.

use dure_transport::{Card, Error, Signal};

use crate::NAME;
use crate::gid::{Gid, Kind, choose, is_near};
use crate::neighbour::Neighbour;
use crate::nic::Nic;

/// Most ports of a rank: what its address and its keys can hold.
pub(crate) const PORTS: usize = 4;
/// Most GIDs of a port that travel.
const GIDS: usize = 4;
/// Longest name of a device that travels; a longer one is cut.
const NAME_LEN: usize = 15;

const ADDRESS_TAG: [u8; 4] = *b"rdm1";
const OFFER_TAG: [u8; 4] = *b"rdo1";
const STATEMENT_TAG: [u8; 4] = *b"rds1";
const KEY_TAG: [u8; 4] = *b"rdk1";

/// What a peer needs to know of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortCard {
    pub(crate) device: String,
    pub(crate) number: u8,
    /// Bytes of the largest packet.
    pub(crate) mtu: u32,
    /// Mb/s.
    pub(crate) speed: u32,
    /// 0 on Ethernet.
    pub(crate) lid: u16,
    pub(crate) gids: Vec<Gid>,
}

/// The address of a rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) ports: Vec<PortCard>,
    /// Where the side channel finds the rank.
    pub(crate) side: Card,
}

/// Reads a card from its start.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn short(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn word(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn long(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn bytes(&mut self, len: usize) -> Option<Box<[u8]>> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken.into())
    }
}

fn bad() -> Error {
    Error::BadCard { transport: NAME }
}

/// A card of a kind that is read by `read` to its last byte.
fn whole<T>(
    card: &[u8],
    tag: [u8; 4],
    read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
) -> Result<T, Error> {
    let mut reader = Reader(card);
    if reader.take() != Some(tag) {
        return Err(bad());
    }
    let value = read(&mut reader).ok_or_else(bad)?;
    if reader.0.is_empty() { Ok(value) } else { Err(bad()) }
}

fn byte(count: usize) -> u8 {
    u8::try_from(count).expect("lists in cards are short")
}

/// Ports with their GIDs, for messages.
pub(crate) fn list(ports: &[PortCard]) -> String {
    let port = |port: &PortCard| {
        let gids: Vec<_> = port.gids.iter().map(ToString::to_string).collect();
        format!("{} port {} [{}]", port.device, port.number, gids.join(", "))
    };
    ports.iter().map(port).collect::<Vec<_>>().join(", ")
}

impl PortCard {
    fn write(&self, to: &mut Vec<u8>) {
        let name = &self.device.as_bytes()[..self.device.len().min(NAME_LEN)];
        to.push(byte(name.len()));
        to.extend(name);
        to.push(self.number);
        to.extend(self.mtu.to_le_bytes());
        to.extend(self.speed.to_le_bytes());
        to.extend(self.lid.to_le_bytes());
        let gids = &self.gids[..self.gids.len().min(GIDS)];
        to.push(byte(gids.len()));
        for gid in gids {
            to.extend([gid.kind.number(), gid.prefix]);
            to.extend(gid.bytes);
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let len = usize::from(from.byte()?);
        let device = String::from_utf8_lossy(&from.bytes(len)?).into_owned();
        let (number, mtu, speed, lid) = (from.byte()?, from.word()?, from.word()?, from.short()?);
        let gid = |from: &mut Reader<'_>| {
            let (kind, prefix) = (Kind::from_number(from.byte()?)?, from.byte()?);
            Some(Gid { kind, prefix, bytes: from.take()? })
        };
        let count = from.byte()?;
        let gids = (0..count).map(|_| gid(from)).collect::<Option<_>>()?;
        let sound = [256, 512, 1024, 2048, 4096].contains(&mtu);
        sound.then_some(Self { device, number, mtu, speed, lid, gids })
    }
}

impl Address {
    pub(crate) fn encode(&self) -> Card {
        let mut bytes = ADDRESS_TAG.to_vec();
        bytes.push(byte(self.ports.len()));
        self.ports.iter().for_each(|port| port.write(&mut bytes));
        bytes.extend(&self.side.0);
        Card(bytes.into())
    }

    pub(crate) fn decode(card: &Card) -> Result<Self, Error> {
        whole(&card.0, ADDRESS_TAG, |from| {
            let count = from.byte()?;
            let ports = (0..count).map(|_| PortCard::read(from)).collect::<Option<_>>()?;
            let side = from.bytes(from.0.len())?;
            Some(Self { ports, side: Card(side) })
        })
    }
}

/// A way between a port here and a port of the peer, each by its place in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rail {
    pub(crate) here: usize,
    pub(crate) there: usize,
    /// Places of the GIDs.
    pub(crate) gids: (usize, usize),
    /// Mb/s of the slower end.
    pub(crate) speed: u32,
    /// Bytes: the smaller of both ends' MTUs.
    pub(crate) mtu: u32,
}

impl Rail {
    /// Has the kernel ask for the next host on the way.
    pub(crate) fn neighbour(&self, nics: &[Nic], there: &[PortCard]) -> Neighbour {
        let (a, b) = self.gids;
        Neighbour::new(&nics[self.here].card.gids[a], &there[self.there].gids[b])
    }
}

/// The rails between two ranks, the best first: each port in at most one of them. Both ends find the same rails in the
/// same order. Ports that are in one subnet make rails; when none are, the first pair that is of one kind does.
pub(crate) fn rails(here: &[PortCard], there: &[PortCard], lower: bool) -> Vec<Rail> {
    let mut found = Vec::new();
    for (i, ours) in here.iter().enumerate() {
        for (j, theirs) in there.iter().enumerate() {
            let Some((a, b, rank)) = choose(&ours.gids, &theirs.gids) else { continue };
            let rail = Rail {
                here: i,
                there: j,
                gids: (a, b),
                speed: ours.speed.min(theirs.speed).max(1),
                mtu: ours.mtu.min(theirs.mtu),
            };
            found.push((rank, rail));
        }
    }
    // Ports of equal place first, as the rails of a cluster are wired; then as the lower rank lists them.
    let key = |(rank, rail): &(u8, Rail)| {
        let places = if lower { (rail.here, rail.there) } else { (rail.there, rail.here) };
        (std::cmp::Reverse(*rank), rail.here.abs_diff(rail.there), places)
    };
    found.sort_by_key(key);
    let mut rails: Vec<Rail> = Vec::new();
    for (rank, rail) in found {
        let free = rails.iter().all(|r| r.here != rail.here && r.there != rail.there);
        if free && (rails.is_empty() || is_near(rank)) {
            rails.push(rail);
        }
    }
    rails
}

/// Number and first packet number of a queue pair; 0 for one that could not be made.
pub(crate) type QueueNumbers = (u32, u32);

fn write_queues(queues: &[QueueNumbers], to: &mut Vec<u8>) {
    for (number, packet) in queues {
        to.extend(&number.to_le_bytes()[..3]);
        to.extend(&packet.to_le_bytes()[..3]);
    }
}

/// Reads queue pairs to the end of a card.
fn read_queues(from: &mut Reader<'_>) -> Option<Vec<QueueNumbers>> {
    let number = |[a, b, c]: [u8; 3]| u32::from_le_bytes([a, b, c, 0]);
    let mut queues = Vec::new();
    while !from.0.is_empty() {
        queues.push((number(from.take()?), number(from.take()?)));
    }
    Some(queues)
}

/// Counters of the side channel by which a peer says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notes {
    /// Its greeting is there.
    pub(crate) greeted: Signal,
    /// It gave the connection up; the reason is there.
    pub(crate) given_up: Signal,
    /// It was written to where that may not be.
    pub(crate) blamed: Signal,
    /// Another of its statements is there.
    pub(crate) stated: Signal,
    /// It can receive over what both have stated last.
    pub(crate) ready: Signal,
}

/// What one side of a pair tells the other when it connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Key of the side channel's region that is the mailbox.
    pub(crate) mailbox: Card,
    pub(crate) notes: Notes,
    /// Flow by flow, in each rail by rail.
    pub(crate) queues: Vec<QueueNumbers>,
}

impl Offer {
    pub(crate) fn encode(&self) -> Card {
        let mut bytes = OFFER_TAG.to_vec();
        bytes.push(byte(self.mailbox.0.len()));
        bytes.extend(&self.mailbox.0);
        let Notes { greeted, given_up, blamed, stated, ready } = self.notes;
        for signal in [greeted, given_up, blamed, stated, ready] {
            bytes.extend(signal.0.to_le_bytes());
        }
        write_queues(&self.queues, &mut bytes);
        Card(bytes.into())
    }

    pub(crate) fn decode(card: &Card) -> Result<Self, Error> {
        whole(&card.0, OFFER_TAG, |from| {
            let len = usize::from(from.byte()?);
            let mailbox = Card(from.bytes(len)?);
            let mut signal = || from.word().map(Signal);
            let notes = Notes {
                greeted: signal()?,
                given_up: signal()?,
                blamed: signal()?,
                stated: signal()?,
                ready: signal()?,
            };
            Some(Self { mailbox, notes, queues: read_queues(from)? })
        })
    }
}

/// What one side of a pair tells the other when rails have failed or are back: from where to go on, and over what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// Rails over which it would send, as bits.
    pub(crate) usable: u8,
    /// Rails whose port it has, as bits: those that are not usable are tried now and then.
    pub(crate) present: u8,
    /// Of each flow, messages that have counted since the last change.
    pub(crate) counted: Vec<u64>,
    /// Why, at most [`WHY`] bytes.
    pub(crate) why: String,
    /// New ones; flow by flow, in each rail by rail.
    pub(crate) queues: Vec<QueueNumbers>,
}

/// Longest reason that travels, in bytes.
pub(crate) const WHY: usize = 600;

/// The first bytes of a text, at most so many.
pub(crate) fn clipped(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

impl Statement {
    /// Longest statement, in bytes: of 64 flows, and of as many queue pairs as an offer holds.
    pub(crate) const MAX: usize = 9 + 64 * 8 + WHY + QUEUES * 6;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = STATEMENT_TAG.to_vec();
        bytes.extend([self.usable, self.present, byte(self.counted.len())]);
        self.counted.iter().for_each(|count| bytes.extend(count.to_le_bytes()));
        let why = clipped(&self.why, WHY);
        bytes.extend(u16::try_from(why.len()).expect("it was clipped").to_le_bytes());
        bytes.extend(why.as_bytes());
        write_queues(&self.queues, &mut bytes);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        whole(bytes, STATEMENT_TAG, |from| {
            let (usable, present, flows) = (from.byte()?, from.byte()?, from.byte()?);
            let counted = (0..flows).map(|_| from.long()).collect::<Option<_>>()?;
            let len = usize::from(from.short()?);
            let why = String::from_utf8_lossy(&from.bytes(len)?).into_owned();
            Some(Self { usable, present, counted, why, queues: read_queues(from)? })
        })
    }
}

/// Most queue pairs of one offer.
pub(crate) const QUEUES: usize = (Card::MAX - 300) / 6;

/// The key of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Address of the first byte, as the devices know it.
    pub(crate) address: u64,
    pub(crate) len: u64,
    /// The key of each port's device.
    pub(crate) rkeys: Vec<u32>,
    /// Its key on the side channel; empty where it has none.
    pub(crate) side: Card,
}

impl Key {
    pub(crate) fn encode(&self) -> Card {
        let mut bytes = KEY_TAG.to_vec();
        bytes.extend(self.address.to_le_bytes());
        bytes.extend(self.len.to_le_bytes());
        bytes.push(byte(self.rkeys.len()));
        self.rkeys.iter().for_each(|rkey| bytes.extend(rkey.to_le_bytes()));
        bytes.extend(&self.side.0);
        Card(bytes.into())
    }

    /// Reads a key of a peer with so many ports.
    pub(crate) fn decode(card: &Card, ports: usize) -> Result<Self, Error> {
        let key = whole(&card.0, KEY_TAG, |from| {
            let (address, len) = (from.long()?, from.long()?);
            address.checked_add(len)?;
            let count = from.byte()?;
            let rkeys = (0..count).map(|_| from.word()).collect::<Option<_>>()?;
            Some(Self { address, len, rkeys, side: Card(from.bytes(from.0.len())?) })
        })?;
        if key.rkeys.len() == ports { Ok(key) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn port(device: &str, net: u8, host: u8) -> PortCard {
        let gid = |bytes: [u8; 16], prefix| Gid { kind: Kind::RoceV2, bytes, prefix };
        let v4 = std::net::Ipv4Addr::new(10, net, 0, host).to_ipv6_mapped().octets();
        let mtu = if host == 1 { 4096 } else { 1024 };
        let speed = u32::from(host) * 100_000;
        PortCard {
            device: device.to_owned(),
            number: 1,
            mtu,
            speed,
            lid: 0,
            gids: vec![gid(v4, 24)],
        }
    }

    #[test]
    fn cards_are_read_as_they_were_written() {
        let ports = (0..4).map(|net| PortCard {
            gids: vec![port("x", net, 1).gids[0]; 4],
            ..port("mlx5_bond_0", net, 1)
        });
        let address = Address { ports: ports.collect(), side: Card(vec![9; 160].into()) };
        assert!(address.encode().0.len() < 600);
        assert_eq!(Address::decode(&address.encode()).unwrap(), address);
        let notes = Notes {
            greeted: Signal(1),
            given_up: Signal(2),
            blamed: Signal(3),
            stated: Signal(4),
            ready: Signal(5),
        };
        let offer = Offer {
            mailbox: Card(vec![3; 12].into()),
            notes,
            queues: vec![(0x00ff_eedd, 0x0012_3456); QUEUES],
        };
        assert!(offer.encode().0.len() <= Card::MAX);
        assert_eq!(Offer::decode(&offer.encode()).unwrap(), offer);
        let statement = Statement {
            usable: 2,
            present: 3,
            counted: vec![u64::MAX; 64],
            why: "ü".repeat(WHY),
            queues: offer.queues,
        };
        assert!(statement.encode().len() <= Statement::MAX);
        let read = Statement::decode(&statement.encode()).unwrap();
        assert_eq!(read, Statement { why: "ü".repeat(WHY / 2), ..statement });
        let side = Card(vec![8; 12].into());
        let key = Key { address: 1 << 40, len: 77, rkeys: vec![1, 2, 3], side };
        assert_eq!(Key::decode(&key.encode(), 3).unwrap(), key);
        assert!(Key::decode(&key.encode(), 2).is_err());
        let wraps = Key { address: u64::MAX, ..key };
        assert!(Key::decode(&wraps.encode(), 3).is_err());
    }

    #[test]
    fn rails_join_ports_of_one_subnet() {
        let here = [port("a0", 1, 1), port("a1", 2, 1)];
        let there = [port("b0", 2, 2), port("b1", 1, 2)];
        let found = rails(&here, &there, true);
        let ends: Vec<_> = found.iter().map(|rail| (rail.here, rail.there)).collect();
        assert_eq!(ends, [(0, 1), (1, 0)]);
        assert_eq!((found[0].mtu, found[0].speed), (1024, 100_000));
        let back = rails(&there, &here, false);
        assert_eq!(back.iter().map(|rail| (rail.there, rail.here)).collect::<Vec<_>>(), ends);
        // Across subnets one rail at most: more might be one wire.
        assert_eq!(rails(&here, &[port("c0", 7, 2), port("c1", 8, 2)], true).len(), 1);
        assert!(rails(&here, &[], true).is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_card_or_refused(bytes: Vec<u8>, tag in 0..4) {
            let tag = [ADDRESS_TAG, OFFER_TAG, KEY_TAG, *b"none"][usize::try_from(tag).unwrap()];
            let card = Card([&tag[..], &bytes].concat().into());
            if let Ok(offer) = Offer::decode(&card) {
                prop_assert_eq!(offer.encode(), card.clone());
            }
            if let Ok(key) = Key::decode(&card, 2) {
                prop_assert_eq!(key.encode(), card.clone());
            }
            let _ = (Address::decode(&card), Statement::decode(&card.0));
        }

        #[test]
        fn both_ends_find_the_same_rails(
            here in prop::collection::vec((0_u8..3, 1_u8..4), 0..4),
            there in prop::collection::vec((0_u8..3, 4_u8..7), 0..4),
        ) {
            let make = |list: &[(u8, u8)]| list.iter().map(|(n, h)| port("d", *n, *h)).collect::<Vec<_>>();
            let (here, there) = (make(&here), make(&there));
            let forth: Vec<_> = rails(&here, &there, true).iter().map(|r| (r.here, r.there, r.mtu)).collect();
            let back: Vec<_> = rails(&there, &here, false).iter().map(|r| (r.there, r.here, r.mtu)).collect();
            prop_assert_eq!(forth, back);
        }
    }
}
