//! AVX-512 F, BW, VL and DQ as a [`Unit`].

#![allow(clippy::wildcard_imports, reason = "instructions are known by their prefix")]

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::format::HalfArithmetic;
use super::unit::{self, Unit, instructions};

/// The unit, with an extension or without.
#[derive(Clone, Copy, Debug)]
pub(in crate::host) struct Avx512<E = Alone>(PhantomData<E>);

/// No extension.
#[derive(Clone, Copy, Debug)]
pub(in crate::host) struct Alone;

impl<E> Avx512<E> {
    /// # Safety
    /// The CPU has the unit and the extension.
    #[inline(always)]
    pub(super) const unsafe fn new() -> Self {
        Self(PhantomData)
    }
}

/// Instructions for what the unit alone needs several for: methods of a [`Unit`].
pub(in crate::host) trait Extension: Copy {
    /// [`Unit::join_half`].
    #[inline(always)]
    fn join_half<O: HalfArithmetic>(u: Avx512<Self>, a: __m512i, b: __m512i) -> __m512i {
        unit::join_half::<_, O>(u, a, b)
    }

    /// [`Unit::clamp_half`].
    #[inline(always)]
    fn clamp_half(u: Avx512<Self>, halves: __m512i, largest: u16) -> __m512i {
        unit::clamp_half(u, halves, largest)
    }

    /// [`Unit::narrow_bf16`].
    #[inline(always)]
    fn narrow_bf16(u: Avx512<Self>, floats: [__m512; 2]) -> __m512i {
        unit::narrow_bf16(u, floats)
    }
}

impl Extension for Alone {}

/// The mask of the first `len` bytes.
#[inline(always)]
const fn first(len: usize) -> __mmask64 {
    u64::MAX >> (64 - len)
}

impl<E: Extension> Unit for Avx512<E> {
    type Bits = __m512i;
    type Floats = __m512;
    const BYTES: usize = 64;

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m512i {
        // SAFETY: the caller's promise; an unaligned load.
        unsafe { from.cast::<__m512i>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_first(self, from: *const u8, len: usize) -> __m512i {
        // SAFETY: the caller's promise; the CPU has the instruction.
        unsafe { _mm512_maskz_loadu_epi8(first(len), from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8, bits: __m512i) {
        // SAFETY: the caller's promise; an unaligned store.
        unsafe { to.cast::<__m512i>().write_unaligned(bits) };
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut u8, len: usize, bits: __m512i) {
        // SAFETY: the caller's promise; the CPU has the instruction.
        unsafe { _mm512_mask_storeu_epi8(to.cast(), first(len), bits) };
    }

    #[inline(always)]
    fn join_half<O: HalfArithmetic>(self, a: __m512i, b: __m512i) -> __m512i {
        E::join_half::<O>(self, a, b)
    }

    #[inline(always)]
    fn clamp_half(self, halves: __m512i, largest: u16) -> __m512i {
        E::clamp_half(self, halves, largest)
    }

    #[inline(always)]
    fn narrow_bf16(self, floats: [__m512; 2]) -> __m512i {
        E::narrow_bf16(self, floats)
    }

    instructions! {
        "avx512f,avx512bw,avx512vl,avx512dq";
        fn splat(value: u32) -> __m512i { _mm512_set1_epi32(value.cast_signed()) }
        fn bits_of(floats: __m512) -> __m512i { _mm512_castps_si512(floats) }
        fn floats_of(bits: __m512i) -> __m512 { _mm512_castsi512_ps(bits) }
        fn and(a: __m512i, b: __m512i) -> __m512i { _mm512_and_si512(a, b) }
        fn or(a: __m512i, b: __m512i) -> __m512i { _mm512_or_si512(a, b) }
        fn select(mask: __m512i, yes: __m512i, no: __m512i) -> __m512i {
            _mm512_ternarylogic_epi32::<0xca>(mask, yes, no)
        }
        fn add8(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi8(a, b) }
        fn max8(a: __m512i, b: __m512i) -> __m512i { _mm512_max_epu8(a, b) }
        fn add16(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi16(a, b) }
        fn min16(a: __m512i, b: __m512i) -> __m512i { _mm512_min_epu16(a, b) }
        fn add32(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
        fn max32(a: __m512i, b: __m512i) -> __m512i { _mm512_max_epi32(a, b) }
        fn left16(a: __m512i, by: u32) -> __m512i { _mm512_sll_epi16(a, _mm_cvtsi32_si128(by.cast_signed())) }
        fn right16(a: __m512i, by: u32) -> __m512i { _mm512_srl_epi16(a, _mm_cvtsi32_si128(by.cast_signed())) }
        fn signed_right16(a: __m512i, by: u32) -> __m512i {
            _mm512_sra_epi16(a, _mm_cvtsi32_si128(by.cast_signed()))
        }
        fn left32(a: __m512i, by: u32) -> __m512i { _mm512_sll_epi32(a, _mm_cvtsi32_si128(by.cast_signed())) }
        fn right32(a: __m512i, by: u32) -> __m512i { _mm512_srl_epi32(a, _mm_cvtsi32_si128(by.cast_signed())) }
        fn where_negative8(test: __m512i, yes: __m512i, no: __m512i) -> __m512i {
            _mm512_mask_mov_epi8(no, _mm512_movepi8_mask(test), yes)
        }
        fn where_above16(a: __m512i, b: __m512i, yes: __m512i, no: __m512i) -> __m512i {
            _mm512_mask_mov_epi16(no, _mm512_cmpgt_epi16_mask(a, b), yes)
        }
        fn where_nan(test: __m512, yes: __m512i, no: __m512i) -> __m512i {
            _mm512_mask_mov_epi32(no, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(test, test), yes)
        }
        fn splat_float(value: f32) -> __m512 { _mm512_set1_ps(value) }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fn max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn widen_half(halves: __m512i) -> [__m512; 2] {
            let high = _mm512_extracti64x4_epi64::<1>(halves);
            [_mm512_cvtph_ps(_mm512_castsi512_si256(halves)), _mm512_cvtph_ps(high)]
        }
        fn narrow_half(floats: [__m512; 2]) -> __m512i {
            let low = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(floats[0]);
            let high = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(floats[1]);
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
        }
    }
}
