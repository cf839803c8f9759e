//! The instructions that take bytes past the caches and lines out of them, chosen by what this processor has.
//!
//! Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2 (MOVDIR64B, MOVNTDQ, MOVNTI, CLWB, CLFLUSHOPT,
//! CLFLUSH, SFENCE, MFENCE); Arm Architecture Reference Manual for A-profile (DC CVAC, DC CIVAC, DSB, CTR_EL0).

#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a block is one copy or one flush of a line, in the instructions that were chosen"
)]

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a cache line, the unit in which memory of a pool is owned.
pub(crate) const LINE: usize = 64;

/// What this processor offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa {
    store: Store,
    flush: Flush,
}

/// How whole lines are stored without a stay in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    #[cfg(target_arch = "x86_64")]
    Movdir64b,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Sse2,
    /// By way of the cache, written back at once.
    #[cfg(not(target_arch = "x86_64"))]
    Cached,
}

/// How lines are written back and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    #[cfg(target_arch = "x86_64")]
    Clwb,
    #[cfg(target_arch = "x86_64")]
    Clflushopt,
    #[cfg(target_arch = "x86_64")]
    Clflush,
    /// Lines of so many bytes.
    #[cfg(target_arch = "aarch64")]
    DataCache(usize),
}

impl Isa {
    /// What this processor has; `None` where programs have no way to flush a line.
    #[cfg(target_arch = "x86_64")]
    pub fn detect() -> Option<Self> {
        use std::arch::x86_64::__cpuid_count;
        use std::is_x86_feature_detected as has;
        let leaf = __cpuid_count(7, 0);
        let (ebx, ecx) = (|bit: u32| leaf.ebx >> bit & 1 == 1, |bit: u32| leaf.ecx >> bit & 1 == 1);
        let store = match () {
            () if ecx(28) => Store::Movdir64b,
            () if has!("avx512f") => Store::Avx512,
            () if has!("avx2") => Store::Avx2,
            () => Store::Sse2,
        };
        let flush = match () {
            () if ebx(24) && ebx(23) => Flush::Clwb,
            () if ebx(23) => Flush::Clflushopt,
            () => Flush::Clflush,
        };
        Some(Self { store, flush })
    }

