//! The header of a data frame.
//!
//! One frame is one put: 24 bytes of header, then `len` bytes that land in the receiver's memory.
//!
//! ```text
//!   0        4        8                 16       20       24
//!   | region | nonce  | offset          | len    | signal | payload ...     integers are little endian
//! ```
//!
//! `region` and `nonce` come from the key that the receiver gave out; the nonce differs for every use of a region
//! number and for every peer, so that a frame for a region that was released, or that was never given to this peer, is
//! refused. `signal` is the counter to bump after the payload, or [`NO_SIGNAL`]. A frame without payload has
//! [`NO_REGION`], and zeros for nonce and offset.

/// In place of a region number, in a frame without payload.
pub const NO_REGION: u32 = u32::MAX;

/// In place of a counter's number, in a frame that bumps none.
pub const NO_SIGNAL: u32 = u32::MAX;

/// The header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of the receiver's region; [`NO_REGION`] exactly when `len` is 0.
    pub region: u32,
    /// What the receiver's key said.
    pub nonce: u32,
    /// First byte written, counted from the region's start.
    pub offset: u64,
    /// Length of the payload in bytes.
    pub len: u32,
    /// Number of the receiver's counter, or [`NO_SIGNAL`].
    pub signal: u32,
}

/// These bytes are no header that a sender of this version makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadHeader {
    /// No payload, but a region; or payload, but no region.
    #[error("a frame names a region without payload, or payload without a region")]
    Region,
    /// The payload ends beyond the largest offset.
    #[error("a frame wraps around the address space")]
    Wraps,
    /// Neither payload nor signal.
    #[error("a frame without payload and signal")]
    Nothing,
}

impl Header {
    /// Length on the wire, in bytes.
    pub const LEN: usize = 24;

    /// The header of a frame that only bumps a counter.
    #[must_use]
    pub const fn signal(signal: u32) -> Self {
        Self { region: NO_REGION, nonce: 0, offset: 0, len: 0, signal }
    }

    /// Length of the whole frame, in bytes.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        Self::LEN + usize::try_from(self.len).expect("a frame fits the address space")
    }

    /// As it goes over the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&self.region.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.len.to_le_bytes());
        bytes[20..].copy_from_slice(&self.signal.to_le_bytes());
        bytes
    }

    /// Reads what [`Header::encode`] wrote, and checks what can be checked without knowing the regions.
    ///
    /// # Errors
    /// [`BadHeader`].
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, BadHeader> {
        let word = |at: usize| {
            u32::from_le_bytes(*bytes[at..].first_chunk().expect("the field is inside 24 bytes"))
        };
        let header = Self {
            region: word(0),
            nonce: word(4),
            offset: u64::from(word(8)) | u64::from(word(12)) << 32,
            len: word(16),
            signal: word(20),
        };
        if header.len == 0 {
            if header.signal == NO_SIGNAL {
                return Err(BadHeader::Nothing);
            }
            if header != Self::signal(header.signal) {
                return Err(BadHeader::Region);
            }
        } else if header.region == NO_REGION {
            return Err(BadHeader::Region);
        } else if header.offset.checked_add(header.len.into()).is_none() {
            return Err(BadHeader::Wraps);
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn layout_is_as_documented() {
        let header = Header {
            region: 0x0403_0201,
            nonce: 0x0807_0605,
            offset: 0x100f_0e0d_0c0b_0a09,
            len: 1,
            signal: 2,
        };
        let expected =
            [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 0, 0, 0, 2, 0, 0, 0];
        assert_eq!(header.encode(), expected);
    }

    #[test]
    fn nonsense_is_refused() {
        let good = Header { region: 1, nonce: 2, offset: 3, len: 4, signal: 5 };
        let decode = |header: Header| Header::decode(&header.encode());
        assert_eq!(decode(good), Ok(good));
        assert_eq!(decode(Header { region: NO_REGION, ..good }), Err(BadHeader::Region));
        assert_eq!(decode(Header { len: 0, ..good }), Err(BadHeader::Region));
        assert_eq!(decode(Header { offset: 1, ..Header::signal(5) }), Err(BadHeader::Region));
        assert_eq!(decode(Header { offset: u64::MAX - 3, ..good }), Err(BadHeader::Wraps));
        assert_eq!(decode(Header { offset: u64::MAX - 4, ..good }).map(|h| h.len), Ok(4));
        assert_eq!(decode(Header::signal(NO_SIGNAL)), Err(BadHeader::Nothing));
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes: [u8; 24]) {
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
            }
        }

        #[test]
        fn payload_of_a_decoded_header_does_not_wrap(region: u32, offset: u64, len: u32, signal: u32) {
            if let Ok(header) = Header::decode(&Header { region, nonce: 0, offset, len, signal }.encode()) {
                prop_assert!(header.offset.checked_add(header.len.into()).is_some());
            }
        }
    }
}
