//! The RDMA transport keeps the contract over a real device and its kernel. Ignored where there is none: the guest of
//! tests/guest has Soft-RoCE.
//!
//! ```sh
//! cargo test -p dure-rdma --no-run     # then, where there is a device:
//! target/debug/deps/device-... --ignored --test-threads 1
//! ```

#![expect(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use std::net::SocketAddr;

use dure_rdma::{Options, open};
use dure_tcp::{Driver, Port, PortOptions};
use dure_transport::conformance::{PROPERTIES, Pair};
use dure_transport::proof::Key;
use dure_transport::{Peer, Transport};

fn side(me: u32) -> Box<dyn Transport> {
    let port = Port::bind(PortOptions::default()).unwrap();
    let addresses = vec![SocketAddr::new("127.0.0.1".parse().unwrap(), port.number())];
    let key = Key::new([5; 32]);
    let (id, flows, driver) = ([3; 16], 1, Driver::Poll);
    dure_tcp::open(dure_tcp::Options { me: Peer(me), id, key, port, addresses, flows, driver })
        .unwrap()
}

fn end(me: u32, flows: u16) -> Box<dyn Transport> {
    open(Options { flows, ..Options::new(Peer(me), side(me)) }).unwrap()
}

#[expect(clippy::print_stdout, reason = "names the property that fails")]
fn all_properties_hold(flows: u16, which: impl Fn(&str) -> bool) {
    for (name, property) in PROPERTIES.iter().filter(|(name, _)| which(name)) {
        let begin = std::time::Instant::now();
        property(&mut || Pair { ends: [end(0, flows), end(1, flows)], tick: Box::new(|| ()) });
        println!("{name} with {flows} flows: {:.1} s", begin.elapsed().as_secs_f64());
    }
}

#[test]
#[ignore = "needs an RDMA device"]
fn all_properties_hold_with_one_flow() {
    all_properties_hold(1, |name| !name.starts_with("counts_beyond"));
}

#[test]
#[ignore = "needs an RDMA device"]
fn all_properties_hold_with_two_flows() {
    all_properties_hold(2, |_| true);
}

#[test]
fn where_there_is_no_device_it_says_why() {
    let options = Options { allows: &|_| false, ..Options::new(Peer(0), side(0)) };
    let error = open(options).map(|_| ()).unwrap_err();
    assert!(error.to_string().starts_with("no RDMA: "), "{error}");
}
