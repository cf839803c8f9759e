//! What a plug-in for devices must hold to: each property of `dure_device.h` that can be seen from outside, with a name.
//!
//! `dure device check PLUGIN` runs them; a maker's tests may.

use std::collections::HashSet;
use std::ffi::c_void;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dure_device_abi as abi;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::stream::{Stream, copy_of};
use super::{Plugin, PluginDevice};
use crate::{Combine, Device, DmaBuf, Dtype, Memory, Queue, Scale, Stores, Work};

/// How long a piece of work may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of one property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Holds,
    /// It does not, and why.
    Fails(String),
    /// The device does not offer what it is about.
    Absent,
}

/// A property: its name, and what became of it.
pub type Verdict = (&'static str, Outcome);

type Check = fn(&Bench) -> Result<Outcome, String>;

/// The property without which the others cannot be seen: they wait for events.
const EVENTS: &str = "an event completes, and not before its work is done";

const PROPERTIES: [(&str, Check); 16] = [
    ("the device is described", described),
    (EVENTS, events_complete),
    ("allocations are apart and aligned", allocations_are_apart),
    ("memory is zeroed", memory_is_zeroed),
    ("the pointer query names the allocation", query_names_the_allocation),
    ("only whole allocations are freed, once", only_allocations_are_freed),
    ("copies move every byte", copies_move_every_byte),
    ("copies within the device move every byte", copies_within),
    ("strided copies move every row", strided_copies),
    ("all copies of a batch are done", batches),
    ("work of a stream is done in order", streams_are_in_order),
    ("reductions are right", reductions),
    ("scaling is right", scaling),
    ("peers reach the memory that was exported", peers),
    ("a dma-buf shows the memory that was exported", dma_buf_shows_the_memory),
    ("what is none of the device's is refused", wrong_is_refused),
];

/// Checks device `index` of a plug-in, and calls `each` with every verdict as it comes. True when nothing fails. When events do not
/// complete, nothing further is looked at.
///
/// # Errors
/// When the device cannot be opened.
pub fn run(
    plugin: &Arc<Plugin>,
    index: u32,
    mut each: impl FnMut(&Verdict),
) -> Result<bool, super::Refusal> {
    let count = plugin.count()?;
    let other = if count > 1 { (index + 1) % count } else { index };
    let device = plugin.open(index, ("device under test".to_owned(), 0), &[other])?;
    let peer = plugin.open(other, ("its peer".to_owned(), 1), &[index])?;
    let bench = Bench { plugin: Arc::clone(plugin), index, device, peer };
    let mut all = true;
    for (name, check) in PROPERTIES {
        let outcome = check(&bench).unwrap_or_else(Outcome::Fails);
        let fails = matches!(outcome, Outcome::Fails(_));
        all &= !fails;
        each(&(name, outcome));
        if fails && name == EVENTS {
            break;
        }
    }
    Ok(all)
}

/// What is tested.
struct Bench {
    plugin: Arc<Plugin>,
    index: u32,
    device: Arc<PluginDevice>,
    peer: Arc<PluginDevice>,
}

fn text(error: impl std::error::Error) -> String {
    error.to_string()
}

/// An error unless a condition holds.
fn demand(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// Bytes that are different from place to place, and from seed to seed.
fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| {
            (i.wrapping_mul(31) ^ (i >> 8).wrapping_mul(7) ^ seed.wrapping_mul(131)).to_le_bytes()
                [0]
        })
        .collect()
}

fn face(bytes: &mut [u8]) -> Memory {
    Memory::host(bytes.as_mut_ptr(), bytes.len())
}

/// Does work and waits for it.
fn do_work(queue: &mut dyn Queue, work: &Work<'_>) -> Result<(), String> {
    // SAFETY: the caller's buffers live until the work is done, which is waited for here, or the check fails and they stay.
    let ticket = unsafe { queue.submit(work) }.map_err(text)?;
    wait_for(queue, ticket)
}

fn wait_for(queue: &mut dyn Queue, ticket: u64) -> Result<(), String> {
    wait_until(|| Ok(queue.completed().map_err(text)? >= ticket))
}

