//! The simulated transport keeps the contract, in every mode and under many seeds, and does no more than that.

use dure_device::Memory;
use dure_transport::conformance::{PROPERTIES, Pair};
use dure_transport::simulated::{Options, World};
use dure_transport::{
    Card, Error, Event, Flow, Full, Peer, Posted, Put, Region, RemoteRegion, Result, Signal, Span,
    Token, Transport,
};

fn pair(options: &Options) -> Pair {
    let (world, ends) = World::new(2, options);
    Pair { ends: ends.try_into().expect("two ranks"), tick: Box::new(move || _ = world.step()) }
}

fn attended() -> Pair {
    pair(&Options::default())
}

dure_transport::conformance_tests!(attended);

#[test]
fn all_properties_hold_in_every_mode_and_under_many_seeds() {
    for seed in 1..20_u16 {
        let third = usize::from(seed % 3);
        let options = Options {
            seed: seed.into(),
            flows: 1 + seed % 4,
            queue: [1, 4, 64][third],
            pending: [0, 50, 100][third],
            gather: 1 + usize::from(seed % 5),
            user_memory: seed % 2 == 0,
            unattended: seed % 4 < 2,
            window: seed % 8 < 4,
            coherent: seed % 8 < 2,
            ..Options::default()
        };
        for (name, property) in
            PROPERTIES.iter().filter(|(name, _)| !name.starts_with("counts_beyond"))
        {
            println!("{name} with {options:?}");
            property(&mut || pair(&options));
        }
    }
}

/// Ranks that are all connected; of each, 4 KiB that every other can write and one counter for each other.
struct Job {
    world: World,
    ranks: Vec<Box<dyn Transport>>,
    memory: Vec<(Region, Memory)>,
    /// What happened, to whom and when.
    log: Vec<(u64, usize, Event)>,
}

impl Job {
    fn new(ranks: u32, options: &Options) -> Self {
        let (world, mut ranks) = World::new(ranks, options);
        let memory: Result<_> = ranks.iter_mut().map(|rank| rank.alloc(4096)).collect();
        let mut job =
            Self { world, memory: memory.expect("the heap has room"), log: Vec::new(), ranks };
        let all = job.ranks.len();
        for (me, peer) in
            (0..all).flat_map(|me| (0..all).map(move |peer| (me, peer))).filter(|(a, b)| a != b)
        {
            let address = job.ranks[peer].address();
            job.ranks[me]
                .connect(at(peer), &address, &Card::default())
                .expect("all ranks are there");
        }
        job.run();
        assert_eq!(job.log.len(), all * (all - 1), "all are up: {:?}", job.log);
        job.log.clear();
        job
    }

    fn poll(&mut self) {
        let now = self.world.now();
        for (me, rank) in self.ranks.iter_mut().enumerate() {
            let mut events = Vec::new();
            rank.poll(&mut events);
            self.log.extend(events.into_iter().map(|event| (now, me, event)));
        }
    }

    /// Polls and lets time go on until nothing more happens.
    fn run(&mut self) {
        self.poll();
        while self.world.step() {
            self.poll();
        }
    }

    /// What `from` needs to write to `to`.
    fn open(&mut self, from: usize, to: usize) -> (RemoteRegion, Signal) {
        let key = self.ranks[to].key(self.memory[to].0, at(from)).expect("it was just made");
        let remote = self.ranks[from].import(at(to), &key).expect("a key of this world");
        (remote, self.ranks[to].counter(at(from)).expect("there is room"))
    }

    fn put(
        &mut self,
        from: usize,
        to: usize,
        flow: u16,
        into: (RemoteRegion, Signal),
    ) -> std::result::Result<Posted, Full> {
        let body = [Span { region: self.memory[from].0, offset: 0, len: 1024 }];
        let (into, signal) = (Some(into.0), Some(into.1));
        let put = Put {
            to: at(to),
            flow: Flow(flow),
            head: &[],
            body: &body,
            into,
            at: 0,
            signal,
            token: Token(9),
        };
        self.ranks[from].put(&put)
    }

