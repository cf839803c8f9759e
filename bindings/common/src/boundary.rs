//! The boundary that every entry point passes: no panic goes on into C, and errors become a code and a text.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use dure::{Error, Result};

use crate::comm::Comm;
use crate::handle::Handle;
use crate::{code, group, thread};

/// How a call ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Finished,
    /// It goes on in the background.
    InProgress,
}

impl From<()> for Done {
    fn from((): ()) -> Self {
        Self::Finished
    }
}

thread_local! {
    /// Text of this thread's last error.
    static LAST: RefCell<CString> = RefCell::default();
    /// What `...GetLastError` showed last: stays in place until it is called again.
    static SHOWN: RefCell<CString> = RefCell::default();
}

/// Runs the body of an entry point.
pub(crate) fn boundary<R: Into<Done>>(body: impl FnOnce() -> Result<R>) -> c_int {
    report(guard(body), None)
}

/// Runs the body of an entry point on a communicator, which remembers the text of an error too.
pub(crate) fn boundary_on<R: Into<Done>>(
    find: impl FnOnce() -> Result<Arc<Comm>>,
    body: impl FnOnce(&Arc<Comm>) -> Result<R>,
) -> c_int {
    match guard(find) {
        Ok(comm) => report(guard(|| body(&comm)), Some(&comm)),
        Err(error) => report(Err::<(), _>(error), None),
    }
}

/// Runs the body of a call on a communicator: as [`boundary_on`], for what happens again and again. The second argument
/// of `body` is whether a group is open.
#[inline]
pub(crate) fn boundary_again(
    find: impl FnOnce() -> Result<&'static Handle<Comm>>,
    body: impl FnOnce(&Arc<Comm>, bool) -> Result<()>,
) -> c_int {
    let mut found = None;
    match guard(|| thread::with(found.insert(find()?), body)) {
        Ok(()) => code::SUCCESS,
        Err(error) => report_on(found, error),
    }
}

#[cold]
fn report_on(found: Option<&'static Handle<Comm>>, error: Error) -> c_int {
    let comm = found.and_then(|handle| handle.get().ok());
    report(Err::<(), _>(error), comm.as_ref())
}

/// Runs something that may panic.
///
/// # Errors
/// Its own; `Internal` for a panic.
pub fn guard<R>(body: impl FnOnce() -> Result<R>) -> Result<R> {
    // What the body touched may be half done, but nothing of it is looked at before it is locked again, and locks that a
    // panic poisoned are taken as they are: better an odd answer than a dead host program.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(panicked(payload.as_ref())))
}

fn panicked(payload: &(dyn Any + Send)) -> Error {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    Error::internal(format!("a panic: {}", text.unwrap_or("without a text")))
}

fn report<R: Into<Done>>(result: Result<R>, comm: Option<&Arc<Comm>>) -> c_int {
    match result.map(Into::into) {
        Ok(Done::Finished) => code::SUCCESS,
        Ok(Done::InProgress) => code::IN_PROGRESS,
        Err(error) => {
            let text = comm.map_or_else(|| c_text(&error.chain()), |comm| comm.note(&error));
            LAST.with_borrow_mut(|last| *last = text);
            group::fail(&error);
            code::of(error.kind)
        }
    }
}

/// A text as C has it. NUL bytes inside, which no text of ours has, would end it early: they are left out.
pub(crate) fn c_text(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().filter(|byte| *byte != 0).collect();
    CString::new(bytes).expect("the NUL bytes were taken out")
}

/// The text of this thread's last error.
pub(crate) fn last() -> CString {
    LAST.with_borrow(CString::clone)
}

/// Keeps a text for this thread until the next one, and says where it is.
pub(crate) fn show(text: CString) -> *const c_char {
    SHOWN.with_borrow_mut(|shown| {
        *shown = text;
        shown.as_ptr()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_text() -> String {
        last().into_string().unwrap()
    }

    #[test]
    fn a_panic_becomes_an_internal_error_with_its_text() {
        let reached = boundary(|| -> Result<()> { panic!("planted {}", 7) });
        assert_eq!(reached, code::INTERNAL_ERROR);
        assert_eq!(last_text(), "a panic: planted 7 (Internal)");
        assert_eq!(
            boundary(|| -> Result<()> { std::panic::panic_any(7_u8) }),
            code::INTERNAL_ERROR
        );
        assert_eq!(last_text(), "a panic: without a text (Internal)");
    }

    #[test]
    fn errors_give_code_and_text_and_success_leaves_the_text() {
        assert_eq!(boundary(|| Err::<(), _>(Error::timeout("late").on(2))), code::TIMEOUT);
        assert_eq!(boundary(|| Ok(())), code::SUCCESS);
        assert_eq!(boundary(|| Ok(Done::InProgress)), code::IN_PROGRESS);
        assert_eq!(last_text(), "late (Timeout, rank 2)");
    }

    #[test]
    fn each_thread_has_its_own_text() {
        boundary(|| Err::<(), _>(Error::system("mine")));
        std::thread::spawn(|| boundary(|| Err::<(), _>(Error::system("theirs")))).join().unwrap();
        assert_eq!(last_text(), "mine (System)");
    }

    #[test]
    fn a_text_loses_its_nul_bytes_only() {
        assert_eq!(c_text("a\0b").to_str().unwrap(), "ab");
    }
}
