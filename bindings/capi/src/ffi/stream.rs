//! Streams.

#![allow(clippy::disallowed_types, reason = "the type that the list of destroyed handles has")]

use std::collections::VecDeque;
use std::ffi::c_int;
use std::sync::{Arc, Mutex};

use dure::Stream;

use super::pointer::{Out, StreamPtr};
use crate::boundary::{Done, boundary};
use crate::code;
use crate::handle::{Graveyard, Kind};

impl Kind for Stream {
    const ARGUMENT: &'static str = "stream";
    const MAGIC: u64 = u64::from_le_bytes(*b"dureFlow");

    fn graveyard() -> &'static Graveyard<Self> {
        static GRAVEYARD: Graveyard<Stream> = Mutex::new(VecDeque::new());
        &GRAVEYARD
    }
}

#[unsafe(no_mangle)]
extern "C" fn dureStreamCreate(stream: Out<StreamPtr>) -> c_int {
    boundary(|| {
        stream.place("stream")?.set(StreamPtr::new(Arc::new(Stream::new())));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn dureStreamDestroy(stream: StreamPtr) -> c_int {
    if stream.is_null() {
        return code::SUCCESS;
    }
    boundary(|| stream.find()?.take().map(drop))
}

#[unsafe(no_mangle)]
extern "C" fn dureStreamSynchronize(stream: StreamPtr) -> c_int {
    if stream.is_null() {
        return code::SUCCESS;
    }
    boundary(|| stream.get()?.synchronize())
}

#[unsafe(no_mangle)]
extern "C" fn dureStreamQuery(stream: StreamPtr) -> c_int {
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
