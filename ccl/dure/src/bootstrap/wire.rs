//! Messages of the control plane, and how they are written.
//!
//! All travel inside a [`Noise`](super::noise::Noise) connection, in postcard's encoding. Only the beginning of a
//! check-in is fixed for all versions, so that two versions can at least tell each other apart.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use dure_transport::{Card, Fabric};
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::hardware::Hardware;

/// Version of this protocol. Ranks with different ones do not form a job, nor do those with different [`VERSION`]s.
pub(crate) const PROTOCOL: u32 = 2;
/// Version of this library.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Longest message of a connection whose other end has not said who it is: a check-in, a link's first, a question.
pub(crate) const SHORT: usize = 64 << 10;
/// Longest message between members: tables of the largest jobs.
pub(crate) const LONG: usize = 256 << 20;
/// Longest offer of a rank.
pub(crate) const OFFER: usize = 32 << 10;

/// A message that is not what its place asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message of this protocol")]
pub(crate) struct BadMessage;

/// Writes a message.
pub(crate) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).expect("messages hold nothing that cannot be written")
}

/// Reads a message; bytes after it are an error.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadMessage> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(BadMessage),
    }
}

/// What makes two processes share memory: the same running kernel, and the same network namespace, since sockets
/// without a file name are found through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct HostId {
    /// The kernel's boot id; it differs between machines and between boots.
    pub(crate) boot: [u8; 16],
    /// Inode number of the network namespace.
    pub(crate) namespace: u64,
}

/// A rank, as the others know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// Its number.
    pub(crate) rank: u32,
    /// Where it runs.
    pub(crate) host: HostId,
    /// Name of that host, for messages.
    pub(crate) hostname: String,
    /// Its process there.
    pub(crate) pid: u32,
    /// The process's port.
    pub(crate) port: u16,
    /// Addresses of the host, best first.
    pub(crate) addresses: Vec<IpAddr>,
    /// What the rank wants all others to know: cards of its transports.
    pub(crate) offer: Vec<u8>,
    /// What it runs on.
    pub(crate) hardware: Hardware,
}

impl Member {
    /// The address that a transport of this name has in what the rank offers.
    pub(crate) fn offer(&self, transport: &str) -> Option<Card> {
        Fabric::part(&Card(self.offer.clone().into()), transport)
    }

    /// Where to dial it, seen from `here`: loopback first, and only there, when it is the same host.
    pub(crate) fn reach(&self, here: HostId) -> Vec<SocketAddr> {
        let loopback = (self.host == here).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let addresses = self.addresses.iter().copied().filter(|address| !address.is_loopback());
        loopback
            .into_iter()
            .chain(addresses)
            .map(|address| SocketAddr::new(address, self.port))
            .collect()
    }

    /// Whether another rank runs on the same host, and says the same of it.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        (self.host, &self.hostname) == (other.host, &other.hostname)
            && (&self.addresses, &self.hardware) == (&other.addresses, &other.hardware)
    }

    /// For messages: `rank 3 (host node1, pid 77)`.
    pub(crate) fn describe(&self) -> String {
        format!("rank {} (host {}, pid {})", self.rank, self.hostname, self.pid)
    }
}

/// A rank reports to the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckIn {
    /// Who.
    pub(crate) member: Member,
    /// How many ranks it expects.
    pub(crate) size: u32,
    /// What must be the same on all ranks.
    pub(crate) agreed: BTreeMap<String, String>,
    /// How long it waits for the verdict, in milliseconds.
    pub(crate) patience: u64,
}

