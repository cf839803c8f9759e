//! bfloat16, two neighbours at a time; [`kernel`] does an odd one at the end alone.

use super::element::Bf16Pair;
use super::kernel;
use super::ops::Op;
use super::width::Width;
use crate::Bf16;

/// `dst[i] = a[i] op b[i]`.
pub(super) fn join<O: Op<f32>>(width: Width, a: &[u8], b: &[u8], dst: &mut [u8]) {
    let pairs = dst.len() & !3;
    let ((a, last_a), (b, last_b)) = (a.split_at(pairs), b.split_at(pairs));
    let (dst, last) = dst.split_at_mut(pairs);
    kernel::join::<Bf16Pair, O>(width, a, b, dst);
    kernel::join::<Bf16, O>(Width::PLAIN, last_a, last_b, last);
}

/// `dst[i] = dst[i] op src[i]`.
pub(super) fn update<O: Op<f32>>(width: Width, dst: &mut [u8], src: &[u8]) {
    let pairs = dst.len() & !3;
    let (dst, last) = dst.split_at_mut(pairs);
    let (src, last_src) = src.split_at(pairs);
    kernel::update::<Bf16Pair, O>(width, dst, src);
    kernel::update::<Bf16, O>(Width::PLAIN, last, last_src);
}
