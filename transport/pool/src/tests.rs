//! The transport from inside: strangers, damaged segments, the life of memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::sys::statvfs::statvfs;
use nix::unistd::ftruncate;

use super::*;
use crate::board::{Board, heap_start};
use crate::foreign::Sample;
use crate::lobby::Met;
use crate::map::{File, Map, PAGE};
use crate::signal::publish;
use crate::site::Neighbour;
use crate::socket::{LONGEST, Socket};

/// Far beyond what anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

fn key() -> JobKey {
    JobKey::new([7; 32])
}

fn open(rank: u32, key: JobKey) -> Pool {
    Pool::open(Options { rank: Peer(rank), key, capacity: Some(64 << 20), huge_pages: true })
        .unwrap()
}

fn connect(pools: &mut [Pool; 2]) {
    let addresses = pools.each_ref().map(|pool| pool.address());
    let hello = Card::default();
    for (from, to) in [(0, 1), (1, 0)] {
        let peer = pools[to].home.me;
        pools[from].connect(peer, &addresses[to], &hello).unwrap();
    }
}

/// Polls all until `done` with what they said.
fn until(pools: &mut [Pool], mut done: impl FnMut(&[Vec<Event>]) -> bool) -> Vec<Vec<Event>> {
    let begin = Instant::now();
    let mut told: Vec<_> = pools.iter().map(|_| Vec::new()).collect();
    while !done(&told) {
        assert!(begin.elapsed() < DEADLINE, "waited in vain; told {told:?}");
        pools.iter_mut().zip(&mut told).for_each(|(pool, told)| pool.poll(told));
    }
    told
}

fn pair() -> [Pool; 2] {
    let mut pools = [open(0, key()), open(1, key())];
    connect(&mut pools);
    bring_up(&mut pools);
    pools
}

fn bring_up(pools: &mut [Pool; 2]) {
    let is_up = |told: &Vec<Event>| told.iter().any(|event| matches!(event, Event::Up { .. }));
    until(pools, |told| told.iter().all(is_up));
}

fn lost(told: &[Event]) -> Option<&Error> {
    told.iter().find_map(|event| match event {
        Event::Lost { error, .. } => Some(error),
        _ => None,
    })
}

/// Reads until the other side closes; all that came, and whether a descriptor was among it.
fn listen_to_the_end(pool: &mut Pool, stranger: &Socket) -> (Vec<Vec<u8>>, bool) {
    let (mut messages, mut any_file) = (Vec::new(), false);
    let begin = Instant::now();
    loop {
        assert!(begin.elapsed() < DEADLINE, "the stranger is turned away");
        pool.look();
        match stranger.receive_files(&mut [0; LONGEST]) {
            Ok(None) => {}
            Ok(Some((message, files))) => {
                messages.push(message.to_vec());
                any_file |= !files.is_empty();
            }
            Err(_) => return (messages, any_file),
        }
    }
}

