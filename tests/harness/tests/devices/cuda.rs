//! The plug-in for NVIDIA's GPUs, on a double of the driver: no GPU is needed, and nothing is said about one. `tests/gpu.rs` runs on
//! a GPU where there is one.

use std::ffi::c_int;
use std::sync::Arc;

use dure_device::plugin::conformance::Outcome;
use dure_device::plugin::{Plugin, PluginDevice};
use dure_device::{Combine, Device, Dtype, Memory, Queue, Scale, Work};
use dure_harness::plugins::cuda_double;
use libloading::os::unix::Library;

use crate::collectives::{COUNTS, on};
use crate::conformance::verdicts;

/// The double in this process: what is loaded by its name later is found here.
fn double() -> Library {
    // SAFETY: a library of ours.
    unsafe { Library::new(cuda_double()) }.unwrap()
}

fn plugin() -> Arc<Plugin> {
    std::mem::forget(double());
    dure::devices::cuda().unwrap()
}

#[test]
fn it_holds_to_every_property() {
    for (name, outcome) in verdicts(&plugin()) {
        assert_eq!(outcome, Outcome::Holds, "{name}");
    }
}

#[test]
fn ranks_on_one_gpu() {
    for devices in ["cc", "ccc", "cccc", "cccccccc"] {
        on(devices).run("collectives", &COUNTS).expect_well();
    }
    on("ccc").run("types", &[]).expect_well();
}

#[test]
fn nothing_passes_through_the_host_between_ranks_on_one_gpu() {
    for devices in ["cc", "cccc", "cccccccc"] {
        on(devices).run("on-devices-alone", &["1", "7", "3000", "40000"]).expect_well();
    }
    // Without the transport there are no counts of nothing.
    let report = on("cc").set("DURE_TRANSPORT", "^npu").run("on-devices-alone", &["7"]);
    assert!(report.to_string().contains("rank 0: Some("), "{report}");
}

#[test]
fn with_another_vendor_s_devices_and_the_host() {
    for devices in ["ch", "ca", "bc", "cach", "cchh"] {
        on(devices).run("collectives", &COUNTS).expect_well();
    }
    on("cah").run("types", &[]).expect_well();
    on("cch").set("DURE_TRANSPORT", "tcp").run("collectives", &COUNTS).expect_well();
}

/// `SplitMix64`, with bytes in between that make zeros, infinities, NaNs and numbers near them in one format or another.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    const CORNERS: [u8; 12] = [0, 0xff, 0x7f, 0x80, 0x7c, 0xfc, 0x78, 0xf8, 0x01, 0x3c, 0x7b, 0xf0];
    let mut state = seed;
    let byte = |_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [a, b, ..] = (mixed ^ (mixed >> 31)).to_le_bytes();
        if a % 3 == 0 { b } else { CORNERS[usize::from(b) % CORNERS.len()] }
    };
    (0..len).map(byte).collect()
}

fn finish(queue: &mut dyn Queue, work: &Work<'_>) {
    // SAFETY: the buffers of the tests outlive this call, and nobody else uses them.
    let ticket = unsafe { queue.submit(work) }.unwrap();
    while queue.completed().unwrap() < ticket {
        std::thread::yield_now();
    }
}

/// Memory of the device with these bytes, `at` bytes into an allocation, which stays.
fn filled(device: &PluginDevice, bytes: &mut [u8], at: usize) -> Memory {
    let memory = device.alloc(bytes.len() + at).unwrap().part(at, bytes.len());
    let host = Memory::host(bytes.as_mut_ptr(), bytes.len());
    finish(&mut *device.queue().unwrap(), &Work::copy(host, memory));
    memory
}

fn read(device: &PluginDevice, memory: Memory) -> Vec<u8> {
    let mut bytes = vec![0; memory.len];
    let host = Memory::host(bytes.as_mut_ptr(), bytes.len());
    finish(&mut *device.queue().unwrap(), &Work::copy(memory, host));
    bytes
}

/// The same reduction on the device and on the host, to the bit.
fn expect_the_host_s(
    device: &PluginDevice,
    sources: &mut [Vec<u8>],
    at: usize,
    (dtype, by): (Dtype, &Combine),
) {
    let theirs: Vec<_> = sources.iter_mut().map(|bytes| filled(device, bytes, at)).collect();
    let ours = sources.iter_mut().map(|bytes| Memory::host(bytes.as_mut_ptr(), bytes.len()));
    let ours: Vec<_> = ours.collect();
    let mut want = vec![0; ours[0].len];
    let dst = Memory::host(want.as_mut_ptr(), want.len());
    let host = dure_device::host::host();
    finish(&mut *host.queue().unwrap(), &Work::reduce(&ours, dst, dtype, by));
    let last = theirs[theirs.len() - 1];
    finish(&mut *device.queue().unwrap(), &Work::reduce(&theirs, last, dtype, by));
    let got = read(device, last);
    let differs = got.chunks(dtype.size()).zip(want.chunks(dtype.size())).position(|(a, b)| a != b);
    assert_eq!(differs, None, "{by:?} of {} sources of {dtype}, byte {at}", theirs.len());
}

const OPERATIONS: [Combine; 4] = [Combine::Sum, Combine::Prod, Combine::Max, Combine::Min];

fn open() -> Arc<PluginDevice> {
    plugin().open(0, ("cuda:0".to_owned(), 40), &[]).unwrap()
}

