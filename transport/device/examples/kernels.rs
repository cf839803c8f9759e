//! Speed of the reduction kernels: GB/s of one operand of `dst = a + b`, on one core, best of several runs, for every
//! vector width that this CPU has.
//!
//! `cargo run --release --example kernels -p dure-device`

#![expect(clippy::print_stdout, reason = "a program that prints a table")]

use std::hint::black_box;
use std::slice;
use std::time::Instant;

use dure_device::host::{Host, Width};
use dure_device::{Combine, Device, Dtype, Memory, Queue, Work};

/// Bytes reduced for one measurement, split into as many calls as the size asks for: less than a time slice, so that
/// the best measurement is undisturbed on a busy machine too.
const VOLUME: usize = 8 << 20;

/// Measurements of which the best counts.
const RUNS: u32 = 30;

fn main() -> dure_device::Result<()> {
    let host = Host::new(Width::best());
    println!("{:>8} {:>8} {:>12} {:>12}", "width", "type", "64 KiB GB/s", "64 MiB GB/s");
    for width in Width::available() {
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16, Dtype::F8E4M3] {
            let small = measure(&host, width, dtype, 64 << 10)?;
            let large = measure(&host, width, dtype, 64 << 20)?;
            println!("{width:>8} {dtype:>8} {small:>12.1} {large:>12.1}");
        }
    }
    Ok(())
}

/// GB/s of one operand of `len` bytes.
fn measure(host: &Host, width: Width, dtype: Dtype, len: usize) -> dure_device::Result<f64> {
    let mut queue = Host::new(width).queue()?;
    let buffers = [host.alloc(len)?, host.alloc(len)?, host.alloc(len)?];
    for buffer in buffers {
        // SAFETY: the allocation is `len` bytes long, and ours alone.
        fill(unsafe { slice::from_raw_parts_mut(buffer.ptr.as_ptr(), len) });
    }
    let calls = (VOLUME / len).max(1);
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        for _ in 0..calls {
            add(&mut *queue, black_box(buffers), dtype)?;
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    for buffer in buffers {
        // SAFETY: the host's work is done when it was submitted, and nobody else knows the buffer.
        unsafe { host.free(buffer) }?;
    }
    Ok((calls * len) as f64 / best / 1e9)
}

/// Bytes that look random and, however they are grouped, make normal numbers of every type.
fn fill(bytes: &mut [u8]) {
    let mut state = 1u32;
    for byte in bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8 & 0x9f | 0x20;
    }
}

/// `dst = a + b`.
fn add(queue: &mut dyn Queue, [a, b, dst]: [Memory; 3], dtype: Dtype) -> dure_device::Result<u64> {
    // SAFETY: the buffers are disjoint, and used by nobody else.
    unsafe { queue.submit(&Work::reduce(&[a, b], dst, dtype, &Combine::Sum)) }
}