#[test]
fn noise_gets_nothing_and_does_not_disturb() {
    let mut pools = [open(0, key()), open(1, key())];
    let address = pools[1].home.name;
    let noise: Vec<u8> =
        (0..3000_u32).map(|k| (k.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for len in [1, 21, 23, 54, LONGEST, LONGEST + 1, 3000] {
        let stranger = Socket::dial(address).unwrap().unwrap();
        stranger.send(&noise[..len], None).unwrap();
        assert_eq!(listen_to_the_end(&mut pools[1], &stranger), (Vec::new(), false), "{len} bytes");
    }
    // A message of the right length is answered, but what follows proves nothing.
    let stranger = Socket::dial(address).unwrap().unwrap();
    stranger.send(&noise[..22], None).unwrap();
    stranger.send(&noise[..32], Some(pools[0].home.segment())).unwrap();
    let (messages, any_file) = listen_to_the_end(&mut pools[1], &stranger);
    assert_eq!((messages.len(), any_file), (1, false));

    connect(&mut pools);
    bring_up(&mut pools);
    assert!(pools[1].lobby.is_empty(), "nobody is left in the lobby");
}

#[test]
fn silent_strangers_do_not_keep_members_out() {
    let mut pools = [open(0, key()), open(1, key())];
    let name = pools[1].home.name;
    let call = |_| Socket::dial(name).unwrap().unwrap();
    let strangers: Vec<_> = (0..100).map(call).collect();
    pools[1].look();
    let more: Vec<_> = (0..100).map(call).collect();
    connect(&mut pools);
    bring_up(&mut pools);
    drop((strangers, more));
}

#[test]
fn another_key_gets_no_segment() {
    for stranger in [0, 1] {
        let keys = [0, 1].map(|rank| if rank == stranger { key().derive("other") } else { key() });
        let [first, second] = keys;
        let mut pools = [open(0, first), open(1, second)];
        connect(&mut pools);
        // The lower rank calls, and finds that the other does not know the key.
        let told = until(&mut pools, |told| lost(&told[0]).is_some());
        assert!(matches!(lost(&told[0]), Some(Error::NotProven)), "told {told:?}");
        assert!(told[1].is_empty(), "whoever is called hears nothing of strangers: {told:?}");
        assert!(pools.iter().all(|pool| !matches!(pool.links[0..].last(), Some(Link::Up(_)))));
    }
}

#[test]
fn a_peer_that_dies_before_it_is_wanted_is_lost() {
    let [mut caller, mut called] = [open(0, key()), open(1, key())];
    let (addresses, hello) = ([caller.address(), called.address()], Card::default());
    caller.connect(Peer(1), &addresses[1], &hello).unwrap();
    // Rank 0 proves itself and greets; rank 1 has not called connect.
    let begin = Instant::now();
    while !called.lobby.has_proven() {
        assert!(begin.elapsed() < DEADLINE, "rank 0 proves itself");
        caller.poll(&mut Vec::new());
        called.look();
    }
    drop(caller);
    called.look();
    called.connect(Peer(0), &addresses[0], &hello).unwrap();
    let told = until(std::slice::from_mut(&mut called), |told| lost(&told[0]).is_some());
    assert!(matches!(lost(&told[0]), Some(Error::Closed)));
}

#[test]
fn nobody_at_the_address_is_an_error() {
    let mut pool = open(0, key());
    let address = open(1, key()).address();
    let error = pool.connect(Peer(1), &address, &Card::default()).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[test]
fn a_damaged_header_is_refused() {
    const LINES: Line = 64;
    let intact = [u64::from_le_bytes(*b"durepool"), 2, 1 << 20, u64::from(LINES)];
    let damages = [
        (0, 0),
        (1, 1),
        (2, 1 << 21),
        (2, u64::MAX),
        (3, u64::from(u32::MAX)),
        (3, 1 << 32),
        (3, (1 << 20) / 64),
    ];
    for damage in std::iter::once(None).chain(damages.map(Some)) {
        let (file, map) = File::create(Some(1 << 20), 1 << 20).unwrap();
        let board = Board::new(map, LINES, &Sample::new().unwrap());
        let words = board.header();
        assert_eq!(words.map(signal::observe), intact);
        if let Some((word, value)) = damage {
            publish(words[word], value);
        }
        let joined = Map::join(file.descriptor()).and_then(Board::join);
        match damage {
            None => assert_eq!(joined.unwrap().heap(), heap_start(LINES)),
            Some(_) => assert!(matches!(joined, Err(Error::Protocol { .. })), "{damage:?}"),
        }
    }
}

#[test]
fn a_file_that_can_shrink_is_refused() {
    let file = memfd_create("dure-test", MFdFlags::MFD_CLOEXEC).unwrap();
    ftruncate(&file, 1 << 20).unwrap();
    assert!(matches!(Map::join(&file), Err(Error::Protocol { .. })));
    let file =
        memfd_create("dure-test", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    ftruncate(&file, 1 << 20).unwrap();
    assert!(matches!(Map::join(&file), Err(Error::Protocol { .. })));
}

#[test]
fn keys_outside_the_heap_are_refused() {
    let mut pools = pair();
    let heap = pools[1].home.board.heap();
    let end = pools[1].home.board.map().len();
    let good = Key { at: heap, len: end - heap, stamp: 0, line: 5 };
    let bad = [
        Key { at: heap - 1, ..good },
        Key { at: 0, len: 64, ..good },
        Key { len: good.len + 1, ..good },
        Key { at: end + 1, len: 0, ..good },
        Key { at: u64::MAX, len: 2, ..good },
        Key { len: u64::MAX, ..good },
        Key { line: u32::MAX, ..good },
        Key { stamp: 1, ..good },
    ];
    for key in bad {
        let imported = pools[0].import(Peer(1), &key.card());
        assert!(matches!(imported, Err(Error::Protocol { .. })), "{key:?}: {imported:?}");
    }
    pools[0].import(Peer(1), &good.card()).unwrap();
}

#[test]
fn a_key_of_a_released_region_is_refused() {
    let mut pools = pair();
    let (region, _) = pools[1].alloc(100).unwrap();
    let key = pools[1].key(region, Peer(0)).unwrap();
    pools[1].release(region);
    assert!(pools[0].import(Peer(1), &key).is_err());
    // The next region has the same place and line, and another stamp.
    let (region, _) = pools[1].alloc(100).unwrap();
    assert!(pools[0].import(Peer(1), &key).is_err());
    let key = pools[1].key(region, Peer(0)).unwrap();
    pools[0].import(Peer(1), &key).unwrap();
}

#[test]
fn bad_puts_write_nothing_and_end_the_connection() {
    for (at, len, release) in [(57, 8, false), (64, 1, false), (u64::MAX, 1, false), (0, 1, true)] {
        let mut pools = pair();
        let (region, memory) = pools[1].alloc(64).unwrap();
        let (next, signal) = (pools[1].alloc(64).unwrap().1, pools[1].counter(Peer(0)).unwrap());
        let key = pools[1].key(region, Peer(0)).unwrap();
        let into = Some(pools[0].import(Peer(1), &key).unwrap());
        if release {
            pools[1].release(region);
        }
        let head = &[0xee; 8][..len];
        let put = Put { head, into, at, signal: Some(signal), ..signal_to(Peer(1)) };
        assert_eq!(pools[0].put(&put), Ok(Posted::Done));
        assert_eq!(pools[1].arrived(signal), 0);
        assert_eq!((content(memory), content(next)), (vec![0; 64], vec![0; 64]), "{put:?}");
        let told = until(&mut pools, |told| told.iter().all(|told| lost(told).is_some()));
        assert!(matches!(lost(&told[0]), Some(Error::Protocol { .. })), "{told:?}");
        assert!(matches!(lost(&told[1]), Some(Error::Closed)), "{told:?}");
    }
}

/// A put of nothing, to be filled in.
fn signal_to(to: Peer) -> Put<'static> {
    let (flow, token) = (dure_transport::Flow(0), dure_transport::Token(0));
    Put { to, flow, head: &[], body: &[], into: None, at: 0, signal: None, token }
}

/// Pages that the segment of a pool occupies.
fn pages(pool: &Pool) -> u64 {
    let blocks = fstat(pool.home.segment()).unwrap().st_blocks;
    u64::try_from(blocks).unwrap() * 512 / PAGE
}

fn fill(pool: &Pool, region: Region, byte: u8) {
    let key = pool.regions.get(region.0).unwrap().key;
    pool.home.board.map().write(key.at, &vec![byte; usize::try_from(key.len).unwrap()]);
}

fn content(memory: Memory) -> Vec<u8> {
    // SAFETY: the memory is of a pool that is alive, and nobody writes it meanwhile.
    unsafe { std::slice::from_raw_parts(memory.ptr.as_ptr(), memory.len) }.to_vec()
}

#[test]
fn memory_is_given_back_and_comes_back_zeroed() {
    let mut pool = open(0, key());
    let before = pages(&pool);
    for round in 0..500 {
        let lens = [1, 4095, 4096, 5000 + round, 300_000];
        let regions = lens.map(|len| pool.alloc(len).unwrap());
        for (region, memory) in regions {
            assert!(content(memory).iter().all(|byte| *byte == 0), "round {round}, {memory:?}");
            fill(&pool, region, 0xee);
        }
        regions.into_iter().for_each(|(region, _)| pool.release(region));
        // What is left is the board, and the page of the small regions.
        assert!(pages(&pool) <= before + 4, "round {round}: {} pages", pages(&pool));
    }
    let mut pool = open(0, key());
    let (_, all) = pool
        .alloc(usize::try_from(pool.home.board.map().len() - pool.home.board.heap()).unwrap())
        .unwrap();
    assert!(matches!(pool.alloc(1), Err(Error::Exhausted { .. })), "{all:?} is all there is");
}

#[test]
fn lines_run_out_with_an_error() {
    let mut pool = open(0, key());
    while pool.counter(Peer(1)).is_ok() {}
    assert!(matches!(pool.counter(Peer(1)), Err(Error::Exhausted { .. })));
    assert!(matches!(pool.alloc(8), Err(Error::Exhausted { .. })));
    let heap = pool.home.board.heap();
    assert_eq!(pool.home.take(PAGE), Some(heap), "nothing was taken");
}

#[test]
fn parts_of_own_memory_are_registered_and_nothing_else() {
    let mut pools = pair();
    let (whole, memory) = pools[1].alloc(10_000).unwrap();
    let other = [0_u8; 64];
    for foreign in [
        Memory::host(other.as_ptr().cast_mut(), 64),
        Memory { len: 10_001, ..memory },
        Memory::host(memory.ptr.as_ptr().wrapping_sub(1), 64),
    ] {
        // SAFETY: nothing is written through it: it is refused.
        let refused = unsafe { pools[1].register(foreign) };
        assert!(matches!(refused, Err(Error::Unsupported { .. })), "{foreign:?}");
    }
    // SAFETY: the memory stays with the pool, and is read only below.
    let part = unsafe { pools[1].register(memory.part(1000, 8)) }.unwrap();
    let key = pools[1].key(part, Peer(0)).unwrap();
    let signal = pools[1].counter(Peer(0)).unwrap();
    let into = Some(pools[0].import(Peer(1), &key).unwrap());
    let head = b"a part";
    let put = Put { head, into, at: 2, signal: Some(signal), ..signal_to(Peer(1)) };
    assert_eq!(pools[0].put(&put), Ok(Posted::Done));
    assert_eq!(pools[1].arrived(signal), 1);
    pools[1].release(part);
    assert_eq!(content(memory)[1002..1008], *b"a part", "the end of a part leaves the whole");
    pools[1].release(whole);
}

/// A pool of a process that has this segment.
fn at(site: &Arc<Site>, rank: u32) -> Pool {
    let options = Options { rank: Peer(rank), key: key(), capacity: None, huge_pages: true };
    Pool::at(Arc::clone(site), options).unwrap()
}

/// Two processes, as far as it matters here.
fn sites() -> [Arc<Site>; 2] {
    [(); 2].map(|()| Site::new(Some(64 << 20)).unwrap())
}

fn pair_at(sites: &[Arc<Site>; 2]) -> [Pool; 2] {
    let mut pools = [at(&sites[0], 0), at(&sites[1], 1)];
    connect(&mut pools);
    bring_up(&mut pools);
    pools
}

fn remote(pool: &Pool, peer: usize) -> &Remote {
    match &pool.links[peer] {
        Link::Up(remote) => remote,
        link => panic!("{link:?}"),
    }
}

#[test]
fn pools_of_a_process_share_its_segment() {
    let [first, second] = [0, 1].map(|rank| {
        Pool::open(Options { rank: Peer(rank), key: key(), capacity: None, huge_pages: true })
            .unwrap()
    });
    assert!(Arc::ptr_eq(&first.home.site, &second.home.site));
    assert!(!Arc::ptr_eq(&first.home.site, &open(2, key()).home.site));
    let usage = usage();
    assert!(usage.segment > 0 && usage.reserved >= 1 << 30, "{usage:?}");
    assert_eq!(usage.neighbours, 0);

    let sites = sites();
    let [mut one, mut other] = [pair_at(&sites), pair_at(&sites)];
    let boards = [&one, &other].map(|pools| remote(&pools[0], 1).board());
    assert!(boards[0].is_of(boards[1]), "the segment of a process is mapped once");
    let memory = [&mut one, &mut other].map(|pools| pools[0].alloc(5000).unwrap().1);
    assert!(!memory[0].overlaps(memory[1]));
    // Ranks of one process.
    let pools = pair_at(&[Arc::clone(&sites[0]), Arc::clone(&sites[0])]);
    assert!(remote(&pools[0], 1).board().is_of(&sites[0].board));
}

#[test]
fn what_a_pool_leaves_is_free_when_its_peers_have_left_too() {
    let sites = sites();
    let [mut gone, mut stays] = pair_at(&sites);
    let ((region, memory), signal) = (gone.alloc(5000).unwrap(), gone.counter(Peer(1)).unwrap());
    let key = gone.key(region, Peer(1)).unwrap();
    let into = Some(stays.import(Peer(0), &key).unwrap());
    let taken = || {
        let found = at(&sites[0], 7).alloc(5000).unwrap().1;
        assert!(content(found).iter().all(|byte| *byte == 0));
        found.address() == memory.address()
    };
    drop(gone);
    assert!(!taken(), "the peer may still write");
    // It does: it has not seen the end.
    let put = Put { head: &[0xee; 100], into, signal: Some(signal), ..signal_to(Peer(0)) };
    assert_eq!(stays.put(&put), Ok(Posted::Done));
    assert_eq!(content(memory)[..100], [0xee; 100]);
    let told = until(std::slice::from_mut(&mut stays), |told| lost(&told[0]).is_some());
    assert!(matches!(lost(&told[0]), Some(Error::Closed)));
    assert!(!taken(), "it may still write through its window");
    drop(stays);
    assert!(taken());
    assert_eq!(sites.each_ref().map(|site| site.estates()), [0, 0]);
}

#[test]
fn a_pool_that_lost_its_peer_waits_for_the_end_of_the_peer() {
    let sites = sites();
    let [mut first, mut second] = pair_at(&sites);
    // As after a put that is wrong.
    first.lose(Peer(1), Error::Protocol { what: "a test" });
    let told = until(std::slice::from_mut(&mut second), |told| lost(&told[0]).is_some());
    assert!(matches!(lost(&told[0]), Some(Error::Closed)));
    drop(second);
    assert_eq!(sites[1].estates(), 1, "the first may still write through its windows");
    drop(first);
    drop(at(&sites[1], 7));
    assert_eq!(sites.each_ref().map(|site| site.estates()), [0, 0]);
}

#[test]
fn a_peer_that_was_greeted_is_waited_for() {
    let sites = sites();
    let [mut caller, mut called] = [at(&sites[0], 0), at(&sites[1], 1)];
    let (address, hello) = (called.address(), Card::default());
    caller.connect(Peer(1), &address, &hello).unwrap();
    let begin = Instant::now();
    while !called.lobby.has_proven() {
        assert!(begin.elapsed() < DEADLINE, "rank 0 proves itself");
        caller.poll(&mut Vec::new());
        called.look();
    }
    caller.poll(&mut Vec::new());
    drop(caller);
    assert_eq!(sites[0].estates(), 1, "the greeting, and with it the segment, has left");
    drop(called);
    drop(at(&sites[0], 7));
    assert_eq!(sites[0].estates(), 0);
}

#[test]
fn a_segment_may_exceed_dev_shm() {
    let free = statvfs("/dev/shm").map_or(0, |fs| fs.blocks_available() * fs.fragment_size());
    let len = usize::try_from(free).unwrap() + (1 << 30);
    let capacity = Some(u64::try_from(len).unwrap() + (1 << 30));
    let mut pool =
        Pool::open(Options { rank: Peer(0), key: key(), capacity, huge_pages: true }).unwrap();
    let (region, memory) = pool.alloc(len).unwrap();
    let own = pool.regions.get(region.0).unwrap().key;
    pool.home.board.map().write(own.at + own.len - 4, b"last");
    assert_eq!(content(memory.part(len - 4, 4)), b"last");
    assert!(pages(&pool) < 16, "only what is touched exists");
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(maps.contains("/memfd:dure (deleted)") && !maps.contains("/dev/shm"));
}

/// Two ranks of one process: a descriptor is watched once, and that process's end is the end of both.
#[test]
fn ranks_of_one_process_are_watched_both() {
    let sites = sites();
    let [mut pool, others] = [at(&sites[0], 0), at(&sites[1], 1)];
    let (process, end) = std::io::pipe().unwrap();
    let neighbour = Arc::new(Neighbour {
        board: sites[1].board.clone(),
        process: Some(process.into()),
        foreign: None,
    });
    for rank in [1, 2] {
        let socket = Socket::dial(others.home.name).unwrap().unwrap();
        pool.home.doorbell.watch(&socket, Source::Guest(u64::from(rank))).unwrap();
        let (neighbour, hello) = (Arc::clone(&neighbour), Card::default());
        let mut remote = Remote::new(Met { socket, neighbour, bell: 0, hello });
        remote.watch(&pool.home, Peer(rank)).unwrap();
        *pool.link(Peer(rank)) = Link::Up(Box::new(remote));
    }
    drop(end);
    let told = until(std::slice::from_mut(&mut pool), |told| told[0].len() == 2);
    let lost: Vec<_> = told[0].iter().map(|event| matches!(event, Event::Lost { .. })).collect();
    assert_eq!(lost, [true, true]);
    drop(pool);
    assert_eq!(sites[0].estates(), 0, "who has ended is not waited for");
}
