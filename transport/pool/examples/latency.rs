//! How long a put of 8 bytes with its signal takes from one rank to another, as half of a round trip.
//!
//! Two threads, each with its own transport: `cargo run --release -p dure-pool --example latency`.
#![expect(clippy::print_stdout, reason = "a program")]

use std::time::Instant;

use dure_pool::{Options, Pool};
use dure_transport::proof::Key;
use dure_transport::{
    Card, Event, Flow, Peer, Put, RemoteRegion, Result, Signal, Token, Transport,
};

/// Short, so that the best of many was not disturbed by whoever else runs on the machine.
const ROUNDS: u32 = 500;
const REPEATS: u32 = 2_000;

struct Rank {
    pool: Pool,
    peer: Peer,
    signal: Signal,
    remote: RemoteRegion,
    remote_signal: Signal,
}

impl Rank {
    fn meet(mut pool: Pool, peer: Peer, address: &Card) -> Result<Self> {
        let (region, _) = pool.alloc(64)?;
        let signal = pool.counter(peer)?;
        let key = pool.key(region, peer).expect("the region was just made");
        let hello = [signal.0.to_le_bytes().as_slice(), &key.0].concat();
        pool.connect(peer, address, &Card(hello.into()))?;
        let mut events = Vec::new();
        let hello = loop {
            pool.poll(&mut events);
            match events.pop() {
                Some(Event::Up { hello, .. }) => break hello,
                Some(other) => panic!("{other:?}"),
                None => std::thread::yield_now(),
            }
        };
        let (number, key) = hello.0.split_first_chunk().expect("the hello of another of us");
        let remote = pool.import(peer, &Card(key.into()))?;
        let remote_signal = Signal(u32::from_le_bytes(*number));
        Ok(Self { pool, peer, signal, remote, remote_signal })
    }

    fn put(&mut self, value: u64) {
        let put = Put {
            to: self.peer,
            flow: Flow(0),
            head: &value.to_le_bytes(),
            body: &[],
            into: Some(self.remote),
            at: 0,
            signal: Some(self.remote_signal),
            token: Token(0),
        };
        self.pool.put(&put).expect("shared memory is never full");
    }

    fn wait(&mut self, count: u64) {
        let mut events = Vec::new();
        while self.pool.arrived(self.signal) < count {
            self.pool.poll(&mut events);
            assert!(events.is_empty(), "{events:?}");
        }
    }
}

fn main() -> Result<()> {
    let open = |rank| {
        Pool::open(Options {
            rank: Peer(rank),
            key: Key::new([7; 32]),
            capacity: None,
            huge_pages: true,
        })
    };
    let pools = (open(0)?, open(1)?);
    let addresses = (pools.0.address(), pools.1.address());
    let total = u64::from(ROUNDS) * u64::from(REPEATS);
    let answerer = std::thread::spawn(move || {
        let mut rank = Rank::meet(pools.1, Peer(0), &addresses.0)?;
        for count in 1..=total {
            rank.wait(count);
            rank.put(count);
        }
        Ok::<_, dure_transport::Error>(rank)
    });
    let mut rank = Rank::meet(pools.0, Peer(1), &addresses.1)?;
    let mut count = 0;
    let mut best = f64::INFINITY;
    for _ in 0..REPEATS {
        let begin = Instant::now();
        for _ in 0..ROUNDS {
            count += 1;
            rank.put(count);
            rank.wait(count);
        }
        best = best.min(begin.elapsed().as_secs_f64());
    }
    println!("{:.1} ns one way (best of {REPEATS})", best / f64::from(ROUNDS) / 2.0 * 1e9);
    answerer.join().expect("the answerer does not panic")?;
    Ok(())
}
