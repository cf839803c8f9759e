//! The TCP transport over loopback keeps the contract, with either driver, with one flow per peer and with several.

#![expect(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use std::net::SocketAddr;

use dure_tcp::{Driver, Options, Port, PortOptions, open};
use dure_transport::conformance::{PROPERTIES, Pair};
use dure_transport::proof::Key;
use dure_transport::{Peer, Transport};

fn end(me: u32, flows: u16, driver: Driver) -> Box<dyn Transport> {
    let port = Port::bind(PortOptions::default()).unwrap();
    // Over IPv4 and over IPv6: the port takes both.
    let addresses =
        ["127.0.0.1", "::1"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port.number())).into();
    let key = Key::new([5; 32]);
    open(Options { me: Peer(me), id: [3; 16], key, port, addresses, flows, driver }).unwrap()
}

fn pair(flows: u16, drivers: [Driver; 2]) -> Pair {
    let ends = [end(0, flows, drivers[0]), end(1, flows, drivers[1])];
    Pair { ends, tick: Box::new(|| ()) }
}

mod poll {
    use super::*;

    fn two_flows() -> Pair {
        pair(2, [Driver::Poll; 2])
    }

    dure_transport::conformance_tests!(two_flows);
}

mod io_uring {
    use super::*;

    fn two_flows() -> Pair {
        pair(2, [Driver::IoUring; 2])
    }

    dure_transport::conformance_tests!(two_flows);
}

#[expect(clippy::print_stdout, reason = "names the property that fails")]
fn all_properties_hold(flows: u16, drivers: [Driver; 2]) {
    let lasts = |name: &str| name.starts_with("counts_beyond");
    for (name, property) in PROPERTIES.iter().filter(|(name, _)| !lasts(name)) {
        println!("{name} with {flows} flows by {drivers:?}");
        property(&mut || pair(flows, drivers));
    }
}

#[test]
fn all_properties_hold_with_any_number_of_flows() {
    for flows in [1, 9] {
        all_properties_hold(flows, [Driver::Poll; 2]);
        all_properties_hold(flows, [Driver::IoUring; 2]);
    }
}

#[test]
fn all_properties_hold_between_different_drivers() {
    all_properties_hold(4, [Driver::Poll, Driver::IoUring]);
}
