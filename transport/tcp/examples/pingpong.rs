//! Prints the times of small puts over loopback: one way, and of an exchange, in which every rank puts to every other
//! and waits for all of theirs. Each rank is a thread that spins, and yields where there are more
//! ranks than cores.
//!
//! `cargo run --release -p dure-tcp --example pingpong -- [poll|io_uring] [RANKS]`

#![expect(clippy::print_stdout, reason = "a program prints its result")]

use std::error::Error;
use std::net::SocketAddr;
use std::time::Instant;

use dure_tcp::{Driver, Options, Port, PortOptions, open};
use dure_transport::proof::Key;
use dure_transport::{
    Card, Event, Flow, Full, Peer, Posted, Put, RemoteRegion, Signal, Token, Transport,
};

const WARM_UP: u64 = 2_000;
const BATCHES: u64 = 50;
const BATCH: u64 = 1_000;
/// Turns after which the core is offered to others, where ranks share cores.
const SPINS_SHARED: u32 = 4;
const HEAD: [u8; 48] = [1; 48];

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let driver = match args.next().as_deref() {
        None | Some("poll") => Driver::Poll,
        Some("io_uring") => Driver::IoUring,
        Some(other) => return Err(format!("{other} is no driver (allowed: poll, io_uring)").into()),
    };
    let ranks: u32 = args.next().map_or(Ok(2), |ranks| ranks.parse())?;
    let mut ends =
        (0..ranks).map(|me| End::open(me, ranks, driver)).collect::<Result<Vec<_>, _>>()?;
    connect(&mut ends)?;
    let turns = [
        ("one way", End::pass_on as fn(&mut End), f64::from(ranks)),
        ("exchange", End::exchange, 1.0),
    ];
    for (name, turn, messages) in turns {
        let times = std::thread::scope(|scope| {
            let measure = |end| scope.spawn(move || measure(end, turn));
            let threads: Vec<_> = ends.iter_mut().map(measure).collect();
            threads.into_iter().map(|thread| thread.join().expect("no rank panics")).next()
        });
        let (best, median) = times.expect("there is a rank");
        let (best, median) = (best / messages, median / messages);
        println!(
            "{name}: {} B, {ranks} ranks: best {best:.2} us, median {median:.2} us",
            HEAD.len()
        );
    }
    Ok(())
}

/// Microseconds of one turn, of the best batch and of the median one.
fn measure(end: &mut End, turn: fn(&mut End)) -> (f64, f64) {
    (0..WARM_UP).for_each(|_| turn(end));
    let batch = |_| {
        let begin = Instant::now();
        (0..BATCH).for_each(|_| turn(end));
        begin.elapsed().as_secs_f64() * 1e6 / BATCH as f64
    };
    let mut times: Vec<f64> = (0..BATCHES).map(batch).collect();
    times.sort_by(f64::total_cmp);
    (times[0], times[times.len() / 2])
}

/// One rank, and what it knows of the others.
struct End {
    me: u32,
    net: Box<dyn Transport>,
    /// By rank; nothing at the own place.
    others: Vec<Option<Other>>,
    /// Puts whose source the transport still reads.
    pending: usize,
    /// Whether ranks share cores.
    shares: bool,
}

struct Other {
    /// What it bumps here.
    mine: Signal,
    /// What is bumped there.
    theirs: Option<(Signal, RemoteRegion)>,
    key: Card,
    /// Puts of it that were waited for.
    waited: u64,
}

impl End {
    fn open(me: u32, ranks: u32, driver: Driver) -> Result<Self, Box<dyn Error>> {
        let port = Port::bind(PortOptions::default())?;
        let addresses = vec![SocketAddr::from(([127, 0, 0, 1], port.number()))];
        let key = Key::new([5; 32]);
        let mut net =
            open(Options { me: Peer(me), id: [3; 16], key, port, addresses, flows: 1, driver })?;
        let mut other = |peer| -> Result<Other, Box<dyn Error>> {
            let (region, _) = net.alloc(HEAD.len())?;
            let key = net.key(region, Peer(peer)).ok_or("an allocated region has a key")?;
            Ok(Other { mine: net.counter(Peer(peer))?, theirs: None, key, waited: 0 })
        };
        let others = (0..ranks).map(|peer| (peer != me).then(|| other(peer)).transpose());
        let others = others.collect::<Result<_, _>>()?;
        let cores = std::thread::available_parallelism()?.get();
        let shares = usize::try_from(ranks)? > cores;
        Ok(Self { me, net, others, pending: 0, shares })
    }

