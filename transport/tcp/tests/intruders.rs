//! What peers without the key, and peers that break the protocol, cannot do.

#![expect(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dure_device::Memory;
use dure_tcp::frame::{Header, NO_SIGNAL};
use dure_tcp::{Driver, Kind, Options, Port, PortOptions, Preamble, open};
use dure_transport::proof::{Claim, Dialler, Key, REPLY_LEN};
use dure_transport::{Card, Error, Event, Flow, Peer, Put, Signal, Token, Transport};
use proptest::prelude::*;

const ID: [u8; 16] = [3; 16];
const DEADLINE: Duration = Duration::from_secs(10);

/// Makes a test of each function for each driver.
macro_rules! with_each_driver {
    ($($name:ident)*) => {
        mod poll {
            $( #[test] fn $name() { super::$name(dure_tcp::Driver::Poll); } )*
        }

        mod io_uring {
            $( #[test] fn $name() { super::$name(dure_tcp::Driver::IoUring); } )*
        }
    };
}

with_each_driver! {
    a_wrong_key_gets_nothing
    a_rank_that_is_up_is_not_replaced
    random_bytes_get_nothing
    a_recorded_handshake_gets_nothing
    a_flood_without_proof_does_not_keep_a_peer_out
    a_flow_that_was_closed_too_early_is_dialled_again
    a_peer_is_held_to_its_own_regions
    a_peer_is_held_to_its_own_counters
    frames_of_other_flows_count_before_the_end_of_one
    frames_arrive_whatever_pieces_they_come_in_and_count_before_the_end
}

/// A transport, and its port, which somebody else of the process turns.
struct End {
    net: Box<dyn Transport>,
    port: Arc<Port>,
}

impl Deref for End {
    type Target = dyn Transport;

    fn deref(&self) -> &Self::Target {
        &*self.net
    }
}

impl DerefMut for End {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut *self.net
    }
}

fn key() -> Key {
    Key::new([5; 32])
}

fn bind() -> (Arc<Port>, SocketAddr) {
    let port = Port::bind(PortOptions::default()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
    (port, address)
}

/// A transport that tells peers to dial `address`.
fn end(me: u32, key: Key, (port, address): (Arc<Port>, SocketAddr), driver: Driver) -> End {
    end_with(me, key, (port, address), (1, driver))
}

fn end_with(
    me: u32,
    key: Key,
    (port, address): (Arc<Port>, SocketAddr),
    (flows, driver): (u16, Driver),
) -> End {
    let (addresses, of_end) = (vec![address], Arc::clone(&port));
    let options = Options { me: Peer(me), id: ID, key, port, addresses, flows, driver };
    End { net: open(options).unwrap(), port: of_end }
}

/// Polls until `done` gives something.
fn until<T>(
    ends: &mut [&mut End],
    what: &str,
    mut done: impl FnMut(&mut [&mut End], &[Event]) -> Option<T>,
) -> T {
    let begin = Instant::now();
    let mut events = Vec::new();
    loop {
        for end in ends.iter_mut() {
            end.port.turn();
            end.poll(&mut events);
        }
        if let Some(result) = done(ends, &events) {
            return result;
        }
        assert!(begin.elapsed() < DEADLINE, "waited in vain: {what}; events {events:?}");
        std::thread::yield_now();
    }
}

fn connect(a: &mut End, b: &mut End) {
    let addresses = [a.address(), b.address()];
    a.connect(Peer(1), &addresses[1], &Card::default()).unwrap();
    b.connect(Peer(0), &addresses[0], &Card::default()).unwrap();
    let up = |event: &&Event| matches!(event, Event::Up { .. });
    until(&mut [a, b], "both come up", |_, events| {
        (events.iter().filter(up).count() == 2).then_some(())
    });
}

/// A pair that is up, and where the second one listens.
fn pair(driver: Driver) -> (End, End, SocketAddr) {
    let [(port_a, address_a), (port_b, address_b)] = [bind(), bind()];
    let (mut a, mut b) =
        (end(0, key(), (port_a, address_a), driver), end(1, key(), (port_b, address_b), driver));
    connect(&mut a, &mut b);
    (a, b, address_b)
}

/// A pair that is up still works.
fn assert_works(a: &mut End, b: &mut End) {
    let signal = b.counter(Peer(0)).unwrap();
    let put = Put {
        to: Peer(1),
        flow: Flow(0),
        head: &[],
        body: &[],
        into: None,
        at: 0,
        signal: Some(signal),
        token: Token(0),
    };
    a.put(&put).unwrap();
    until(&mut [b], "a signal arrives", |ends, _| (ends[0].arrived(signal) == 1).then_some(()));
}

fn assert_closed(b: &mut End, mut stream: TcpStream) {
    stream.set_nonblocking(true).unwrap();
    let mut bytes = [0; 64];
    until(&mut [b], "the connection is closed", |_, _| match stream.read(&mut bytes) {
        Ok(0) => Some(()),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Some(()),
        _ => None,
    });
}

fn preamble() -> Preamble {
    Preamble { id: ID, kind: Kind::Data, rank: 0 }
}

/// A connection with a preamble and `bytes`.
fn intruder(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&preamble().encode()).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// Rank 0 by hand: the connections to another rank that is up then, on which anything can be sent.
fn by_hand<const FLOWS: usize>(me: u32, driver: Driver) -> (End, [TcpStream; FLOWS]) {
    let (port, to) = bind();
    let mut end = end_with(me, key(), (port, to), (u16::try_from(FLOWS).unwrap(), driver));
    let streams = std::array::from_fn(|flow| {
        let claim = Claim { rank: 0, flow: u16::try_from(flow).unwrap() };
        let dialler = Dialler::new(&key(), claim, me).unwrap();
        let mut stream = intruder(to, &dialler.hello());
        let mut reply = [0; REPLY_LEN];
        receive(&mut end, &stream, &mut reply);
        stream.write_all(&dialler.verify(&reply).unwrap()).unwrap();
        stream
    });
    // An empty greeting in both directions.
    (&streams[0]).write_all(&[0, 0]).unwrap();
    let own = end.address();
    end.connect(Peer(0), &own, &Card::default()).unwrap();
    receive(&mut end, &streams[0], &mut [0; 2]);
    (end, streams)
}

fn receive(end: &mut End, mut stream: &TcpStream, into: &mut [u8]) {
    stream.set_nonblocking(true).unwrap();
    let mut got = 0;
    until(&mut [end], "the other side answers", |_, _| {
        got += stream.read(&mut into[got..]).unwrap_or(0);
        (got == into.len()).then_some(())
    });
    stream.set_nonblocking(false).unwrap();
}

fn a_wrong_key_gets_nothing(driver: Driver) {
    let (mut a, mut b, address) = pair(driver);
    let (port, own) = bind();
    let mut wrong = end(0, Key::new([6; 32]), (port, own), driver);
    wrong.connect(Peer(1), &b.address(), &Card::default()).unwrap();
    let not_proven = |event: &Event| matches!(event, Event::Lost { error: Error::NotProven, .. });
    until(&mut [&mut wrong, &mut b], "the loss is reported", |_, events| {
        events.iter().any(not_proven).then_some(())
    });

    // One that does not check, and makes up its code.
    let dialler = Dialler::new(&Key::new([6; 32]), Claim { rank: 0, flow: 0 }, 1).unwrap();
    let mut stream = intruder(address, &dialler.hello());
    receive(&mut b, &stream, &mut [0; REPLY_LEN]);
    stream.write_all(&[7; 32]).unwrap();
    assert_closed(&mut b, stream);
    assert_works(&mut a, &mut b);
}

fn a_rank_that_is_up_is_not_replaced(driver: Driver) {
    let (mut a, mut b, address) = pair(driver);
    // It has the key, and is taken for a second rank 0.
    let dialler = Dialler::new(&key(), Claim { rank: 0, flow: 0 }, 1).unwrap();
    let mut stream = intruder(address, &dialler.hello());
    let mut reply = [0; REPLY_LEN];
    receive(&mut b, &stream, &mut reply);
    stream.write_all(&dialler.verify(&reply).unwrap()).unwrap();
    assert_closed(&mut b, stream);
    assert_works(&mut a, &mut b);
}

fn random_bytes_get_nothing(driver: Driver) {
    let (mut a, mut b, address) = pair(driver);
    let mut noise = 1_u64;
    for round in 0..20 {
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            noise.to_be_bytes()[0]
        })
        .take(1000)
        .collect();
        // To the port, and past it to the transport.
        let stream = if round % 2 == 0 {
            TcpStream::connect(address).unwrap()
        } else {
            intruder(address, &[])
        };
        // The other side may have closed already.
        let _ = (&stream).write_all(&bytes);
        b.port.turn();
        b.poll(&mut Vec::new());
        drop(stream);
    }
    assert_works(&mut a, &mut b);
}

