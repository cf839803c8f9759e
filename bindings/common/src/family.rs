//! Ranks of one communicator that live in this process, and how they leave it.
//!
//! Leaving is collective: each rank waits until all have come. A program that has several ranks in one thread destroys
//! them one after the other, so none but the last may wait. They gather here, and the last one waits for all.

#![allow(clippy::disallowed_types, reason = "taken when a communicator is made or ended")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;

use dure::{Communicator, Error, Result, UniqueId};

/// The ranks of one communicator in this process.
#[derive(Debug, Default)]
pub(crate) struct Family {
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    /// Ranks that joined and have not dropped out; those in `leaving` count.
    present: usize,
    leaving: Vec<Arc<Communicator>>,
    /// The id by which new ranks are to meet them, and how many of them have yet to take it.
    growing: Option<(UniqueId, usize)>,
}

/// Makes a rank a member of the family of its communicator, before it meets the other ranks.
pub(crate) fn join(key: &[u8]) -> Arc<Family> {
    static FAMILIES: OnceLock<Mutex<HashMap<Vec<u8>, Weak<Family>>>> = OnceLock::new();
    let mut families =
        FAMILIES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    families.retain(|_, family| family.strong_count() > 0);
    let family = families.get(key).and_then(Weak::upgrade).unwrap_or_default();
    families.insert(key.to_vec(), Arc::downgrade(&family));
    family.members.lock().unwrap_or_else(PoisonError::into_inner).present += 1;
    family
}

impl Family {
    /// Keeps the id by which new ranks are to meet the members, for each of them to take once.
    pub(crate) fn give_id(&self, id: UniqueId) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.growing = Some((id, members.present));
    }

    /// The id that a member gave for all of them.
    pub(crate) fn take_id(&self) -> Option<UniqueId> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, takers) = members.growing.take()?;
        members.growing = takers.checked_sub(2).map(|left| (id, left + 1));
        Some(id)
    }

    /// A member leaves in order. The last one waits until all ranks of the communicator have left, everywhere.
    ///
    /// # Errors
    /// The first error of those that left together.
    pub(crate) fn leave(&self, communicator: Arc<Communicator>) -> Result<()> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.leaving.push(communicator);
        if members.leaving.len() < members.present {
            return Ok(());
        }
        let all = std::mem::take(&mut *members).leaving;
        drop(members);
        finalize(&all)
    }

    /// A member is gone, by an abort or because it never met the others. Those that wait for it to leave then go too.
    pub(crate) fn drop_out(&self) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.present = members.present.saturating_sub(1);
        if members.leaving.len() == members.present {
            let all = std::mem::take(&mut *members).leaving;
            drop(members);
            drop(all);
        }
    }
}

/// Finalizes ranks of one communicator side by side.
fn finalize(ranks: &[Arc<Communicator>]) -> Result<()> {
    let Some((last, others)) = ranks.split_last() else { return Ok(()) };
    thread::scope(|scope| {
        let start = |rank: &Arc<Communicator>| {
            let rank = Arc::clone(rank);
            scope.spawn(move || rank.finalize())
        };
        let threads: Vec<_> = others.iter().map(start).collect();
        let mut result = last.finalize();
        for thread in threads {
            let theirs = thread
                .join()
                .unwrap_or_else(|_| Err(Error::internal("a rank panicked when it left")));
            result = result.and(theirs);
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone() -> Arc<Communicator> {
        Arc::new(Communicator::builder().connect().unwrap())
    }

    #[test]
    fn the_last_of_a_family_takes_the_others_along() {
        let (a, b) = (join(b"one"), join(b"one"));
        assert!(Arc::ptr_eq(&a, &b));
        assert!(!Arc::ptr_eq(&a, &join(b"two")));
        let (first, second) = (alone(), alone());
        a.leave(Arc::clone(&first)).unwrap();
        assert_eq!(Arc::strong_count(&first), 2, "it waits for the other");
        b.leave(second).unwrap();
        assert_eq!(Arc::strong_count(&first), 1);
    }

    #[test]
    fn each_member_takes_an_id_once() {
        let (a, b) = (join(b"four"), join(b"four"));
        assert_eq!(a.take_id(), None);
        b.give_id(UniqueId([7; 128]));
        assert_eq!(a.take_id(), Some(UniqueId([7; 128])));
        assert_eq!(b.take_id(), Some(UniqueId([7; 128])));
        assert_eq!(b.take_id(), None);
    }

    #[test]
    fn nobody_waits_for_a_member_that_dropped_out() {
        let (a, b) = (join(b"three"), join(b"three"));
        let first = alone();
        a.leave(Arc::clone(&first)).unwrap();
        b.drop_out();
        assert_eq!(Arc::strong_count(&first), 1);
    }
}
