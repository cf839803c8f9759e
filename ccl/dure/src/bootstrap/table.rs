//! The table of members: who everybody is.
//!
//! It is the same on all ranks, and grows with their number. Ranks of one process share one: the same bytes are kept
//! once, and decoded once.

#![allow(clippy::disallowed_types, reason = "control plane, not on the data path")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::wire::{self, BadMessage, Member, Packed};

/// What tells tables apart: SHA-256 of their bytes, made by rank 0.
pub(crate) type Digest = [u8; 32];

/// A [`Member`] for each rank. A reference: copies are cheap.
#[derive(Clone, Debug)]
pub(crate) struct Table(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    digest: Digest,
    packed: Packed,
    /// Decoded when it is first asked for.
    members: OnceLock<Result<Arc<[Member]>, BadMessage>>,
}

impl Inner {
    fn new(digest: Digest, packed: Packed) -> Arc<Self> {
        Arc::new(Self { digest, packed, members: OnceLock::new() })
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for Table {}

/// The tables that somebody in this process has.
static KNOWN: Mutex<BTreeMap<Digest, Weak<Inner>>> = Mutex::new(BTreeMap::new());

impl Table {
    /// The table of these bytes.
    pub(crate) fn new(packed: Packed) -> Self {
        let digest = Sha256::digest(&packed.0).into();
        Self::announced(digest, packed)
    }

    /// The table of these bytes, whose digest is known from whoever sent them: the one that is there already, if somebody
    /// in this process has it. The connection that they came over has proven that they are what was sent.
    pub(crate) fn announced(digest: Digest, packed: Packed) -> Self {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inner) = known.get(&digest).and_then(Weak::upgrade) {
            // Compared outside of the lock: it takes a while.
            drop(known);
            let inner = if inner.packed == packed { inner } else { Inner::new(digest, packed) };
            return Self(inner);
        }
        known.retain(|_, inner| inner.strong_count() > 0);
        let inner = Inner::new(digest, packed);
        known.insert(digest, Arc::downgrade(&inner));
        Self(inner)
    }

    /// The bytes of the table of these members, in order of rank.
    pub(crate) fn pack<'m>(members: impl IntoIterator<Item = &'m Member>) -> Packed {
        let mut before: Option<&Member> = None;
        let entries = members.into_iter().map(|member| {
            let entry = match before.replace(member) {
                Some(before) if before.is_beside(member) => {
                    let (pid, port, offer) = (member.pid, member.port, member.offer.clone());
                    Entry::Beside { pid, port, offer }
                }
                _ => Entry::Whole(member.clone()),
            };
            Packed::one(member.rank, &wire::encode(&entry))
        });
        Packed::join(&entries.collect::<Vec<_>>())
    }

    /// What tells it from others.
    pub(crate) fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Its bytes.
    pub(crate) fn packed(&self) -> &Packed {
        &self.0.packed
    }

    /// The members in order, if exactly the ranks below `size` are there.
    ///
    /// # Errors
    /// [`BadMessage`] otherwise.
    pub(crate) fn members(&self, size: u32) -> Result<Arc<[Member]>, BadMessage> {
        let decode = || {
            let mut members: Vec<Member> = Vec::with_capacity(size as usize);
            for (rank, entry) in (0..).zip(self.0.packed.complete(size)?) {
                let member = match (wire::decode(entry)?, members.last()) {
                    (Entry::Whole(member), _) if member.rank == rank => member,
                    (Entry::Beside { pid, port, offer }, Some(before)) => {
                        Member { rank, pid, port, offer, ..before.clone() }
                    }
                    _ => return Err(BadMessage),
                };
                members.push(member);
            }
            Ok(members.into())
        };
        let members = self.0.members.get_or_init(decode).clone()?;
        if members.len() == size as usize { Ok(members) } else { Err(BadMessage) }
    }

    /// Who a rank is.
    pub(crate) fn member(&self, rank: u32) -> Option<Member> {
        let size = u32::try_from(self.0.packed.entries().count()).ok()?;
        self.members(size).ok()?.get(rank as usize).cloned()
    }
}

/// How a member stands in the table.
#[derive(Serialize, Deserialize)]
enum Entry {
    Whole(Member),
    /// What differs from the rank before, which is on the same host.
    Beside {
        pid: u32,
        port: u16,
        offer: Vec<u8>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::wire::tests::member;

    fn table(ranks: u32) -> Table {
        Table::new(Table::pack(&(0..ranks).map(member).collect::<Vec<_>>()))
    }

    #[test]
    fn the_same_bytes_are_kept_once() {
        let (a, b, c) = (table(71), table(71), table(72));
        assert!(Arc::ptr_eq(&a.0, &b.0) && a == b && a != c && a.digest() != c.digest());
        assert!(Arc::ptr_eq(&a.members(71).unwrap(), &b.members(71).unwrap()));
        let digest = a.digest();
        // Other bytes are another table, whatever is said of them.
        let other = Table::announced(digest, c.packed().clone());
        assert!(!Arc::ptr_eq(&a.0, &other.0) && other.members(72).is_ok());
        drop((a, b, other));
        assert!(KNOWN.lock().unwrap().get(&digest).is_none_or(|inner| inner.upgrade().is_none()));
    }

    #[test]
    fn ranks_of_one_host_say_once_what_they_have_in_common() {
        let mut members: Vec<Member> = (0..9).map(member).collect();
        for each in &mut members {
            each.hostname = format!("node{}", each.rank / 3);
            each.offer = vec![u8::try_from(each.rank).unwrap(); 3];
        }
        let packed = Table::pack(&members);
        let whole: usize = members.iter().map(|member| wire::encode(member).len()).sum();
        assert!(packed.0.len() < whole, "{} of {whole} bytes", packed.0.len());
        assert_eq!(Table::new(packed).members(9).unwrap()[..], members);
    }

    #[test]
    fn members_are_complete_or_an_error() {
        let table = table(3);
        assert_eq!(table.members(3).unwrap()[2], member(2));
        assert_eq!(table.members(4), Err(BadMessage));
        assert_eq!((table.member(1), table.member(3)), (Some(member(1)), None));
        // Nobody is beside a rank that is not there, or another than it says.
        let entry = wire::encode(&Entry::Beside { pid: 1, port: 2, offer: Vec::new() });
        let damaged =
            [Packed::one(0, &entry), Packed::one(0, &wire::encode(&Entry::Whole(member(1))))];
        for packed in damaged {
            assert_eq!(Table::new(packed).members(1), Err(BadMessage));
        }
        let damaged = Table::new(Packed::one(0, b"no member"));
        assert_eq!((damaged.members(1), damaged.member(0)), (Err(BadMessage), None));
    }
}