fn a_recorded_handshake_gets_nothing(driver: Driver) {
    let [(port_a, address_a), (port_b, address_b)] = [bind(), bind()];
    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut a = end(0, key(), (port_a, address_a), driver);
    let mut b = end(1, key(), (port_b, relay.local_addr().unwrap()), driver);
    // Passes one connection on, and gives what the dialler said.
    let recorder = std::thread::spawn(move || {
        let (dialler, _) = relay.accept().unwrap();
        let listener = TcpStream::connect(address_b).unwrap();
        let (mut from, mut to) = (listener.try_clone().unwrap(), dialler.try_clone().unwrap());
        let back = std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let (mut said, mut bytes) = (Vec::new(), [0; 4096]);
        while let Ok(got @ 1..) = (&dialler).read(&mut bytes) {
            said.extend(&bytes[..got]);
            (&listener).write_all(&bytes[..got]).unwrap();
        }
        listener.shutdown(Shutdown::Write).unwrap();
        let _ = back.join().unwrap();
        said
    });
    connect(&mut a, &mut b);
    assert_works(&mut a, &mut b);
    drop(a);
    until(&mut [&mut b], "the loss is reported", |_, events| (!events.is_empty()).then_some(()));
    drop(b);
    let said = recorder.join().unwrap();
    assert!(said.starts_with(&preamble().encode()) && said.len() > Preamble::LEN + 22 + 32);

    // Another transport of the same rank and key hears it again.
    let (port, address) = bind();
    let mut b = end(1, key(), (port, address), driver);
    let own = b.address();
    b.connect(Peer(0), &own, &Card::default()).unwrap();
    let mut replay = TcpStream::connect(address).unwrap();
    replay.write_all(&said).unwrap();
    assert_closed(&mut b, replay);
    let mut events = Vec::new();
    b.poll(&mut events);
    assert!(events.is_empty(), "{events:?}");
}

