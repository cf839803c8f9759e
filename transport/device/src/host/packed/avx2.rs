//! AVX2 and F16C as a [`Unit`].

#![allow(clippy::wildcard_imports, reason = "instructions are known by their prefix")]

use std::arch::x86_64::*;

use super::unit::{Unit, instructions};

/// The unit.
#[derive(Clone, Copy, Debug)]
pub(in crate::host) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The CPU has the unit.
    #[inline(always)]
    pub(super) const unsafe fn new() -> Self {
        Self(())
    }
}

/// Copies less than 32 bytes, without a call.
///
/// # Safety
/// They may be read and written, and the two places are disjoint.
#[inline(always)]
unsafe fn copy_short(from: *const u8, to: *mut u8, len: usize) {
    let mut at = 0;
    /// As many bytes, if their bit is set in the length.
    macro_rules! bytes {
        ($($bytes:literal),+) => {
            $(if len & $bytes != 0 {
                let (from, to) = (from.wrapping_add(at), to.wrapping_add(at));
                // SAFETY: the caller's promise.
                unsafe { to.copy_from_nonoverlapping(from, $bytes) };
                at += $bytes;
            })+
        };
    }
    bytes!(16, 8, 4, 2, 1);
    debug_assert_eq!(at, len, "less than 32 bytes");
}

impl Unit for Avx2 {
    type Bits = __m256i;
    type Floats = __m256;
    const BYTES: usize = 32;

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m256i {
        // SAFETY: the caller's promise; an unaligned load.
        unsafe { from.cast::<__m256i>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_first(self, from: *const u8, len: usize) -> __m256i {
        let mut all = [0u8; Self::BYTES];
        // SAFETY: the caller's promise, and a vector has more bytes than `len`.
        unsafe { copy_short(from, all.as_mut_ptr(), len) };
        // SAFETY: they are the bytes of a vector.
        unsafe { self.load(all.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8, bits: __m256i) {
        // SAFETY: the caller's promise; an unaligned store.
        unsafe { to.cast::<__m256i>().write_unaligned(bits) };
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut u8, len: usize, bits: __m256i) {
        let mut all = [0u8; Self::BYTES];
        // SAFETY: they are the bytes of a vector.
        unsafe { self.store(all.as_mut_ptr(), bits) };
        // SAFETY: the caller's promise, and a vector has more bytes than `len`.
        unsafe { copy_short(all.as_ptr(), to, len) };
    }

    instructions! {
        "avx2,f16c";
        fn splat(value: u32) -> __m256i { _mm256_set1_epi32(value.cast_signed()) }
        fn bits_of(floats: __m256) -> __m256i { _mm256_castps_si256(floats) }
        fn floats_of(bits: __m256i) -> __m256 { _mm256_castsi256_ps(bits) }
        fn and(a: __m256i, b: __m256i) -> __m256i { _mm256_and_si256(a, b) }
        fn or(a: __m256i, b: __m256i) -> __m256i { _mm256_or_si256(a, b) }
        fn select(mask: __m256i, yes: __m256i, no: __m256i) -> __m256i {
            _mm256_or_si256(_mm256_and_si256(mask, yes), _mm256_andnot_si256(mask, no))
        }
        fn add8(a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi8(a, b) }
        fn max8(a: __m256i, b: __m256i) -> __m256i { _mm256_max_epu8(a, b) }
        fn add16(a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi16(a, b) }
        fn min16(a: __m256i, b: __m256i) -> __m256i { _mm256_min_epu16(a, b) }
        fn add32(a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi32(a, b) }
        fn max32(a: __m256i, b: __m256i) -> __m256i { _mm256_max_epi32(a, b) }
        fn left16(a: __m256i, by: u32) -> __m256i { _mm256_sll_epi16(a, _mm_cvtsi32_si128(by.cast_signed())) }
        fn right16(a: __m256i, by: u32) -> __m256i { _mm256_srl_epi16(a, _mm_cvtsi32_si128(by.cast_signed())) }
        fn signed_right16(a: __m256i, by: u32) -> __m256i {
            _mm256_sra_epi16(a, _mm_cvtsi32_si128(by.cast_signed()))
        }
        fn left32(a: __m256i, by: u32) -> __m256i { _mm256_sll_epi32(a, _mm_cvtsi32_si128(by.cast_signed())) }
        fn right32(a: __m256i, by: u32) -> __m256i { _mm256_srl_epi32(a, _mm_cvtsi32_si128(by.cast_signed())) }
        fn where_negative8(test: __m256i, yes: __m256i, no: __m256i) -> __m256i {
            _mm256_blendv_epi8(no, yes, test)
        }
        fn where_above16(a: __m256i, b: __m256i, yes: __m256i, no: __m256i) -> __m256i {
            _mm256_blendv_epi8(no, yes, _mm256_cmpgt_epi16(a, b))
        }
        fn where_nan(test: __m256, yes: __m256i, no: __m256i) -> __m256i {
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(test, test));
            _mm256_blendv_epi8(no, yes, nan)
        }
        fn splat_float(value: f32) -> __m256 { _mm256_set1_ps(value) }
        fn add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        fn sub(a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
        fn mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        fn div(a: __m256, b: __m256) -> __m256 { _mm256_div_ps(a, b) }
        fn min(a: __m256, b: __m256) -> __m256 { _mm256_min_ps(a, b) }
        fn max(a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
        fn widen_half(halves: __m256i) -> [__m256; 2] {
            let high = _mm256_extracti128_si256::<1>(halves);
            [_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), _mm256_cvtph_ps(high)]
        }
        fn narrow_half(floats: [__m256; 2]) -> __m256i {
            let low = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(floats[0]);
            let high = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(floats[1]);
            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high)
        }
    }
}