    fn put(&mut self, to: u32) {
        let other = self.others[to as usize].as_ref().expect("nobody puts to itself");
        let (signal, into) = other.theirs.expect("the ranks are connected");
        let put = Put {
            to: Peer(to),
            flow: Flow(0),
            head: &HEAD,
            body: &[],
            into: Some(into),
            at: 0,
            signal: Some(signal),
            token: Token(0),
        };
        loop {
            match self.net.put(&put) {
                Ok(Posted::Done) => return,
                Ok(Posted::Pending) => break self.pending += 1,
                Err(Full) => self.poll(),
            }
        }
    }

    fn wait(&mut self, from: u32) {
        let other = self.others[from as usize].as_mut().expect("nobody waits for itself");
        other.waited += 1;
        let (mine, count) = (other.mine, other.waited);
        let mut turns = 0_u32;
        while self.net.arrived(mine) < count {
            self.poll();
            turns += 1;
            if self.shares && turns.is_multiple_of(SPINS_SHARED) {
                std::thread::yield_now();
            }
        }
    }

    fn poll(&mut self) {
        let mut events = Vec::new();
        self.net.poll(&mut events);
        assert!(events.iter().all(|event| matches!(event, Event::Sent(_))), "a peer is lost");
        self.pending -= events.len();
    }

    /// One hop of a ring: half of the ranks put first.
    fn pass_on(&mut self) {
        let ranks = u32::try_from(self.others.len()).expect("few ranks");
        let (next, before) = ((self.me + 1) % ranks, (self.me + ranks - 1) % ranks);
        if self.me > 0 {
            self.wait(before);
        }
        self.put(next);
        if self.me == 0 {
            self.wait(before);
        }
        self.finish();
    }

    /// A put is on its way only when its source is free.
    fn finish(&mut self) {
        while self.pending > 0 {
            self.poll();
        }
    }

    fn exchange(&mut self) {
        let others =
            || (0..u32::try_from(self.others.len()).expect("few ranks")).filter(|o| *o != self.me);
        let others: Vec<_> = others().collect();
        others.iter().for_each(|other| self.put(*other));
        others.iter().for_each(|other| self.wait(*other));
        self.finish();
    }
}

/// Connects all ranks, and tells each what the others made.
fn connect(ends: &mut [End]) -> Result<(), Box<dyn Error>> {
    let addresses: Vec<_> = ends.iter().map(|end| end.net.address()).collect();
    let ranks = 0..ends.len();
    let pairs =
        ranks.clone().flat_map(|a| ranks.clone().map(move |b| (a, b))).filter(|(a, b)| a != b);
    for (me, peer) in pairs.clone() {
        ends[me].net.connect(Peer(u32::try_from(peer)?), &addresses[peer], &Card::default())?;
    }
    let mut up = 0;
    while up < pairs.clone().count() {
        for end in &mut *ends {
            let mut events = Vec::new();
            end.net.poll(&mut events);
            up += events.iter().filter(|event| matches!(event, Event::Up { .. })).count();
        }
    }
    for (me, peer) in pairs {
        let at = me;
        let theirs = ends[peer].others[at].as_ref().expect("a pair");
        let (signal, key) = (theirs.mine, theirs.key.clone());
        let end = &mut ends[me];
        let into = end.net.import(Peer(u32::try_from(peer)?), &key)?;
        end.others[peer].as_mut().expect("a pair").theirs = Some((signal, into));
    }
    Ok(())
}
