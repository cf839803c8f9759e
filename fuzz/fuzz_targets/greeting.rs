//! What the executor of a peer says when a connection comes up, and where it lets messages land.
#![no_main]

use dure_exec::{Settings, fuzzing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for lanes in [1, 3] {
        let settings = Settings {
            lanes,
            slots: 4,
            slot_bytes: 64,
            landing_bytes: 1,
            reading_bytes: 1,
            shares_cores: false,
        };
        fuzzing::greeting(bytes, settings);
        // Slots and their length, as a peer with these settings begins.
        fuzzing::greeting(&[&[4, 0, 0, 0, 64, 0, 0, 0], bytes].concat(), settings);
    }
    fuzzing::grant(bytes);
});