impl CheckIn {
    /// Protocol (4 bytes), length of the library's version (1 byte), that version; these never change. Then the rest.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let version = u8::try_from(VERSION.len()).expect("versions are short");
        let mut bytes = PROTOCOL.to_le_bytes().to_vec();
        bytes.push(version);
        bytes.extend_from_slice(VERSION.as_bytes());
        bytes.extend_from_slice(&encode(self));
        bytes
    }

    /// Reads a check-in, or tells which other protocol and version it is from.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Foreign> {
        let foreign = |protocol, version: &str| Foreign { protocol, version: version.to_owned() };
        let (protocol, rest) =
            bytes.split_first_chunk::<4>().ok_or_else(|| foreign(0, "unknown"))?;
        let protocol = u32::from_le_bytes(*protocol);
        let (&length, rest) = rest.split_first().ok_or_else(|| foreign(protocol, "unknown"))?;
        let (version, rest) =
            rest.split_at_checked(length.into()).ok_or_else(|| foreign(protocol, "unknown"))?;
        let version = String::from_utf8_lossy(version);
        // Versions with one protocol may still choose algorithms by different rules, which would not fit together.
        if protocol != PROTOCOL || version != VERSION {
            return Err(foreign(protocol, &version));
        }
        decode(rest).map_err(|BadMessage| foreign(protocol, &version))
    }
}

/// A check-in that this version cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) protocol: u32,
    pub(crate) version: String,
}

/// An error on its way to another rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) what: String,
    pub(crate) peer: Option<u32>,
}

impl From<&Error> for Failure {
    /// Causes become text: they mean nothing as values elsewhere.
    fn from(error: &Error) -> Self {
        let mut what = error.what.clone();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            what = format!("{what}: {error}");
            cause = error.source();
        }
        Self { kind: error.kind, what, peer: error.peer }
    }
}

impl Failure {
    /// The error of another rank, on this one.
    pub(crate) fn told(self, by: u32, on: u32) -> Error {
        let what = format!("{} (told by rank {by})", self.what);
        Error::from(Self { what, ..self }).on(on)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let mut error = Self::new(failure.kind, failure.what);
        error.peer = failure.peer;
        error
    }
}

/// What the root says to a rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// The job is complete; this rank is the top of the tree, and tells the others who is there.
    Top {
        /// The members, in the form of [`Table`](super::table::Table::pack).
        table: Packed,
    },
    /// The job is complete; the parent knows the rest.
    Under {
        /// Whom to dial. Without its offer.
        parent: Member,
    },
    /// There will be no job.
    Refused(Failure),
    /// The job is complete without this rank.
    Complete(Failure),
}

/// What neighbours in the tree say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// First on a link: which rank dialled, and which it wants, since a process may have several.
    Link {
        /// The child.
        from: u32,
        /// The parent.
        to: u32,
    },
    /// The parent has the table of members, and this is its digest.
    Announced {
        /// See [`Table::digest`](super::table::Table::digest).
        digest: [u8; 32],
    },
    /// The child has no table of that digest.
    Wanted,
    /// The members, in the form of [`Table`](super::table::Table::pack); from parent to child.
    Table(Packed),
    /// What the ranks below gave to a gather; from child to parent.
    Up {
        /// Number of the gather.
        round: u64,
        /// Theirs and the child's own.
        part: Packed,
    },
    /// What all ranks gave to a gather; from parent to child.
    Down {
        /// Number of the gather.
        round: u64,
        /// Everybody's.
        all: Packed,
    },
    /// The communicator is broken.
    Raised {
        /// Which rank says so.
        by: u32,
        /// Why.
        failure: Failure,
    },
    /// A rank said goodbye.
    Left {
        /// Which.
        rank: u32,
    },
}

/// A question to a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Question {
    /// Whom.
    pub(crate) rank: u32,
    /// About which call.
    pub(crate) sequence: u64,
}

/// Bytes of many ranks in one piece, so that a rank in the middle of the tree passes them on unread: for each, its rank
/// (4 bytes), a length (4 bytes), the bytes. Joining two is appending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed(pub(crate) Arc<[u8]>);

