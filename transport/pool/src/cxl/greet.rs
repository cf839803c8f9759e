//! How two ranks meet through the pool, and learn that the other has left.
//!
//! Each communicator has a table in the heap of its member, which it alone writes and its peers read:
//!
//! ```text
//!   0     state: the communicator's nonce while it is open, then 0
//!   128   entry of rank 0:    0  the reader's nonce, once the greeting is there
//!                           128  1 when the reader is lost to this side
//!                           256  length of the greeting, the greeting
//!   ...   entry of rank 1
//! ```
//!
//! The table's place and nonce are in the communicator's address, which travels by the bootstrap.

use dure_transport::{Card, Error, Peer, Result};

use super::NAME;
use super::layout::Layout;
use super::seat::{NOBODY, Seat};
use super::view::View;
use crate::map::PAGE;

/// Bytes of a flag: two cache lines.
const FLAG: u64 = 128;
const AT_LOST: u64 = FLAG;
const AT_HELLO: u64 = 2 * FLAG;
/// Bytes of an entry.
const ENTRY: u64 = (AT_HELLO + 8 + Card::MAX as u64).next_multiple_of(FLAG);

/// Bytes of a table for so many ranks: whole pages.
pub(super) fn table_len(ranks: u32) -> u64 {
    (FLAG + u64::from(ranks) * ENTRY).next_multiple_of(PAGE)
}

/// What peers must know of a communicator. Numbers are little-endian; 56 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The pool.
    pub(super) pool: u64,
    pub(super) partition: u32,
    pub(super) member: u32,
    /// How many devices the pool has, for whoever predicts times.
    pub(super) devices: u64,
    /// What the member's claim holds.
    pub(super) claim: u64,
    /// Where the table is in a view, and how many ranks it has.
    pub(super) table: u64,
    pub(super) ranks: u64,
    /// The communicator's, not 0.
    pub(super) nonce: u64,
}

impl Address {
    pub(super) fn card(&self) -> Card {
        let Self { pool, partition, member, devices, claim, table, ranks, nonce } = *self;
        let seat = u64::from(partition) | u64::from(member) << 32;
        let words = [pool, seat, devices, claim, table, ranks, nonce];
        Card(words.map(u64::to_le_bytes).concat().into())
    }

    pub(super) fn parse(card: &Card) -> Result<Self> {
        let (words, rest) = card.0.as_chunks::<8>();
        let (&[pool, seat, devices, claim, table, ranks, nonce], []) = (words, rest) else {
            return Err(Error::BadCard { transport: NAME });
        };
        let [pool, seat, devices, claim, table, ranks, nonce] =
            [pool, seat, devices, claim, table, ranks, nonce].map(u64::from_le_bytes);
        #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
        let (partition, member) = (seat as u32, (seat >> 32) as u32);
        Ok(Self { pool, partition, member, devices, claim, table, ranks, nonce })
    }

    /// Refuses an address that is of another pool, or whose table is not in its member's area.
    fn check(&self, layout: &Layout, partition: u32) -> Result<()> {
        let area = layout.area(self.member.min(layout.shape.members));
        let ranks = u32::try_from(self.ranks).unwrap_or(u32::MAX);
        let end = self.table.checked_add(table_len(ranks));
        let is_ours = self.pool == layout.shape.id
            && self.partition == partition
            && self.member < layout.shape.members
            && self.nonce != NOBODY
            && self.table.is_multiple_of(FLAG)
            && self.table >= area
            && end.is_some_and(|end| end <= area + layout.area_len());
        if is_ours { Ok(()) } else { Err(Error::BadCard { transport: NAME }) }
    }
}

/// The table of an own communicator.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) address: Address,
}

impl Table {
    /// Opens a table where room was taken for it.
    pub(super) fn open(seat: &Seat, table: u64, ranks: u32, nonce: u64) -> Self {
        let address = Address {
            pool: seat.layout.shape.id,
            partition: seat.partition,
            member: seat.member,
            devices: seat.layout.shape.devices as u64,
            claim: seat.nonce,
            table,
            ranks: ranks.into(),
            nonce,
        };
        seat.view.zero(table, table_len(ranks));
        seat.view.publish(table, &[nonce]);
        Self { address }
    }

