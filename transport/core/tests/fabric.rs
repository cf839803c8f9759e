//! A fabric over simulated transports: it keeps the contract, and it routes.

use dure_transport::conformance::Pair;
use dure_transport::simulated::{Options, World};
use dure_transport::{
    Card, Error, Event, Fabric, Flow, Peer, Put, RemoteRegion, Signal, Span, Token, Transport,
};

/// A world like a pool inside a host: memory of the user is not taken.
fn pool(ranks: u32) -> (World, Vec<Box<dyn Transport>>) {
    let options = Options {
        seed: 5,
        name: "pool",
        user_memory: false,
        window: true,
        unattended: true,
        ..wire(5)
    };
    World::new(ranks, &options)
}

/// A world like a network.
fn tcp(ranks: u32) -> (World, Vec<Box<dyn Transport>>) {
    World::new(ranks, &Options { name: "tcp", flows: 1, gather: 2, ..wire(6) })
}

fn wire(seed: u64) -> Options {
    Options { seed, ..Options::default() }
}

fn fabric(subs: Vec<Box<dyn Transport>>, route: &[usize]) -> Box<dyn Transport> {
    Box::new(Fabric::new(subs, route).expect("no doorbells to fail"))
}

/// Two ranks that meet in the second transport of one and the first of the other.
fn crossed() -> Pair {
    let ((pool, pool_ends), (tcp, tcp_ends)) = (pool(2), tcp(2));
    let [pool_0, pool_1] = <[_; 2]>::try_from(pool_ends).expect("two ranks");
    let [tcp_0, tcp_1] = <[_; 2]>::try_from(tcp_ends).expect("two ranks");
    let ends = [fabric(vec![pool_0, tcp_0], &[1, 1]), fabric(vec![tcp_1, pool_1], &[0, 0])];
    Pair { ends, tick: Box::new(move || _ = (pool.step(), tcp.step())) }
}

dure_transport::conformance_tests!(crossed);

/// What one rank says to another.
fn hello(from: u32, to: u32) -> Card {
    Card([from.to_le_bytes(), to.to_le_bytes()].concat().into())
}

/// Three ranks: 0 and 1 share a pool, 2 is elsewhere. Each has its transports in another order or number.
struct Three {
    worlds: [World; 2],
    ranks: Vec<Box<dyn Transport>>,
    events: Vec<Vec<Event>>,
}

impl Three {
    fn new() -> Self {
        let ((pool, pool_ends), (tcp, tcp_ends)) = (pool(2), tcp(3));
        let [pool_0, pool_1] = <[_; 2]>::try_from(pool_ends).expect("two ranks");
        let [tcp_0, tcp_1, tcp_2] = <[_; 3]>::try_from(tcp_ends).expect("three ranks");
        let ranks = vec![
            fabric(vec![pool_0, tcp_0], &[0, 0, 1]),
            fabric(vec![tcp_1, pool_1], &[1, 1, 0]),
            fabric(vec![tcp_2], &[0, 0, 0]),
        ];
        Self { worlds: [pool, tcp], ranks, events: vec![vec![], vec![], vec![]] }
    }

    fn up() -> Self {
        let mut three = Self::new();
        let addresses: Vec<Card> = three.ranks.iter().map(|rank| rank.address()).collect();
        for (me, rank) in (0..).zip(&mut three.ranks) {
            for peer in (0..3).filter(|peer| *peer != me) {
                let done = rank.connect(Peer(peer), &addresses[peer as usize], &hello(me, peer));
                done.expect("all three can reach each other");
            }
        }
        three.until(|three| three.events.iter().all(|events| events.len() == 2));
        for (me, events) in (0..).zip(&mut three.events) {
            for event in events.drain(..) {
                let Event::Up { peer, hello } = event else { panic!("{event:?}") };
                assert_eq!(hello, self::hello(peer.0, me));
            }
        }
        three
    }