/// Waits for an event, as long as the patience lasts.
fn wait_until(mut is_complete: impl FnMut() -> Result<bool, String>) -> Result<(), String> {
    let began = Instant::now();
    while !is_complete()? {
        demand(began.elapsed() < PATIENCE, || {
            format!("an event does not complete within {PATIENCE:?}")
        })?;
        std::thread::yield_now();
    }
    Ok(())
}

/// An allocation of a device, filled, and freed in the end.
struct Filled<'d> {
    device: &'d PluginDevice,
    memory: Memory,
}

impl<'d> Filled<'d> {
    fn new(device: &'d PluginDevice, bytes: &mut [u8]) -> Result<Self, String> {
        let filled = Self { device, memory: device.alloc(bytes.len()).map_err(text)? };
        filled.write(0, bytes)?;
        Ok(filled)
    }

    fn write(&self, at: usize, bytes: &mut [u8]) -> Result<(), String> {
        let mut queue = self.device.queue().map_err(text)?;
        do_work(&mut *queue, &Work::copy(face(bytes), self.memory.part(at, bytes.len())))
    }

    fn read(&self, at: usize, len: usize) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0xee; len];
        let mut queue = self.device.queue().map_err(text)?;
        do_work(&mut *queue, &Work::copy(self.memory.part(at, len), face(&mut bytes)))?;
        Ok(bytes)
    }

    fn expect(&self, want: &[u8], what: &str) -> Result<(), String> {
        same(&self.read(0, want.len())?, want, what)
    }
}

impl Drop for Filled<'_> {
    fn drop(&mut self) {
        // SAFETY: every check waits for its work. A plug-in that cannot free is found by a check of its own.
        let _ = unsafe { self.device.free(self.memory) };
    }
}

fn same(got: &[u8], want: &[u8], what: &str) -> Result<(), String> {
    match got.iter().zip(want).position(|(got, want)| got != want) {
        None => Ok(()),
        Some(at) => Err(format!(
            "{what}: byte {at} of {} is {:#x}, not {:#x}",
            want.len(),
            got[at],
            want[at]
        )),
    }
}

fn described(bench: &Bench) -> Result<Outcome, String> {
    let mut serials = HashSet::new();
    for index in 0..bench.plugin.count().map_err(text)? {
        let about = bench.plugin.describe(index).map_err(text)?;
        demand(!about.name.is_empty(), || format!("device {index} has no name"))?;
        demand(serials.insert((about.serial.clone(), about.partition)), || {
            format!(
                "device {index} has the serial number and partition of another: {:?}",
                about.serial
            )
        })?;
        demand(about.memory > 0, || format!("device {index} has no memory"))?;
        let pci = about.pci.is_empty() || Path::new("/").join(&about.pci).components().count() == 2;
        demand(pci, || format!("device {index} is at {:?}, which is no PCI address", about.pci))?;
    }
    bench.device.health().map_err(text)?;
    Ok(Outcome::Holds)
}

fn allocations_are_apart(bench: &Bench) -> Result<Outcome, String> {
    let mut all = Vec::new();
    for len in [1, 3, 64, 65, 4096, 100_001] {
        all.push(Filled::new(&bench.device, &mut pattern(len, len))?);
    }
    for (at, one) in all.iter().enumerate() {
        let memory = one.memory;
        demand(memory.address().is_multiple_of(64), || {
            format!("{:#x} is no multiple of 64", memory.address())
        })?;
        for other in &all[..at] {
            demand(!other.memory.overlaps(memory), || "two allocations overlap".to_owned())?;
        }
    }
    for one in &all {
        one.expect(&pattern(one.memory.len, one.memory.len), "an allocation beside others")?;
    }
    Ok(Outcome::Holds)
}

fn memory_is_zeroed(bench: &Bench) -> Result<Outcome, String> {
    drop(Filled::new(&bench.device, &mut vec![0xff; 50_000])?);
    let memory = bench.device.alloc(50_000).map_err(text)?;
    let again = Filled { device: &bench.device, memory };
    again.expect(&[0; 50_000], "new memory")?;
    Ok(Outcome::Holds)
}

