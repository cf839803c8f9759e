//! The software NPU: nobody else reaches its memory, its work is done later, and its end is reported.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside a test function")]

mod reference;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dure_device::host::host;
use dure_device::software::{self, Options, Software};
use dure_device::{
    Combine, Custom, Device, Dtype, Error, Memory, Queue, Result, Scale, Space, Stores, Work,
};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use self::reference::{OPERATIONS, agree, data, finish, memory, reduce};

/// Far longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

fn device(number: u16, lazy: Option<u64>) -> Arc<Software> {
    software::open(Options { number, capacity: 1 << 20, lazy, ..Options::default() }).unwrap()
}

/// Submits work on memory that outlives the test.
fn submit(queue: &mut dyn Queue, work: &Work<'_>) -> Result<u64> {
    // SAFETY: the buffers of the tests outlive their work and are used by nobody else meanwhile.
    unsafe { queue.submit(work) }
}

/// Waits until `condition` holds.
fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "{what}");
        std::thread::yield_now();
    }
}

/// Memory of the device with these bytes.
fn upload(device: &Software, queue: &mut dyn Queue, bytes: &mut [u8]) -> Memory {
    let dst = device.alloc(bytes.len()).unwrap();
    finish(queue, &Work::copy(memory(bytes), dst));
    dst
}

fn download(queue: &mut dyn Queue, src: Memory) -> Vec<u8> {
    let mut bytes = vec![0; src.len];
    finish(queue, &Work::copy(src, memory(&mut bytes)));
    bytes
}

#[test]
fn every_reduction_is_done_on_device_memory() {
    for lazy in [None, Some(1)] {
        let device = device(3, lazy);
        let mut queue = device.queue().unwrap();
        for dtype in Dtype::ALL {
            for by in OPERATIONS.iter().filter(|by| by.serves(dtype)) {
                let mut srcs: Vec<_> = (0..3).map(|k| data(dtype, 77, k)).collect();
                let expected = reduce(&srcs, dtype, by);
                let memories: Vec<_> =
                    srcs.iter_mut().map(|src| upload(&device, &mut *queue, src)).collect();
                finish(&mut *queue, &Work::reduce(&memories, memories[1], dtype, by));
                assert!(
                    agree(dtype, &download(&mut *queue, memories[1]), &expected),
                    "{by:?} on {dtype}"
                );
                for memory in memories {
                    // SAFETY: the work on it is done.
                    unsafe { device.free(memory) }.unwrap();
                }
            }
        }
    }
}

#[test]
fn host_and_device_memory_mix_in_one_piece_of_work() {
    let device = device(0, Some(2));
    let mut queue = device.queue().unwrap();
    let (mut a, mut b, mut dst) = (vec![1u8; 100], vec![2u8; 100], vec![0u8; 100]);
    let srcs = [upload(&device, &mut *queue, &mut a), memory(&mut b)];
    let out = memory(&mut dst);
    finish(&mut *queue, &Work::reduce(&srcs, out, Dtype::Int8, &Combine::Sum));
    finish(
        &mut *queue,
        &Work::Scale { src: out, dst: srcs[0], dtype: Dtype::Int8, by: Scale::ByInteger(5) },
    );
    assert_eq!(dst, vec![3; 100]);
    assert_eq!(download(&mut *queue, srcs[0]), vec![15; 100]);
}

#[test]
fn both_destinations_are_written() {
    let device = device(0, Some(5));
    let mut queue = device.queue().unwrap();
    for stores in [Stores::Cached, Stores::Streaming] {
        let (mut a, mut b, mut dst) = (vec![1u8; 100], vec![2u8; 100], vec![0u8; 100]);
        let srcs = [upload(&device, &mut *queue, &mut a), memory(&mut b)];
        let (out, by) = (memory(&mut dst), &Combine::Sum);
        // The second destination is a source.
        let (also, dtype) = (Some(srcs[0]), Dtype::Int8);
        finish(&mut *queue, &Work::Reduce { srcs: &srcs, dst: out, also, dtype, by, stores });
        let copy = device.alloc(100).unwrap();
        finish(&mut *queue, &Work::Copy { src: out, dst: copy, also: Some(srcs[1]), stores });
        assert_eq!((dst, b), (vec![3; 100], vec![3; 100]));
        assert_eq!(download(&mut *queue, srcs[0]), vec![3; 100]);
        assert_eq!(download(&mut *queue, copy), vec![3; 100]);
    }
}

