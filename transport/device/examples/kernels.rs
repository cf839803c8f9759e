//! Speed of copies and reductions on the host: GB/s of one operand, on one core, median of several rounds.
//!
//! `cargo run --release --example kernels -p dure-device [-- WIDTH]`: the best vector width of this CPU, or another.
//!
//! The sizes of the first table are that of a message in the cache and one far beyond it. `also` is a second destination,
//! written in the same pass.

#![expect(clippy::print_stdout, reason = "a program that prints tables")]

use std::hint::black_box;
use std::slice;
use std::time::Instant;

use dure_device::host::{Host, Width};
use dure_device::{Combine, Device, Dtype, Memory, Queue, Result, Stores, Work};

/// Bytes of a small operand.
const SMALL: usize = 64 << 10;

/// Bytes of a large operand.
const LARGE: usize = 64 << 20;

/// Bytes of the largest operand.
const LARGEST: usize = 128 << 20;

/// Bytes worked on for one measurement, in as many calls as the size asks for.
const VOLUME: usize = 16 << 20;

/// Measurements of which the median counts. The cases take turns, so that a busy moment hits all alike.
const ROUNDS: usize = 15;

/// The floating-point types, the one to compare with first.
const TYPES: [Dtype; 6] =
    [Dtype::F32, Dtype::F64, Dtype::Bf16, Dtype::F16, Dtype::F8E4M3, Dtype::F8E5M2];

fn main() -> Result<()> {
    let wanted = std::env::args().nth(1);
    let width = Width::available().find(|width| Some(width.to_string()) == wanted);
    let bench = Bench::new(width.unwrap_or_else(Width::best))?;
    bench.types()?;
    bench.stores()?;
    bench.sources()
}

/// What is measured: a copy, or the sum of some sources of a type.
#[derive(Clone, Copy)]
struct Case {
    /// `None`: a copy.
    dtype: Option<Dtype>,
    sources: usize,
    len: usize,
    stores: Stores,
    also: bool,
}

struct Bench {
    width: Width,
    /// Operands and, at the end, two destinations.
    buffers: Vec<Memory>,
}

impl Bench {
    /// Operands at the most.
    const SOURCES: usize = 8;

    fn new(width: Width) -> Result<Self> {
        let host = Host::new(width);
        // Eight large operands are only needed where they are less large.
        let len = |k| if (2..Self::SOURCES).contains(&k) { LARGE / 4 } else { LARGEST };
        let buffers = (0..Self::SOURCES + 2).map(|k| host.alloc(len(k)));
        let buffers = buffers.collect::<Result<Vec<_>>>()?;
        for buffer in &buffers {
            // SAFETY: the allocation is this long, and ours alone.
            fill(unsafe { slice::from_raw_parts_mut(buffer.ptr.as_ptr(), buffer.len) });
        }
        Ok(Self { width, buffers })
    }

    /// Every type in the cache and beyond, and copies.
    fn types(&self) -> Result<()> {
        let columns = [
            (SMALL, Stores::Cached),
            (SMALL, Stores::Streaming),
            (LARGE, Stores::Cached),
            (LARGE, Stores::Streaming),
        ];
        println!("sum of two and copy, {}: GB/s of one operand (times float's)\n", self.width);
        println!(
            "{:>8} {:>16} {:>16} {:>16} {:>16}",
            "type", "64 KiB cached", "64 KiB streaming", "64 MiB cached", "64 MiB streaming"
        );
        let rows: Vec<_> = TYPES.into_iter().map(Some).chain([None]).collect();
        let cases = rows.iter().flat_map(|&dtype| {
            columns.map(|(len, stores)| Case { dtype, sources: 2, len, stores, also: false })
        });
        let speeds = self.measure(&cases.collect::<Vec<_>>())?;
        for (row, speeds_of_row) in rows.iter().zip(speeds.chunks(columns.len())) {
            print!("{:>8}", row.map_or("copy", Dtype::name));
            for (speed, float) in speeds_of_row.iter().zip(&speeds) {
                print!(" {speed:>9.1} ({:>4.2})", speed / float);
            }
            println!();
        }
        Ok(())
    }

