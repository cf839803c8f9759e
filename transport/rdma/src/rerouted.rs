//! Rails that fail in the middle of traffic: nothing is lost, nothing counts twice. These tests need a device, so they are
//! ignored where there is none.

use std::time::{Duration, Instant};

use dure_device::Memory;
use dure_transport::{
    Card, Event, Flow, Peer, Put, Region, RemoteRegion, Route, Signal, Span, Token, Transport,
};

use crate::join::Link;
use crate::memory;
use crate::provoked::end;
use crate::queue::Patience;
use crate::transport::Rdma;

const FLOWS: u16 = 2;
/// Bytes of each message's place at the receiver: inline, copied, and read by the device where they are.
const LENS: [usize; 3] = [24, 3000, 40_000];
const PLACES: usize = 16;
const PLACE: usize = 40_960;

/// One end, with what it sends and what it receives.
struct End {
    rdma: Rdma,
    source: (Region, Memory),
    target: (Region, Memory),
    into: Option<RemoteRegion>,
    /// Of each flow.
    signals: Vec<Signal>,
    sent: Vec<u64>,
    checked: Vec<u64>,
    routes: Vec<Route>,
    tokens: usize,
}

struct Duo([End; 2]);

/// The byte that fills a message.
fn mark(flow: usize, number: u64) -> u8 {
    u8::try_from((number * 7 + flow as u64 * 101) % 251).unwrap()
}

fn peer_of(side: usize) -> Peer {
    Peer(u32::try_from(1 - side).unwrap())
}

impl Duo {
    fn up() -> Self {
        let make = |me| {
            let patience = Patience { ack_timeout: 14, retries: 2, ..Patience::default() };
            let mut rdma = end(me, patience, FLOWS, true);
            let len = PLACES * PLACE * usize::from(FLOWS);
            let (source, target) = (rdma.alloc(len).unwrap(), rdma.alloc(len).unwrap());
            let flows = usize::from(FLOWS);
            let (sent, checked) = (vec![0; flows], vec![0; flows]);
            let (into, signals, routes, tokens) = (None, Vec::new(), Vec::new(), 0);
            End { rdma, source, target, into, signals, sent, checked, routes, tokens }
        };
        let mut duo = Self([make(0), make(1)]);
        let addresses = [0, 1].map(|side: usize| duo.0[side].rdma.address());
        for side in [0, 1] {
            let address = &addresses[1 - side];
            duo.0[side].rdma.connect(peer_of(side), address, &Card::default()).unwrap();
        }
        let mut up = 0;
        while up < 2 {
            let mut events = Vec::new();
            duo.0.iter_mut().for_each(|end| end.rdma.poll(&mut events));
            up += events.iter().filter(|event| matches!(event, Event::Up { .. })).count();
        }
        for side in [0, 1] {
            let (region, peer) = (duo.0[side].target.0, peer_of(side));
            let key = duo.0[side].rdma.key(region, peer).unwrap();
            let signals = (0..FLOWS).map(|_| duo.0[side].rdma.counter(peer).unwrap()).collect();
            duo.0[side].signals = signals;
            let into = duo.0[1 - side].rdma.import(peer_of(1 - side), &key).unwrap();
            duo.0[1 - side].into = Some(into);
        }
        duo
    }

    /// Sends the next message of a flow, unless the receiver has not checked the one that was there before.
    fn send(&mut self, side: usize, flow: usize) {
        let signal = self.0[1 - side].signals[flow];
        let unchecked = self.0[side].sent[flow] - self.0[1 - side].checked[flow];
        let end = &mut self.0[side];
        let number = end.sent[flow];
        if unchecked >= PLACES as u64 {
            return;
        }
        let at = (flow * PLACES + usize::try_from(number).unwrap() % PLACES) * PLACE;
        let len = LENS[usize::try_from(number).unwrap() % LENS.len()];
        // SAFETY: what was sent from here has arrived, as the receiver has checked it.
        unsafe { memory::write(end.source.1.part(at, len), &vec![mark(flow, number); len]) };
        let body = [Span { region: end.source.0, offset: at as u64, len: len as u64 }];
        let put = Put {
            to: peer_of(side),
            flow: Flow(u16::try_from(flow).unwrap()),
            head: &[],
            body: &body,
            into: end.into,
            at: at as u64,
            signal: Some(signal),
            token: Token(number),
        };
        match end.rdma.put(&put) {
            Ok(dure_transport::Posted::Pending) => {
                end.tokens += 1;
                end.sent[flow] += 1;
            }
            Ok(dure_transport::Posted::Done) => end.sent[flow] += 1,
            Err(dure_transport::Full) => {}
        }
    }