    /// Polls all ranks and moves the clocks until `done`.
    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        while !done(self) {
            for (rank, events) in self.ranks.iter_mut().zip(&mut self.events) {
                rank.poll(events);
            }
            let stepped = self.worlds.each_ref().map(World::step);
            assert!(stepped.contains(&true) || done(self), "nothing more happens");
        }
    }

    fn put(
        &mut self,
        from: usize,
        to: u32,
        put: (&[u8], &[Span], RemoteRegion, u64),
        signal: Signal,
    ) {
        let (head, body, into, at) = put;
        let put = Put {
            to: Peer(to),
            flow: Flow(0),
            head,
            body,
            into: Some(into),
            at,
            signal: Some(signal),
            token: Token(0),
        };
        self.ranks[from].put(&put).expect("an idle flow takes a put");
    }
}

#[test]
fn allocated_memory_is_written_by_all_peers_and_sent_to_all_peers() {
    let mut three = Three::up();
    let (region, memory) = three.ranks[0].alloc(256).unwrap();
    let mut signals = Vec::new();
    for from in [1, 2_u8] {
        let (rank, peer) = (usize::from(from), Peer(from.into()));
        let key = three.ranks[0].key(region, peer).expect("all peers may write it");
        let remote = three.ranks[rank].import(Peer(0), &key).unwrap();
        assert_eq!(three.ranks[rank].window(remote).is_some(), from == 1, "the pool has windows");
        let signal = three.ranks[0].counter(peer).unwrap();
        three.put(rank, 0, (&[from; 8], &[], remote, u64::from(from) * 64), signal);
        signals.push(signal);
    }
    assert_ne!(signals[0], signals[1], "counters of two transports have two numbers");
    three.until(|three| signals.iter().all(|signal| three.ranks[0].arrived(*signal) == 1));

    // And on from there: what has come from both goes to both.
    let body = [Span { region, offset: 64, len: 8 }, Span { region, offset: 128, len: 8 }];
    three.ranks[0].acquire(Span { region, offset: 0, len: memory.len as u64 });
    let mut landed = Vec::new();
    for to in [1, 2_u32] {
        let (region, memory) = three.ranks[to as usize].alloc(64).unwrap();
        let key = three.ranks[to as usize].key(region, Peer(0)).unwrap();
        let remote = three.ranks[0].import(Peer(to), &key).unwrap();
        let signal = three.ranks[to as usize].counter(Peer(0)).unwrap();
        three.put(0, to, (b"from 0: ", &body, remote, 0), signal);
        landed.push((to as usize, signal, memory));
    }
    three
        .until(|three| landed.iter().all(|(to, signal, _)| three.ranks[*to].arrived(*signal) == 1));
    for (_, _, memory) in landed {
        // SAFETY: the region is not released, and no put that names these bytes is on its way.
        let bytes = unsafe { std::slice::from_raw_parts(memory.ptr.as_ptr(), 24) };
        assert_eq!(
            bytes,
            b"from 0: \x01\x01\x01\x01\x01\x01\x01\x01\x02\x02\x02\x02\x02\x02\x02\x02"
        );
    }
    three.ranks[0].release(region);
}

#[test]
fn memory_of_the_user_is_for_the_peers_whose_transport_takes_it() {
    let mut three = Three::up();
    let mut own = [0_u8; 64];
    let memory = dure_device::Memory::host(own.as_mut_ptr(), own.len());
    // SAFETY: it stays until it is released below, and nobody looks at it.
    let region = unsafe { three.ranks[0].register(memory) }.expect("one of the two takes it");
    assert_eq!(three.ranks[0].key(region, Peer(1)), None);
    assert!(three.ranks[0].key(region, Peer(2)).is_some());
    assert!(!three.ranks[0].caps(Peer(1)).user_memory && three.ranks[0].caps(Peer(2)).user_memory);
    three.ranks[0].release(region);
}

#[test]
fn a_peer_without_the_transport_that_is_to_serve_it_cannot_be_reached() {
    let mut three = Three::new();
    let elsewhere = three.ranks[2].address();
    let error = three.ranks[0].connect(Peer(1), &elsewhere, &Card::default()).unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { tried } if tried == "pool: the peer has none"),
        "{error}"
    );
}

#[test]
fn the_loss_of_a_peer_is_reported_by_the_transport_that_served_it() {
    let mut three = Three::up();
    drop(three.ranks.remove(0));
    three.events.remove(0);
    three.until(|three| three.events.iter().all(|events| !events.is_empty()));
    for events in &three.events {
        assert!(
            matches!(events[..], [Event::Lost { peer: Peer(0), error: Error::Closed }]),
            "{events:?}"
        );
    }
}