fn a_flood_without_proof_does_not_keep_a_peer_out(driver: Driver) {
    let [(port_a, address_a), (port_b, address_b)] = [bind(), bind()];
    let (mut a, mut b) = (
        end(0, key(), (port_a, address_a), driver),
        end(1, key(), (Arc::clone(&port_b), address_b), driver),
    );
    let flood: Vec<_> = (0..300).map(|_| intruder(address_b, &[0; 5])).collect();
    connect(&mut a, &mut b);
    assert_works(&mut a, &mut b);
    drop(flood);
}

fn a_flow_that_was_closed_too_early_is_dialled_again(driver: Driver) {
    let [(port_a, address_a), (port_b, address_b)] = [bind(), bind()];
    let mut a = end(0, key(), (port_a, address_a), driver);
    // Somebody takes the connection and drops it, as a flood may make the transport do.
    let inbox = port_b.register(ID, Kind::Data).unwrap();
    a.connect(Peer(1), &end_address(address_b, driver), &Card::default()).unwrap();
    until(&mut [&mut a], "it dials", |_, _| {
        port_b.turn();
        inbox.try_take().map(drop)
    });
    let mut b = end(1, key(), (port_b, address_b), driver);
    b.connect(Peer(0), &a.address(), &Card::default()).unwrap();
    until(&mut [&mut a, &mut b], "both come up", |_, events| (events.len() == 2).then_some(()));
    assert_works(&mut a, &mut b);
}

