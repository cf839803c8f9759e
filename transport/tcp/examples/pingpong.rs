//! Prints the time of a small put in one direction, over loopback, between two threads that spin.
//!
//! `cargo run --release -p dure-tcp --example pingpong`

#![expect(clippy::print_stdout, reason = "a program prints its result")]

use std::error::Error;
use std::net::SocketAddr;
use std::time::Instant;

use dure_tcp::{Options, Port, PortOptions, open};
use dure_transport::proof::Key;
use dure_transport::{Card, Event, Flow, Peer, Put, Signal, Token, Transport};

const WARM_UP: u64 = 2_000;
const ROUNDS: u64 = 50_000;
const HEAD: [u8; 64] = [1; 64];

fn main() -> Result<(), Box<dyn Error>> {
    let [mut a, mut b] = [end(0)?, end(1)?];
    let addresses = [a.address(), b.address()];
    a.connect(Peer(1), &addresses[1], &Card::default())?;
    b.connect(Peer(0), &addresses[0], &Card::default())?;
    let (mut events, mut up) = (Vec::new(), 0);
    while up < 2 {
        a.poll(&mut events);
        b.poll(&mut events);
        up += events.drain(..).filter(|event| matches!(event, Event::Up { .. })).count();
    }
    let [to_a, to_b] = [expose(&mut *a, Peer(1))?, expose(&mut *b, Peer(0))?];
    let one_way = std::thread::scope(|scope| {
        scope.spawn(|| echo(&mut *b, to_b.0, &to_a));
        measure(&mut *a, to_a.0, &to_b)
    });
    println!("{} B one way: {one_way:.2} us", HEAD.len());
    Ok(())
}

/// Microseconds in one direction.
fn measure(net: &mut dyn Transport, mine: Signal, theirs: &(Signal, Card)) -> f64 {
    let mut begin = Instant::now();
    for round in 1..=WARM_UP + ROUNDS {
        if round == WARM_UP + 1 {
            begin = Instant::now();
        }
        send(net, Peer(1), theirs);
        wait(net, mine, round);
    }
    let one_way = begin.elapsed().as_secs_f64() * 1e6 / (2 * ROUNDS) as f64;
    // Both leave together: whoever left first could cut off the last put of the other.
    send(net, Peer(1), theirs);
    one_way
}

fn echo(net: &mut dyn Transport, mine: Signal, theirs: &(Signal, Card)) {
    for round in 1..=WARM_UP + ROUNDS {
        wait(net, mine, round);
        send(net, Peer(0), theirs);
    }
    wait(net, mine, WARM_UP + ROUNDS + 1);
}

fn end(me: u32) -> Result<Box<dyn Transport>, Box<dyn Error>> {
    let port = Port::bind(PortOptions::default())?;
    let addresses = vec![SocketAddr::from(([127, 0, 0, 1], port.number()))];
    let key = Key::new([5; 32]);
    Ok(open(Options { me: Peer(me), id: [3; 16], key, port, addresses, flows: 1 })?)
}

/// A counter of one side, and the key of a region that the other may write.
fn expose(net: &mut dyn Transport, to: Peer) -> Result<(Signal, Card), Box<dyn Error>> {
    let (region, _) = net.alloc(HEAD.len())?;
    Ok((net.counter(to)?, net.key(region, to).ok_or("an allocated region has a key")?))
}

fn send(net: &mut dyn Transport, to: Peer, (signal, key): &(Signal, Card)) {
    // Importing anew costs a few nanoseconds, and keeps this program short.
    let remote = net.import(to, key).expect("the key is the peer's");
    let put = Put {
        to,
        flow: Flow(0),
        head: &HEAD,
        body: &[],
        into: Some(remote),
        at: 0,
        signal: Some(*signal),
        token: Token(0),
    };
    while net.put(&put).is_err() {
        net.poll(&mut Vec::new());
    }
    net.forget(remote);
}

fn wait(net: &mut dyn Transport, signal: Signal, count: u64) {
    let mut events = Vec::new();
    while net.arrived(signal) < count {
        net.poll(&mut events);
        assert!(events.is_empty(), "{events:?}");
    }
}
