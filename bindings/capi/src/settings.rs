//! The fields of `dureConfig_t` that NCCL has not.

use std::ffi::c_int;

use dure::Result;
use dure_c::config::Fields;
use dure_c::ffi::config::{Further, set};
use dure_c::ffi::pointer::Text;

dure_c::fields! {
    /// The fields of `dureConfig_t` that NCCL has not.
    pub(crate) OwnFields:
    timeout_ms: c_int, since 100;
    deterministic: c_int, since 100;
    check: c_int, since 100;
    lanes: c_int, since 100;
    slots: c_int, since 100;
    slot_bytes: c_int, since 100;
    algo: Text, since 100;
}

impl Further for OwnFields {
    const NCCL_VERSIONS: bool = false;

    fn add_to(&self, fields: Fields) -> Result<Fields> {
        Ok(Fields {
            timeout_ms: set(self.timeout_ms),
            deterministic: set(self.deterministic),
            check: set(self.check),
            lanes: set(self.lanes),
            slots: set(self.slots),
            slot_bytes: set(self.slot_bytes),
            algo: self.algo.read(),
            ..fields
        })
    }
}