    /// Cached and streaming stores, to one place and two.
    fn stores(&self) -> Result<()> {
        println!("\ncopy and sum of two float, {}: GB/s of one operand\n", self.width);
        println!(
            "{:>8} {:>8} {:>9} {:>9} {:>12} {:>14}",
            "what", "MiB", "cached", "streaming", "cached, also", "streaming, also"
        );
        let ways = [
            (Stores::Cached, false),
            (Stores::Streaming, false),
            (Stores::Cached, true),
            (Stores::Streaming, true),
        ];
        for dtype in [None, Some(Dtype::F32)] {
            for len in [1 << 20, 16 << 20, LARGEST] {
                let case = |(stores, also)| Case { dtype, sources: 2, len, stores, also };
                let speeds = self.measure(&ways.map(case))?;
                let [a, b, c, d] = speeds[..] else { unreachable!("a speed for each way") };
                let what = dtype.map_or("copy", Dtype::name);
                println!("{what:>8} {:>8} {a:>9.1} {b:>9.1} {c:>12.1} {d:>14.1}", len >> 20);
            }
        }
        Ok(())
    }

    /// More sources than two.
    fn sources(&self) -> Result<()> {
        println!("\nsum of several, {}: GB/s of all operands together\n", self.width);
        let columns = [2, 3, 4, Self::SOURCES];
        println!("{:>8} {:>8} {}", "type", "KiB", columns.map(|n| format!("{n:>8}")).concat());
        for len in [SMALL, LARGE / 4] {
            for dtype in TYPES {
                let stores = Stores::Cached;
                let case = |sources| Case { dtype: Some(dtype), sources, len, stores, also: false };
                let speeds = self.measure(&columns.map(case))?;
                let all = speeds.iter().zip(columns).map(|(s, n)| format!("{:>8.1}", s * n as f64));
                println!("{dtype:>8} {:>8} {}", len >> 10, all.collect::<String>());
            }
        }
        Ok(())
    }

    /// The median speed of each case, in GB/s of one operand.
    fn measure(&self, cases: &[Case]) -> Result<Vec<f64>> {
        let mut queue = Host::new(self.width).queue()?;
        let mut seconds = vec![Vec::with_capacity(ROUNDS); cases.len()];
        for _ in 0..ROUNDS {
            for (case, seconds) in cases.iter().zip(&mut seconds) {
                let calls = (VOLUME / case.len).max(1);
                let start = Instant::now();
                for _ in 0..calls {
                    self.call(&mut *queue, case)?;
                }
                seconds.push(start.elapsed().as_secs_f64() / calls as f64);
            }
        }
        let speeds = cases.iter().zip(&mut seconds).map(|(case, seconds)| {
            seconds.sort_by(f64::total_cmp);
            case.len as f64 / seconds[ROUNDS / 2] / 1e9
        });
        Ok(speeds.collect())
    }

    /// Does it once.
    fn call(&self, queue: &mut dyn Queue, case: &Case) -> Result<u64> {
        let part = |k: usize| self.buffers[k].part(0, case.len);
        let (dst, also) = (part(Self::SOURCES), case.also.then(|| part(Self::SOURCES + 1)));
        let srcs: Vec<_> = (0..case.sources).map(part).collect();
        let (stores, by) = (case.stores, &Combine::Sum);
        let work = match case.dtype {
            None => Work::Copy { src: srcs[0], dst, also, stores },
            Some(dtype) => Work::Reduce { srcs: &srcs, dst, also, dtype, by, stores },
        };
        // SAFETY: the buffers are disjoint, and used by nobody else.
        unsafe { queue.submit(black_box(&work)) }
    }
}

/// Bytes that look random and, however they are grouped, make normal numbers of every type.
fn fill(bytes: &mut [u8]) {
    let mut state = 1u32;
    for byte in bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8 & 0x9f | 0x20;
    }
}
