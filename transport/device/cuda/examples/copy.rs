//! How fast the first GPU copies within its memory and adds two buffers: what `dure perf --device cuda:0` is to be compared with.
//!
//!     cargo run --release -p dure-cuda --example copy
//!
//! An all-reduce of two ranks on one GPU reads and writes each byte a few times; nothing of it can be faster than this. It was never
//! run on a GPU: none was at hand.

use std::error::Error;
use std::time::Instant;

use dure_device::{Combine, Device, Dtype, Memory, Queue, Work};

/// Times of one size; the fastest counts.
const TIMES: u32 = 20;

/// Seconds of a piece of work.
fn seconds(queue: &mut dyn Queue, work: &Work<'_>) -> Result<f64, Box<dyn Error>> {
    let mut best = f64::INFINITY;
    for _ in 0..TIMES {
        let began = Instant::now();
        // SAFETY: the buffers are this program's, and live until it ends.
        let ticket = unsafe { queue.submit(work) }?;
        while queue.completed()? < ticket {
            std::hint::spin_loop();
        }
        best = best.min(began.elapsed().as_secs_f64());
    }
    Ok(best)
}

#[expect(clippy::print_stdout, reason = "what the program is for")]
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn main() -> Result<(), Box<dyn Error>> {
    if let Some(why) = dure_cuda::why_idle() {
        println!("SKIPPED: no GPU: {why}");
        return Ok(());
    }
    let device = dure_cuda::plugin()?.open(0, ("cuda:0".to_owned(), 0), &[])?;
    let mut queue = device.queue()?;
    println!("{}", device.description().name);
    println!("     bytes   copy GB/s   sum of two GB/s (of the result)");
    for len in (10..=28).step_by(2).map(|bits| 1_usize << bits) {
        let [a, b]: [Memory; 2] = [device.alloc(len)?, device.alloc(len)?];
        let copy = seconds(&mut *queue, &Work::copy(a, b))?;
        let sum = seconds(&mut *queue, &Work::reduce(&[a, b], b, Dtype::F32, &Combine::Sum))?;
        println!("{len:>10}   {:>9.2}   {:>9.2}", len as f64 / copy / 1e9, len as f64 / sum / 1e9);
        for memory in [a, b] {
            // SAFETY: all work on it is done.
            unsafe { device.free(memory) }?;
        }
    }
    Ok(())
}
