//! binary16 by the CPU's own conversions, which the compiler does not find in a plain loop. Sixteen elements at a time;
//! the loops of [`kernel`] do what is left over, and all of it on CPUs without such instructions.

use std::array;

use super::element::Element;
use super::kernel;
use super::ops::Op;
use super::width::{Width, per_width};
use crate::F16;

/// Elements in a block.
const BLOCK: usize = 16;

/// A block in memory.
type Halves = [u8; 2 * BLOCK];

/// A block of `f32` in memory.
type Floats = [u8; 4 * BLOCK];

/// How a width converts a block.
trait Convert {
    /// The values of a block.
    ///
    /// # Safety
    /// The CPU has the width's instructions.
    unsafe fn widen(block: &Halves) -> [f32; BLOCK];

    /// Rounds a block.
    ///
    /// # Safety
    /// The CPU has the width's instructions.
    unsafe fn narrow(values: [f32; BLOCK]) -> Halves;
}

per_width! {
    pub(super) fn join<O: Op<f32>>(a: &[u8], b: &[u8], dst: &mut [u8])
    plain join_plain::<O>; with U join_blocks::<U, O>;
}

per_width! {
    pub(super) fn update<O: Op<f32>>(dst: &mut [u8], src: &[u8])
    plain update_plain::<O>; with U update_blocks::<U, O>;
}

per_width! {
    pub(super) fn widen<>(dst: &mut [u8], src: &[u8]) plain widen_plain; with U widen_blocks::<U>;
}

per_width! {
    pub(super) fn narrow<>(dst: &mut [u8], src: &[u8]) plain narrow_plain; with U narrow_blocks::<U>;
}

/// `dst[i] = a[i] op b[i]`.
fn join_plain<O: Op<f32>>(a: &[u8], b: &[u8], dst: &mut [u8]) {
    kernel::join::<F16, O>(Width::PLAIN, a, b, dst);
}

#[inline(always)]
fn join_blocks<U: Convert, O: Op<f32>>(a: &[u8], b: &[u8], dst: &mut [u8]) {
    let ((a, last_a), (b, last_b), (dst, last)) =
        (a.as_chunks(), b.as_chunks(), dst.as_chunks_mut());
    for ((dst, a), b) in dst.iter_mut().zip(a).zip(b) {
        *dst = both::<U, O>(a, b);
    }
    join_plain::<O>(last_a, last_b, last);
}

/// `dst[i] = dst[i] op src[i]`.
fn update_plain<O: Op<f32>>(dst: &mut [u8], src: &[u8]) {
    kernel::update::<F16, O>(Width::PLAIN, dst, src);
}

#[inline(always)]
fn update_blocks<U: Convert, O: Op<f32>>(dst: &mut [u8], src: &[u8]) {
    let ((dst, last), (src, last_src)) = (dst.as_chunks_mut(), src.as_chunks());
    for (dst, src) in dst.iter_mut().zip(src) {
        *dst = both::<U, O>(dst, src);
    }
    update_plain::<O>(last, last_src);
}

/// One block `op` another.
#[inline(always)]
fn both<U: Convert, O: Op<f32>>(a: &Halves, b: &Halves) -> Halves {
    // SAFETY: `per_width` names the type of a width only under that width's instructions.
    let a = unsafe { U::widen(a) };
    // SAFETY: as above.
    let b = unsafe { U::widen(b) };
    // SAFETY: as above.
    unsafe { U::narrow(array::from_fn(|i| O::apply(a[i], b[i]))) }
}

/// `dst[i] = src[i]`, from binary16 to `f32`.
fn widen_plain(dst: &mut [u8], src: &[u8]) {
    kernel::convert::<f32, F16>(Width::PLAIN, dst, src);
}

#[inline(always)]
fn widen_blocks<U: Convert>(dst: &mut [u8], src: &[u8]) {
    let ((dst, last), (src, last_src)) =
        (dst.as_chunks_mut::<{ size_of::<Floats>() }>(), src.as_chunks());
    for (dst, src) in dst.iter_mut().zip(src) {
        // SAFETY: `per_width` names the type of a width only under that width's instructions.
        let values = unsafe { U::widen(src) };
        f32::cut_mut(dst)
            .iter_mut()
            .zip(values)
            .for_each(|(dst, value)| *dst = value.to_ne_bytes());
    }
    widen_plain(last, last_src);
}

