//! Groups.

use std::ffi::{c_float, c_int, c_uint};

use dure::Error;

use super::pointer::Out;
use crate::boundary::boundary;
use crate::group;

/// `dureSimInfo_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct RawSimInfo {
    pub(super) size: usize,
    pub(super) magic: c_uint,
    pub(super) version: c_uint,
    pub(super) estimated_time: c_float,
}

/// What the initializer writes into `dureSimInfo_t`.
pub(super) const SIM_INFO_MAGIC: c_uint = 0x7468_5283;

#[unsafe(no_mangle)]
extern "C" fn dureGroupStart() -> c_int {
    boundary(|| {
        group::start();
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn dureGroupEnd() -> c_int {
    boundary(group::end)
}

#[unsafe(no_mangle)]
extern "C" fn dureGroupSimulateEnd(sim_info: Out<RawSimInfo>) -> c_int {
    boundary(|| {
        group::cancel()?;
        let magic = if sim_info.is_null() {
            SIM_INFO_MAGIC
        } else {
            sim_info.place("simInfo")?.get().magic
        };
        if magic != SIM_INFO_MAGIC {
            return Err(Error::invalid_argument(
                "simInfo was not initialized: use DURE_SIM_INFO_INITIALIZER",
            ));
        }
        Err::<(), _>(Error::invalid_usage(
            "this version does not estimate times; the group was ended and not run",
        ))
    })
}
