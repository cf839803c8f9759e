//! Entry points for fuzzers: every format that a peer or a caller hands in.

use dure_transport::Card;

use crate::region::Key;
use crate::socket::Name;

/// Parses bytes as an address and as a key. What parses is what was made.
///
/// # Panics
/// When a card that parses is not the card of what it parsed to.
pub fn cards(bytes: &[u8]) {
    let card = Card(bytes.into());
    if let Ok(name) = Name::parse(&card) {
        assert_eq!(name.card(), card);
    }
    if let Ok(key) = Key::parse(&card, crate::NAME) {
        assert_eq!(key.card(), card);
    }
}
