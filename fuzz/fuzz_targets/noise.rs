//! Two ends of a control connection, and somebody who writes to the wire between them.
#![no_main]

use arbitrary::Arbitrary;
use dure::fuzzing::{OnWire, conversation};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Operation {
    Send(u32),
    Deliver(u16),
    Change(u16),
    Insert([u8; 8]),
}

fuzz_target!(|operations: Vec<(bool, Operation)>| {
    conversation(operations.into_iter().take(32).map(|(end, operation)| {
        let event = match operation {
            Operation::Send(bytes) => OnWire::Send(bytes),
            Operation::Deliver(bytes) => OnWire::Deliver(bytes),
            Operation::Change(at) => OnWire::Change(at),
            Operation::Insert(bytes) => OnWire::Insert(bytes),
        };
        (end, event)
    }));
});
