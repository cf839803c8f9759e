//! The communicator of this thread's last call, so that the next call on it counts no references and takes no lock.
//!
//! A handle that was destroyed meanwhile has another version, and is looked up again. A thread that makes no call any
//! more keeps what hangs on its last handle (memory, not membership: leaving is explicit) until it makes one, or ends.

use std::cell::Cell;
use std::sync::Arc;

use dure::Result;

use crate::comm::Comm;
use crate::handle::Handle;

struct Recent {
    handle: &'static Handle<Comm>,
    version: u64,
    comm: Arc<Comm>,
}

impl Recent {
    fn is_current(&self) -> bool {
        self.version == self.handle.version()
    }
}

thread_local! {
    static RECENT: Cell<Option<Recent>> = const { Cell::new(None) };
}

/// Runs something on the communicator of a handle. The place is empty meanwhile: calls from inside find their own way.
///
/// # Errors
/// `InvalidArgument` when the handle was destroyed; those of `body`.
pub(crate) fn with<R>(
    handle: &'static Handle<Comm>,
    body: impl FnOnce(&Arc<Comm>) -> Result<R>,
) -> Result<R> {
    // A thread that ends has no place any more.
    let known = RECENT.try_with(Cell::take).ok().flatten();
    let recent = match known.filter(|it| std::ptr::eq(it.handle, handle) && it.is_current()) {
        Some(recent) => recent,
        // The version is read first: if the handle changes in between, it is out of date at once.
        None => Recent { version: handle.version(), comm: handle.get()?, handle },
    };
    let result = body(&recent.comm);
    if recent.is_current() {
        let _ = RECENT.try_with(|place| place.set(Some(recent)));
    }
    result
}

/// Lets go of the communicator of this thread's last call, before it is destroyed.
pub(crate) fn forget() {
    drop(RECENT.try_with(Cell::take));
}
