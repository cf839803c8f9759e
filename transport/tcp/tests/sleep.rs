//! Peers come up without anybody spinning: the doorbell rings whenever there is something to do.

#![expect(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use dure_tcp::{Driver, Kind, Options, Port, PortOptions, open};
use dure_transport::proof::Key;
use dure_transport::{Card, Event, Peer, Transport};
use nix::poll::{PollFd, PollFlags, poll};

const DRIVERS: [Driver; 2] = [Driver::Poll, Driver::IoUring];

#[test]
fn peers_come_up_by_doorbells_alone() {
    DRIVERS.into_iter().for_each(peers_come_up);
}

#[test]
fn a_flow_is_dialled_again_by_doorbells_alone() {
    DRIVERS.into_iter().for_each(a_flow_is_dialled_again);
}

/// What connections to a rank name.
fn id(me: u32) -> [u8; 16] {
    [u8::try_from(me).unwrap(); 16]
}

fn end(me: u32, port: Arc<Port>, driver: Driver) -> Box<dyn Transport> {
    let addresses = vec![SocketAddr::from(([127, 0, 0, 1], port.number()))];
    open(Options {
        me: Peer(me),
        id: id(me),
        key: Key::new([5; 32]),
        port,
        addresses,
        flows: 3,
        driver,
    })
    .unwrap()
}

/// Polls transports whose doorbell rang, until `wanted` events came; returns how often any was polled.
fn sleep_until(ends: &mut [Box<dyn Transport>], wanted: usize) -> usize {
    let (mut events, mut polls) = (Vec::new(), 0);
    while events.len() < wanted {
        let mut awake = Vec::new();
        for (at, end) in ends.iter_mut().enumerate() {
            if !end.arm() {
                awake.push(at);
            }
        }
        if awake.is_empty() {
            let doorbells = ends.iter().map(|end| {
                // SAFETY: the transports live longer than this list.
                let fd = unsafe { BorrowedFd::borrow_raw(end.doorbell().unwrap()) };
                PollFd::new(fd, PollFlags::POLLIN)
            });
            let mut doorbells: Vec<_> = doorbells.collect();
            assert!(
                poll(&mut doorbells, 10_000_u16).unwrap() > 0,
                "nobody rings; events {events:?}"
            );
            awake.extend((0..ends.len()).filter(|at| doorbells[*at].any().unwrap()));
        }
        for at in awake {
            ends[at].poll(&mut events);
            polls += 1;
        }
    }
    assert!(events.iter().all(|event| matches!(event, Event::Up { .. })), "{events:?}");
    polls
}

fn peers_come_up(driver: Driver) {
    // Three ranks of one process: they have the port in common.
    let port = Port::bind(PortOptions::default()).unwrap();
    let mut ends = [0, 1, 2].map(|me| end(me, Arc::clone(&port), driver));
    let addresses = [0, 1, 2].map(|at| ends[at].address());
    for (me, peer) in [(2, 0), (0, 1), (1, 0), (1, 2), (0, 2), (2, 1)] {
        ends[me]
            .connect(Peer(u32::try_from(peer).unwrap()), &addresses[peer], &Card::default())
            .unwrap();
    }
    let polls = sleep_until(&mut ends, 6);
    // A few for each of the 9 connections; whoever spins needs thousands.
    assert!(polls < 300, "{polls} polls");
}

fn a_flow_is_dialled_again(driver: Driver) {
    let [port_a, port_b] = [0, 1].map(|_| Port::bind(PortOptions::default()).unwrap());
    let mut a = end(0, port_a, driver);
    // What a transport of this port says, before there is one.
    let to = end(1, Arc::clone(&port_b), driver).address();
    let inbox = port_b.register(id(1), Kind::Data).unwrap();
    a.connect(Peer(1), &to, &Card::default()).unwrap();
    // Somebody takes the first of its connections, and drops it with those that wait behind it.
    let dropped = loop {
        a.poll(&mut Vec::new());
        port_b.turn();
        if let Some(incoming) = inbox.try_take() {
            break incoming;
        }
    };
    drop(inbox);
    let mut b = end(1, port_b, driver);
    b.connect(Peer(0), &a.address(), &Card::default()).unwrap();
    drop(dropped);
    let polls = sleep_until(&mut [a, b], 2);
    assert!(polls < 300, "{polls} polls");
}
