//! What is left to do when a process ends that has not ended its communicators.

use std::sync::Once;

use nix::libc;

use super::seat::leave_all;

/// Has the claims of this process freed when it exits, though its communicators were not ended. (When it is killed they stay.)
pub(super) fn free_claims_at_exit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        extern "C" fn leave() {
            leave_all();
        }
        // SAFETY: a function that lives as long as this library, and cannot unwind: it locks nothing that it would wait for, and
        // writes to memory that is mapped as long as the tenancies that it finds. The system has room for 32 such functions at
        // least, and answers otherwise when there is none: then the claims stay, as when the process is killed.
        unsafe { libc::atexit(leave) };
    });
}