fn query_names_the_allocation(bench: &Bench) -> Result<Outcome, String> {
    let open = bench.device.open();
    let one = Filled::new(&bench.device, &mut pattern(1, 1000))?;
    let (start, len) = (one.memory.ptr.as_ptr(), one.memory.len as u64);
    for at in [0, 1, 999] {
        let address = start.wrapping_add(at);
        let range = open
            .range(address)
            .ok_or_else(|| format!("byte {at} of an allocation is not known"))?;
        let (base, bytes) = (range.base.cast::<u8>(), range.bytes);
        demand(base == start && bytes == len, || {
            format!(
                "byte {at} of {len} bytes at {start:p} is said to be of {bytes} bytes at {base:p}"
            )
        })?;
    }
    let mut host = [0_u8; 64];
    let strangers = [
        host.as_mut_ptr(),
        start.wrapping_add(1 << 40),
        start.wrapping_sub(1 << 40),
        std::ptr::null_mut(),
    ];
    for address in strangers {
        demand(open.range(address).is_none(), || {
            format!("{address:p} is said to be an allocation, and is none")
        })?;
    }
    Ok(Outcome::Holds)
}

fn only_allocations_are_freed(bench: &Bench) -> Result<Outcome, String> {
    let open = bench.device.open();
    // SAFETY: the device is open. Nothing uses what is freed here.
    let free =
        |address: *mut c_void| unsafe { (open.plugin.table.free)(open.raw.as_ptr(), address) };
    let memory = bench.device.alloc(1000).map_err(text)?;
    let start: *mut c_void = memory.ptr.as_ptr().cast();
    demand(free(start.wrapping_byte_add(64)) != abi::OK, || {
        "the middle of an allocation was freed".to_owned()
    })?;
    demand(free(start) == abi::OK, || "an allocation could not be freed".to_owned())?;
    demand(free(start) != abi::OK, || "an allocation was freed twice".to_owned())?;
    demand(open.range(start.cast()).is_none(), || {
        "memory that was freed is an allocation still".to_owned()
    })?;
    // What was freed can be had again.
    let most =
        usize::try_from(bench.device.description().memory / 4).unwrap_or(usize::MAX).min(64 << 20);
    let rounds = bench.device.description().memory / most as u64 + 2;
    for round in 0..rounds.min(100) {
        let memory = bench.device.alloc(most).map_err(|e| format!("in round {round}: {e}"))?;
        // SAFETY: nothing uses it.
        unsafe { bench.device.free(memory) }.map_err(text)?;
    }
    Ok(Outcome::Holds)
}

fn copies_move_every_byte(bench: &Bench) -> Result<Outcome, String> {
    for len in [1, 2, 3, 63, 255, 256, 257, 4095, 4097, 100_003, 1 << 20] {
        for at in [0, 1, 64] {
            let one = Filled::new(&bench.device, &mut vec![7; len + at + 9])?;
            let mut bytes = pattern(at, len);
            one.write(at, &mut bytes)?;
            let mut want = vec![7; len + at + 9];
            want[at..at + len].copy_from_slice(&bytes);
            one.expect(&want, &format!("{len} bytes from byte {at}"))?;
            same(&one.read(at, len)?, &bytes, &format!("{len} bytes read from byte {at}"))?;
        }
    }
    Ok(Outcome::Holds)
}

fn copies_within(bench: &Bench) -> Result<Outcome, String> {
    for len in [1, 5, 256, 1001, 300_001] {
        let mut bytes = pattern(len, len + 7);
        let from = Filled::new(&bench.device, &mut bytes)?;
        let to = Filled::new(&bench.device, &mut vec![0; len + 7])?;
        let mut queue = bench.device.queue().map_err(text)?;
        do_work(&mut *queue, &Work::copy(from.memory.part(3, len), to.memory.part(5, len)))?;
        let mut want = vec![0; len + 7];
        want[5..5 + len].copy_from_slice(&bytes[3..3 + len]);
        to.expect(&want, &format!("{len} bytes"))?;
    }
    Ok(Outcome::Holds)
}

/// Has a stream do copies, once it has room.
fn tell(stream: &Stream, copies: &[abi::Copy]) -> Result<(), String> {
    let began = Instant::now();
    loop {
        // SAFETY: the check's buffers live until it has waited, or stay.
        let status = unsafe { stream.copy(copies) };
        if status != abi::BUSY {
            return stream.device.check("copy", status).map_err(text);
        }
        demand(began.elapsed() < PATIENCE, || "a stream is busy for ever".to_owned())?;
        std::thread::yield_now();
    }
}

