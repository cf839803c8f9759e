//! The text form of a unique id: what parses is written as it was read.
#![no_main]

use dure::UniqueId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    check(text);
    // Nearly every text is refused for its length: this one is not, and its first bytes are the fuzzer's.
    let digits: String = text.bytes().take(128).map(|byte| format!("{byte:02x}")).collect();
    check(&format!("{digits:0<256}"));
});

fn check(text: &str) {
    if let Ok(id) = text.parse::<UniqueId>() {
        assert_eq!(id.to_string(), text.trim().to_ascii_lowercase());
        assert!(id.validate().is_ok());
    }
}
