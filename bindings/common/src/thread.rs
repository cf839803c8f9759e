//! What a calling thread has of its own: how deep in groups it is, and the communicator of its last call.
//!
//! A call on the communicator of the call before counts no references and takes no lock. A handle that was destroyed
//! meanwhile has another version, and is looked up again. A thread that makes no call any more keeps what hangs on its
//! last handle (memory, not membership: leaving is explicit) until it makes one, or ends.

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

struct Thread {
    /// Groups that began and have not ended.
    depth: Cell<u32>,
    /// Taken out during a call: one from inside it finds its own way.
    recent: Cell<Option<Recent>>,
}

thread_local! {
    static THREAD: Thread = const { Thread { depth: Cell::new(0), recent: Cell::new(None) } };
}

/// Runs something on the communicator of a handle; the second argument of `body` is whether a group is open.
///
/// # Errors
/// `InvalidArgument` when the handle was destroyed; those of `body`.
#[inline]
pub(crate) fn with<R>(
    handle: &'static Handle<Comm>,
    body: impl FnOnce(&Arc<Comm>, bool) -> Result<R>,
) -> Result<R> {
    THREAD.with(|thread| {
        let recent = match thread.recent.take() {
            Some(it) if std::ptr::eq(it.handle, handle) && it.is_current() => it,
            // The version is read first: if the handle changes in between, it is out of date at once.
            _ => Recent { version: handle.version(), comm: handle.get()?, handle },
        };
        let result = body(&recent.comm, thread.depth.get() > 0);
        if recent.is_current() {
            thread.recent.set(Some(recent));
        }
        result
    })
}

/// Lets go of the communicator of this thread's last call, before it is destroyed.
pub(crate) fn forget() {
    drop(THREAD.try_with(|thread| thread.recent.take()));
}

/// How many groups are open.
pub(crate) fn depth() -> u32 {
    THREAD.with(|thread| thread.depth.get())
}

/// Opens or closes groups.
pub(crate) fn set_depth(depth: u32) {
    THREAD.with(|thread| thread.depth.set(depth));
}
