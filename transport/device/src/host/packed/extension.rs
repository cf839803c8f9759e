//! Extensions of AVX-512 for the small formats: the same bits by fewer instructions.

#![allow(clippy::wildcard_imports, reason = "instructions are known by their prefix")]

use std::arch::x86_64::*;
use std::mem::transmute;

use super::avx512::{Avx512, Extension};
use super::format::HalfArithmetic;
use super::unit;

/// The extension AVX512-BF16.
#[derive(Clone, Copy, Debug)]
pub(in crate::host) struct WithBf16;

/// The extensions AVX512-FP16 and AVX512-BF16.
#[derive(Clone, Copy, Debug)]
pub(in crate::host) struct WithFp16;

impl Extension for WithBf16 {
    #[inline(always)]
    fn narrow_bf16(u: Avx512<Self>, floats: [__m512; 2]) -> __m512i {
        // SAFETY: the unit proves that the CPU has the instructions.
        match unsafe { narrow_bf16(floats) } {
            Some(narrow) => narrow,
            None => unit::narrow_bf16(u, floats),
        }
    }
}

impl Extension for WithFp16 {
    #[inline(always)]
    fn join_half<O: HalfArithmetic>(u: Avx512<Self>, a: __m512i, b: __m512i) -> __m512i {
        O::apply_half(u, a, b)
    }

    #[inline(always)]
    fn clamp_half(_: Avx512<Self>, halves: __m512i, largest: u16) -> __m512i {
        // SAFETY: the unit proves that the CPU has the instructions.
        unsafe { clamp_half(halves, largest.cast_signed()) }
    }

    #[inline(always)]
    fn narrow_bf16(u: Avx512<Self>, floats: [__m512; 2]) -> __m512i {
        // SAFETY: the unit proves that the CPU has the instructions.
        match unsafe { narrow_bf16(floats) } {
            Some(narrow) => narrow,
            None => unit::narrow_bf16(u, floats),
        }
    }
}

/// Rounds to bfloat16 with `vcvtne2ps2bf16`; `None` when there is a subnormal number, which the instruction takes for
/// zero, or a NaN, which it does not make canonical.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn narrow_bf16([even, odd]: [__m512; 2]) -> Option<__m512i> {
    /// Quiet NaN, subnormal, signalling NaN (`vfpclassps`).
    const SPECIAL: i32 = 0x01 | 0x20 | 0x80;
    /// From the even elements and then the odd ones to all in turn: where each place takes its element from.
    const IN_TURN: [u16; 32] = {
        let mut from = [0; 32];
        let mut i = 0;
        while i < 16 {
            from[2 * i as usize] = i;
            from[2 * i as usize + 1] = i + 16;
            i += 1;
        }
        from
    };
    let special = _mm512_fpclass_ps_mask::<SPECIAL>(even) | _mm512_fpclass_ps_mask::<SPECIAL>(odd);
    if special != 0 {
        return None;
    }
    // SAFETY: both are 64 bytes without a rule about their bits.
    let in_turn = unsafe { transmute::<[u16; 32], __m512i>(IN_TURN) };
    let narrow = _mm512_cvtne2ps_pbh(odd, even);
    // SAFETY: as above.
    let narrow = unsafe { transmute::<__m512bh, __m512i>(narrow) };
    Some(_mm512_permutexvar_epi16(in_turn, narrow))
}

/// [`Unit::clamp_half`](unit::Unit::clamp_half): the minimum and the maximum of a number and NaN are the second operand.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512fp16")]
fn clamp_half(halves: __m512i, largest: i16) -> __m512i {
    let largest_ph = _mm512_castsi512_ph(_mm512_set1_epi16(largest));
    let least_ph = _mm512_castsi512_ph(_mm512_set1_epi16(largest | i16::MIN));
    let x = _mm512_min_ph(largest_ph, _mm512_castsi512_ph(halves));
    _mm512_castph_si512(_mm512_max_ph(least_ph, x))
}
