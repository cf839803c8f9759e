//! The TCP transport over loopback keeps the contract, with one flow per peer and with several.

#![expect(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use std::net::SocketAddr;

use dure_tcp::{Options, Port, PortOptions, open};
use dure_transport::conformance::{PROPERTIES, Pair};
use dure_transport::proof::Key;
use dure_transport::{Peer, Transport};

fn end(me: u32, flows: u16) -> Box<dyn Transport> {
    let port = Port::bind(PortOptions::default()).unwrap();
    // Over IPv4 and over IPv6: the port takes both.
    let addresses =
        ["127.0.0.1", "::1"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port.number())).into();
    open(Options { me: Peer(me), id: [3; 16], key: Key::new([5; 32]), port, addresses, flows })
        .unwrap()
}

fn pair(flows: u16) -> Pair {
    Pair { ends: [end(0, flows), end(1, flows)], tick: Box::new(|| ()) }
}

fn two_flows() -> Pair {
    pair(2)
}

dure_transport::conformance_tests!(two_flows);

/// One flow, several that are asked in turn, and more than that, so that epoll says which have something.
#[test]
fn all_properties_hold_with_any_number_of_flows() {
    for flows in [1, 4, 9] {
        for (name, property) in
            PROPERTIES.iter().filter(|(name, _)| !name.starts_with("counts_beyond"))
        {
            println!("{name} with {flows} flows");
            property(&mut || pair(flows));
        }
    }
}
