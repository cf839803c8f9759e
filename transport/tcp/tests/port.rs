//! The listening port: who gets a connection, and what strangers cannot do.

#![expect(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dure_tcp::{Dial, Error, Inbox, Incoming, Kind, Port, PortOptions, Preamble};

const ID: [u8; 16] = [1; 16];
const DEADLINE: Duration = Duration::from_secs(10);

fn port(options: PortOptions) -> (Arc<Port>, SocketAddr) {
    let port = Port::bind(options).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
    (port, address)
}

fn preamble(id: [u8; 16]) -> Preamble {
    Preamble { id, kind: Kind::Data, rank: 7 }
}

/// A connection that has sent `bytes`.
fn client(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// Turns the port until `done` gives something.
fn until<T>(port: &Port, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        port.turn();
        if let Some(result) = done() {
            return result;
        }
        assert!(begin.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

fn take(inbox: &Inbox) -> Incoming {
    until(inbox.port(), "a connection is delivered", || inbox.try_take())
}

/// Waits until the port has closed a connection.
fn assert_closed(port: &Port, mut stream: TcpStream) {
    stream.set_nonblocking(true).unwrap();
    until(port, "the connection is closed", || match stream.read(&mut [0; 1]) {
        Ok(0) => Some(()),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Some(()),
        _ => None,
    });
}

fn readable(fd: impl std::os::fd::AsFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() > 0
}

/// Waits for the port's doorbell without turning the port.
fn wait_for_ring(port: &Port) {
    let begin = Instant::now();
    while !readable(port.doorbell()) {
        assert!(begin.elapsed() < DEADLINE, "the doorbell does not ring");
        std::thread::yield_now();
    }
}

#[test]
fn connections_go_to_the_inbox_that_they_name() {
    let (port, address) = port(PortOptions::default());
    let [data, tree] = [Kind::Data, Kind::Tree].map(|kind| port.register(ID, kind).unwrap());
    let other = port.register([2; 16], Kind::Data).unwrap();
    let mut bytes = preamble(ID).encode().to_vec();
    bytes.extend(b"what follows");
    let client = client(address, &bytes);

    let mut incoming = take(&data);
    assert_eq!((incoming.kind, incoming.rank), (Kind::Data, 7));
    assert_eq!(incoming.from, client.local_addr().unwrap());
    assert!(tree.try_take().is_none() && other.try_take().is_none());
    // It is non-blocking, and begins after the preamble.
    let mut rest = [0; 12];
    let mut got = 0;
    until(&port, "the rest", || {
        got += incoming.stream.read(&mut rest[got..]).unwrap_or(0);
        (got == rest.len()).then_some(())
    });
    assert_eq!(&rest, b"what follows");
    assert_eq!(incoming.stream.read(&mut rest).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert!(incoming.stream.nodelay().unwrap());
}

#[test]
fn both_protocols_reach_the_port() {
    let (port, _) = port(PortOptions::default());
    let inbox = port.register(ID, Kind::Data).unwrap();
    let addresses =
        ["127.0.0.1", "::1"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port.number()));
    for address in addresses {
        // A host without IPv6 has no such address.
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        stream.write_all(&preamble(ID).encode()).unwrap();
        assert_eq!(take(&inbox).from.ip(), address.ip());
    }
}

#[test]
fn doorbells_ring_while_there_is_something() {
    let (port, address) = port(PortOptions::default());
    let inbox = port.register(ID, Kind::Data).unwrap();
    assert!(!readable(port.doorbell()) && !readable(inbox.doorbell()));
    let mut client = client(address, &preamble(ID).encode()[..5]);
    until(&port, "the connection is accepted", || (!readable(port.doorbell())).then_some(()));
    assert!(!readable(inbox.doorbell()));
    client.write_all(&preamble(ID).encode()[5..]).unwrap();
    wait_for_ring(&port);
    until(&port, "the connection is delivered", || readable(inbox.doorbell()).then_some(()));
    assert!(inbox.try_take().is_some());
    assert!(!readable(inbox.doorbell()) && !readable(port.doorbell()));
}

#[test]
fn connections_wait_for_the_inbox_that_they_name() {
    let (port, address) = port(PortOptions::default());
    let _early =
        [client(address, &preamble(ID).encode()), client(address, &preamble([2; 16]).encode())];
    let other = port.register([3; 16], Kind::Data).unwrap();
    drop(client(address, &preamble([3; 16]).encode()));
    take(&other);
    let inbox = port.register(ID, Kind::Data).unwrap();
    take(&inbox);
    assert!(inbox.try_take().is_none(), "the other one names somebody else");
    drop(inbox);
    take(&port.register([2; 16], Kind::Data).unwrap());
}

#[test]
fn a_dropped_inbox_gets_nothing_and_a_newer_one_stays() {
    let (port, address) = port(PortOptions::default());
    let old = port.register(ID, Kind::Data).unwrap();
    let new = port.register(ID, Kind::Data).unwrap();
    drop(old);
    let _client = client(address, &preamble(ID).encode());
    take(&new);
}

#[test]
fn what_is_no_preamble_is_closed() {
    let (port, address) = port(PortOptions::default());
    let inbox = port.register(ID, Kind::Data).unwrap();
    for bytes in [[0_u8; 32], *b"GET / HTTP/1.1\r\nHost: somewhere.", [0xff; 32]] {
        assert_closed(&port, client(address, &bytes));
    }
    let mut unknown = preamble(ID).encode();
    unknown[24] = 99;
    assert_closed(&port, client(address, &unknown));
    assert!(inbox.try_take().is_none());
}

#[test]
fn half_a_preamble_is_closed_in_time() {
    let options =
        PortOptions { half_open_for: Duration::from_millis(50), ..PortOptions::default() };
    let (port, address) = port(options);
    let stranger = client(address, &preamble(ID).encode()[..31]);
    until(&port, "it is accepted", || (!readable(port.doorbell())).then_some(()));
    // A sleeper is woken for it.
    wait_for_ring(&port);
    assert_closed(&port, stranger);
}

#[test]
fn a_connection_that_nobody_wants_is_closed_in_time() {
    let options = PortOptions { held_for: Duration::from_millis(50), ..PortOptions::default() };
    let (port, address) = port(options);
    assert_closed(&port, client(address, &preamble([9; 16]).encode()));
}

#[test]
fn a_flood_of_half_open_connections_does_not_keep_a_good_one_out() {
    let options = PortOptions { half_open: 8, held: 8, ..PortOptions::default() };
    let (port, address) = port(options);
    let inbox = port.register(ID, Kind::Data).unwrap();
    let mut flood = Vec::new();
    for round in 0..100 {
        flood.push(client(address, &preamble(ID).encode()[..round % 32]));
        flood.push(client(address, &preamble([9; 16]).encode()));
        if round % 10 == 0 {
            flood.push(client(address, &preamble(ID).encode()));
            take(&inbox);
        }
    }
    // The oldest had to make room.
    flood.drain(..2).for_each(|stranger| assert_closed(&port, stranger));
}

#[test]
fn an_inbox_that_nobody_empties_is_bounded() {
    let (port, address) = port(PortOptions { queued: 2, ..PortOptions::default() });
    let inbox = port.register(ID, Kind::Data).unwrap();
    let mut clients: Vec<_> = (0..3).map(|_| client(address, &preamble(ID).encode())).collect();
    assert_closed(&port, clients.pop().unwrap());
    assert!(inbox.try_take().is_some() && inbox.try_take().is_some() && inbox.try_take().is_none());
}

#[test]
fn one_port_is_not_given_twice() {
    let (first, _) = port(PortOptions::default());
    let number = first.number();
    let ports = Some(number..=number);
    let error = Port::bind(PortOptions { ports, ..PortOptions::default() }).unwrap_err();
    assert!(
        matches!(error, Error::NoFreePort { first, last } if (first, last) == (number, number))
    );
    assert_eq!(error.to_string(), format!("no free port to listen on in {number}-{number}"));

    // A range goes on with the next one.
    let next = number..=number.saturating_add(20);
    let second =
        Port::bind(PortOptions { ports: Some(next.clone()), ..PortOptions::default() }).unwrap();
    assert!(second.number() > number && next.contains(&second.number()));
}

#[test]
fn a_dial_takes_the_first_candidate_that_answers() {
    let (port, good) = port(PortOptions::default());
    let inbox = port.register(ID, Kind::Data).unwrap();
    // Nobody listens at the first, and nobody answers at the second (TEST-NET-1 of RFC 5737).
    let (refused, silent) = (SocketAddr::from(([127, 0, 0, 1], 1)), "192.0.2.1:9".parse().unwrap());
    let dial = Dial::new(vec![refused, silent, good], preamble(ID)).unwrap();
    let stream = dial.wait(Instant::now() + DEADLINE).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), good);
    assert_eq!(take(&inbox).from, stream.local_addr().unwrap());
}

#[test]
fn a_dial_that_fails_says_what_was_tried() {
    // Nobody listens at the first ports, which no system gives away.
    let refused = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let dial = Dial::new(refused.to_vec(), preamble(ID)).unwrap();
    let error = dial.wait(Instant::now() + DEADLINE).unwrap_err().to_string();
    assert!(refused.iter().all(|address| error.contains(&address.to_string())), "{error}");
    assert!(error.contains("refused"), "{error}");

    let none =
        Dial::new(Vec::new(), preamble(ID)).unwrap().wait(Instant::now() + DEADLINE).unwrap_err();
    assert!(matches!(none, Error::Unreachable(tried) if tried.is_empty()));
}

#[test]
fn a_dial_ends_at_its_deadline() {
    // A listener whose backlog is full answers no more; it takes a few connections to get there.
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let full = listener.local_addr().unwrap().as_socket().unwrap();
    let mut taken = Vec::new();
    let error = loop {
        let dial = Dial::new(vec![full], preamble(ID)).unwrap();
        match dial.wait(Instant::now() + Duration::from_millis(50)) {
            Ok(stream) => taken.push(stream),
            Err(error) => break error,
        }
        assert!(taken.len() < 100, "a backlog of 0 is full some time");
    };
    assert!(error.to_string().contains(&full.to_string()), "{error}");
}