fn wait_for_stream(stream: &Stream) -> Result<(), String> {
    let event = stream.record().map_err(text)?;
    wait_until(|| Ok(stream.completed().map_err(text)? >= event))
}

fn strided_copies(bench: &Bench) -> Result<Outcome, String> {
    let (rows, row, narrow, wide) = (5, 33, 40, 100);
    let mut bytes = pattern(2, rows * narrow);
    let one = Filled::new(&bench.device, &mut vec![0; rows * wide])?;
    let stream = Stream::open(Arc::clone(bench.device.open())).map_err(text)?;
    tell(
        &stream,
        &[abi::Copy {
            rows: 5,
            bytes: row as u64,
            src_pitch: narrow as u64,
            dst_pitch: wide as u64,
            ..copy_of(face(&mut bytes), one.memory)
        }],
    )?;
    wait_for_stream(&stream)?;
    let mut want = vec![0; rows * wide];
    for at in 0..rows {
        want[at * wide..at * wide + row].copy_from_slice(&bytes[at * narrow..at * narrow + row]);
    }
    one.expect(&want, "5 rows of 33 bytes")?;
    Ok(Outcome::Holds)
}

fn batches(bench: &Bench) -> Result<Outcome, String> {
    let mut bytes = pattern(3, 900);
    let one = Filled::new(&bench.device, &mut vec![0; 900])?;
    let stream = Stream::open(Arc::clone(bench.device.open())).map_err(text)?;
    let whole = face(&mut bytes);
    let parts = [2, 0, 1].map(|k| copy_of(whole.part(k * 300, 300), one.memory.part(k * 300, 300)));
    tell(&stream, &parts)?;
    wait_for_stream(&stream)?;
    one.expect(&bytes, "3 copies of one call")?;
    Ok(Outcome::Holds)
}

fn events_complete(bench: &Bench) -> Result<Outcome, String> {
    let len = 8 << 20;
    let mut bytes = pattern(4, len);
    let one = Filled::new(&bench.device, &mut bytes)?;
    let stream = Stream::open(Arc::clone(bench.device.open())).map_err(text)?;
    let mut last = stream.record().map_err(text)?;
    for round in 0..4 {
        let mut back = vec![0; len];
        tell(&stream, &[copy_of(one.memory, face(&mut back))])?;
        let event = stream.record().map_err(text)?;
        demand(event >= last, || format!("event {event} came after event {last}"))?;
        last = event;
        let complete = wait_until(|| Ok(stream.completed().map_err(text)? >= event));
        let right = complete.and_then(|()| {
            let what = format!("a copy of {len} bytes whose event is complete, round {round}");
            same(&back, &bytes, &what)
        });
        if right.is_err() {
            // The device may write it yet.
            std::mem::forget(back);
            return right.map(|()| Outcome::Holds);
        }
    }
    Ok(Outcome::Holds)
}

fn streams_are_in_order(bench: &Bench) -> Result<Outcome, String> {
    let len = 200_000;
    let one = Filled::new(&bench.device, &mut vec![0; len])?;
    let two = Filled::new(&bench.device, &mut vec![0; len])?;
    let mut queue = bench.device.queue().map_err(text)?;
    let mut sources: Vec<_> = (0..8).map(|seed| pattern(seed, len)).collect();
    let mut ticket = 0;
    for source in &mut sources {
        for work in [Work::copy(face(source), one.memory), Work::copy(one.memory, two.memory)] {
            // SAFETY: the buffers live until the last is done, which is waited for.
            ticket = unsafe { queue.submit(&work) }.map_err(text)?;
        }
    }
    wait_for(&mut *queue, ticket)?;
    two.expect(&sources[7], "the last of 8 copies, each copied on")?;
    Ok(Outcome::Holds)
}

