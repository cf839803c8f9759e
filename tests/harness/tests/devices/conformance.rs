//! The conformance program passes on both reference plug-ins, and names the property that each of some planted faults breaks.

use std::ffi::{c_int, c_void};
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::Duration;

use dure_device::plugin::conformance::{Outcome, run};
use dure_device::plugin::{Plugin, Refusal};
use dure_device_abi as abi;
use dure_harness::plugins::{npu_a, npu_b};

/// What neither reference offers.
const DMA_BUF: &str = "a dma-buf shows the memory that was exported";

pub(crate) fn verdicts(plugin: &Arc<Plugin>) -> Vec<(&'static str, Outcome)> {
    let mut all = Vec::new();
    let last = plugin.count().unwrap() - 1;
    run(plugin, last.min(3), |verdict| all.push(verdict.clone())).unwrap();
    all
}

#[test]
fn the_reference_in_rust_holds_to_every_property_that_it_offers() {
    for (name, outcome) in verdicts(&Plugin::load(npu_a()).unwrap()) {
        let want = if name == DMA_BUF { Outcome::Absent } else { Outcome::Holds };
        assert_eq!(outcome, want, "{name}");
    }
}

#[test]
fn the_reference_in_c_holds_to_every_property_that_it_offers() {
    let absent = [
        "reductions are right",
        "scaling is right",
        "peers reach the memory that was exported",
        DMA_BUF,
    ];
    for (name, outcome) in verdicts(&Plugin::load(npu_b()).unwrap()) {
        let want = if absent.contains(&name) { Outcome::Absent } else { Outcome::Holds };
        assert_eq!(outcome, want, "{name}");
    }
}

/// The tables of the reference plug-ins, which faults are planted in.
pub(crate) fn table(path: &'static Path) -> abi::Plugin {
    // SAFETY: a plug-in of ours, which is never unloaded.
    let library = unsafe { libloading::Library::new(path) }.unwrap();
    // SAFETY: the header gives the function this type.
    let entry = *unsafe { library.get::<abi::Entry>(abi::ENTRY.as_bytes()) }.unwrap();
    std::mem::forget(library);
    // SAFETY: it takes nothing, and gives a table that stays.
    let table = unsafe { entry() };
    // SAFETY: as above; it is of the version that this was built with.
    unsafe { *table }
}

/// The plug-in with a fault.
pub(crate) fn planted(
    path: &'static Path,
    plant: impl FnOnce(&mut abi::Plugin),
) -> Result<Arc<Plugin>, Refusal> {
    let mut table = table(path);
    plant(&mut table);
    let table: &'static abi::Plugin = Box::leak(Box::new(table));
    // SAFETY: the table stays.
    unsafe { Plugin::new(table, Path::new("planted")) }
}

