//! Both ends over a simulated network: whatever the order of posting and the timing, the bytes and sizes are right.

use dure::ErrorKind;
use dure_device::Memory;
use dure_transport::simulated::{Options, World};
use dure_transport::{Card, Event, Peer, Region, Span, Transport};

use crate::link::Link;
use crate::meeting::{RECEIVER, SENDER};
use crate::receiver::{Receive, Receiver, Sizes};
use crate::ring::{Inbox, Outbox};
use crate::sender::Sender;

/// Bytes of the memory of each side.
const LEN: usize = 1 << 16;

struct Both {
    world: World,
    sender: Sender,
    receiver: Receiver,
    from: (Region, Memory),
    into: (Region, Memory),
    key: Card,
}

/// The transports of both sides, connected, each with what the other has said.
fn links(world: &World, mut nets: Vec<Box<dyn Transport>>) -> [Link; 2] {
    let addresses = [nets[0].address(), nets[1].address()];
    let peers = [RECEIVER, SENDER];
    let mut inboxes = Vec::new();
    for (at, net) in nets.iter_mut().enumerate() {
        let inbox = Inbox::new(&mut **net, peers[at]).unwrap();
        let hello = Card(inbox.greeting(&**net, peers[at]).unwrap().into());
        net.connect(peers[at], &addresses[1 - at], &hello).unwrap();
        inboxes.push(inbox);
    }
    let mut hellos = [None, None];
    while hellos.iter().any(Option::is_none) {
        for (net, hello) in nets.iter_mut().zip(&mut hellos) {
            let mut events = Vec::new();
            net.poll(&mut events);
            for event in events {
                if let Event::Up { hello: theirs, .. } = event {
                    *hello = Some(theirs);
                }
            }
        }
        world.step();
    }
    let mut ends = nets.into_iter().zip(inboxes).zip(peers).zip(hellos);
    std::array::from_fn(|_| {
        let (((mut net, inbox), peer), hello) = ends.next().unwrap();
        let outbox = Outbox::open(&mut *net, peer, &hello.unwrap().0).unwrap();
        Link::new(net, peer, (inbox, outbox), "connection of a test".to_owned())
    })
}

impl Both {
    fn new(seed: u64) -> Self {
        let options = Options { seed, head: 256, queue: 4, ..Options::default() };
        let (world, nets) = World::new(2, &options);
        let [mut sending, mut receiving] = links(&world, nets);
        let from = sending.net.alloc(LEN).unwrap();
        let into = receiving.net.alloc(LEN).unwrap();
        let key = receiving.net.key(into.0, SENDER).unwrap();
        let (sender, receiver) = (Sender::new(sending), Receiver::new(receiving));
        Self { world, sender, receiver, from, into, key }
    }

    fn fill(&self, at: usize, len: usize, byte: u8) {
        let part = self.from.1.part(at, len);
        // SAFETY: memory of the transport that no put reads now.
        unsafe { part.ptr.as_ptr().write_bytes(byte, len) };
    }