#[test]
fn the_cpu_that_dereferences_device_memory_is_killed() {
    let device = device(0, None);
    let memory = device.alloc(64).unwrap();
    // SAFETY: the child does nothing but one access and its exit.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            // SAFETY: none, on purpose: this is the access that must not succeed.
            let byte = unsafe { memory.ptr.as_ptr().read_volatile() };
            // SAFETY: ends the child at once, without running what the parent would run at its exit.
            unsafe { libc::_exit(i32::from(byte)) };
        }
        ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
            WaitStatus::Signaled(_, signal, _) => assert_eq!(signal, Signal::SIGSEGV),
            status => panic!("device memory was read: {status:?}"),
        },
    }
}

#[test]
fn memory_of_others_is_refused() {
    let (device, other) = (device(1, None), device(2, None));
    let (mine, theirs) = (device.alloc(64).unwrap(), other.alloc(64).unwrap());
    let mut queue = device.queue().unwrap();
    let disguised = Memory { space: Space::Host, ..mine };
    let outside = Memory { len: 2 << 20, ..mine };
    let renamed = Memory { space: Space::Device(1), ..theirs };
    for src in [theirs, disguised, outside, renamed] {
        let result = submit(&mut *queue, &Work::copy(src, Memory { len: src.len, ..mine }));
        assert!(matches!(result, Err(Error::NotMine { .. })), "{src:?}: {result:?}");
    }
    let mut bytes = vec![0; 64];
    let mut on_host = host().queue().unwrap();
    for (src, dst) in [(mine, memory(&mut bytes)), (memory(&mut bytes), mine)] {
        let result = submit(&mut *on_host, &Work::copy(src, dst));
        assert!(matches!(result, Err(Error::NotMine { .. })), "{result:?}");
    }
    let also = Some(mine);
    let (src, dst) = (memory(&mut bytes), Memory::host(bytes.as_mut_ptr(), 0));
    for work in [
        Work::Copy { src, dst: src, also, stores: Stores::Cached },
        Work::Copy { src: dst, dst, also: Some(mine.part(0, 0)), stores: Stores::Streaming },
    ] {
        assert!(matches!(submit(&mut *on_host, &work), Err(Error::NotMine { .. })), "{work:?}");
    }
    let inner = mine.ptr.as_ptr().wrapping_add(63).cast_const();
    assert!(device.owns(inner) && !other.owns(inner) && !device.owns(bytes.as_ptr()));
}

#[test]
fn allocations_are_aligned_limited_and_freed_once() {
    let device = device(0, None);
    let (a, b) = (device.alloc(1).unwrap(), device.alloc((1 << 20) - 64).unwrap());
    assert!(a.address().is_multiple_of(64) && b.address().is_multiple_of(64) && !a.overlaps(b));
    assert!(matches!(device.alloc(1), Err(Error::OutOfMemory { len: 1, .. })));
    for wrong in [b.part(0, 64), Memory { space: Space::Host, ..a }] {
        // SAFETY: it is not freed.
        assert!(matches!(unsafe { device.free(wrong) }, Err(Error::NotMine { .. })));
    }
    // SAFETY: no work names it.
    unsafe { device.free(a) }.unwrap();
    // SAFETY: it is not freed again.
    assert!(unsafe { device.free(a) }.is_err());
    assert_eq!(device.alloc(64).unwrap().address(), a.address());
}