    fn fill(&self, rank: usize, byte: u8) {
        // SAFETY: the region is not released, and the test gives no other references to it.
        unsafe { self.memory[rank].1.ptr.write_bytes(byte, 4096) };
    }

    fn byte(&self, rank: usize, offset: usize) -> u8 {
        // SAFETY: as above.
        unsafe { self.memory[rank].1.part(offset, 1).ptr.read() }
    }

    fn lost(&self) -> Vec<(usize, Peer)> {
        let lost = |(_, me, event): &(u64, usize, Event)| match event {
            Event::Lost { peer, error: Error::Closed } => Some((*me, *peer)),
            _ => None,
        };
        self.log.iter().filter_map(lost).collect()
    }
}

fn at(rank: usize) -> Peer {
    Peer(u32::try_from(rank).expect("few ranks"))
}

fn always_pending(seed: u64) -> Options {
    Options { seed, pending: 100, ..Options::default() }
}

#[test]
fn the_seed_decides_everything() {
    let story = |seed| {
        let mut job = Job::new(3, &Options { seed, ..Options::default() });
        for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 2)] {
            let into = job.open(from, to);
            job.put(from, to, 0, into).expect("an idle flow takes a put");
        }
        job.world.kill(Peer(1));
        job.run();
        format!("{:?}", job.log)
    };
    assert_eq!(story(1), story(1));
    assert_ne!(story(1), story(2));
}

#[test]
fn a_source_that_is_reused_too_early_arrives_wrong() {
    let mut job = Job::new(2, &always_pending(3));
    let into = job.open(0, 1);
    job.fill(0, 1);
    assert_eq!(job.put(0, 1, 0, into), Ok(Posted::Pending));
    job.fill(0, 2);
    job.run();
    assert_eq!((job.ranks[1].arrived(into.1), job.byte(1, 0)), (1, 2));
}

#[test]
fn half_of_a_put_lands_before_the_rest_and_its_signal() {
    let mut job = Job::new(2, &always_pending(3));
    let into = job.open(0, 1);
    job.fill(0, 1);
    job.put(0, 1, 0, into).expect("an idle flow takes a put");
    while job.byte(1, 0) == 0 {
        assert!(job.world.step(), "the first byte comes");
        job.poll();
    }
    assert_eq!((job.byte(1, 1023), job.ranks[1].arrived(into.1)), (0, 0));
    job.run();
    assert_eq!((job.byte(1, 1023), job.ranks[1].arrived(into.1)), (1, 1));
}

#[test]
fn flows_overtake_each_other() {
    let second_first = |seed| {
        let mut job = Job::new(2, &Options { seed, ..Options::default() });
        let flows = [job.open(0, 1), job.open(0, 1)];
        for (flow, into) in (0..).zip(flows) {
            job.put(0, 1, flow, into).expect("an idle flow takes a put");
        }
        while flows.iter().all(|(_, signal)| job.ranks[1].arrived(*signal) == 0) {
            assert!(job.world.step(), "both arrive");
            job.poll();
        }
        job.ranks[1].arrived(flows[0].1) == 0
    };
    let overtaken = (0..20).filter(|seed| second_first(*seed)).count();
    assert!((1..20).contains(&overtaken), "{overtaken} of 20");
}

#[test]
fn a_flow_is_full_until_the_receiver_polls() {
    let mut job = Job::new(2, &Options { queue: 3, ..always_pending(1) });
    let into = job.open(0, 1);
    for _ in 0..3 {
        job.put(0, 1, 0, into).expect("there is room for three");
    }
    while job.world.step() {}
    assert_eq!(job.put(0, 1, 0, into), Err(Full));
    assert!(job.put(0, 1, 1, into).is_ok(), "the other flow has room");
    assert!(!job.ranks[1].arm(), "there is something to poll for");
    job.poll();
    assert!(job.put(0, 1, 0, into).is_ok());
}