/// The card of a transport that listens at `address`.
fn end_address(address: SocketAddr, driver: Driver) -> Card {
    end(1, key(), (bind().0, address), driver).address()
}

fn a_peer_is_held_to_its_own_regions(driver: Driver) {
    let (mut b, [mut stream]) = by_hand(2, driver);
    let (region, memory) = b.alloc(64).unwrap();
    let signal = b.counter(Peer(0)).unwrap();
    let key_of_another = header(&b.key(region, Peer(1)).unwrap(), 0, 64, signal.0);
    stream.write_all(&Header::signal(signal.0).encode()).unwrap();
    stream.write_all(&key_of_another.encode()).unwrap();
    stream.write_all(&[0xee; 64]).unwrap();
    assert_blamed(&mut b);
    assert_eq!(b.arrived(signal), 1);
    assert_eq!(copy(memory), [0; 64]);
}

fn a_peer_is_held_to_its_own_counters(driver: Driver) {
    let (mut b, [mut stream]) = by_hand(2, driver);
    let [own, others] = [Peer(0), Peer(1)].map(|from| b.counter(from).unwrap());
    for signal in [own, others] {
        stream.write_all(&Header::signal(signal.0).encode()).unwrap();
    }
    assert_blamed(&mut b);
    assert_eq!((b.arrived(own), b.arrived(others)), (1, 0));
}

/// Waits until rank 0 is lost for breaking the protocol.
fn assert_blamed(end: &mut End) {
    let blames = |event: &Event| {
        matches!(event, Event::Lost { peer: Peer(0), error: Error::Protocol { .. } })
    };
    until(&mut [end], "the loss is reported", |_, events| events.iter().any(blames).then_some(()));
}

fn frames_of_other_flows_count_before_the_end_of_one(driver: Driver) {
    let (mut b, [ended, mut other]) = by_hand(1, driver);
    let signal = b.counter(Peer(0)).unwrap();
    // Few enough for the socket's buffer, so that all of them are here before the end is.
    let frames: Vec<_> = (0..2_000).flat_map(|_| Header::signal(signal.0).encode()).collect();
    other.write_all(&frames).unwrap();
    drop(ended);
    until(&mut [&mut b], "the loss is reported", |_, events| (!events.is_empty()).then_some(()));
    assert_eq!(b.arrived(signal), 2_000);
}

/// A header with the region and nonce of a key.
fn header(key: &Card, offset: u64, len: u32, signal: u32) -> Header {
    let word = |at: usize| u32::from_le_bytes(*key.0[at..].first_chunk().unwrap());
    Header { region: word(4), nonce: word(8), offset, len, signal }
}

fn copy(memory: Memory) -> Vec<u8> {
    // SAFETY: the tests copy memory of a transport that is alive and not polled meanwhile.
    unsafe { std::slice::from_raw_parts(memory.ptr.as_ptr(), memory.len) }.to_vec()
}

fn frames_arrive_whatever_pieces_they_come_in_and_count_before_the_end(driver: Driver) {
    let (mut b, [stream]) = by_hand(1, driver);
    let (region, memory) = b.alloc(20_000).unwrap();
    let signal = b.counter(Peer(0)).unwrap();
    let card = b.key(region, Peer(0)).unwrap();
    let body: Vec<u8> = (0..20_000_u32).map(|k| k.to_le_bytes()[0] ^ k.to_le_bytes()[1]).collect();

    let frame = |at: usize, len: usize| {
        let header = header(&card, at as u64, u32::try_from(len).unwrap(), signal.0).encode();
        [header.as_slice(), &body[at..at + len]].concat()
    };
    let signal_only = Header::signal(signal.0).encode().to_vec();
    let bytes = [
        frame(0, 100),
        signal_only.clone(),
        frame(100, 17_000),
        frame(17_100, 2_899),
        signal_only,
        frame(19_999, 1),
    ];
    let bytes = bytes.concat();
    for (k, piece) in bytes.chunks(317).enumerate() {
        (&stream).write_all(piece).unwrap();
        if k % 3 == 0 {
            b.poll(&mut Vec::new());
        }
    }
    // The end comes with the last frames.
    drop(stream);
    let lost = until(&mut [&mut b], "the loss is reported", |_, events| match events {
        [Event::Lost { error, .. }] => Some(error.to_string()),
        _ => None,
    });
    assert_eq!(lost, Error::Closed.to_string());
    assert_eq!(b.arrived(signal), 6);
    assert!(copy(memory) == body);
}

