//! The header of a data frame over TCP: what decodes is what a sender makes, and its payload does not wrap.
#![no_main]

use dure_tcp::frame::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: [u8; Header::LEN]| {
    if let Ok(header) = Header::decode(&bytes) {
        assert_eq!(header.encode(), bytes);
        assert!(header.offset.checked_add(header.len.into()).is_some());
    }
});
