//! Messages of the control plane.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| dure::fuzzing::messages(bytes));