#[test]
fn kernels_reduce_as_the_host_does() {
    let device = open();
    for dtype in Dtype::ALL {
        for by in &OPERATIONS {
            // Sources, elements, and where they begin: at a word, or not.
            for (sources, count, at) in
                [(1, 9, 0), (2, 1003, 0), (2, 77, 1), (3, 500, 8), (16, 67, 3)]
            {
                let source = |seed: u64| noise(seed * 77 + count as u64, count * dtype.size());
                let mut sources: Vec<_> = (0..sources).map(source).collect();
                expect_the_host_s(&device, &mut sources, at, (dtype, by));
            }
        }
    }
}

#[test]
fn every_pair_of_8_bit_floats_is_combined_as_on_the_host() {
    let device = open();
    let pairs = || (0..=u8::MAX).flat_map(|a| (0..=u8::MAX).map(move |b| (a, b)));
    for dtype in [Dtype::F8E4M3, Dtype::F8E5M2] {
        for by in &OPERATIONS {
            let mut sources =
                [pairs().map(|(a, _)| a).collect(), pairs().map(|(_, b)| b).collect()];
            expect_the_host_s(&device, &mut sources, 0, (dtype, by));
        }
    }
}

#[test]
fn kernels_scale_as_the_host_does() {
    let device = open();
    let host = dure_device::host::host();
    for dtype in Dtype::ALL {
        let every: Vec<u8> = match dtype.size() {
            1 => (0..=u8::MAX).collect(),
            2 => (0..=u16::MAX).flat_map(u16::to_le_bytes).collect(),
            size => noise(5, 1001 * size),
        };
        let integer = (!dtype.is_float()).then_some(Scale::ByInteger(-7));
        let all =
            [Scale::By(1.0), Scale::By(-2.3), Scale::By(1e-3), Scale::Over(1), Scale::Over(7)];
        for by in all.into_iter().chain(integer) {
            for at in [0, 1] {
                let mut bytes = every.clone();
                let theirs = filled(&device, &mut bytes, at);
                let ours = Memory::host(bytes.as_mut_ptr(), bytes.len());
                finish(
                    &mut *host.queue().unwrap(),
                    &Work::Scale { src: ours, dst: ours, dtype, by },
                );
                finish(
                    &mut *device.queue().unwrap(),
                    &Work::Scale { src: theirs, dst: theirs, dtype, by },
                );
                assert!(read(&device, theirs) == bytes, "{dtype} {by:?}, byte {at}");
            }
        }
    }
}

/// Memory that a framework has allocated by a function of the driver's.
fn allocated_by(function: &[u8], bytes: usize) -> *mut u8 {
    let library = double();
    let mut address = 0_u64;
    // SAFETY: both functions that are asked for have this type.
    let alloc = unsafe { library.get::<unsafe extern "C" fn(*mut u64, usize) -> c_int>(function) };
    let alloc = *alloc.unwrap();
    in_context(|| {
        // SAFETY: the argument is alive.
        assert_eq!(unsafe { alloc(&raw mut address, bytes) }, 0);
    });
    std::ptr::without_provenance_mut(usize::try_from(address).unwrap())
}

/// Runs something with the context of the first device, as a framework does.
fn in_context(body: impl FnOnce()) {
    type Context = *mut std::ffi::c_void;
    let library = double();
    let mut context: Context = std::ptr::null_mut();
    // SAFETY: cuda.h gives the function this type.
    let retain = unsafe {
        library
            .get::<unsafe extern "C" fn(*mut Context, c_int) -> c_int>(b"cuDevicePrimaryCtxRetain")
    };
    // SAFETY: as above.
    let push =
        unsafe { library.get::<unsafe extern "C" fn(Context) -> c_int>(b"cuCtxPushCurrent_v2") };
    // SAFETY: as above.
    let pop = unsafe {
        library.get::<unsafe extern "C" fn(*mut Context) -> c_int>(b"cuCtxPopCurrent_v2")
    };
    let (retain, push, pop) = (*retain.unwrap(), *push.unwrap(), *pop.unwrap());
    // SAFETY: the argument is alive.
    assert_eq!(unsafe { retain(&raw mut context, 0) }, 0);
    // SAFETY: the context is retained.
    assert_eq!(unsafe { push(context) }, 0);
    body();
    // SAFETY: the argument is alive.
    assert_eq!(unsafe { pop(&raw mut context) }, 0);
}

#[test]
fn memory_of_frameworks_is_found_and_what_has_no_handle_is_refused() {
    let device = open();
    let plain = allocated_by(b"cuMemAlloc_v2", 5000);
    assert!(device.owns(plain) && device.owns(plain.wrapping_add(4999)));
    assert!(!device.owns(plain.wrapping_add(5000)));
    let memory = Memory { space: device.space(), ..Memory::host(plain, 5000) };
    assert!(device.export(memory).is_some());
    let mut bytes = noise(1, 5000);
    let host = Memory::host(bytes.as_mut_ptr(), bytes.len());
    finish(&mut *device.queue().unwrap(), &Work::copy(host, memory));
    assert!(read(&device, memory) == bytes);

    let pooled = allocated_by(b"doubleAllocOfPool", 5000);
    assert!(device.owns(pooled));
    let memory = Memory { space: device.space(), ..Memory::host(pooled, 5000) };
    assert_eq!(device.export(memory), None);
    // Another GPU's memory is none of this one's.
    let other = plugin().open(1, ("cuda:1".to_owned(), 41), &[]).unwrap();
    assert!(!other.owns(plain));
}

#[test]
fn a_dma_buf_begins_at_a_page_and_says_where_the_memory_is() {
    let device = open();
    let mut bytes = noise(3, 10_000);
    let memory = filled(&device, &mut bytes, 512);
    let buffer = device.dma_buf(memory).unwrap();
    assert_eq!((memory.address() as u64 - buffer.offset) % 4096, 0);
}