    fn entry(&self, peer: Peer) -> u64 {
        entry(&self.address, peer)
    }

    /// Greets a peer, whose address was checked.
    pub(super) fn greet(&self, view: &View, peer: Peer, reader: u64, hello: &Card) {
        let entry = self.entry(peer);
        let len = u64::try_from(hello.0.len()).expect("a card is short");
        view.write(entry + AT_HELLO, &[&len.to_le_bytes()[..], &hello.0].concat());
        view.publish(entry, &[reader]);
    }

    /// Tells a peer that it is lost to this side.
    pub(super) fn lose(&self, view: &View, peer: Peer) {
        view.publish(self.entry(peer) + AT_LOST, &[1]);
    }

    /// Tells all peers that this side writes nothing from here on.
    pub(super) fn close(&self, view: &View) {
        view.publish(self.address.table, &[NOBODY]);
    }
}

fn entry(address: &Address, reader: Peer) -> u64 {
    address.table + FLAG + u64::from(reader.0) * ENTRY
}

/// The other side of a connection, as this side reads it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tie {
    pub(super) address: Address,
    /// Where the entry for this side is in its table.
    entry: u64,
}

impl Tie {
    /// # Errors
    /// [`Error::BadCard`] when the address is not one of a rank that `me` can meet through this pool.
    pub(super) fn new(seat: &Seat, address: &Card, me: Peer) -> Result<Self> {
        let address = Address::parse(address)?;
        address.check(&seat.layout, seat.partition)?;
        if u64::from(me.0) >= address.ranks {
            return Err(Error::BadCard { transport: NAME });
        }
        Ok(Self { address, entry: entry(&address, me) })
    }

    /// The other side's greeting, if it is there for a reader of this nonce.
    ///
    /// # Errors
    /// [`Error::Protocol`] when it is longer than any.
    pub(super) fn greeting(&self, view: &View, nonce: u64) -> Result<Option<Card>> {
        if view.observe(self.entry) != nonce {
            return Ok(None);
        }
        let at = self.entry + AT_HELLO;
        let len = view.observe(at);
        if len > Card::MAX as u64 {
            return Err(Error::Protocol { what: "a greeting longer than a card" });
        }
        Ok(Some(Card(view.bytes(at + 8, len).into())))
    }

    /// Whether the other side writes nothing any more.
    pub(super) fn is_closed(&self, view: &View) -> bool {
        view.observe(self.address.table) != self.address.nonce
    }

    /// Whether this side is lost to the other.
    pub(super) fn is_lost(&self, view: &View) -> bool {
        view.observe(self.entry + AT_LOST) != 0
    }

    /// Whether nothing of the other side is written here any more: it has closed, or its process is not there any more.
    pub(super) fn is_gone(&self, seat: &Seat) -> bool {
        self.is_closed(&seat.view) || seat.is_vacated(self.address.member, self.address.claim)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cxl::layout::{META, Shape};

    proptest! {
        #[test]
        fn an_address_of_anything_is_refused_or_has_its_table_in_its_area(
            words in prop::array::uniform7(any::<u64>()), ours: bool, at in 0_u64..(4 * META), ranks in 0_u64..100,
        ) {
            let shape = Shape { id: 7, devices: 1, bytes: 5 * META, granule: META, members: 4, partitions: 1 };
            let layout = Layout::new(shape).unwrap();
            let mut words = words;
            if ours {
                words[0] = 7;
                words[1] = (words[1] % 5) << 32;
                words[4] = at * 4 / 3;
                words[5] = ranks;
            }
            let card = Card(words.map(u64::to_le_bytes).concat().into());
            let address = Address::parse(&card).unwrap();
            prop_assert_eq!(address.card(), card);
            if address.check(&layout, 0).is_ok() {
                let area = layout.area(address.member);
                let end = address.table + table_len(u32::try_from(address.ranks).unwrap());
                prop_assert!(address.table >= area && end <= area + layout.area_len());
            }
        }
    }

    #[test]
    fn a_card_of_another_length_is_no_address() {
        for len in [0, 55, 57, 64] {
            assert!(Address::parse(&Card(vec![1; len].into())).is_err());
        }
    }
}