/// The one property that a fault breaks.
fn broken(path: &'static Path, plant: impl FnOnce(&mut abi::Plugin)) -> Vec<&'static str> {
    let plugin = planted(path, plant).unwrap();
    let fails = |(name, outcome)| matches!(outcome, Outcome::Fails(_)).then_some(name);
    verdicts(&plugin).into_iter().filter_map(fails).collect()
}

macro_rules! real {
    ($of:ident, $function:ident($($argument:expr),*)) => {{
        let function = table($of()).$function.unwrap();
        // SAFETY: what the caller promised of these arguments, or of fewer bytes.
        unsafe { function($($argument),*) }
    }};
}

#[test]
fn an_event_that_never_completes_is_found() {
    unsafe extern "C" fn completed(stream: *mut abi::Stream, event: *mut u64) -> c_int {
        let status = real!(npu_a, completed(stream, event));
        // The engine is heard of one event late.
        // SAFETY: the caller's promise.
        let event = unsafe { &mut *event };
        *event = event.saturating_sub(1);
        status
    }
    let broken = broken(npu_a(), |table| table.completed = Some(completed));
    assert!(broken.contains(&"an event completes, and not before its work is done"), "{broken:?}");
}

#[test]
fn a_copy_that_is_complete_too_early_is_found() {
    unsafe extern "C" fn copy(
        stream: *mut abi::Stream,
        copies: *const abi::Copy,
        count: u32,
    ) -> c_int {
        // SAFETY: the caller's promise.
        let one = unsafe { *copies };
        if one.dst_is_host == 1 && one.bytes == 8 << 20 {
            let mut bytes = vec![0_u8; 8 << 20];
            let now = abi::Copy { dst: bytes.as_mut_ptr().cast(), ..one };
            real!(npu_b, copy(stream, &raw const now, 1));
            let dst = one.dst.expose_provenance();
            thread::spawn(move || {
                thread::park_timeout(Duration::from_millis(300));
                let dst: *mut u8 = std::ptr::with_exposed_provenance_mut(dst);
                // SAFETY: whoever found the fault has left the buffer to the device.
                unsafe { dst.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            });
            return abi::OK;
        }
        real!(npu_b, copy(stream, copies, count))
    }
    let broken = broken(npu_b(), |table| table.copy = Some(copy));
    assert_eq!(broken, ["an event completes, and not before its work is done"]);
}

#[test]
fn a_query_that_names_another_start_is_found() {
    unsafe extern "C" fn query(
        device: *mut abi::Device,
        address: *const c_void,
        range: *mut abi::Range,
    ) -> c_int {
        let status = real!(npu_a, query(device, address, range));
        if status == abi::OK {
            // SAFETY: the caller's promise.
            let base = unsafe { &mut (*range).base };
            *base = base.wrapping_byte_add(64);
        }
        status
    }
    let broken = broken(npu_a(), |table| table.query = Some(query));
    assert_eq!(broken, ["the pointer query names the allocation"]);
}

#[test]
fn a_query_that_owns_everything_is_found() {
    unsafe extern "C" fn query(
        device: *mut abi::Device,
        address: *const c_void,
        range: *mut abi::Range,
    ) -> c_int {
        real!(npu_b, query(device, address, range));
        abi::OK
    }
    let broken = broken(npu_b(), |table| table.query = Some(query));
    assert!(broken.contains(&"the pointer query names the allocation"), "{broken:?}");
}

#[test]
fn an_export_that_shows_other_memory_is_found() {
    unsafe extern "C" fn export(
        device: *mut abi::Device,
        address: *mut c_void,
        bytes: u64,
        handle: *mut abi::Handle,
    ) -> c_int {
        real!(npu_a, export_handle(device, address.wrapping_byte_sub(1), bytes, handle))
    }
    let broken = broken(npu_a(), |table| table.export_handle = Some(export));
    assert_eq!(broken, ["peers reach the memory that was exported"]);
}

#[test]
fn a_reduction_that_is_wrong_for_odd_counts_is_found() {
    unsafe extern "C" fn reduce(stream: *mut abi::Stream, job: *const abi::Reduce) -> c_int {
        // SAFETY: the caller's promise.
        let job = unsafe { *job };
        let job = abi::Reduce { count: job.count & !1, ..job };
        real!(npu_a, reduce(stream, &raw const job))
    }
    let broken = broken(npu_a(), |table| table.reduce = Some(reduce));
    assert_eq!(broken, ["reductions are right"]);
}

#[test]
fn a_scale_that_does_nothing_is_found() {
    unsafe extern "C" fn scale(_: *mut abi::Stream, _: *const abi::Scale) -> c_int {
        abi::OK
    }
    let broken = broken(npu_a(), |table| table.scale = Some(scale));
    assert_eq!(broken, ["scaling is right"]);
}

#[test]
fn rows_and_copies_that_are_left_out_are_found() {
    unsafe extern "C" fn one_row(
        stream: *mut abi::Stream,
        copies: *const abi::Copy,
        count: u32,
    ) -> c_int {
        // SAFETY: the caller's promise.
        let one = abi::Copy { rows: 1, ..unsafe { *copies } };
        if count == 1 {
            real!(npu_b, copy(stream, &raw const one, 1))
        } else {
            real!(npu_b, copy(stream, copies, count))
        }
    }
    let rows = broken(npu_b(), |table| table.copy = Some(one_row));
    assert_eq!(rows, ["strided copies move every row"]);
    unsafe extern "C" fn one_copy(
        stream: *mut abi::Stream,
        copies: *const abi::Copy,
        _: u32,
    ) -> c_int {
        real!(npu_b, copy(stream, copies, 1))
    }
    let copies = broken(npu_b(), |table| table.copy = Some(one_copy));
    assert_eq!(copies, ["all copies of a batch are done"]);
}

#[test]
fn memory_with_what_was_there_before_is_found() {
    /// The last allocation that was freed, given out again as it is.
    static KEPT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    unsafe extern "C" fn alloc(
        device: *mut abi::Device,
        bytes: u64,
        address: *mut *mut c_void,
    ) -> c_int {
        let kept = KEPT.swap(0, std::sync::atomic::Ordering::Relaxed);
        if bytes == 50_000 && kept != 0 {
            // SAFETY: the caller's promise.
            unsafe { *address = std::ptr::without_provenance_mut(kept) };
            return abi::OK;
        }
        real!(npu_b, alloc(device, bytes, address))
    }
    unsafe extern "C" fn free(device: *mut abi::Device, address: *mut c_void) -> c_int {
        let size = abi::size::<abi::Range>();
        let mut range = abi::Range { size, reserved: 0, base: std::ptr::null_mut(), bytes: 0 };
        if real!(npu_b, query(device, address.cast_const(), &raw mut range)) == abi::OK
            && range.bytes == 50_000
        {
            KEPT.store(address.addr(), std::sync::atomic::Ordering::Relaxed);
            return abi::OK;
        }
        real!(npu_b, free(device, address))
    }
    let broken = broken(npu_b(), |table| {
        table.alloc = Some(alloc);
        table.free = Some(free);
    });
    assert_eq!(broken, ["memory is zeroed"]);
}

#[test]
fn memory_that_is_freed_twice_is_found() {
    unsafe extern "C" fn free(device: *mut abi::Device, address: *mut c_void) -> c_int {
        real!(npu_b, free(device, address));
        abi::OK
    }
    let broken = broken(npu_b(), |table| table.free = Some(free));
    assert_eq!(broken, ["only whole allocations are freed, once"]);
}

#[test]
fn a_stream_that_works_out_of_order_is_found() {
    /// Holds one copy to the device back until the next.
    static HELD: RwLock<Vec<(usize, usize, u64)>> = RwLock::new(Vec::new());
    unsafe extern "C" fn copy(
        stream: *mut abi::Stream,
        copies: *const abi::Copy,
        count: u32,
    ) -> c_int {
        // SAFETY: the caller's promise.
        let one = unsafe { *copies };
        let status = real!(npu_b, copy(stream, copies, count));
        if one.bytes == 200_000 && one.src_is_host == 1 {
            let mut held = HELD.write().unwrap();
            for (src, dst, bytes) in held.drain(..) {
                let (src, dst) =
                    (std::ptr::without_provenance(src), std::ptr::without_provenance_mut(dst));
                let late = abi::Copy { src, dst, bytes, ..one };
                real!(npu_b, copy(stream, &raw const late, 1));
            }
            held.push((one.src.addr(), one.dst.addr(), one.bytes));
        }
        status
    }
    let broken = broken(npu_b(), |table| table.copy = Some(copy));
    assert_eq!(broken, ["work of a stream is done in order"]);
}

#[test]
fn what_lies_about_itself_is_refused() {
    let said = |refused: Result<Arc<Plugin>, Refusal>| refused.map(|_| ()).unwrap_err().to_string();
    assert!(said(planted(npu_a(), |table| table.abi = 7)).contains("version 7"));
    assert!(said(planted(npu_a(), |table| table.copy = None)).contains("no copy"));
    let short = std::mem::offset_of!(abi::Plugin, record);
    let short = said(planted(npu_a(), |table| table.size = u32::try_from(short).unwrap()));
    assert!(short.contains("no record"), "{short}");
    let promise = planted(npu_a(), |table| table.import_handle = None).unwrap().describe(0);
    let promise = promise.unwrap_err().to_string();
    assert!(promise.contains("can reach peers") && promise.contains("import_handle"), "{promise}");
    let many = Plugin::load(npu_a()).unwrap().describe(99).unwrap_err().to_string();
    assert!(many.contains("no device 99") && many.contains("16"), "{many}");
    assert!(said(Plugin::load(Path::new("/nowhere/libx.so"))).contains("cannot be loaded"));
    assert!(said(Plugin::load(Path::new("libc.so.6"))).contains("dureGetDevicePlugin"));
    extern "C" fn failing(_: *mut u32) -> c_int {
        abi::FAILED
    }
    let failing = planted(npu_b(), |table| table.count = Some(failing)).unwrap().count();
    assert!(failing.unwrap_err().to_string().contains("count of planted failed"));
}
