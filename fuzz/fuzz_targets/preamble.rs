//! What every connection to a port begins with.
#![no_main]

use dure_tcp::Preamble;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: [u8; Preamble::LEN]| {
    if let Ok(preamble) = Preamble::decode(&bytes) {
        assert_eq!(preamble.encode(), bytes);
    }
});
