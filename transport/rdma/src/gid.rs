//! GIDs: what kinds there are, and which two of them lead from one port to another.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// How packets of a GID look on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// InfiniBand.
    InfiniBand,
    /// RoCE version 1: Ethernet frames that no router passes on.
    RoceV1,
    /// RoCE version 2: UDP packets.
    RoceV2,
}

impl Kind {
    /// The number of the header's `ibv_gid_type`, which also travels.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::InfiniBand => 0,
            Self::RoceV1 => 1,
            Self::RoceV2 => 2,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::InfiniBand, Self::RoceV1, Self::RoceV2]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// An address of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Gid {
    pub(crate) kind: Kind,
    pub(crate) bytes: [u8; 16],
    /// Bits that name the subnet; 0 when unknown. For an address that is IPv4 inside, bits of the IPv4 address.
    pub(crate) prefix: u8,
}

impl Gid {
    /// The IP address that a RoCE GID is.
    pub(crate) fn ip(&self) -> IpAddr {
        let v6 = Ipv6Addr::from(self.bytes);
        v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
    }

    fn is_link_local(&self) -> bool {
        self.bytes[0] == 0xfe && self.bytes[1] & 0xc0 == 0x80
    }

    /// Whether both are in one subnet, as the shorter of the two prefixes says.
    fn shares_subnet(&self, other: &Self) -> bool {
        let bits = self.prefix.min(other.prefix);
        if bits == 0 {
            return false;
        }
        let skip = if self.ip().is_ipv4() { 96 } else { 0 };
        let number = |gid: &Self| u128::from_be_bytes(gid.bytes);
        let bits = (u32::from(bits) + skip).min(128);
        (number(self) ^ number(other)).leading_zeros() >= bits
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::InfiniBand => "InfiniBand",
            Kind::RoceV1 => "RoCE v1",
            Kind::RoceV2 => "RoCE v2",
        };
        write!(f, "{} ({kind})", Ipv6Addr::from(self.bytes))
    }
}

/// How well one GID leads to another, the higher the better; `None` when it does not.
fn rank(ours: &Gid, theirs: &Gid) -> Option<u8> {
    if ours.kind != theirs.kind {
        return None;
    }
    if ours.kind == Kind::InfiniBand {
        // Ports of one subnet share the upper half; across subnets a router is needed, which may be there.
        return Some(if ours.bytes[..8] == theirs.bytes[..8] { 9 } else { 1 });
    }
    let same_family = ours.ip().is_ipv4() == theirs.ip().is_ipv4();
    if !same_family || ours.is_link_local() != theirs.is_link_local() {
        return None;
    }
    let (v4, near) = (ours.ip().is_ipv4(), ours.shares_subnet(theirs));
    match (ours.kind, ours.is_link_local()) {
        (Kind::RoceV2, false) => Some(match (near, v4) {
            (true, true) => 9,
            (true, false) => 8,
            (false, true) => 6,
            (false, false) => 5,
        }),
        // Link-local addresses reach whoever is on the same wire, and nobody can tell who that is.
        (Kind::RoceV2, true) => Some(4),
        (_, false) if near => Some(3),
        (_, true) => Some(2),
        _ => None,
    }
}

/// Whether a choice of this rank stays inside one subnet.
pub(crate) fn is_near(rank: u8) -> bool {
    rank >= 8
}

