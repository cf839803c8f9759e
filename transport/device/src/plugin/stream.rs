//! A stream of a device: calls of the plug-in, one at a time.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use dure_device_abi as abi;

use super::device::Open;
use crate::{Memory, Result, Space};

/// A stream, open.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) device: Arc<Open>,
    pub(super) raw: *mut abi::Stream,
}

// SAFETY: the header allows calls on a stream from any thread, one at a time.
unsafe impl Send for Stream {}

impl Stream {
    pub(super) fn open(device: Arc<Open>) -> Result<Self> {
        let mut raw = ptr::null_mut();
        let open = device.plugin.table.stream_open;
        // SAFETY: the device is open, and the argument is alive.
        let status = unsafe { open(device.raw.as_ptr(), &raw mut raw) };
        device.check("stream_open", status)?;
        Ok(Self { device, raw })
    }

    /// Tells it to do copies.
    ///
    /// # Safety
    /// What they name stays, and nobody else touches what they write, until an event behind them is complete.
    pub(super) unsafe fn copy(&self, copies: &[abi::Copy]) -> abi::Status {
        let count = u32::try_from(copies.len()).expect("a few copies");
        // SAFETY: the stream is open, the array is as long as is said; the rest is the caller's promise.
        unsafe { (self.device.plugin.table.copy)(self.raw, copies.as_ptr(), count) }
    }

    /// An event behind all that it was told.
    pub(super) fn record(&self) -> Result<u64> {
        let mut event = 0;
        // SAFETY: the stream is open, and the argument is alive.
        let status = unsafe { (self.device.plugin.table.record)(self.raw, &raw mut event) };
        self.device.check("record", status)?;
        Ok(event)
    }

    /// The last event that is complete.
    pub(super) fn completed(&self) -> Result<u64> {
        let mut event = 0;
        // SAFETY: the stream is open, and the argument is alive.
        let status = unsafe { (self.device.plugin.table.completed)(self.raw, &raw mut event) };
        self.device.check("completed", status)?;
        Ok(event)
    }
}

/// A stream of the maker's own, which its owner goes on using.
#[derive(Debug)]
pub struct Joined(Stream);

impl Joined {
    /// Joins a stream of the maker's own.
    pub(super) fn new(device: Arc<Open>, native: *mut c_void) -> Result<Self> {
        let unsupported = || device.failed("stream_join", abi::UNSUPPORTED);
        let join = device.plugin.table.stream_join.filter(|_| device.description.can(abi::JOIN));
        let join = join.ok_or_else(unsupported)?;
        let mut raw = ptr::null_mut();
        // SAFETY: the device is open, and the argument is alive; the native stream is the maker's affair.
        let status = unsafe { join(device.raw.as_ptr(), native, &raw mut raw) };
        device.check("stream_join", status)?;
        Ok(Self(Stream { device, raw }))
    }

    /// A number that is complete when all that the stream holds now is done; and has what it is told next wait until
    /// [`Joined::release`] with the other number.
    ///
    /// # Errors
    /// Those of a device.
    pub fn part(&mut self) -> Result<(u64, u64)> {
        let device = &self.0.device;
        let before = self.0.record()?;
        let hold =
            device.plugin.table.hold.ok_or_else(|| device.failed("hold", abi::UNSUPPORTED))?;
        let mut number = 0;
        // SAFETY: the stream is open, and the argument is alive.
        device.check("hold", unsafe { hold(self.0.raw, &raw mut number) })?;
        Ok((before, number))
    }

    /// The last number that is complete.
    ///
    /// # Errors
    /// Those of a device.
    pub fn completed(&mut self) -> Result<u64> {
        self.0.completed()
    }

    /// Has the stream go on, up to a hold. A device that is gone holds nobody.
    pub fn release(&self, number: u64) {
        if let Some(release) = self.0.device.plugin.table.release {
            // SAFETY: the stream is open; the header allows this at any time.
            let _ = unsafe { release(self.0.raw, number) };
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: it was opened, and is not used any more. What it was told is done nevertheless.
        let _ = unsafe { (self.device.plugin.table.stream_close)(self.raw) };
    }
}

/// A copy of one row.
pub(super) fn copy_of(src: Memory, dst: Memory) -> abi::Copy {
    let host = |memory: Memory| u32::from(memory.space == Space::Host);
    abi::Copy {
        size: abi::size::<abi::Copy>(),
        src_is_host: host(src),
        dst_is_host: host(dst),
        rows: 1,
        src: src.ptr.as_ptr().cast_const().cast(),
        dst: dst.ptr.as_ptr().cast(),
        bytes: src.len as u64,
        src_pitch: 0,
        dst_pitch: 0,
    }
}