    /// What this processor has; `None` where programs have no way to flush a line.
    #[cfg(target_arch = "aarch64")]
    pub fn detect() -> Option<Self> {
        let ctr: u64;
        // SAFETY: reads a register that Linux lets programs read.
        unsafe { std::arch::asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack)) };
        let words = 1_usize << (ctr >> 16 & 0xf);
        Some(Self { store: Store::Cached, flush: Flush::DataCache(4 * words) })
    }

    /// What this processor has; `None` where programs have no way to flush a line.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn detect() -> Option<Self> {
        None
    }

    /// Names of the instructions for storing, writing back and dropping lines.
    pub fn names(self) -> [&'static str; 3] {
        let store = match self.store {
            #[cfg(target_arch = "x86_64")]
            Store::Movdir64b => "movdir64b",
            #[cfg(target_arch = "x86_64")]
            Store::Avx512 => "vmovntdq (512 bits)",
            #[cfg(target_arch = "x86_64")]
            Store::Avx2 => "vmovntdq (256 bits)",
            #[cfg(target_arch = "x86_64")]
            Store::Sse2 => "movntdq",
            #[cfg(not(target_arch = "x86_64"))]
            Store::Cached => "dc cvac",
        };
        let [back, drop] = match self.flush {
            #[cfg(target_arch = "x86_64")]
            Flush::Clwb => ["clwb", "clflushopt"],
            #[cfg(target_arch = "x86_64")]
            Flush::Clflushopt => ["clflushopt", "clflushopt"],
            #[cfg(target_arch = "x86_64")]
            Flush::Clflush => ["clflush", "clflush"],
            #[cfg(target_arch = "aarch64")]
            Flush::DataCache(_) => ["dc cvac", "dc civac"],
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            _ => unreachable!("not made where nothing can be flushed"),
        };
        [store, back, drop]
    }

    /// Stores bytes so that they are in memory after the next [`Isa::fence`], whatever the caches hold.
    ///
    /// # Safety
    /// Both ranges are mapped; the target may be written; they do not overlap.
    pub(crate) unsafe fn store(self, into: *mut u8, from: *const u8, len: usize) {
        let head = into.align_offset(LINE).min(len);
        let lines = (len - head) / LINE;
        let tail = head + lines * LINE;
        // SAFETY: a part of the caller's ranges.
        unsafe { self.store_part(into, from, head) };
        // SAFETY: whole lines, aligned, inside the caller's ranges; the features were detected.
        unsafe { self.store_lines(into.add(head), from.add(head), lines) };
        // SAFETY: a part of the caller's ranges.
        unsafe { self.store_part(into.add(tail), from.add(tail), len - tail) };
    }

    /// Stores one aligned line so that it lands as a whole, its last word not before the others.
    ///
    /// # Safety
    /// As [`Isa::store`], for a line; `into` is aligned to it, `from` to words.
    pub(crate) unsafe fn store_line(self, into: *mut u8, from: *const u8) {
        #[cfg(target_arch = "x86_64")]
        if matches!(self.store, Store::Movdir64b | Store::Avx512) {
            // SAFETY: the caller's promise.
            return unsafe { self.store_lines(into, from, 1) };
        }
        // What leaves the cache leaves it as a line, and a prefix of these stores.
        for word in 0..LINE / 8 {
            // SAFETY: inside the lines that the caller promises; whoever shares the line uses its words as atomics.
            let (place, value) = unsafe {
                (AtomicU64::from_ptr(into.cast::<u64>().add(word)), *from.cast::<u64>().add(word))
            };
            place.store(value, Ordering::Release);
        }
        // SAFETY: the caller's promise.
        unsafe { self.write_back(into, LINE) };
    }

    /// Less than a line: through the cache, and back.
    unsafe fn store_part(self, into: *mut u8, from: *const u8, len: usize) {
        if len > 0 {
            // SAFETY: the caller's promise.
            unsafe { into.copy_from_nonoverlapping(from, len) };
            // SAFETY: the caller's promise.
            unsafe { self.write_back(into, len) };
        }
    }

    #[cfg(target_arch = "x86_64")]
    unsafe fn store_lines(self, into: *mut u8, from: *const u8, lines: usize) {
        // SAFETY: the caller's promise; the store was chosen by what was detected.
        unsafe {
            match self.store {
                Store::Movdir64b => x86::movdir64b(into, from, lines),
                Store::Avx512 => x86::avx512(into, from, lines),
                Store::Avx2 => x86::avx2(into, from, lines),
                Store::Sse2 => x86::sse2(into, from, lines),
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    unsafe fn store_lines(self, into: *mut u8, from: *const u8, lines: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.store_part(into, from, lines * LINE) };
    }

    /// Writes the lines of a range back to memory; they are there after the next [`Isa::fence`].
    ///
    /// # Safety
    /// The range is mapped.
    pub(crate) unsafe fn write_back(self, at: *const u8, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.each_line(at, len, true) };
    }

    /// Drops the lines of a range from this processor's caches, so that the next load of each goes to memory.
    ///
    /// # Safety
    /// The range is mapped. (A line that this processor has written is written back first.)
    pub(crate) unsafe fn drop_lines(self, at: *const u8, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.each_line(at, len, false) };
        full_fence();
    }

    #[cfg(target_arch = "x86_64")]
    unsafe fn each_line(self, at: *const u8, len: usize, keep: bool) {
        use std::arch::asm;
        let skew = at.addr() % LINE;
        let first = at.wrapping_sub(skew);
        for line in (0..len + skew).step_by(LINE).map(|offset| first.wrapping_add(offset)) {
            // SAFETY: the line holds mapped bytes, and none of these changes what memory holds; they were detected.
            unsafe {
                match self.flush {
                    Flush::Clwb if keep => asm!("clwb [{}]", in(reg) line, options(nostack)),
                    Flush::Clwb | Flush::Clflushopt => {
                        asm!("clflushopt [{}]", in(reg) line, options(nostack));
                    }
                    Flush::Clflush => asm!("clflush [{}]", in(reg) line, options(nostack)),
                }
            }
        }
    }

    #[cfg(target_arch = "aarch64")]
    unsafe fn each_line(self, at: *const u8, len: usize, keep: bool) {
        use std::arch::asm;
        let Flush::DataCache(size) = self.flush;
        let skew = at.addr() % size;
        let first = at.wrapping_sub(skew);
        for line in (0..len + skew).step_by(size).map(|offset| first.wrapping_add(offset)) {
            // SAFETY: the line holds mapped bytes, and neither changes what memory holds.
            unsafe {
                if keep {
                    asm!("dc cvac, {}", in(reg) line, options(nostack));
                } else {
                    asm!("dc civac, {}", in(reg) line, options(nostack));
                }
            }
        }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    unsafe fn each_line(self, _at: *const u8, _len: usize, _keep: bool) {
        unreachable!("not made where nothing can be flushed")
    }

    /// All that was stored or written back before is in memory before anything that is stored afterwards.
    pub(crate) fn fence(self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: orders stores; every processor of this architecture has it.
        unsafe {
            std::arch::x86_64::_mm_sfence();
        }
        #[cfg(not(target_arch = "x86_64"))]
        full_fence();
    }
}