#[test]
fn a_killed_rank_is_lost_to_all_others_and_delivers_nothing_more() {
    let mut job = Job::new(4, &always_pending(7));
    let into = job.open(2, 0);
    job.put(2, 0, 0, into).expect("an idle flow takes a put");
    job.world.kill(Peer(2));
    job.run();
    let mut lost = job.lost();
    lost.sort_unstable();
    assert_eq!(lost, [(0, Peer(2)), (1, Peer(2)), (3, Peer(2))]);
    assert_eq!(job.ranks[0].arrived(into.1), 0);
    // The dead go on for as long as they like.
    assert_eq!(job.put(2, 0, 0, into), Ok(Posted::Done));
    assert!(!job.world.step());
}

/// Rank 1 is gone when rank 0 hears of their connection. Whether rank 0 has a window on its memory then; `None` when it
/// hears first that the peer is lost.
fn window_on_the_gone(seed: u64, killed: bool) -> Option<bool> {
    let options = Options { seed, window: true, coherent: true, ..Options::default() };
    let (world, mut ranks) = World::new(2, &options);
    let (mut gone, mut left) = (ranks.pop()?, ranks.pop()?);
    let (region, _) = gone.alloc(64).expect("the heap has room");
    let key = gone.key(region, at(0)).expect("peers can write it");
    gone.connect(at(0), &left.address(), &Card::default()).expect("both are there");
    left.connect(at(1), &gone.address(), &Card::default()).expect("both are there");
    if killed {
        world.kill(at(1));
    }
    drop(gone);
    let mut events = Vec::new();
    while events.is_empty() && world.step() {
        left.poll(&mut events);
    }
    let [Event::Up { .. }] = events[..] else { return None };
    let remote = left.import(at(1), &key).expect("the connection is up");
    Some(left.window(remote).is_some())
}

#[test]
fn allocated_memory_outlives_its_rank_as_shared_memory_does() {
    for killed in [false, true] {
        let found: Vec<_> = (0..10).filter_map(|seed| window_on_the_gone(seed, killed)).collect();
        assert!(!found.is_empty() && found.iter().all(|found| *found), "{found:?}");
    }
}

#[test]
fn a_rank_that_leaves_delivers_first_what_it_posted() {
    let mut job = Job::new(2, &always_pending(7));
    let into = job.open(1, 0);
    job.fill(1, 5);
    job.put(1, 0, 0, into).expect("an idle flow takes a put");
    drop(job.ranks.pop());
    job.run();
    assert_eq!((job.ranks[0].arrived(into.1), job.byte(0, 1023)), (1, 5));
    assert_eq!(job.lost(), [(0, Peer(1))]);
}

#[test]
fn a_partition_holds_everything_up_in_order() {
    let mut job = Job::new(3, &Options { pending: 0, ..Options::default() });
    let (into, other) = (job.open(0, 1), job.open(2, 1));
    job.world.partition(Peer(0), Peer(1));
    for byte in 1..=3 {
        job.fill(0, byte);
        job.put(0, 1, 0, into).expect("there is room");
    }
    job.put(2, 1, 0, other).expect("there is room");
    job.run();
    assert_eq!((job.ranks[1].arrived(into.1), job.ranks[1].arrived(other.1)), (0, 1));
    job.world.heal(Peer(0), Peer(1));
    job.fill(0, 4);
    job.put(0, 1, 0, into).expect("there is room");
    job.run();
    assert_eq!((job.ranks[1].arrived(into.1), job.byte(1, 0)), (4, 4));
    assert!(job.log.is_empty(), "nobody is told: {:?}", job.log);
}

#[test]
fn a_slow_rank_takes_longer() {
    let time = |factor| {
        let mut job = Job::new(2, &Options::default());
        job.world.slow(Peer(1), factor);
        let (into, begin) = (job.open(0, 1), job.world.now());
        job.put(0, 1, 0, into).expect("an idle flow takes a put");
        job.run();
        job.world.now() - begin
    };
    assert!(time(100) > 50 * time(1), "{} and {}", time(100), time(1));
}
