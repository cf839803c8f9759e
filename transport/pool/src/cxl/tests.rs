//! The properties of every transport, between two members of a pool and inside one; claims, pulses and damage.

use std::fs::File;
use std::path::{Path, PathBuf};

use dure_transport::conformance::Pair;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::os::fd::AsRawFd;

use super::layout::{Layout, META};
use super::view::Caches;
use super::*;

/// A pool on files without a name, of this process.
struct Devices {
    _files: Vec<File>,
    paths: Vec<PathBuf>,
}

impl Devices {
    fn new(count: usize, bytes: u64) -> Self {
        let files: Vec<File> = (0..count)
            .map(|_| {
                let file = File::from(memfd_create("dure-test", MFdFlags::MFD_CLOEXEC).unwrap());
                file.set_len(bytes).unwrap();
                file
            })
            .collect();
        let paths =
            files.iter().map(|file| format!("/proc/self/fd/{}", file.as_raw_fd()).into()).collect();
        Self { _files: files, paths }
    }

    fn pool(count: usize, members: u32) -> Self {
        let each = 64 << 20;
        let devices = Self::new(count, META + each * u64::from(members));
        create(&devices.paths, Plan { members, partitions: 1, granule: META }).unwrap();
        devices
    }
}

/// Nobody dies of silence: nothing beats the pulses of these members.
const LONG: Duration = Duration::from_secs(3600);
/// Whoever is silent for so long is dead.
const SHORT: Duration = Duration::from_millis(300);
/// No thread that has something to do stands still for half as long.
const LIVELY: Duration = Duration::from_secs(2);

fn options(devices: &[PathBuf], member: u32, patience: Duration) -> Options {
    let job = *b"a job of a test.";
    Options { job, patience, ..Options::new(devices.to_vec(), Peer(member), 2) }
}

/// A member with a view of its own, as another process has it.
fn claim(options: &Options) -> Result<Arc<Tenancy>> {
    let (devices, layout) = open::open(&options.devices).unwrap();
    let caches = match options.coherence {
        Coherence::Software => Caches::Flushed(Isa::detect().unwrap()),
        Coherence::Hardware => Caches::Coherent,
    };
    let view = view::View::map(&devices, &layout, options.partition, caches)?;
    Tenancy::claim(view, layout, options).map(Arc::new)
}

fn end(options: &Options) -> Cxl {
    Cxl::at(claim(options).unwrap(), options.rank, options.ranks).unwrap()
}

fn pair(coherence: Coherence, devices: usize) -> Pair {
    let devices = Devices::pool(devices, 2);
    let end = |member| -> Box<dyn Transport> {
        Box::new(end(&Options { coherence, ..options(&devices.paths, member, LONG) }))
    };
    let ends = [end(0), end(1)];
    Pair { ends, tick: Box::new(move || _ = &devices) }
}

mod between_members {
    use super::*;

    fn open() -> Pair {
        pair(Coherence::Software, 1)
    }

    dure_transport::conformance_tests!(open);
}

mod striped_over_three_devices {
    use super::*;

    fn open() -> Pair {
        pair(Coherence::Software, 3)
    }

    dure_transport::conformance_tests!(open);
}

mod where_caches_are_coherent {
    use super::*;

    fn open() -> Pair {
        pair(Coherence::Hardware, 1)
    }

    dure_transport::conformance_tests!(open);
}

mod inside_a_member {
    use super::*;

    fn open() -> Pair {
        let devices = Devices::pool(1, 1);
        let seat = claim(&options(&devices.paths, 0, LONG)).unwrap();
        let end = |rank| -> Box<dyn Transport> {
            Box::new(Cxl::at(Arc::clone(&seat), Peer(rank), 2).unwrap())
        };
        Pair { ends: [end(0), end(1)], tick: Box::new(move || _ = &devices) }
    }

    dure_transport::conformance_tests!(open);
}

/// On a device whose memory is mapped, as guests of tests/guest have one; GUEST_DAX names it. One pair of members at a time.
mod on_a_dax_device {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test has no settings of its own")]
    fn device() -> PathBuf {
        std::env::var_os("GUEST_DAX").expect("GUEST_DAX names a /dev/dax device").into()
    }

    fn open() -> Pair {
        let devices = [device()];
        create(&devices, Plan { members: 2, partitions: 1, granule: META }).unwrap();
        let end =
            |member| -> Box<dyn Transport> { Box::new(end(&options(&devices, member, LONG))) };
        Pair { ends: [end(0), end(1)], tick: Box::new(|| ()) }
    }

