//! `libdure_oneccl.so`: Dure as a back end of oneCCL, for programs that call Intel's unmodified `libccl.so.2`. `README.md` says
//! which functions it serves; this crate says how oneCCL finds them, and what its structures look like. The rest is `dure-c`.
//!
//! ```text
//!   program -> libccl.so.2   finds the plug-in by CCL_PLUGIN, makes the structures of communicators
//!           -> lib           onecclPluginCall: which function serves which call               (the only exported name)
//!           -> calls         those functions: oneCCL's arguments in, oneCCL's results out
//!           -> dure-c        what libdure.so and libnccl.so.2 do too
//! ```

#![deny(unsafe_code)]

mod calls;
#[allow(unsafe_code, reason = "oneCCL is asked through what the linker knows")]
mod dispatcher;
mod layout;
mod result;
#[allow(unsafe_code, reason = "oneCCL's structures are raw memory")]
mod theirs;

use std::ffi::{c_int, c_void};

use dure::{Config, Result};
use dure_c::config::Fields;
use dure_c::ffi::config::Further;
use dure_c::{Interface, code, environment};

/// The interface of oneCCL's plug-ins.
enum OneCcl {}

impl Interface for OneCcl {
    const PREFIX: &'static str = "oneccl";
    /// The latest version of oneCCL that is known.
    const VERSION: c_int = layout::LATEST;
    // oneCCL has no word for it. The log has.
    const DEGRADED: c_int = code::SUCCESS;
    const WINDOW_FLAGS: &'static [(&'static str, c_int)] = &[("WINDOW_COLL_SYMMETRIC", 1)];
    const AFTER_AN_ABORT: &'static [&'static str] = &["CommDestroy"];
    const JOINS_STREAMS: bool = false;
    type Further = NoFields;

    fn environment() -> Result<Config> {
        let config = Config::from_env()?;
        environment::log(&config.log)?;
        Ok(config)
    }
}

dure_c::fields! {
    /// Settings of oneCCL are not read.
    NoFields:
}

impl Further for NoFields {
    const NCCL_VERSIONS: bool = false;

    fn add_to(&self, fields: Fields) -> Result<Fields> {
        Ok(fields)
    }
}

/// The one name that oneCCL looks for: the address of the function for a call of its `onecclPluginCall_t`, or null.
#[allow(unsafe_code, reason = "the name of a function that is exported")]
#[unsafe(export_name = "onecclPluginCall")]
extern "C" fn plugin_call(call: c_int) -> *const c_void {
    match call {
        1 => calls::init as *const c_void,
        2 => calls::init_id as *const c_void,
        3 => calls::init_comm as *const c_void,
        4 => calls::init_device as *const c_void,
        6 => calls::group_start as *const c_void,
        7 => calls::group_end as *const c_void,
        8 => calls::platform_score as *const c_void,
        9 => calls::mem_alloc as *const c_void,
        10 => calls::mem_free as *const c_void,
        // Dure's own, which dure_oneccl.h asks for.
        0x4475_7201 => calls::finalize as *const c_void,
        0x4475_7202 => calls::abort as *const c_void,
        0x4475_7203 => calls::async_error as *const c_void,
        0x4475_7204 => calls::last_error as *const c_void,
        // Among others 5, INIT_KVS, which no version of oneCCL asks for.
        _ => std::ptr::null(),
    }
}