    fn poll(&mut self, side: usize) {
        let mut events = Vec::new();
        let end = &mut self.0[side];
        end.rdma.poll(&mut events);
        for event in events {
            match event {
                Event::Sent(_) => end.tokens -= 1,
                Event::Rerouted { route, .. } => {
                    println!("side {side}: {route}");
                    end.routes.push(route);
                }
                Event::Lost { error, .. } => panic!("{error:?}"),
                Event::Up { .. } => unreachable!("it is up"),
            }
        }
    }

    /// Looks at all that has counted.
    fn check(&mut self, side: usize) {
        let sent = self.0[1 - side].sent.clone();
        let end = &mut self.0[side];
        for (flow, sent) in sent.iter().enumerate() {
            let arrived = end.rdma.arrived(end.signals[flow]);
            assert!(arrived <= *sent, "no message counts twice");
            while end.checked[flow] < arrived {
                let number = end.checked[flow];
                let at = (flow * PLACES + usize::try_from(number).unwrap() % PLACES) * PLACE;
                let len = LENS[usize::try_from(number).unwrap() % LENS.len()];
                // SAFETY: it has counted, and the sender waits until it is checked.
                let bytes = unsafe { memory::read(end.target.1.part(at, len)) };
                assert!(bytes.iter().all(|byte| *byte == mark(flow, number)), "message {number}");
                end.checked[flow] += 1;
            }
        }
    }

    /// Traffic in both directions until `done`.
    fn run(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            assert!(begin.elapsed() < Duration::from_secs(60), "traffic goes on");
            for side in [0, 1] {
                (0..usize::from(FLOWS)).for_each(|flow| self.send(side, flow));
                self.poll(side);
                self.check(side);
            }
        }
    }

    fn total(&self) -> u64 {
        self.0.iter().flat_map(|end| &end.checked).sum()
    }

    /// Traffic of so many messages more.
    fn messages(&mut self, count: u64) {
        let until = self.total() + count;
        self.run(|duo| duo.total() >= until);
    }

    /// Until all that was sent has arrived, and all sources are given back.
    fn settle(&mut self) {
        let begin = Instant::now();
        while (0..2)
            .any(|side| self.0[side].tokens > 0 || self.0[side].sent != self.0[1 - side].checked)
        {
            assert!(begin.elapsed() < Duration::from_secs(60), "all arrives");
            for side in [0, 1] {
                self.poll(side);
                self.check(side);
                self.0[side].rdma.post_markers();
            }
        }
    }

    /// Fails a queue pair that is in use.
    fn fail(&self, side: usize, flow: u16) {
        let Some(Link::There(pair)) = self.0[side].rdma.links.get(1 - side) else { panic!("lost") };
        let at = pair.queue(flow, 0);
        self.0[side].rdma.queues[at].stop();
    }
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_failed_queue_pair_costs_no_message_and_its_rail_comes_back() {
    let mut duo = Duo::up();
    duo.messages(500);
    for (side, flow) in [(0, 0), (1, 1), (0, 1)] {
        duo.fail(side, flow);
        let changes = duo.0[0].routes.len();
        duo.run(|duo| duo.0[0].routes.len() > changes && duo.0[1].routes.len() > changes);
        let route = duo.0[0].routes.last().unwrap().clone();
        assert_eq!((route.over, route.rails, route.is_degraded()), ("tcp", 0, true));
        assert!(route.why.contains("IBV_WC_WR_FLUSH_ERR"), "{}", route.why);
        duo.messages(300);
        duo.run(|duo| duo.0.iter().all(|end| !end.routes.last().unwrap().is_degraded()));
        assert!(duo.0[1].routes.last().unwrap().why.contains("puts pass again"));
        duo.messages(300);
    }
    duo.settle();
}
