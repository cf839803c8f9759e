//! Streams.

#![allow(
    clippy::disallowed_types,
    reason = "tables that change when streams are made and ended, and that calls look into once"
)]

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dure::{Error, Result, Stream, devices};

use super::pointer::{Out, StreamPtr};
use crate::Interface;
use crate::boundary::{Done, boundary};
use crate::code;
use crate::environment;
use crate::handle::{Graveyard, Kind};

/// Addresses of all handles of streams. Programs have streams of other makers (CUDA's), whose addresses may not be followed.
fn ours() -> MutexGuard<'static, BTreeSet<usize>> {
    static OURS: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kind for Stream {
    const ARGUMENT: &'static str = "stream";
    const NO_HANDLE: &'static str =
        "stream is not a handle of its kind (allowed: NULL and streams of this library)";
    const MAGIC: u64 = u64::from_le_bytes(*b"dureFlow");

    fn graveyard() -> &'static Graveyard<Self> {
        static GRAVEYARD: Graveyard<Stream> = Mutex::new(VecDeque::new());
        &GRAVEYARD
    }

    fn may_follow(address: usize) -> bool {
        ours().contains(&address)
    }
}

pub fn stream_create(stream: Out<StreamPtr>) -> c_int {
    boundary(|| {
        let place = stream.place("stream")?;
        let handle = StreamPtr::new(Arc::new(Stream::new()));
        ours().insert(handle.address());
        place.set(handle);
        Ok(())
    })
}

/// A stream that keeps the order of one of a device's maker, which `native` is: nothing here follows it. `device` counts those that
/// `DURE_DEVICE` names.
pub fn stream_join<I: Interface>(
    native: StreamPtr,
    device: c_int,
    stream: Out<StreamPtr>,
) -> c_int {
    boundary(|| {
        let place = stream.place("stream")?;
        let opened = devices::open(&environment::config::<I>()?)?;
        let found = usize::try_from(device).ok().and_then(|at| opened.get(at));
        let found = found.ok_or_else(|| no_device(device, opened.len()))?;
        // SAFETY: the caller in C promised that it is a stream of this device, and stays as long.
        let joined = unsafe { Stream::join(found, native.native()) }?;
        let handle = StreamPtr::new(Arc::new(joined));
        ours().insert(handle.address());
        place.set(handle);
        Ok(())
    })
}

/// Joins a stream of a device's maker that a call names: of the first device that `DURE_DEVICE` names.
pub(crate) fn join_named<I: Interface>(native: *mut c_void) -> Result<Stream> {
    let device = devices::open(&environment::config::<I>()?)?.into_iter().next();
    let device = device.ok_or_else(|| {
        let text =
            "stream is not of this library, and DURE_DEVICE names no device that it could be of";
        Error::invalid_argument(text)
    })?;
    // SAFETY: the caller in C promised that it is a stream of the device that its buffers are on, and stays until the calls on it
    // are done.
    unsafe { Stream::join(&device, native) }
}

fn no_device(device: c_int, count: usize) -> Error {
    Error::invalid_argument(match count.checked_sub(1) {
        None => format!("device {device} is none: DURE_DEVICE names no devices"),
        Some(last) => {
            format!("device {device} is none (allowed: 0 to {last}, as DURE_DEVICE names them)")
        }
    })
}

pub fn stream_destroy(stream: StreamPtr) -> c_int {
    if stream.is_null() {
        return code::SUCCESS;
    }
    boundary(|| stream.find()?.take().map(drop))
}

pub fn stream_synchronize(stream: StreamPtr) -> c_int {
    if stream.is_null() {
        return code::SUCCESS;
    }
    boundary(|| stream.get()?.synchronize())
}

pub fn stream_query(stream: StreamPtr) -> c_int {
    if stream.is_null() {
        return code::SUCCESS;
    }
    boundary(|| {
        let stream = stream.get()?;
        if !stream.is_idle() {
            return Ok(Done::InProgress);
        }
        // Its last call is done: this only says how.
        stream.synchronize().map(Done::from)
    })
}