    #[test]
    #[ignore = "needs a /dev/dax device"]
    fn all_properties_hold() {
        for (name, property) in dure_transport::conformance::PROPERTIES {
            println!("{name}");
            property(&mut open);
        }
    }
}

/// The error of an outcome, with its causes.
fn text<T>(outcome: Result<T>) -> String {
    let error = outcome.err().unwrap();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[test]
fn a_member_is_claimed_once_left_and_claimed_again() {
    let devices = Devices::pool(1, 2);
    let first = claim(&options(&devices.paths, 1, SHORT)).unwrap();
    let beating = Arc::clone(&first);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let heart = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            beating.beat();
            std::thread::yield_now();
        }
    });
    let says = text(claim(&options(&devices.paths, 1, LIVELY)));
    assert!(says.contains("member 1 of the pool") && says.contains("is in use"), "{says}");
    assert!(says.contains(&format!("process {} of job 61206a6f", std::process::id())), "{says}");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    heart.join().unwrap();
    drop(first);
    claim(&options(&devices.paths, 1, SHORT)).unwrap();
}

#[test]
fn what_a_dead_process_left_is_taken_over_only_when_told() {
    let devices = Devices::pool(1, 2);
    // It never beats again, and its claim stays.
    std::mem::forget(claim(&options(&devices.paths, 0, SHORT)).unwrap());
    let says = text(claim(&options(&devices.paths, 0, SHORT)));
    assert!(says.contains("has died") && says.contains("DURE_POOL_TAKE_OVER"), "{says}");
    let (shape, states) = members(&devices.paths, SHORT).unwrap();
    assert_eq!((shape.members, states[0].len()), (2, 2));
    assert!(matches!(states[0][0], State::Dead(Holder { member: 0, .. })), "{states:?}");
    assert_eq!(states[0][1], State::Free);
    let seat = claim(&Options { take_over: true, ..options(&devices.paths, 0, SHORT) }).unwrap();
    drop(seat);
    std::mem::forget(claim(&options(&devices.paths, 0, SHORT)).unwrap());
    assert_eq!(release(&devices.paths, 0, SHORT).unwrap().len(), 1);
    claim(&options(&devices.paths, 0, SHORT)).unwrap();
}

#[test]
fn a_member_whose_pulse_stops_is_lost_and_its_place_is_free() {
    let devices = Devices::pool(1, 2);
    let ends = [0, 1].map(|member| end(&options(&devices.paths, member, SHORT)));
    let [mut left, mut dead] = ends;
    let greeting = Card::default();
    left.connect(Peer(1), &dead.address(), &greeting).unwrap();
    dead.connect(Peer(0), &left.address(), &greeting).unwrap();
    let mut events = Vec::new();
    while events.is_empty() {
        left.poll(&mut events);
    }
    assert!(matches!(events[..], [Event::Up { peer: Peer(1), .. }]), "{events:?}");
    std::mem::forget(dead);
    events.clear();
    while events.is_empty() {
        left.poll(&mut events);
    }
    let [Event::Lost { peer: Peer(1), error }] = &mut events[..] else { panic!("{events:?}") };
    let says = text::<()>(Err(std::mem::replace(error, Error::Closed)));
    assert!(says.contains("pulse of its process, member 1 of the pool, has stopped"), "{says}");
    claim(&options(&devices.paths, 1, SHORT)).unwrap();
}

#[test]
fn an_area_is_handed_on_when_nobody_writes_there_any_more() {
    let devices = Devices::pool(1, 2);
    let [left, writer] = [0, 1].map(|member| end(&options(&devices.paths, member, SHORT)));
    let mut writer = writer;
    writer.connect(Peer(0), &left.address(), &Card::default()).unwrap();
    drop(left);
    let (next, other) = (options(&devices.paths, 0, LIVELY), Arc::clone(&writer.seat));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let heart = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            other.beat();
            std::thread::yield_now();
        }
    });
    let says = text(claim(&next));
    assert!(says.contains("member 1 of the pool") && says.contains("still writes"), "{says}");
    drop(writer);
    claim(&next).unwrap();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    heart.join().unwrap();
}

#[test]
fn a_process_whose_member_was_taken_loses_its_peers_and_says_why() {
    let devices = Devices::pool(1, 2);
    let [mut left, peer] = [0, 1].map(|member| end(&options(&devices.paths, member, LONG)));
    left.connect(Peer(1), &peer.address(), &Card::default()).unwrap();
    left.seat.bury(0, left.seat.nonce);
    let _other = claim(&options(&devices.paths, 0, LONG)).unwrap();
    left.seat.beat();
    let mut events = Vec::new();
    while events.is_empty() {
        left.poll(&mut events);
    }
    let [Event::Lost { error, .. }] = &mut events[..] else { panic!("{events:?}") };
    let says = text::<()>(Err(std::mem::replace(error, Error::Closed)));
    assert!(says.contains("another process has taken"), "{says}");
}