/// One frame, right or wrong.
#[derive(Clone, Debug)]
struct Shot {
    /// Added to the right number and nonce.
    region: u32,
    nonce: u32,
    offset: u64,
    len: u32,
    signal: u32,
}

fn shots() -> impl Strategy<Value = Vec<Shot>> {
    let wrong = |by: u32| prop_oneof![20 => Just(0), 1 => Just(by), 1 => any::<u32>()];
    let offset = prop_oneof![10 => 0..64_u64, 2 => 60..70_u64, 1 => any::<u64>()];
    let len = prop_oneof![10 => 0..32_u32, 2 => 60..70_u32, 1 => any::<u32>()];
    let signal = prop_oneof![Just(0), Just(0), Just(NO_SIGNAL), any::<u32>()];
    let shot = (wrong(1), wrong(1), offset, len, signal).prop_map(
        |(region, nonce, offset, len, signal)| Shot { region, nonce, offset, len, signal },
    );
    proptest::collection::vec(shot, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Random frames write what is right about them before the first that is not, and nothing else.
    #[test]
    fn random_frames_write_nothing_outside_the_region(
        shots in shots(),
        driver in prop_oneof![Just(Driver::Poll), Just(Driver::IoUring)],
    ) {
        let (mut b, [stream]) = by_hand(1, driver);
        // The region is the middle of a page.
        let (_, page) = b.alloc(4096).unwrap();
        // SAFETY: the page outlives the transport's use of the part.
        let region = unsafe { b.register(page.part(1000, 64)) }.unwrap();
        let signal = b.counter(Peer(0)).unwrap();
        assert_eq!(signal, Signal(0));
        let right = header(&b.key(region, Peer(0)).unwrap(), 0, 0, 0);

        let (mut expected, mut bumps, mut good) = (vec![0; 4096], 0, true);
        for (Shot { region, nonce, offset, len, signal }, fill) in shots.into_iter().zip(1..) {
            let header = if len == 0 && region == 0 && nonce == 0 {
                Header::signal(signal)
            } else {
                let (region, nonce) = (right.region.wrapping_add(region), right.nonce.wrapping_add(nonce));
                Header { region, nonce, offset, len, signal }
            };
            let payload = vec![fill; usize::try_from(len).unwrap().min(4096)];
            // The other side may have closed already.
            let _ = (&stream).write_all(&[header.encode().as_slice(), &payload].concat());
            let fits = len == 0 || (header.region, header.nonce) == (right.region, right.nonce)
                && offset.checked_add(len.into()).is_some_and(|end| end <= 64);
            good = good && Header::decode(&header.encode()).is_ok() && fits && [0, NO_SIGNAL].contains(&signal);
            if good {
                let at = 1000 + usize::try_from(offset).unwrap_or(0);
                if len > 0 {
                    expected[at..at + payload.len()].copy_from_slice(&payload);
                }
                bumps += u64::from(signal == 0);
            }
        }
        stream.shutdown(Shutdown::Write).unwrap_or(());
        let protocol = until(&mut [&mut b], "the loss is reported", |_, events| match events {
            [Event::Lost { error, .. }] => Some(matches!(error, Error::Protocol { .. })),
            _ => None,
        });
        prop_assert_eq!(protocol, !good);
        prop_assert_eq!(b.arrived(signal), bumps);
        prop_assert!(copy(page) == expected);
    }
}
