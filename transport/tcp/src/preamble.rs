//! What every connection to a [`Port`](crate::Port) begins with.
//!
//! ```text
//!   0        8                24      28      32
//!   | magic  | id             | kind  | rank  |     integers are little endian
//! ```
//!
//! It says where a connection belongs, no more: nothing in it is secret or proven. The proof is the business of what
//! each [`Kind`] runs next.

/// First bytes of every connection: the name, and the version of this layout.
pub const MAGIC: [u8; 8] = *b"DURE\0\0\0\x01";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A rank reports to the root.
    CheckIn,
    /// A link of the control tree.
    Tree,
    /// A flow of the data path.
    Data,
    /// An operator asks for the state of the process.
    Query,
}

impl Kind {
    /// The number on the wire.
    const fn number(self) -> u32 {
        match self {
            Self::CheckIn => 1,
            Self::Tree => 2,
            Self::Data => 3,
            Self::Query => 4,
        }
    }

    const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::CheckIn),
            2 => Some(Self::Tree),
            3 => Some(Self::Data),
            4 => Some(Self::Query),
            _ => None,
        }
    }
}

/// The first 32 bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// Of the job or communicator; says who in this process gets the connection.
    pub id: [u8; 16],
    /// What the connection is for.
    pub kind: Kind,
    /// Rank of the dialler; not proven, for messages only.
    pub rank: u32,
}

/// These bytes are no preamble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPreamble {
    /// Another protocol, or another version of this one.
    #[error("not a connection of this protocol and version")]
    Magic,
    /// A kind that this version does not know.
    #[error("unknown kind of connection: {0}")]
    Kind(u32),
}

impl Preamble {
    /// Length on the wire, in bytes.
    pub const LEN: usize = 32;

    /// As it goes over the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..24].copy_from_slice(&self.id);
        bytes[24..28].copy_from_slice(&self.kind.number().to_le_bytes());
        bytes[28..].copy_from_slice(&self.rank.to_le_bytes());
        bytes
    }

    /// Reads what [`Preamble::encode`] wrote.
    ///
    /// # Errors
    /// [`BadPreamble`] when the magic or the kind is not known.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, BadPreamble> {
        let (magic, rest) = bytes.split_first_chunk::<8>().expect("32 bytes hold the magic");
        let (id, rest) = rest.split_first_chunk::<16>().expect("32 bytes hold the id");
        let (kind, rest) = rest.split_first_chunk::<4>().expect("32 bytes hold the kind");
        let rank = rest.first_chunk::<4>().expect("32 bytes hold the rank");
        if *magic != MAGIC {
            return Err(BadPreamble::Magic);
        }
        let kind = u32::from_le_bytes(*kind);
        let kind = Kind::from_number(kind).ok_or(BadPreamble::Kind(kind))?;
        Ok(Self { id: *id, kind, rank: u32::from_le_bytes(*rank) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn layout_is_as_documented() {
        let preamble = Preamble { id: [7; 16], kind: Kind::Data, rank: 0x0102_0304 };
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(b"DURE\0\0\0\x01");
        bytes[24..].copy_from_slice(&[3, 0, 0, 0, 4, 3, 2, 1]);
        assert_eq!(preamble.encode(), bytes);
    }

    #[test]
    fn other_magic_and_unknown_kinds_are_refused() {
        let good = Preamble { id: [7; 16], kind: Kind::CheckIn, rank: 1 }.encode();
        for i in 0..8 {
            let mut bad = good;
            bad[i] ^= 0x40;
            assert_eq!(Preamble::decode(&bad), Err(BadPreamble::Magic));
        }
        for kind in [0, 5, 255] {
            let mut bad = good;
            bad[24] = kind;
            assert_eq!(Preamble::decode(&bad), Err(BadPreamble::Kind(kind.into())));
        }
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(mut bytes: [u8; 32], kind in 0..6_u8, magic: bool) {
            if magic {
                bytes[..8].copy_from_slice(&MAGIC);
                bytes[24..28].copy_from_slice(&[kind, 0, 0, 0]);
            }
            if let Ok(preamble) = Preamble::decode(&bytes) {
                prop_assert_eq!(preamble.encode(), bytes);
            } else {
                prop_assert!(!magic || kind == 0 || kind == 5);
            }
        }
    }
}