/// Elements that are small whole numbers, so that sums and products are exact in every type.
fn numbers(dtype: Dtype, seed: usize, count: usize) -> Vec<u8> {
    let number = |i: usize| (i * 7 + seed * 3) % 3 + 1;
    let encode = |i: usize| -> Vec<u8> {
        let n = number(i);
        match dtype {
            Dtype::F32 => [1_f32, 2.0, 3.0][n - 1].to_le_bytes().to_vec(),
            Dtype::F64 => [1_f64, 2.0, 3.0][n - 1].to_le_bytes().to_vec(),
            // 1, 2 and 3 in each format: the exponent of 1 is its bias, that of 2 one more, and 3 has the first bit of the mantissa.
            Dtype::F16 => [0x3c00_u16, 0x4000, 0x4200][n - 1].to_le_bytes().to_vec(),
            Dtype::Bf16 => [0x3f80_u16, 0x4000, 0x4040][n - 1].to_le_bytes().to_vec(),
            Dtype::F8E4M3 => vec![[0x38, 0x40, 0x44][n - 1]],
            Dtype::F8E5M2 => vec![[0x3c, 0x40, 0x42][n - 1]],
            _ => n.to_le_bytes()[..dtype.size()].to_vec(),
        }
    };
    (0..count).flat_map(encode).collect()
}

/// What the host computes.
fn by_the_host(work: &Work<'_>) -> Result<(), String> {
    let mut host = crate::host::host().queue().map_err(text)?;
    do_work(&mut *host, work)
}

fn reductions(bench: &Bench) -> Result<Outcome, String> {
    let about = bench.device.description().clone();
    if about.most_sources == 0 {
        return Ok(Outcome::Absent);
    }
    let ops = [Combine::Sum, Combine::Prod, Combine::Max, Combine::Min];
    let mut queue = bench.device.queue().map_err(text)?;
    for (op, types) in ops.iter().zip(about.reduces) {
        for dtype in Dtype::ALL.into_iter().filter(|dtype| types >> (*dtype as u32) & 1 == 1) {
            for (sources, count) in [(2, 1), (2, 1001), (3, 17), (about.most_sources as usize, 255)]
            {
                let sources = sources.min(about.most_sources as usize);
                let mut hosts: Vec<_> =
                    (0..sources).map(|seed| numbers(dtype, seed, count)).collect();
                let devices = hosts
                    .iter_mut()
                    .map(|bytes| Filled::new(&bench.device, bytes))
                    .collect::<Result<Vec<_>, _>>()?;
                let mut want = vec![0; hosts[0].len()];
                let faces: Vec<_> = hosts.iter_mut().map(|bytes| face(bytes)).collect();
                by_the_host(&Work::reduce(&faces, face(&mut want), dtype, op))?;
                let memories: Vec<_> = devices.iter().map(|filled| filled.memory).collect();
                // In place, as calls do it.
                let (by, dst, stores) = (op, memories[0], Stores::Cached);
                do_work(
                    &mut *queue,
                    &Work::Reduce { srcs: &memories, dst, also: None, dtype, by, stores },
                )?;
                devices[0]
                    .expect(&want, &format!("{op:?} of {sources} sources of {count} {dtype}"))?;
            }
        }
    }
    Ok(Outcome::Holds)
}

fn scaling(bench: &Bench) -> Result<Outcome, String> {
    let types = bench.device.description().scales;
    if types == 0 {
        return Ok(Outcome::Absent);
    }
    let mut queue = bench.device.queue().map_err(text)?;
    for dtype in Dtype::ALL.into_iter().filter(|dtype| types >> (*dtype as u32) & 1 == 1) {
        let integer = (!dtype.is_float()).then_some(Scale::ByInteger(3));
        for by in [Scale::By(2.0), Scale::Over(2)].into_iter().chain(integer) {
            let mut bytes = numbers(dtype, 1, 333);
            let one = Filled::new(&bench.device, &mut bytes)?;
            let mut want = vec![0; bytes.len()];
            by_the_host(&Work::Scale { src: face(&mut bytes), dst: face(&mut want), dtype, by })?;
            do_work(&mut *queue, &Work::Scale { src: one.memory, dst: one.memory, dtype, by })?;
            one.expect(&want, &format!("{by:?} of 333 {dtype}"))?;
        }
    }
    Ok(Outcome::Holds)
}

