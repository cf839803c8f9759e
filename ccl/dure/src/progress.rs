//! The progress thread: one per process, started by the first call that nobody waits for, asleep when nothing is under
//! way.

#![allow(
    clippy::disallowed_types,
    reason = "a list that changes when a communicator starts or ends its calls"
)]

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::communicator::Inner;
use crate::engine::Turn;
use crate::error::{Error, Result};
use crate::wait;

/// Turns of all communicators without movement before the thread yields, and before it sleeps. Callers that wait turn
/// their engines themselves: this thread is for those that do not, and does not take their cores.
const SPINS: u32 = 100;
const YIELDS: u32 = 100;

#[derive(Debug)]
struct Shared {
    /// Communicators with calls under way.
    members: Mutex<Vec<Weak<Inner>>>,
    bell: EventFd,
}

static SHARED: OnceLock<Arc<Shared>> = OnceLock::new();

/// Has the progress thread move a communicator until it has nothing left to do.
///
/// # Errors
/// `System` when the thread cannot be started.
pub(crate) fn watch(inner: &Arc<Inner>) -> Result<()> {
    let shared = match SHARED.get() {
        Some(shared) => shared,
        None => start()?,
    };
    let mut members = shared.members.lock().unwrap_or_else(PoisonError::into_inner);
    if !members.iter().any(|member| std::ptr::eq(member.as_ptr(), Arc::as_ptr(inner))) {
        members.push(Arc::downgrade(inner));
    }
    drop(members);
    // The counter cannot overflow: the thread reads it before it sleeps.
    let _ = shared.bell.write(1);
    Ok(())
}

fn start() -> Result<&'static Arc<Shared>> {
    let system = |call| move |source: nix::Error| Error::system(call).because(source);
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let bell = EventFd::from_flags(flags).map_err(system("eventfd for the progress thread"))?;
    let shared = Arc::new(Shared { members: Mutex::new(Vec::new()), bell });
    let mut failed = None;
    let kept = SHARED.get_or_init(|| {
        let theirs = Arc::clone(&shared);
        let spawned = std::thread::Builder::new()
            .name("dure-progress".to_owned())
            .spawn(move || run(&theirs));
        failed = spawned.err();
        shared
    });
    match failed {
        Some(source) => Err(Error::system("the progress thread").because(source)),
        None => Ok(kept),
    }
}

fn run(shared: &Shared) {
    let mut idle = 0;
    loop {
        let members: Vec<Arc<Inner>> = {
            let mut members = shared.members.lock().unwrap_or_else(PoisonError::into_inner);
            members.retain(|member| member.upgrade().is_some_and(|inner| inner.has_work()));
            members.iter().filter_map(Weak::upgrade).collect()
        };
        let moved = members.iter().filter(|inner| turn(inner) == Turn::Moved).count() > 0;
        if moved {
            idle = 0;
            continue;
        }
        idle += 1;
        if idle < SPINS {
            std::hint::spin_loop();
        } else if idle < SPINS + YIELDS {
            std::thread::yield_now();
        } else {
            sleep(shared, &members);
        }
    }
}

/// Turns an engine. A panic (in a user's reduction, say) ends its communicator, not this thread.
fn turn(inner: &Inner) -> Turn {
    catch_unwind(AssertUnwindSafe(|| inner.turn())).unwrap_or(Turn::Moved)
}

/// Sleeps until a communicator may be able to move, or another one comes.
fn sleep(shared: &Shared, members: &[Arc<Inner>]) {
    let mut bells = vec![shared.bell.as_fd()];
    for inner in members {
        inner.attend_to_stall();
        match inner.arm() {
            Some(doorbells) => bells.extend(doorbells),
            None => return,
        }
    }
    let at_most = members.iter().map(|inner| inner.nap()).min().unwrap_or(wait::FOREVER);
    wait::sleep(bells.into_iter(), at_most);
    // Nothing to read is as good as something.
    let _ = shared.bell.read();
}