/// The best pair of GIDs, as indices into both lists, and its rank. The same pair is found from either end.
pub(crate) fn choose(ours: &[Gid], theirs: &[Gid]) -> Option<(usize, usize, u8)> {
    let all = ours.iter().enumerate().flat_map(|(i, our)| {
        theirs.iter().enumerate().filter_map(move |(j, their)| Some((i, j, rank(our, their)?)))
    });
    // Among equals: the lowest places together, then the lowest address of the two.
    let key = |(i, j, rank): &(usize, usize, u8)| {
        let (a, b) = (ours[*i].bytes, theirs[*j].bytes);
        (std::cmp::Reverse(*rank), i + j, a.min(b), a.max(b))
    };
    all.min_by_key(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gid(kind: Kind, text: &str) -> Gid {
        let (ip, prefix) = text.split_once('/').unwrap_or((text, "0"));
        let ip = match ip.parse().unwrap() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Gid { kind, bytes: ip.octets(), prefix: prefix.parse().unwrap() }
    }

    fn v2(text: &str) -> Gid {
        gid(Kind::RoceV2, text)
    }

    fn chosen(ours: &[Gid], theirs: &[Gid]) -> Option<(usize, usize)> {
        choose(ours, theirs).map(|(i, j, _)| (i, j))
    }

    #[test]
    fn the_same_subnet_wins_then_ipv4_then_ipv6_then_link_local() {
        let ours = [v2("fe80::1"), v2("10.1.0.1/24"), v2("10.2.0.1/24"), v2("fd00::1/64")];
        assert_eq!(chosen(&ours, &[v2("fe80::2"), v2("10.2.0.9/24")]), Some((2, 1)));
        assert_eq!(chosen(&ours, &[v2("fd00::2/64"), v2("10.3.0.9/24")]), Some((3, 0)));
        assert_eq!(chosen(&ours, &[v2("fe80::2"), v2("10.3.0.9/24")]), Some((1, 1)));
        assert_eq!(chosen(&ours, &[v2("fe80::2")]), Some((0, 0)));
        assert_eq!(chosen(&ours[..1], &[v2("10.3.0.9/24")]), None);
    }

    #[test]
    fn version_2_is_preferred_and_kinds_do_not_mix() {
        let both = |host: &str| [gid(Kind::RoceV1, host), v2(host)];
        assert_eq!(chosen(&both("10.1.0.1/24"), &both("10.1.0.2/24")), Some((1, 1)));
        assert_eq!(chosen(&both("10.1.0.1/24")[..1], &both("10.1.0.2/24")), Some((0, 0)));
        assert_eq!(chosen(&both("10.1.0.1/24")[..1], &both("10.9.0.2/24")), None);
        assert_eq!(chosen(&[gid(Kind::InfiniBand, "fe80::1")], &[v2("fe80::2")]), None);
        assert_eq!(
            chosen(&[gid(Kind::InfiniBand, "fe80::1")], &[gid(Kind::InfiniBand, "fe80::2")]),
            Some((0, 0))
        );
    }

    #[test]
    fn prefixes_of_ipv4_count_from_the_ipv4_address() {
        assert!(v2("10.1.2.3/31").shares_subnet(&v2("10.1.2.2/31")));
        assert!(!v2("10.1.2.3/31").shares_subnet(&v2("10.1.2.4/31")));
        assert!(!v2("10.1.2.3").shares_subnet(&v2("10.1.2.3")));
    }

    proptest! {
        #[test]
        fn both_ends_choose_the_same_pair(
            ours in prop::collection::vec((0_u8..4, 1_u8..5), 0..4),
            theirs in prop::collection::vec((0_u8..4, 5_u8..9), 0..4),
        ) {
            let make = |(net, host): &(u8, u8)| match net {
                3 => v2(&format!("fe80::{host}")),
                2 => v2(&format!("fd00::{host}/64")),
                net => v2(&format!("10.{net}.0.{host}/24")),
            };
            let (ours, theirs): (Vec<_>, Vec<_>) =
                (ours.iter().map(make).collect(), theirs.iter().map(make).collect());
            let (here, there) = (chosen(&ours, &theirs), chosen(&theirs, &ours));
            let pair = |a: Gid, b: Gid| (a.bytes.min(b.bytes), a.bytes.max(b.bytes));
            prop_assert_eq!(
                here.map(|(i, j)| pair(ours[i], theirs[j])),
                there.map(|(j, i)| pair(ours[i], theirs[j]))
            );
        }
    }
}
