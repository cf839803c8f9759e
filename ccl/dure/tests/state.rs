//! What one rank of very many holds: nothing of it grows with the square of the ranks. In a process of its own, whose
//! memory is counted.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use dure_exec::{Executor, Plan, Settings};
use dure_plan::{Algorithm, Collective, Rank, World, algorithms, too_many_edges};
use dure_transport::proof::Key;
use dure_transport::{Card, Fabric, Peer};

/// Bytes that are allocated now, and at most.
static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[allow(unsafe_code, reason = "an allocator is")]
// SAFETY: it is the system's, and counts beside.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let before = NOW.fetch_add(layout.size(), Ordering::Relaxed);
        MOST.fetch_max(before + layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// What something takes: while it is made, and when it is.
fn memory<T>(make: impl FnOnce() -> T) -> (T, [usize; 2]) {
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let made = make();
    (made, [&MOST, &NOW].map(|bytes| bytes.load(Ordering::Relaxed) - before))
}

/// `ranks` ranks on hosts of eight.
fn world(ranks: u32) -> World {
    World { ranks, host_of: (0..ranks).map(|rank| rank / 8).collect(), lanes: 2 }
}

const FEW: u32 = 1280;
const MANY: u32 = 8 * FEW;

/// Eight times the ranks take at most eight times the memory, and a fifth more.
fn assert_linear(few: [usize; 2], many: [usize; 2], of: &str) {
    for (few, many) in few.into_iter().zip(many) {
        let most = few * 8 + few * 8 / 5;
        assert!(many <= most, "{of}: {few} B for {FEW} ranks, {many} B for {MANY}");
    }
}

/// One test: what is allocated beside would be counted.
#[test]
fn state_of_one_rank_grows_with_the_ranks_and_not_with_their_square() {
    let mut largest = 0;
    for what in Collective::all(Rank(0)) {
        let serves = |by: &&&dyn Algorithm| {
            by.serves(what, &world(MANY)).is_ok()
                && too_many_edges(what, **by, &world(MANY)).is_none()
        };
        for by in algorithms().iter().filter(serves) {
            for place in [0, 1, 2] {
                let plan = |ranks: u32| {
                    let (world, me) = (world(ranks), Rank((ranks - 1) * place / 2));
                    let (plan, memory) = memory(|| Plan::collect(what, &world, *by, me));
                    assert!(
                        plan.bytes() <= memory[1] + size_of::<Plan>(),
                        "{what} by {}",
                        by.name()
                    );
                    memory
                };
                let (few, many) = (plan(FEW), plan(MANY));
                assert_linear(few, many, &format!("{what} by {}", by.name()));
                largest = largest.max(many[1]);
            }
        }
    }
    let settings = Settings {
        lanes: 2,
        slots: 4,
        slot_bytes: 1 << 20,
        landing_bytes: 128 << 10,
        reading_bytes: 16 << 10,
        shares_cores: false,
    };
    let executor = |ranks: u32| {
        let rank = Peer(ranks / 2);
        let key = Key::new([7; 32]);
        let options = dure_pool::Options { rank, key, capacity: None, huge_pages: false };
        let pool = dure_pool::Pool::open(options).unwrap();
        let cards = || (0..ranks).map(|rank| Card(rank.to_le_bytes().repeat(18).into())).collect();
        let queue = dure_device::host::host().queue().unwrap();
        let queues = vec![(dure_device::Space::Host, queue)];
        let (executor, memory) = memory(|| {
            let fabric = Fabric::new(vec![Box::new(pool)], &vec![0; ranks as usize]).unwrap();
            Executor::new(Box::new(fabric), cards(), settings, queues)
        });
        assert_eq!(executor.inboxes().count(), 0);
        memory
    };
    let (few, many) = (executor(FEW), executor(MANY));
    assert_linear(few, many, "executor");
    // A plan of all ranks' steps, or an edge for each pair, would be gigabytes.
    println!("{MANY} ranks: largest plan {largest} B, executor {} B", many[1]);
    assert!(largest < 32 << 20 && many[1] < 4 << 20, "{largest} {many:?}");
}