fn peers(bench: &Bench) -> Result<Outcome, String> {
    if !bench.device.description().can(abi::PEER) {
        return Ok(Outcome::Absent);
    }
    let len = 70_001;
    let decoy = Filled::new(&bench.peer, &mut vec![0x55; len])?;
    let mut bytes = pattern(5, len);
    let theirs = Filled::new(&bench.peer, &mut bytes)?;
    let (at, part) = (4097, len - 5000);
    let handle = bench.peer.export(theirs.memory.part(at, part));
    let handle = handle.ok_or_else(|| "memory cannot be exported".to_owned())?;
    let seen = bench.device.import(&handle, part).map_err(text)?;
    let mine = Filled::new(&bench.device, &mut vec![0; part])?;
    let mut queue = bench.device.queue().map_err(text)?;
    do_work(&mut *queue, &Work::copy(seen, mine.memory))?;
    mine.expect(&bytes[at..at + part], "what was read of a peer's memory")?;
    let mut answer = pattern(6, part);
    mine.write(0, &mut answer)?;
    do_work(&mut *queue, &Work::copy(mine.memory, seen))?;
    bytes[at..at + part].copy_from_slice(&answer);
    theirs.expect(&bytes, "what was written to a peer's memory")?;
    decoy.expect(&vec![0x55; len], "other memory of the peer")?;
    // SAFETY: all work on it was waited for.
    unsafe { bench.device.forget(seen) };
    Ok(Outcome::Holds)
}

/// Where the processor may look into it: what a NIC reads there cannot be seen here.
fn dma_buf_shows_the_memory(bench: &Bench) -> Result<Outcome, String> {
    if !bench.device.description().can(abi::DMABUF) {
        return Ok(Outcome::Absent);
    }
    let mut bytes = pattern(7, 70_001);
    let filled = Filled::new(&bench.device, &mut bytes)?;
    // Neither end is a page's.
    let (at, part) = (4096 + 64, 40_000);
    let exported = bench.device.dma_buf(filled.memory.part(at, part));
    let DmaBuf { fd, offset } = exported.ok_or_else(|| "no dma-buf was exported".to_owned())?;
    let offset = usize::try_from(offset).map_err(text)?;
    let len = NonZero::new(offset + part).expect("the part is not empty");
    // SAFETY: a new mapping, which nothing else knows.
    let mapped = unsafe { mmap(None, len, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, &fd, 0) };
    let Ok(mapped) = mapped else { return Ok(Outcome::Absent) };
    // SAFETY: so much is mapped, and nobody writes it.
    let shown = unsafe { std::slice::from_raw_parts(mapped.as_ptr().cast::<u8>(), len.get()) };
    let verdict = same(&shown[offset..], &bytes[at..at + part], "what the dma-buf shows");
    // SAFETY: nothing uses the mapping any more.
    unsafe { munmap(mapped, len.get()) }.map_err(text)?;
    verdict.map(|()| Outcome::Holds)
}

fn wrong_is_refused(bench: &Bench) -> Result<Outcome, String> {
    let count = bench.plugin.count().map_err(text)?;
    let table = &bench.plugin.table;
    let mut raw = std::ptr::null_mut();
    // SAFETY: the argument is alive.
    let opened = unsafe { (table.open)(count, std::ptr::null(), 0, &raw mut raw) };
    demand(opened != abi::OK, || format!("device {count} of {count} was opened"))?;
    let stream = Stream::open(Arc::clone(bench.device.open())).map_err(text)?;
    let mut bytes = [1_u8; 64];
    let mut other = [2_u8; 64];
    let (host, more) = (face(&mut bytes), face(&mut other));
    let far = Memory { space: crate::Space::Device(0), ..host };
    for (src, dst, what) in [
        (host, far, "a copy to memory that is none of the device's"),
        (far, host, "a copy from memory that is none of the device's"),
        (host, more, "a copy from the host to the host"),
    ] {
        demand(tell(&stream, &[copy_of(src, dst)]).is_err(), || format!("{what} was taken"))?;
    }
    bench.device.health().map_err(|e| format!("after calls that were refused: {e}"))?;
    demand(bench.index < count, || "a device that does not exist was opened".to_owned())?;
    Ok(Outcome::Holds)
}
