//! What is particular to a driver, and to changing it.

#![expect(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dure_device::Memory;
use dure_tcp::{Driver, Options, Port, PortOptions, open};
use dure_transport::proof::Key;
use dure_transport::{
    Card, Event, Flow, Full, Peer, Posted, Put, Region, RemoteRegion, Signal, Span, Token,
    Transport,
};

const DEADLINE: Duration = Duration::from_secs(10);
const BYTES: usize = 1 << 20;

/// A transport with a source, and a place to land for each other one.
struct End {
    net: Box<dyn Transport>,
    source: Region,
    /// By rank of the peer: the place, its bytes, and the counter.
    places: Vec<(Region, Memory, Signal)>,
    events: Vec<Event>,
}

impl End {
    fn poll(&mut self) {
        self.net.poll(&mut self.events);
    }
}

/// Ranks that know each other's addresses, of which only the first has the driver in question.
fn ends(count: u32, driver: Driver) -> Vec<End> {
    let end = |me: u32| {
        let port = Port::bind(PortOptions::default()).unwrap();
        let addresses = vec![SocketAddr::from(([127, 0, 0, 1], port.number()))];
        let driver = if me == 0 { driver } else { Driver::Poll };
        let key = Key::new([5; 32]);
        let options = Options { me: Peer(me), id: [3; 16], key, port, addresses, flows: 1, driver };
        let mut net = open(options).unwrap();
        let (source, memory) = net.alloc(BYTES).unwrap();
        // SAFETY: nobody else has the memory, which is as long as that.
        unsafe { memory.ptr.write_bytes(7 + u8::try_from(me).unwrap(), BYTES) };
        let place = |peer| {
            let (region, memory) = net.alloc(BYTES).unwrap();
            (region, memory, net.counter(Peer(peer)).unwrap())
        };
        let places = (0..count).map(place).collect();
        End { net, source, places, events: Vec::new() }
    };
    (0..count).map(end).collect()
}

/// Connects the first rank with another, and waits until both say so.
fn connect(ends: &mut [End], peer: u32) {
    let other = usize::try_from(peer).unwrap();
    let addresses = [ends[0].net.address(), ends[other].net.address()];
    ends[0].net.connect(Peer(peer), &addresses[1], &Card::default()).unwrap();
    ends[other].net.connect(Peer(0), &addresses[0], &Card::default()).unwrap();
    let is_up = |end: &End, peer: u32| {
        end.events
            .iter()
            .any(|event| matches!(event, Event::Up { peer: Peer(p), .. } if *p == peer))
    };
    until(|| {
        ends[0].poll();
        ends[other].poll();
        is_up(&ends[0], peer) && is_up(&ends[other], 0)
    });
}

fn until(mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < DEADLINE, "waited in vain");
        std::thread::yield_now();
    }
}

/// Where rank `from` may put at rank `to`.
fn import(ends: &mut [End], from: u32, to: u32) -> (RemoteRegion, Signal) {
    let [from_at, to_at] = [from, to].map(|rank| usize::try_from(rank).unwrap());
    let (region, _, signal) = ends[to_at].places[from_at];
    let key = ends[to_at].net.key(region, Peer(from)).unwrap();
    (ends[from_at].net.import(Peer(to), &key).unwrap(), signal)
}

fn put(
    end: &mut End,
    to: u32,
    (into, signal): (RemoteRegion, Signal),
    len: u64,
) -> Result<Posted, Full> {
    let body = [Span { region: end.source, offset: 0, len }];
    let put = Put {
        to: Peer(to),
        flow: Flow(0),
        head: &[],
        body: &body,
        into: Some(into),
        at: 0,
        signal: Some(signal),
        token: Token(len),
    };
    end.net.put(&put)
}

fn arrived(end: &End, from: usize) -> u64 {
    end.net.arrived(end.places[from].2)
}

fn bytes(end: &End, from: usize) -> Vec<u8> {
    let memory = end.places[from].1;
    // SAFETY: the transport is alive and not polled meanwhile.
    unsafe { std::slice::from_raw_parts(memory.ptr.as_ptr(), memory.len) }.to_vec()
}

