//! What is asked of oneCCL itself: which version it is, and to keep the text of an error.
//!
//! Nothing is linked to it. Programs have it as `libccl.so.2`, however that was loaded; some are built from its sources and
//! export its functions themselves.

use std::ffi::{CStr, c_char, c_int};
use std::sync::OnceLock;

use dure_c::ffi::library::get_last_error;
use dure_c::ffi::pointer::CommPtr;
use libloading::os::unix::{Library, RTLD_LAZY};

type GetVersion = unsafe extern "C" fn(*mut c_int) -> c_int;
type DebugLog = unsafe extern "C" fn(c_int, *const c_char, c_int, *const c_char, ...);

/// The level of oneCCL's log by which a text is kept for `onecclGetLastError`, without the stack trace that errors get.
const WARN: c_int = 2;

/// A function of oneCCL.
///
/// # Safety
/// oneCCL has it with this type.
unsafe fn find<F: Copy>(name: &str) -> Option<F> {
    // SAFETY: nothing is loaded, and so nothing of it is run: only what is there already is found.
    let loaded = unsafe { Library::open(Some("libccl.so.2"), RTLD_LAZY | libc::RTLD_NOLOAD) };
    let library = loaded.unwrap_or_else(|_| Library::this());
    // SAFETY: the caller promised the type.
    let function = unsafe { library.get::<F>(name) };
    // It stays where it is when `library` goes: oneCCL is there for as long as it calls.
    function.ok().map(|function| *function)
}

/// Whether oneCCL exports a function of this name.
pub(crate) fn exports(name: &str) -> bool {
    // SAFETY: every function has an address, and nothing is done with it.
    unsafe { find::<*const ()>(name) }.is_some()
}

/// The number of the version, as `onecclGetVersion` has it. It may be asked for once oneCCL has taken this library as the
/// calling thread's plug-in, which it asks itself first.
pub(crate) fn version() -> Option<c_int> {
    // SAFETY: oneCCL's header declares it so.
    let get_version: GetVersion = unsafe { find("onecclGetVersion") }?;
    let mut version = 0;
    // SAFETY: the place is this function's own.
    let result = unsafe { get_version(&raw mut version) };
    (result == 0).then_some(version)
}

/// Has oneCCL log the text of this thread's last error, and keep it.
pub(crate) fn report_last() {
    static LOG: OnceLock<Option<DebugLog>> = OnceLock::new();
    let text = get_last_error(CommPtr::NULL);
    // SAFETY: oneCCL's own plug-ins call it so.
    let log = LOG.get_or_init(|| unsafe { find("onecclDebugLog") });
    let Some(log) = log else {
        // SAFETY: `get_last_error` gives a text that stays until it is called again on this thread.
        let text = unsafe { CStr::from_ptr(text) };
        tracing::warn!(target: "dure::init", "{}", text.to_string_lossy());
        return;
    };
    // SAFETY: the format takes one text, which stays as above; oneCCL keeps a copy.
    unsafe { log(WARN, c"dure".as_ptr(), 0, c"%s".as_ptr(), text) }
}