/// `dst[i] = src[i]`, from `f32` to binary16.
fn narrow_plain(dst: &mut [u8], src: &[u8]) {
    kernel::convert::<F16, f32>(Width::PLAIN, dst, src);
}

#[inline(always)]
fn narrow_blocks<U: Convert>(dst: &mut [u8], src: &[u8]) {
    let ((dst, last), (src, last_src)) =
        (dst.as_chunks_mut(), src.as_chunks::<{ size_of::<Floats>() }>());
    for (dst, src) in dst.iter_mut().zip(src) {
        let src = f32::cut(src);
        // SAFETY: `per_width` names the type of a width only under that width's instructions.
        *dst = unsafe { U::narrow(array::from_fn(|i| f32::from_ne_bytes(src[i]))) };
    }
    narrow_plain(last, last_src);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256i, _CMP_UNORD_Q, _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128,
        _mm_storeu_si128, _mm256_blendv_ps, _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cvtph_ps,
        _mm256_cvtps_ph, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_storeu_ps,
        _mm256_storeu_si256, _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtph_ps,
        _mm512_cvtps_ph, _mm512_loadu_ps, _mm512_mask_mov_ps, _mm512_set1_epi32, _mm512_storeu_ps,
    };

    use super::super::width::{Avx2, Avx512};
    use super::{BLOCK, Convert, Halves};
    use crate::small::NAN_F32;

    impl Convert for Avx2 {
        #[inline]
        #[target_feature(enable = "avx2,f16c")]
        unsafe fn widen(block: &Halves) -> [f32; BLOCK] {
            let mut values = [0.0; BLOCK];
            let halves = block.as_chunks::<16>().0;
            for (dst, src) in values.as_chunks_mut::<8>().0.iter_mut().zip(halves) {
                // SAFETY: `src` has the 16 bytes that are read.
                let src = unsafe { _mm_loadu_si128(src.as_ptr().cast::<__m128i>()) };
                let floats = _mm256_cvtph_ps(src);
                // SAFETY: `dst` has the 8 floats that are written.
                unsafe { _mm256_storeu_ps(dst.as_mut_ptr(), floats) };
            }
            values
        }

        #[inline]
        #[target_feature(enable = "avx2,f16c")]
        unsafe fn narrow(values: [f32; BLOCK]) -> Halves {
            let mut block = [0; 2 * BLOCK];
            let nan = _mm256_castsi256_ps(_mm256_set1_epi32(NAN_F32.cast_signed()));
            for (dst, src) in
                block.as_chunks_mut::<16>().0.iter_mut().zip(values.as_chunks::<8>().0)
            {
                // SAFETY: `src` has the 8 floats that are read.
                let src = unsafe { _mm256_loadu_ps(src.as_ptr()) };
                let src = _mm256_blendv_ps(src, nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(src, src));
                let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(src);
                // SAFETY: `dst` has the 16 bytes that are written.
                unsafe { _mm_storeu_si128(dst.as_mut_ptr().cast::<__m128i>(), halves) };
            }
            block
        }
    }

    impl Convert for Avx512 {
        #[inline]
        #[target_feature(enable = "avx512f")]
        unsafe fn widen(block: &Halves) -> [f32; BLOCK] {
            let mut values = [0.0; BLOCK];
            // SAFETY: a block has the 32 bytes that are read.
            let halves = unsafe { _mm256_loadu_si256(block.as_ptr().cast::<__m256i>()) };
            let floats = _mm512_cvtph_ps(halves);
            // SAFETY: `values` has the 16 floats that are written.
            unsafe { _mm512_storeu_ps(values.as_mut_ptr(), floats) };
            values
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        unsafe fn narrow(values: [f32; BLOCK]) -> Halves {
            let mut block = [0; 2 * BLOCK];
            let nan = _mm512_castsi512_ps(_mm512_set1_epi32(NAN_F32.cast_signed()));
            // SAFETY: `values` has the 16 floats that are read.
            let values = unsafe { _mm512_loadu_ps(values.as_ptr()) };
            let values =
                _mm512_mask_mov_ps(values, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values, values), nan);
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values);
            // SAFETY: a block has the 32 bytes that are written.
            unsafe { _mm256_storeu_si256(block.as_mut_ptr().cast::<__m256i>(), halves) };
            block
        }
    }
}