    fn received(&self, at: usize, len: usize) -> Vec<u8> {
        let part = self.into.1.part(at, len);
        let mut bytes = vec![0; len];
        // SAFETY: memory of the transport that no put writes now.
        unsafe { part.ptr.as_ptr().copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
        bytes
    }

    fn at(&self, at: u64, len: u64, tag: i32) -> Receive {
        Receive { tag, len, at, serial: 7, key: self.key.clone() }
    }

    fn offer(&mut self, receives: &[Receive]) -> usize {
        loop {
            if let Some(request) = self.receiver.offer(receives).unwrap() {
                return request;
            }
            self.sender.turn();
            self.world.step();
        }
    }

    fn span(&self, at: u64, len: u64) -> Option<Span> {
        (len > 0).then_some(Span { region: self.from.0, offset: at, len })
    }

    fn send(&mut self, at: u64, len: u64, tag: i32) -> usize {
        loop {
            if let Some(request) = self.sender.send(self.span(at, len), len, tag).unwrap() {
                return request;
            }
            self.receiver.turn();
            self.world.step();
        }
    }

    fn sent(&mut self, request: usize) -> u64 {
        loop {
            if let Some(len) = self.sender.test(request).unwrap() {
                return len;
            }
            self.receiver.turn();
            self.world.step();
        }
    }

    fn got(&mut self, request: usize) -> Sizes {
        loop {
            if let Some(sizes) = self.receiver.test(request).unwrap() {
                return sizes;
            }
            self.sender.turn();
            self.world.step();
        }
    }
}

#[test]
fn messages_arrive_whatever_the_network_does() {
    for seed in 0..40 {
        let mut both = Both::new(seed);
        // Where each message is, and how long it is.
        let messages = [(0, 0), (0, 1), (1, 8), (9, 100), (109, 4096), (4205, 333), (4538, 16_000)];
        let receives = messages.map(|(at, len)| {
            let receive = both.at(at as u64, len as u64 + 5, 3);
            both.offer(&[receive])
        });
        for (number, (at, len)) in (1..).zip(messages) {
            both.fill(at, len, number);
            let request = both.send(at as u64, len as u64, 3);
            assert_eq!(both.sent(request), len as u64);
        }
        for (number, (request, (at, len))) in (1..).zip(receives.into_iter().zip(messages)) {
            assert_eq!(both.got(request).of[0], len as u64, "seed {seed}");
            assert_eq!(both.received(at, len), vec![number; len], "seed {seed}");
        }
    }
}

#[test]
fn tags_choose_among_receives_and_groups_are_done_together() {
    for seed in 0..20 {
        let mut both = Both::new(seed);
        let group = [both.at(0, 64, 1), both.at(64, 64, 2), both.at(128, 64, 1)];
        let group = both.offer(&group);
        for (number, (tag, len)) in (1..).zip([(2, 10), (1, 20), (1, 30)]) {
            both.fill(1000, 64, number);
            let request = both.send(1000, len, tag);
            both.sent(request);
        }
        let sizes = both.got(group);
        assert_eq!((sizes.count, &sizes.of[..3]), (3, &[20, 10, 30][..]));
        assert_eq!([both.received(64, 10), both.received(0, 20)], [vec![1; 10], vec![2; 20]]);
        assert_eq!(both.received(128, 30), vec![3; 30]);
    }
}

#[test]
fn a_send_without_a_receive_is_to_be_tried_again() {
    let mut both = Both::new(1);
    assert_eq!(both.sender.send(both.span(0, 8), 8, 1).unwrap(), None);
    let receive = both.at(0, 8, 2);
    both.offer(&[receive]);
    while both.world.step() {}
    assert_eq!(both.sender.send(both.span(0, 8), 8, 1).unwrap(), None, "another tag");
    assert!(both.sender.send(both.span(0, 8), 8, 2).unwrap().is_some());
}

#[test]
fn both_sides_hear_of_a_send_that_is_too_long() {
    let mut both = Both::new(2);
    let receive = both.at(0, 8, 1);
    let request = both.offer(&[receive]);
    let error = loop {
        match both.sender.send(both.span(0, 9), 9, 1) {
            Ok(tried) => assert_eq!(tried, None),
            Err(error) => break error,
        }
        both.world.step();
    };
    assert_eq!(error.kind, ErrorKind::InvalidUsage);
    assert!(
        error.what.starts_with("9 bytes are sent (tag 1), and the receiver takes 8"),
        "{error}"
    );
    let error = loop {
        match both.receiver.test(request) {
            Ok(done) => assert_eq!(done, None),
            Err(error) => break error,
        }
        both.world.step();
    };
    assert!(error.what.starts_with("9 bytes were sent"), "{error}");
}

#[test]
fn a_flush_reads_what_was_received_and_is_done_once() {
    for seed in 0..20 {
        let mut both = Both::new(seed);
        let spans: Vec<_> =
            (0..8).map(|at| Span { region: both.into.0, offset: at, len: 1 }).collect();
        let request = both.receiver.flush(&spans).unwrap().unwrap();
        assert_eq!(both.got(request).count, 8);
        let error = both.receiver.test(request).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
    }
}

#[test]
fn requests_of_a_peer_that_is_killed_fail_and_say_so() {
    let mut both = Both::new(3);
    let receive = both.at(0, 8, 1);
    let request = both.offer(&[receive]);
    both.world.kill(Peer(0));
    let error = loop {
        match both.receiver.test(request) {
            Ok(done) => assert_eq!(done, None),
            Err(error) => break error,
        }
        assert!(both.world.step(), "the loss is still to come");
    };
    assert_eq!((error.kind, &*error.what), (ErrorKind::Remote, "the connection of a test is lost"));
}

#[test]
fn there_are_no_more_requests_than_a_ring_holds() {
    let mut both = Both::new(4);
    let mut taken = 0;
    let receive = both.at(0, 8, 1);
    while both.receiver.offer(std::slice::from_ref(&receive)).unwrap().is_some() {
        taken += 1;
    }
    assert_eq!(taken, crate::ring::SLOTS);
}