#[test]
fn work_completes_in_order_and_the_count_never_goes_down() {
    for lazy in [None, Some(9)] {
        let device = device(0, lazy);
        let mut queue = device.queue().unwrap();
        let memory = device.alloc(4096).unwrap();
        for k in 1..=100 {
            assert_eq!(submit(&mut *queue, &Work::copy(memory, memory)).unwrap(), k);
        }
        let mut last = 0;
        wait("100 pieces of work are done", || {
            let done = queue.completed().unwrap();
            assert!((last..=100).contains(&done));
            last = done;
            done == 100
        });
    }
}

#[test]
fn a_lazy_queue_is_not_done_when_a_hasty_caller_looks() {
    let mut early = 0;
    for seed in 0..32 {
        let device = device(0, Some(seed));
        let mut queue = device.queue().unwrap();
        let memory = device.alloc(64).unwrap();
        let number = submit(&mut *queue, &Work::copy(memory, memory)).unwrap();
        early += u32::from(queue.completed().unwrap() < number);
        wait("it is done after a few looks", || queue.completed().unwrap() == number);
    }
    assert!(early >= 8, "only {early} of 32 were still at work");
}

#[test]
fn work_on_a_dropped_lazy_queue_is_done() {
    let device = device(0, Some(0));
    let (mut queue, mut reader) = (device.queue().unwrap(), device.queue().unwrap());
    let mut ones = vec![1; 64];
    let (from, to) = (upload(&device, &mut *reader, &mut ones), device.alloc(64).unwrap());
    for _ in 0..10 {
        submit(&mut *queue, &Work::copy(from, to)).unwrap();
    }
    drop(queue);
    wait("the copies are done", || download(&mut *reader, to) == ones);
}

#[test]
fn a_dead_device_reports_that_it_is_gone() {
    let device = device(0, Some(4));
    let mut queue = device.queue().unwrap();
    let memory = device.alloc(64).unwrap();
    let work = Work::copy(memory, memory);
    submit(&mut *queue, &work).unwrap();
    device.die();
    device.die();
    assert!(matches!(queue.completed(), Err(Error::Gone { .. })));
    assert!(matches!(submit(&mut *queue, &work), Err(Error::Gone { .. })));
    assert!(matches!(device.queue(), Err(Error::Gone { .. })));
}

#[test]
fn a_panic_in_a_custom_function_ends_the_device_not_the_caller() {
    let device = device(0, None);
    let mut queue = device.queue().unwrap();
    let srcs = [device.alloc(64).unwrap(), device.alloc(64).unwrap()];
    let by = Combine::Custom(Custom(Arc::new(|_: &[u8], _: &mut [u8], _| {
        panic!("a mistake of the user")
    })));
    submit(&mut *queue, &Work::reduce(&srcs, srcs[0], Dtype::F32, &by)).unwrap();
    wait("the queue reports it", || matches!(queue.completed(), Err(Error::Gone { .. })));
}

/// The state of the thread of this name, as in `/proc`: `S` sleeps, `R` runs; `None` when there is no such thread.
fn thread_state(name: &str) -> Option<char> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let mut stats =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let stat = stats.find(|stat| stat.contains(&format!("({name})")))?;
    stat.rsplit(") ").next()?.chars().next()
}

#[test]
fn the_thread_sleeps_when_idle_and_ends_with_the_last_queue() {
    let options = Options { name: "npu-idle".to_owned(), ..Options::default() };
    let device = software::open(options).unwrap();
    let mut queue = device.queue().unwrap();
    wait("it sleeps", || thread_state("npu-idle") == Some('S'));
    let memory = device.alloc(64).unwrap();
    drop(device);
    finish(&mut *queue, &Work::copy(memory, memory));
    wait("it sleeps again", || thread_state("npu-idle") == Some('S'));
    drop(queue);
    wait("it ends", || thread_state("npu-idle").is_none());
}