/// Loads that follow are not done before what was dropped is gone.
fn full_fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: orders loads and stores; every processor of this architecture has it.
    unsafe {
        std::arch::x86_64::_mm_mfence();
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: waits for what was begun before.
    unsafe {
        std::arch::asm!("dsb sy", options(nostack));
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! Lines to lines: `into` is aligned to 64 bytes, `from` need not be. All are unsafe because both ranges, of `lines` lines,
    //! must be mapped and apart, and because the processor must have what the name says.

    use std::arch::asm;
    use std::arch::x86_64::{
        __m128i, __m256i, __m512i, _mm_loadu_si128, _mm_stream_si128, _mm256_loadu_si256,
        _mm256_stream_si256, _mm512_loadu_si512, _mm512_stream_si512,
    };

    use super::LINE;

    pub(super) unsafe fn movdir64b(into: *mut u8, from: *const u8, lines: usize) {
        for at in (0..lines * LINE).step_by(LINE) {
            // SAFETY: the caller's promise.
            unsafe {
                asm!("movdir64b {}, [{}]", in(reg) into.add(at), in(reg) from.add(at), options(nostack));
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn avx512(into: *mut u8, from: *const u8, lines: usize) {
        for at in (0..lines * LINE).step_by(LINE) {
            // SAFETY: the caller's promise.
            unsafe {
                let line = _mm512_loadu_si512(from.add(at).cast::<__m512i>());
                _mm512_stream_si512(into.add(at).cast::<__m512i>(), line);
            }
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn avx2(into: *mut u8, from: *const u8, lines: usize) {
        for at in (0..lines * LINE).step_by(size_of::<__m256i>()) {
            // SAFETY: the caller's promise.
            unsafe {
                let half = _mm256_loadu_si256(from.add(at).cast::<__m256i>());
                _mm256_stream_si256(into.add(at).cast::<__m256i>(), half);
            }
        }
    }

    pub(super) unsafe fn sse2(into: *mut u8, from: *const u8, lines: usize) {
        for at in (0..lines * LINE).step_by(size_of::<__m128i>()) {
            // SAFETY: the caller's promise.
            unsafe {
                let quarter = _mm_loadu_si128(from.add(at).cast::<__m128i>());
                _mm_stream_si128(into.add(at).cast::<__m128i>(), quarter);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way that this processor has.
    fn all() -> Vec<Isa> {
        let best = Isa::detect().unwrap();
        let mut ways = vec![best];
        #[cfg(target_arch = "x86_64")]
        {
            let stores = [Store::Movdir64b, Store::Avx512, Store::Avx2, Store::Sse2];
            let flushes = [Flush::Clwb, Flush::Clflushopt, Flush::Clflush];
            let first = stores.iter().position(|store| *store == best.store).unwrap();
            // Whoever has 512 bits has 256.
            ways.extend(stores[first..].iter().map(|&store| Isa { store, ..best }));
            let first = flushes.iter().position(|flush| *flush == best.flush).unwrap();
            ways.extend(flushes[first..].iter().map(|&flush| Isa { flush, ..best }));
        }
        ways
    }

    #[test]
    fn every_store_writes_what_it_is_given_and_nothing_beside_it() {
        let source: Vec<u8> = (0..1000_u32).map(|i| (i * 7 % 251) as u8).collect();
        for isa in all() {
            for (at, from, len) in
                [(0, 0, 0), (0, 3, 64), (5, 0, 9), (60, 1, 8), (63, 2, 700), (64, 0, 640)]
            {
                let mut target = vec![0xaa_u8; 1024];
                // SAFETY: both vectors are longer than what is copied, and apart.
                unsafe { isa.store(target.as_mut_ptr().add(at), source.as_ptr().add(from), len) };
                isa.fence();
                // SAFETY: the vector is alive.
                unsafe { isa.drop_lines(target.as_ptr(), target.len()) };
                assert_eq!(
                    target[at..at + len],
                    source[from..from + len],
                    "{isa:?} {at} {from} {len}"
                );
                let beside = target[..at].iter().chain(&target[at + len..]);
                assert!(beside.into_iter().all(|byte| *byte == 0xaa), "{isa:?} {at} {from} {len}");
            }
        }
    }

    #[test]
    fn a_line_is_stored_alone() {
        #[repr(align(64))]
        struct Lines([u8; 192]);
        let source = Lines(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        for isa in all() {
            let mut target = Lines([0xaa; 192]);
            // SAFETY: both are alive, aligned and longer than a line, and apart.
            unsafe { isa.store_line(target.0.as_mut_ptr().add(64), source.0.as_ptr()) };
            isa.fence();
            assert_eq!(target.0[64..128], source.0[..64], "{isa:?}");
            assert!(target.0[..64].iter().chain(&target.0[128..]).all(|byte| *byte == 0xaa));
        }
    }

    #[test]
    fn instructions_have_names() {
        assert!(Isa::detect().unwrap().names().iter().all(|name| !name.is_empty()));
    }
}
