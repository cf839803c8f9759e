//! NCCL's log: what this plug-in has to say goes there, and what Dure's transports log.

use std::ffi::{CString, c_char, c_int, c_ulong};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use dure::{Error, Result};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// `ncclDebugLogger_t`: level, subsystems, place, line, and what `printf` takes.
pub(crate) type Logger =
    unsafe extern "C" fn(c_int, c_ulong, *const c_char, c_int, *const c_char, ...);

/// `NCCL_LOG_WARN` and `NCCL_LOG_INFO`.
const WARN: c_int = 2;
const INFO: c_int = 3;
/// `NCCL_INIT` and `NCCL_NET`.
const SUBSYSTEMS: c_ulong = 1 | 16;

/// The function that the last `init` gave; null before, or when that gave none.
static LOGGER: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Logs by this function from here on.
pub(crate) fn set(logger: Option<Logger>) {
    let logger = logger.map_or(ptr::null_mut(), |logger| logger as *mut ());
    LOGGER.store(logger, Ordering::Release);
}

pub(crate) fn warn(text: &str) {
    log(WARN, text);
}

pub(crate) fn info(text: &str) {
    log(INFO, text);
}

fn log(level: c_int, text: &str) {
    let logger = LOGGER.load(Ordering::Acquire);
    if logger.is_null() {
        return;
    }
    let text: Vec<u8> = text.bytes().filter(|byte| *byte != 0).collect();
    let text = CString::new(text).expect("the NUL bytes were taken out");
    // SAFETY: `set` stored a function of this type, which NCCL keeps as long as it is loaded.
    let logger = unsafe { std::mem::transmute::<*mut (), Logger>(logger) };
    // SAFETY: the strings end with NUL, and the format takes one of them.
    unsafe { logger(level, SUBSYSTEMS, c"NET/Dure".as_ptr(), 0, c"%s".as_ptr(), text.as_ptr()) };
}

/// What `dure-rdma` says of rails that fail: this plug-in says so itself, with both ends of the connection.
const SAID: &str = "dure::net::rails=off";

/// Has what Dure's transports log, as far as it passes a filter, go to NCCL's log too.
///
/// # Errors
/// `InvalidArgument` when it is no filter.
pub(crate) fn forward(filter: &str) -> Result<()> {
    let filter = EnvFilter::builder().parse(filter).map_err(|error| {
        Error::invalid_argument(format!("DURE_LOG=\"{filter}\"")).because(error)
    })?;
    let said = SAID.parse().expect("a directive as filters have them");
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter.add_directive(said))
        .with_writer(Lines)
        .with_timer(Timeless)
        .with_level(false)
        .with_ansi(false);
    // Fails when there is a subscriber already, which then gets our events.
    let _ = subscriber.try_init();
    Ok(())
}

/// NCCL's log says the time where it is wanted.
struct Timeless;

impl FormatTime for Timeless {
    fn format_time(&self, _: &mut Writer<'_>) -> std::fmt::Result {
        Ok(())
    }
}

struct Lines;

/// A line being written, which is logged when it ends.
struct Line {
    level: c_int,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { level: INFO, bytes: Vec::new() }
    }

    fn make_writer_for(&'a self, about: &tracing::Metadata<'_>) -> Line {
        let severe = *about.level() <= tracing::Level::WARN;
        Line { level: if severe { WARN } else { INFO }, bytes: Vec::new() }
    }
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        log(self.level, String::from_utf8_lossy(&self.bytes).trim());
    }
}