/// What a thread asked of the kernel ends with the thread; the next one asks anew, and nothing is lost.
#[test]
fn a_ring_serves_one_thread_after_the_other() {
    let mut ends = ends(2, Driver::IoUring);
    connect(&mut ends, 1);
    let there = import(&mut ends, 0, 1);
    let back = import(&mut ends, 1, 0);
    let [a, b] = &mut ends[..] else { unreachable!("there are two") };
    for round in 1..=20 {
        // One that only listens, and is gone when something comes.
        std::thread::scope(|scope| scope.spawn(|| a.poll()).join().unwrap());
        // Small ones, which the kernel receives by itself, and large ones, for which it watches.
        let len = if round % 3 == 0 { BYTES as u64 } else { 100 };
        put(b, 0, back, len).unwrap();
        std::thread::scope(|scope| {
            let both = || {
                put(a, 1, there, len).unwrap();
                until(|| {
                    a.poll();
                    b.poll();
                    (arrived(a, 1), arrived(b, 0)) == (round, round)
                });
            };
            scope.spawn(both).join().unwrap();
        });
    }
    assert_eq!(bytes(a, 1), vec![8; BYTES]);
    assert_eq!(bytes(b, 0), vec![7; BYTES]);
}

/// A sleeper is woken though another thread was the last to ask.
#[test]
fn a_ring_wakes_whichever_thread_sleeps() {
    let mut ends = ends(2, Driver::IoUring);
    connect(&mut ends, 1);
    let back = import(&mut ends, 1, 0);
    let [a, b] = &mut ends[..] else { unreachable!("there are two") };
    for round in 1..=20 {
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                while arrived(a, 1) < round {
                    if a.net.arm() {
                        sleep(a);
                    }
                    a.poll();
                }
            });
            put(b, 0, back, 100).unwrap();
            sleeper.join().unwrap();
        });
    }
}

/// While what comes is foreseen, sockets are not watched. Whoever sleeps is woken all the same, and what nobody foresaw
/// is found.
#[test]
fn sockets_that_are_not_watched_wake_sleepers_and_are_heard() {
    let mut ends = ends(3, Driver::Poll);
    connect(&mut ends, 1);
    connect(&mut ends, 2);
    let [first, second] = [1, 2].map(|from| import(&mut ends, from, 0));
    let [a, b, c] = &mut ends[..] else { unreachable!("there are three") };
    let mut round = 0;
    let mut foreseen = |a: &mut End, b: &mut End| {
        for _ in 0..200 {
            put(b, 0, first, 100).unwrap();
            round += 1;
            until(|| {
                a.poll();
                arrived(a, 1) == round
            });
        }
    };
    foreseen(a, b);
    put(c, 0, second, 100).unwrap();
    until(|| {
        a.poll();
        arrived(a, 2) == 1
    });
    foreseen(a, b);
    assert!(a.net.arm());
    put(c, 0, second, 100).unwrap();
    sleep(a);
    until(|| {
        a.poll();
        arrived(a, 2) == 2
    });
}

/// Sleeps until the doorbell of an end rings.
fn sleep(end: &End) {
    use nix::poll::{PollFd, PollFlags, poll};
    // SAFETY: the transport outlives the sleep.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(end.net.doorbell().unwrap()) };
    let rings = poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], 10_000_u16).unwrap();
    assert_eq!(rings, 1, "nobody rings");
}

/// More peers come while frames to the first one wait and arrive: the driver may change, the frames do not.
#[test]
fn frames_outlive_a_change_of_the_driver() {
    let mut ends = ends(5, Driver::Auto);
    connect(&mut ends, 1);
    let there = import(&mut ends, 0, 1);
    let back = import(&mut ends, 1, 0);
    let mut posted = 0;
    // The first peer does not read: they fill the socket, and then the queue.
    while posted < 12 && put(&mut ends[0], 1, there, BYTES as u64).is_ok() {
        posted += 1;
    }
    put(&mut ends[1], 0, back, BYTES as u64).unwrap();
    for peer in 2..5 {
        connect(&mut ends, peer);
        let there = import(&mut ends, 0, peer);
        put(&mut ends[0], peer, there, 1000).unwrap();
    }
    until(|| {
        ends.iter_mut().for_each(End::poll);
        arrived(&ends[1], 0) == posted
            && arrived(&ends[0], 1) == 1
            && (2..5).all(|peer| arrived(&ends[peer], 0) == 1)
    });
    assert_eq!(bytes(&ends[1], 0), vec![7; BYTES]);
    assert_eq!(bytes(&ends[0], 1), vec![8; BYTES]);
    let is_sent = |event: &&Event| matches!(event, Event::Sent(Token(len)) if *len == BYTES as u64);
    until(|| {
        ends[0].poll();
        // The first ones may have gone to the socket at once.
        ends[0].events.iter().filter(is_sent).count() > 0
    });
}
