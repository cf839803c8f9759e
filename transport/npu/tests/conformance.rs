//! The properties of every transport, with memory of devices added: what is the host's is as before.
#![expect(clippy::unwrap_used, reason = "a test says that something is there by unwrapping it")]

use dure_npu::Npu;
use dure_pool::{Options, Pool};
use dure_transport::conformance::Pair;
use dure_transport::proof::Key;
use dure_transport::{Peer, Transport};

fn open() -> Pair {
    let end = |rank| -> Box<dyn Transport> {
        let options =
            Options { rank: Peer(rank), key: Key::new([7; 32]), capacity: None, huge_pages: true };
        Box::new(Npu::new(Box::new(Pool::open(options).unwrap()), &[]).unwrap())
    };
    Pair { ends: [end(0), end(1)], tick: Box::new(|| ()) }
}

dure_transport::conformance_tests!(open);
