//! Entry points for fuzzers: the cards that a peer hands in.

use dure_transport::{Card, Peer};

use crate::address::{self, Address};
use crate::region::Remote;

/// Parses bytes as an address and as a key. An address that parses is what was made.
///
/// # Panics
/// When an address that parses is not the address of what it parsed to.
pub fn cards(bytes: &[u8]) {
    let card = Card(bytes.into());
    if let Ok(Address { id, addresses }) = address::decode(&card) {
        assert_eq!(address::encode(id, &addresses), card);
    }
    // A key is checked by its owner, frame by frame.
    let _ = Remote::from_key(Peer(1), &card);
}
