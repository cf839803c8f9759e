//! The card that says where a process listens.

use std::net::{IpAddr, SocketAddr};

use dure_transport::{Card, Error, Result};

use crate::NAME;

/// First bytes of an address.
const TAG: [u8; 4] = *b"tcpa";
/// Most addresses in a card; further ones are left out. 16 of the longest are below half of [`Card::MAX`].
const MOST: usize = 16;

/// For each address: 4 or 6, its 4 or 16 bytes, and the port, little endian.
pub(crate) fn encode(addresses: &[SocketAddr]) -> Card {
    let mut bytes = TAG.to_vec();
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

pub(crate) fn decode(card: &Card) -> Result<Vec<SocketAddr>> {
    parse(&card.0).ok_or(Error::BadCard { transport: NAME })
}

fn parse(bytes: &[u8]) -> Option<Vec<SocketAddr>> {
    let mut rest = bytes.strip_prefix(&TAG)?;
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
    (addresses.len() <= MOST).then_some(addresses)
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
        assert_eq!(decode(&encode(&addresses)).unwrap(), addresses);
    }

    #[test]
    fn a_card_never_exceeds_its_limit() {
        let addresses = vec!["[fd00::2]:65535".parse().unwrap(); 100];
        let card = encode(&addresses);
        assert!(card.0.len() <= Card::MAX);
        assert_eq!(decode(&card).unwrap(), addresses[..MOST]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_address_or_refused(mut bytes: Vec<u8>, tagged: bool) {
            if tagged {
                bytes.splice(..0, TAG);
            }
            if let Ok(addresses) = decode(&Card(bytes.clone().into())) {
                prop_assert_eq!(&encode(&addresses).0[..], bytes);
            }
        }
    }
}
