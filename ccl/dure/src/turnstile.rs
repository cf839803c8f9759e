//! The turnstile: lets one thread at a time in, and lets it out with a store.
//!
//! An ordinary lock is left with an atomic exchange, to see whether somebody sleeps at it. Nobody sleeps here: threads
//! that find somebody inside mostly have no reason to wait for that one to come out, and those that have look again.

use std::cell::UnsafeCell;
use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Looks at who is inside before resting between them.
const YIELDS: u32 = 100;
/// Rest between two looks.
const REST: Duration = Duration::from_micros(100);

/// Something that one thread at a time may use.
pub(crate) struct Turnstile<T> {
    taken: AtomicBool,
    /// A thread panicked inside.
    spoilt: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `taken` lets one thread at a time to the value, which moves between threads by that.
#[allow(unsafe_code, reason = "a lock")]
unsafe impl<T: Send> Sync for Turnstile<T> {}

impl<T> Debug for Turnstile<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turnstile").finish_non_exhaustive()
    }
}

/// The right to use what is inside.
#[derive(Debug)]
pub(crate) struct Inside<'t, T> {
    of: &'t Turnstile<T>,
    /// The thread was unwinding already when it came in.
    panicking: bool,
    /// It is as good as an exclusive borrow, and may go where one may.
    value: PhantomData<&'t mut T>,
}

impl<T> Turnstile<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            taken: AtomicBool::new(false),
            spoilt: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// In, unless another thread is.
    #[inline]
    pub(crate) fn try_enter(&self) -> Option<Inside<'_, T>> {
        // The load first: whoever looks again and again must not take the line from the one inside.
        let free = !self.taken.load(Ordering::Relaxed) && !self.taken.swap(true, Ordering::Acquire);
        free.then(|| Inside { of: self, panicking: std::thread::panicking(), value: PhantomData })
    }

    /// In, as soon as the others are out.
    pub(crate) fn enter(&self) -> Inside<'_, T> {
        let mut looks = 0;
        loop {
            if let Some(inside) = self.try_enter() {
                return inside;
            }
            looks += 1;
            if looks < YIELDS { std::thread::yield_now() } else { std::thread::park_timeout(REST) }
        }
    }

    /// Whether a thread panicked inside, and left things in no known state.
    pub(crate) fn is_spoilt(&self) -> bool {
        self.spoilt.load(Ordering::Relaxed)
    }
}

#[allow(unsafe_code, reason = "a lock")]
impl<T> Deref for Inside<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: whoever has this is the only one inside.
        unsafe { &*self.of.value.get() }
    }
}

#[allow(unsafe_code, reason = "a lock")]
impl<T> DerefMut for Inside<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: whoever has this is the only one inside, and the borrow of it is exclusive.
        unsafe { &mut *self.of.value.get() }
    }
}

impl<T> Drop for Inside<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.panicking && std::thread::panicking() {
            self.of.spoilt.store(true, Ordering::Relaxed);
        }
        self.of.taken.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_at_a_time_is_inside() {
        let turnstile = Turnstile::new(0_u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let mut inside = turnstile.enter();
                        let seen = *inside;
                        std::hint::black_box(&mut inside);
                        *inside = seen + 1;
                    }
                });
            }
        });
        assert_eq!(*turnstile.enter(), 8000);
        let inside = turnstile.try_enter().unwrap();
        assert!(turnstile.try_enter().is_none());
        drop(inside);
        assert!(turnstile.try_enter().is_some() && !turnstile.is_spoilt());
    }

    #[test]
    fn a_panic_inside_is_remembered() {
        let turnstile = Turnstile::new(());
        let panicked = std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let _inside = turnstile.enter();
                panic!("planted");
            });
            inside.join()
        });
        panicked.unwrap_err();
        assert!(turnstile.try_enter().is_some() && turnstile.is_spoilt());
    }
}
