//! Streams.

#![allow(
    clippy::disallowed_types,
    reason = "tables that change when streams are made and ended, and that calls look into once"
)]

use std::collections::{BTreeSet, VecDeque};
use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dure::Stream;

use super::pointer::{Out, StreamPtr};
use crate::boundary::{Done, boundary};
use crate::code;
use crate::handle::{Graveyard, Kind};

/// Addresses of all handles of streams. Programs have streams of other makers (CUDA's), whose addresses may not be followed.
fn ours() -> MutexGuard<'static, BTreeSet<usize>> {
    static OURS: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kind for Stream {
    const ARGUMENT: &'static str = "stream";
    const NO_HANDLE: &'static str = "stream is not a handle of its kind \
        (allowed: NULL and streams of this library; there is no support for CUDA's)";
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