#[test]
fn partitions_know_nothing_of_each_other() {
    let devices = Devices::new(2, META + 8 * META);
    create(&devices.paths, Plan { members: 2, partitions: 2, granule: META }).unwrap();
    let seats = [0, 1].map(|partition| {
        claim(&Options { partition, ..options(&devices.paths, 0, LONG) }).unwrap()
    });
    for (seat, byte) in seats.iter().zip([1, 2]) {
        let range = crate::ground::Owner::take(&***seat, 1 << 20).unwrap();
        seat.view.write(range.at, &vec![byte; 1 << 20]);
        seat.view.fence();
    }
    let at = seats[0].layout.area(0) + seat::board_len(&seats[0].layout);
    assert_eq!(seats[0].view.bytes(at, 1 << 20), vec![1; 1 << 20]);
    assert_eq!(seats[1].view.bytes(at, 1 << 20), vec![2; 1 << 20]);
}

#[test]
fn bad_devices_are_told_by_name() {
    let bad = |paths: &[&Path]| {
        let paths: Vec<_> = paths.iter().map(|path| path.to_path_buf()).collect();
        text(Cxl::open(&options(&paths, 0, SHORT)))
    };
    let says = |paths: &[&Path], what: &str| {
        let text = bad(paths);
        assert!(text.contains(what), "{text}");
    };
    says(&[Path::new("/nowhere/pool")], "/nowhere/pool: open: No such file");
    says(&[Path::new("/dev/null")], "/dev/null is neither a file nor a /dev/dax device");
    says(&[Path::new("/tmp")], "/tmp: open");
    says(&[], "a pool of no devices");
    let blank = Devices::new(1, 4 * META);
    says(&[&blank.paths[0]], "holds no pool: make one with `dure pool create`");
    let short = Devices::new(1, 4096);
    says(&[&short.paths[0]], "4096 bytes (a pool's device has 2097152 at least)");
    let pool = Devices::pool(2, 2);
    says(&[&pool.paths[0]], "has 2 devices, and 1 are named");
    says(&[&pool.paths[0], &pool.paths[0]], "are the same device of the pool");
    let other = Devices::pool(2, 2);
    says(&[&pool.paths[0], &other.paths[1]], "are of different pools");
    let file = &pool._files[1];
    std::os::unix::fs::FileExt::write_at(file, &[0xff], 40).unwrap();
    says(&[&pool.paths[0], &pool.paths[1]], "has a damaged header");
    let all = |partition, member| {
        let devices = Devices::pool(1, 2);
        text(Cxl::open(&Options { partition, ..options(&devices.paths, member, SHORT) }))
    };
    assert!(all(1, 0).contains("partition 1: the pool has 1, from 0"));
    assert!(all(0, 2).contains("member 2: the pool has 2, from 0"));
}

#[test]
fn what_a_communicator_leaves_is_used_again_when_its_peers_have_left() {
    let devices = Devices::pool(1, 2);
    let seats = [0, 1].map(|member| claim(&options(&devices.paths, member, LONG)).unwrap());
    let ends = |_| {
        [0, 1].map(|rank: u32| Cxl::at(Arc::clone(&seats[rank as usize]), Peer(rank), 2).unwrap())
    };
    for round in 0..20 {
        let [mut a, mut b] = ends(round);
        a.connect(Peer(1), &b.address(), &Card::default()).unwrap();
        b.connect(Peer(0), &a.address(), &Card::default()).unwrap();
        // Twenty of them are more than an area has.
        let (region, _) = a.alloc(8 << 20).unwrap();
        assert!(b.alloc(8 << 20).is_ok());
        drop(a);
        if round % 2 == 0 {
            assert!(region.0 < 8);
        }
        drop(b);
    }
}

#[test]
fn layouts_are_the_same_wherever_a_pool_is_opened() {
    let devices = Devices::pool(2, 2);
    let backwards: Vec<_> = devices.paths.iter().rev().cloned().collect();
    let [one, other] = [&devices.paths, &backwards].map(|paths| open::open(paths).unwrap().1);
    let pieces = |layout: &Layout| layout.pieces(0).collect::<Vec<_>>();
    assert_eq!(pieces(&one), pieces(&other));
}
