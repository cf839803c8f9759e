//! What travels: the address with the devices of a rank, and the key of a region in a device's memory. Integers are little-endian.

use std::sync::Arc;

use dure_device::{Device, Handle};
use dure_transport::Card;

use crate::path::Page;

/// Most devices that an address names: cards of all transports together have a limit.
pub(crate) const MOST: usize = 4;
const _: () =
    assert!(MOST < Card::MOST_ON_THE_WAY - Card::MAX, "the word on devices fits before a greeting");

/// How long a handle is.
const HANDLE: usize = size_of::<Handle>();

/// A device of a peer, as its address names it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) family: String,
    /// Of the page, whose bytes follow from the seed.
    pub(crate) handle: Handle,
    pub(crate) seed: u64,
}

/// An address: that of the inner transport, and the devices.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) inner: Card,
    pub(crate) devices: Vec<Name>,
}

impl Names {
    /// The length of the inner address in two bytes, the address; of each device the length of the family's name in one byte, the
    /// name, the handle of its page, the seed.
    pub(crate) fn encode<'d>(
        inner: &Card,
        devices: impl Iterator<Item = (&'d Arc<dyn Device>, &'d Page)>,
    ) -> Card {
        let len = u16::try_from(inner.0.len()).expect("a card keeps its limit");
        let mut bytes = len.to_le_bytes().to_vec();
        bytes.extend(&inner.0);
        for (device, page) in devices {
            let family = device.family().expect("only devices with a family are kept").as_bytes();
            let family = &family[..family.len().min(usize::from(u8::MAX))];
            bytes.push(u8::try_from(family.len()).expect("it was cut"));
            bytes.extend(family);
            bytes.extend(page.handle.0);
            bytes.extend(page.seed.to_le_bytes());
        }
        Card(bytes.into())
    }

    pub(crate) fn decode(card: &Card) -> Option<Self> {
        let (len, rest) = card.0.split_first_chunk()?;
        let (inner, mut rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        let mut devices = Vec::new();
        while let Some((len, tail)) = rest.split_first() {
            let (family, tail) = tail.split_at_checked(usize::from(*len))?;
            let (handle, tail) = tail.split_first_chunk::<HANDLE>()?;
            let (seed, tail) = tail.split_first_chunk()?;
            let family = String::from_utf8(family.to_vec()).ok()?;
            devices.push(Name { family, handle: Handle(*handle), seed: u64::from_le_bytes(*seed) });
            rest = tail;
        }
        Some(Self { inner: Card(inner.into()), devices })
    }
}

/// What a peer needs to read a region in a device's memory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Which of the owner's devices, in the order of its address.
    pub(crate) device: u8,
    pub(crate) handle: Handle,
    pub(crate) len: usize,
}

/// No key of a transport inside a host begins like this, nor is as long.
const TAG: &[u8; 4] = b"npu\0";

impl Key {
    pub(crate) fn encode(&self) -> Card {
        let len = (self.len as u64).to_le_bytes();
        let parts: [&[u8]; 4] = [TAG, &[self.device], &len, &self.handle.0];
        Card(parts.concat().into())
    }

    pub(crate) fn decode(card: &Card) -> Option<Self> {
        let rest = card.0.strip_prefix(TAG)?;
        let (device, rest) = rest.split_first()?;
        let (len, handle) = rest.split_first_chunk()?;
        let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
        Some(Self { device: *device, handle: Handle(handle.try_into().ok()?), len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_and_other_cards_are_none() {
        let key = Key { device: 3, handle: Handle([7; HANDLE]), len: 1 << 33 };
        let card = key.encode();
        assert_eq!(Key::decode(&card), Some(key));
        assert_eq!(Key::decode(&Card(card.0[..card.0.len() - 1].into())), None);
        assert_eq!(Key::decode(&Card([0; 28].into())), None);
    }

    #[test]
    fn addresses_without_devices_and_damaged_ones() {
        let inner = Card(b"an address".as_slice().into());
        let card = Names::encode(&inner, std::iter::empty());
        let names = Names::decode(&card).unwrap();
        assert_eq!((names.inner, names.devices.len()), (inner, 0));
        let longer = [&card.0[..], &[200, 1, 2]].concat();
        assert!(Names::decode(&Card(longer.into())).is_none());
        assert!(Names::decode(&Card([9, 9].as_slice().into())).is_none());
    }
}
