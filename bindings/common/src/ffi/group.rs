//! Groups.

use std::ffi::{c_float, c_int, c_uint};

use dure::Error;

use super::pointer::Out;
use crate::Interface;
use crate::boundary::boundary;
use crate::group;

/// `...SimInfo_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RawSimInfo {
    pub size: usize,
    pub magic: c_uint,
    pub version: c_uint,
    pub estimated_time: c_float,
}

/// What the initializer writes into `...SimInfo_t`.
pub const SIM_INFO_MAGIC: c_uint = 0x7468_5283;

pub fn group_start() -> c_int {
    boundary(|| {
        group::start();
        Ok(())
    })
}

pub fn group_end<I: Interface>() -> c_int {
    boundary(group::end::<I>)
}

pub fn group_simulate_end<I: Interface>(sim_info: Out<RawSimInfo>) -> c_int {
    boundary(|| {
        group::cancel::<I>()?;
        let magic = if sim_info.is_null() {
            SIM_INFO_MAGIC
        } else {
            sim_info.place("simInfo")?.get().magic
        };
        if magic != SIM_INFO_MAGIC {
            return Err(Error::invalid_argument(format!(
                "simInfo was not initialized: use {}",
                I::constant("SIM_INFO_INITIALIZER")
            )));
        }
        Err::<(), _>(Error::invalid_usage(
            "this version does not estimate times; the group was ended and not run",
        ))
    })
}
