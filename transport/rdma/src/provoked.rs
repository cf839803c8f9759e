//! Errors that a device can be made to report, from the work request to the sentence that the user reads. They need a
//! device, so they are ignored where there is none.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dure_tcp::{Driver, Port, PortOptions};
use dure_transport::proof::Key;
use dure_transport::{Card, Event, Flow, Peer, Put, RemoteRegion, Signal, Span, Token, Transport};

use crate::mailbox::note;
use crate::transport::{Rdma, assemble};
use crate::{Options, Patience};

const LEN: usize = 64 << 10;

fn side(me: u32) -> Box<dyn Transport> {
    let port = Port::bind(PortOptions::default()).unwrap();
    let addresses = vec![SocketAddr::new("127.0.0.1".parse().unwrap(), port.number())];
    let (id, key) = ([7; 16], Key::new([5; 32]));
    let (flows, driver) = (1, Driver::Poll);
    dure_tcp::open(dure_tcp::Options { me: Peer(me), id, key, port, addresses, flows, driver })
        .unwrap()
}

pub(crate) fn end(me: u32, patience: Patience, flows: u16, falls_back: bool) -> Rdma {
    assemble(Options { flows, patience, falls_back, ..Options::new(Peer(me), side(me)) }).unwrap()
}

/// Two ends that are up, with memory of the second that the first can write, and memory to send from.
struct Duo {
    ends: [Rdma; 2],
    source: Span,
    target: (dure_transport::Region, RemoteRegion, Signal),
    lost: [Option<String>; 2],
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", chain(cause)))
}

impl Duo {
    fn up(patience: Patience) -> Self {
        let mut ends = [0, 1].map(|me| end(me, patience, 1, false));
        let addresses = [0, 1].map(|side: usize| ends[side].address());
        for side in [0, 1] {
            let peer = Peer(u32::try_from(1 - side).unwrap());
            ends[side].connect(peer, &addresses[1 - side], &Card::default()).unwrap();
        }
        let mut up = 0;
        let begin = Instant::now();
        while up < 2 {
            assert!(begin.elapsed() < Duration::from_secs(10));
            let mut events = Vec::new();
            ends.iter_mut().for_each(|end| end.poll(&mut events));
            up += events.iter().filter(|event| matches!(event, Event::Up { .. })).count();
        }
        let (from, _) = ends[0].alloc(LEN).unwrap();
        let (region, _) = ends[1].alloc(LEN).unwrap();
        let key = ends[1].key(region, Peer(0)).unwrap();
        let remote = ends[0].import(Peer(1), &key).unwrap();
        let signal = ends[1].counter(Peer(0)).unwrap();
        let source = Span { region: from, offset: 0, len: LEN as u64 };
        Self { ends, source, target: (region, remote, signal), lost: [None, None] }
    }

    fn put(&mut self) -> bool {
        let (_, into, signal) = self.target;
        let put = Put {
            to: Peer(1),
            flow: Flow(0),
            head: &[],
            body: &[self.source],
            into: Some(into),
            at: 0,
            signal: Some(signal),
            token: Token(0),
        };
        self.ends[0].put(&put).is_ok()
    }

    /// A signal alone.
    fn signal(&mut self) -> bool {
        let (_, _, signal) = self.target;
        self.ends[0].put(&note(Peer(1), signal)).is_ok()
    }

    fn poll(&mut self, side: usize) {
        let mut events = Vec::new();
        self.ends[side].poll(&mut events);
        for event in events {
            if let Event::Lost { error, .. } = event {
                self.lost[side] = Some(chain(&error));
            }
        }
    }

    /// What a side says when it loses the other, while both are polled or that side alone.
    fn loss(&mut self, side: usize, both: bool) -> String {
        let begin = Instant::now();
        while self.lost[side].is_none() {
            assert!(begin.elapsed() < Duration::from_secs(20), "the loss is not reported");
            self.poll(side);
            if both {
                self.poll(1 - side);
            }
        }
        self.lost[side].clone().unwrap()
    }
}

fn says(text: &str, parts: &[&str]) {
    println!("{text}");
    for part in parts.iter().chain(&["QP ", "GID ", "path MTU", "likely causes: 1. "]) {
        assert!(text.contains(part), "{part} in: {text}");
    }
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_put_into_released_memory_is_a_remote_access_error() {
    let mut duo = Duo::up(Patience::default());
    duo.ends[1].release(duo.target.0);
    assert!(duo.put());
    // Before the other side looks: what it says over the side channel may be here before the completion is.
    says(&duo.loss(0, false), &["IBV_WC_REM_ACCESS_ERR", "the peer released the memory"]);
    let text = duo.loss(1, true);
    assert!(
        text.contains("broke the protocol") && text.contains("not, or no longer, exposed"),
        "{text}"
    );
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_peer_that_acknowledges_nothing_is_a_retry_error() {
    let mut duo = Duo::up(Patience { ack_timeout: 14, retries: 2, ..Patience::default() });
    // Without a word over the side channel, as when the way is cut.
    duo.ends[1].queues.iter_mut().for_each(|queue| drop(queue.end()));
    assert!(duo.put());
    says(&duo.loss(0, false), &["IBV_WC_RETRY_EXC_ERR", "1. wrong GID", "2. MTU mismatch"]);
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_peer_without_receives_is_a_receiver_not_ready_error() {
    let mut duo = Duo::up(Patience { rnr_retries: 1, ..Patience::default() });
    let begin = Instant::now();
    while duo.lost[0].is_none() {
        assert!(begin.elapsed() < Duration::from_secs(20), "the receives run out");
        duo.signal();
        duo.poll(0);
    }
    says(&duo.loss(0, false), &["IBV_WC_RNR_RETRY_EXC_ERR", "1. the peer does not poll"]);
}

#[test]
#[ignore = "needs an RDMA device"]
fn what_a_failed_queue_pair_gives_back_is_flushed() {
    let mut duo = Duo::up(Patience::default());
    duo.ends[0].queues[0].stop();
    assert!(duo.put());
    says(&duo.loss(0, true), &["IBV_WC_WR_FLUSH_ERR", "1. an earlier request"]);
    let text = duo.loss(1, true);
    assert!(
        text.contains("the peer gave the connection up") && text.contains("IBV_WC_WR_FLUSH_ERR"),
        "{text}"
    );
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_state_that_cannot_be_reached_names_the_attribute() {
    let duo = Duo::up(Patience::default());
    let text = duo.ends[0].queues[0].reach_without_timeout();
    assert!(text.contains("it needs timeout besides") && text.contains("RTS"), "{text}");
}