impl Packed {
    /// Joins packs and bytes of single ranks.
    pub(crate) fn join<'a>(packs: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = Vec::new();
        packs.into_iter().for_each(|pack| all.extend_from_slice(&pack.0));
        Self(all.into())
    }

    /// The bytes of one rank.
    pub(crate) fn one(rank: u32, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).expect("messages are shorter than 4 GiB");
        Self([&rank.to_le_bytes()[..], &length.to_le_bytes(), bytes].concat().into())
    }

    /// The ranks in it, with their bytes.
    pub(crate) fn entries(&self) -> Entries<'_> {
        Entries(&self.0)
    }

    /// The bytes of each rank in order, if exactly the ranks below `size` are there.
    pub(crate) fn complete(&self, size: u32) -> Result<Vec<&[u8]>, BadMessage> {
        let mut entries = self.entries().collect::<Result<Vec<_>, _>>()?;
        entries.sort_unstable_by_key(|&(rank, _)| rank);
        let in_order = (0..size).eq(entries.iter().map(|&(rank, _)| rank));
        if in_order {
            Ok(entries.into_iter().map(|(_, bytes)| bytes).collect())
        } else {
            Err(BadMessage)
        }
    }
}

/// See [`Packed::entries`].
#[derive(Debug)]
pub(crate) struct Entries<'p>(&'p [u8]);

impl<'p> Iterator for Entries<'p> {
    type Item = Result<(u32, &'p [u8]), BadMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.0);
        let entry = rest.split_first_chunk::<4>().and_then(|(rank, rest)| {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (bytes, rest) = rest.split_at_checked(length)?;
            self.0 = rest;
            Some((u32::from_le_bytes(*rank), bytes))
        });
        Some(entry.ok_or(BadMessage))
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Packed;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Packed, E> {
                Ok(Packed(bytes.into()))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn member(rank: u32) -> Member {
        Member {
            rank,
            host: HostId { boot: [1; 16], namespace: 2 },
            hostname: format!("node{rank}"),
            pid: 1000 + rank,
            port: 4000,
            addresses: vec!["10.0.0.1".parse().unwrap(), "127.0.0.1".parse().unwrap()],
            offer: vec![9; 3],
            hardware: Hardware { processors: vec![3], cores: 2, megabits: 1000 },
        }
    }

    #[test]
    fn check_in_round_trips_and_tells_versions_apart() {
        let check_in = CheckIn { member: member(3), size: 4, agreed: BTreeMap::new(), patience: 5 };
        let mut bytes = check_in.encode();
        assert_eq!(CheckIn::decode(&bytes), Ok(check_in));
        bytes[5] = b'7';
        assert_eq!(CheckIn::decode(&bytes).unwrap_err().protocol, PROTOCOL);
        bytes[0] = 9;
        let foreign = CheckIn::decode(&bytes).unwrap_err();
        assert_eq!(foreign.protocol, 9);
        assert!(foreign.version.starts_with("7."));
    }

    #[test]
    fn loopback_is_for_the_same_host_only() {
        let member = member(0);
        let elsewhere = HostId { boot: [2; 16], namespace: 2 };
        assert_eq!(member.reach(elsewhere), ["10.0.0.1:4000".parse().unwrap()]);
        assert_eq!(member.reach(member.host)[0], "127.0.0.1:4000".parse().unwrap());
    }

    #[test]
    fn packs_join_and_come_apart() {
        let packs = [Packed::one(2, b"c"), Packed::one(0, b"a"), Packed::one(1, b"")];
        let all = Packed::join(&packs);
        assert_eq!(all.complete(3), Ok(vec![&b"a"[..], b"", b"c"]));
        assert_eq!(all.complete(2), Err(BadMessage));
        assert_eq!(all.complete(4), Err(BadMessage));
        let message = Message::Down { round: 7, all };
        assert_eq!(decode::<Message>(&encode(&message)), Ok(message));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = CheckIn::decode(&bytes);
            let _ = decode::<Message>(&bytes);
            let _ = decode::<Verdict>(&bytes);
            let _ = decode::<Question>(&bytes);
            let _ = Packed(bytes.into()).complete(3);
        }
    }
}
