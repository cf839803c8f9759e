//! The card that says where a transport is found: the id that connections to it name, and where its process listens.

use std::net::{IpAddr, SocketAddr};

use dure_transport::{Card, Error, Result};

use crate::NAME;

/// First bytes of an address.
const TAG: [u8; 4] = *b"tcpa";
/// Most addresses in a card; further ones are left out. 16 of the longest are below half of [`Card::MAX`].
const MOST: usize = 16;

/// Where a transport is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// What connections to it name in their preamble: a process may have several.
    pub(crate) id: [u8; 16],
    /// Where its process listens, the best first.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// The id; then for each address 4 or 6, its 4 or 16 bytes, and the port, little endian.
pub(crate) fn encode(id: [u8; 16], addresses: &[SocketAddr]) -> Card {
    let mut bytes = TAG.to_vec();
    bytes.extend(id);
    for address in addresses.iter().take(MOST) {
        match address.ip() {
            IpAddr::V4(ip) => {
                bytes.push(4);
                bytes.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                bytes.push(6);
                bytes.extend(ip.octets());
            }
        }
        bytes.extend(address.port().to_le_bytes());
    }
    Card(bytes.into())
}

pub(crate) fn decode(card: &Card) -> Result<Address> {
    parse(&card.0).ok_or(Error::BadCard { transport: NAME })
}

fn parse(bytes: &[u8]) -> Option<Address> {
    let (id, mut rest) = bytes.strip_prefix(&TAG)?.split_first_chunk()?;
    let mut addresses = Vec::new();
    while let Some((family, tail)) = rest.split_first() {
        let (ip, tail) = match family {
            4 => tail.split_first_chunk::<4>().map(|(ip, tail)| (IpAddr::from(*ip), tail))?,
            6 => tail.split_first_chunk::<16>().map(|(ip, tail)| (IpAddr::from(*ip), tail))?,
            _ => return None,
        };
        let (port, tail) = tail.split_first_chunk()?;
        addresses.push(SocketAddr::new(ip, u16::from_le_bytes(*port)));
        rest = tail;
    }
    (addresses.len() <= MOST).then_some(Address { id: *id, addresses })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_come_back_in_order() {
        let addresses: Vec<SocketAddr> = ["10.1.2.3:40000", "[fd00::2]:65535", "127.0.0.1:1"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(
            decode(&encode([7; 16], &addresses)).unwrap(),
            Address { id: [7; 16], addresses }
        );
    }

    #[test]
    fn a_card_never_exceeds_its_limit() {
        let addresses = vec!["[fd00::2]:65535".parse().unwrap(); 100];
        let card = encode([7; 16], &addresses);
        assert!(card.0.len() <= Card::MAX);
        assert_eq!(decode(&card).unwrap().addresses, addresses[..MOST]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_address_or_refused(mut bytes: Vec<u8>, tagged: bool) {
            if tagged {
                bytes.splice(..0, TAG);
            }
            if let Ok(Address { id, addresses }) = decode(&Card(bytes.clone().into())) {
                prop_assert_eq!(&encode(id, &addresses).0[..], bytes);
            }
        }
    }
}
