//! A communicator of one rank costs less than a page, and nothing that a process has few of. In a process of its own, whose
//! memory is counted.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use dure::{Communicator, ReduceOp};

const PAGE: usize = 4096;
const COUNT: usize = 1000;

/// Bytes that are allocated now.
static BYTES: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[allow(unsafe_code, reason = "an allocator is")]
// SAFETY: it is the system's, and counts beside.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// Descriptors, threads, and mapped segments.
fn holdings() -> [usize; 3] {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let segments = maps.lines().filter(|line| line.contains("memfd:dure")).count();
    [count("/proc/self/fd"), count("/proc/self/task"), segments]
}

#[test]
fn a_communicator_of_one_rank_costs_less_than_a_page() {
    let make = || Communicator::builder().connect().unwrap();
    let call = |communicator: &Communicator| {
        for count in [1, 8 << 10] {
            let mut data = vec![3_u64; count];
            communicator.all_reduce(&mut data, ReduceOp::Sum).unwrap();
            assert!(data.iter().all(|sum| *sum == 3));
        }
        communicator.barrier().unwrap();
    };
    // What a process has once.
    call(&make());
    let (before, held) = (BYTES.load(Ordering::Relaxed), holdings());
    let mut all = Vec::with_capacity(COUNT);
    all.extend((0..COUNT).map(|_| make()));
    let made = (BYTES.load(Ordering::Relaxed) - before) / COUNT;
    all.iter().for_each(call);
    let called = (BYTES.load(Ordering::Relaxed) - before) / COUNT;
    println!("{made} bytes a communicator, {called} after three calls");
    assert!(made <= PAGE, "{made} bytes");
    // Calls that were made before are remembered, as in every communicator.
    assert!(called <= 3 * PAGE, "{called} bytes after calls");
    assert_eq!(holdings(), held);
}
