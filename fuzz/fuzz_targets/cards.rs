//! Addresses and keys of the transports, as a peer hands them in.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    dure_pool::fuzzing::cards(bytes);
    dure_tcp::fuzzing::cards(bytes);
});
