//! What a handle in C points to.
//!
//! A destroyed handle must be recognised, not followed into freed memory: programs destroy twice. So the small object
//! that a handle points to outlives what it stands for. It is emptied when it is destroyed, and used again only after
//! [`QUARANTINE`] others: a stale handle is an error for a long time, and memory stays bounded.

#![allow(
    clippy::disallowed_types,
    reason = "taken for the time of a clone, by whoever uses the handle"
)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dure::{Error, Result};

/// Destroyed handles that are kept before the oldest is used again. A hundred bytes each.
const QUARANTINE: usize = 1024;

/// A kind of object that C holds a handle of.
pub(crate) trait Kind: Sized + Send + Sync + 'static {
    /// The name of the argument in the header.
    const ARGUMENT: &'static str;
    /// What is said of an argument that is none.
    const NO_HANDLE: &'static str;
    /// The first word of every handle of this kind.
    const MAGIC: u64;

    /// Destroyed handles of this kind.
    fn graveyard() -> &'static Graveyard<Self>;

    /// Whether memory at an address may be looked at to see whether it is a handle. The caller in C promised that it is
    /// one; a kind that programs have from other libraries too must know better.
    fn may_follow(_address: usize) -> bool {
        true
    }
}

/// Destroyed handles, oldest first.
pub(crate) type Graveyard<T> = Mutex<VecDeque<&'static Handle<T>>>;

/// The object behind a handle.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Handle<T> {
    magic: u64,
    /// Counts the changes of the object.
    version: AtomicU64,
    object: Mutex<Option<Arc<T>>>,
}

impl<T: Kind> Handle<T> {
    /// A handle of an object.
    pub(crate) fn new(object: Arc<T>) -> &'static Self {
        let mut graveyard = T::graveyard().lock().unwrap_or_else(PoisonError::into_inner);
        if graveyard.len() > QUARANTINE
            && let Some(old) = graveyard.pop_front()
        {
            *old.object.lock().unwrap_or_else(PoisonError::into_inner) = Some(object);
            old.version.fetch_add(1, Ordering::Release);
            return old;
        }
        let (version, object) = (AtomicU64::new(0), Mutex::new(Some(object)));
        Box::leak(Box::new(Self { magic: T::MAGIC, version, object }))
    }

    /// Whether this is a handle of its kind.
    pub(crate) fn is_genuine(&self) -> bool {
        self.magic == T::MAGIC
    }

    /// The version of the object: while it stays, so does the object.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The object.
    ///
    /// # Errors
    /// `InvalidArgument` when it was destroyed.
    pub(crate) fn get(&self) -> Result<Arc<T>> {
        self.object
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or_else(Self::destroyed)
    }

    /// The object, for the last time.
    ///
    /// # Errors
    /// `InvalidArgument` when it was destroyed before.
    pub(crate) fn take(&'static self) -> Result<Arc<T>> {
        let object = self
            .object
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(Self::destroyed)?;
        self.version.fetch_add(1, Ordering::Release);
        T::graveyard().lock().unwrap_or_else(PoisonError::into_inner).push_back(self);
        Ok(object)
    }

    fn destroyed() -> Error {
        Error::invalid_argument(format!("{} was destroyed before", T::ARGUMENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Thing(usize);

    static GRAVEYARD: Graveyard<Thing> = Mutex::new(VecDeque::new());

    impl Kind for Thing {
        const ARGUMENT: &'static str = "thing";
        const NO_HANDLE: &'static str = "no thing";
        const MAGIC: u64 = 7;

        fn graveyard() -> &'static Graveyard<Self> {
            &GRAVEYARD
        }
    }

    #[test]
    fn a_destroyed_handle_is_an_error_and_is_used_again_after_many_others() {
        let first = Handle::new(Arc::new(Thing(0)));
        assert!(first.is_genuine());
        assert_eq!(first.get().unwrap().0, 0);
        let version = first.version();
        first.take().unwrap();
        assert_ne!(first.version(), version);
        assert_eq!(first.take().unwrap_err().what, "thing was destroyed before");
        assert_eq!(first.get().unwrap_err().what, "thing was destroyed before");
        let mut used_again = None;
        for count in 1..=2 * QUARANTINE {
            let next = Handle::new(Arc::new(Thing(count)));
            if std::ptr::eq(next, first) {
                used_again = Some(count);
                break;
            }
            next.take().unwrap();
        }
        assert_eq!(used_again, Some(QUARANTINE + 1));
    }
}
