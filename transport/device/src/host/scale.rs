//! Scaling, for averages and sums that are multiplied first.

use super::access;
use super::kernel::{self, Small};
use super::packed::{self, By, OnUnits};
use super::reduce;
use super::strip::strips;
use super::width::Width;
use crate::{Bf16, Dtype, F8E4M3, F8E5M2, F16, Memory, Scale};

/// Bytes of the destination that are scaled at a time: half of a first-level cache of 32 KiB.
const STRIP: usize = 16 << 10;

/// `dst = src` scaled, for checked work.
///
/// # Safety
/// As for [`Queue::submit`](crate::Queue::submit), and all memory is the CPU's.
pub(super) unsafe fn scale(width: Width, src: Memory, dst: Memory, dtype: Dtype, by: Scale) {
    match dtype {
        // SAFETY: the caller's promise.
        Dtype::F16 => unsafe { scale_small::<F16>(width, src, dst, by) },
        // SAFETY: the caller's promise.
        Dtype::Bf16 => unsafe { scale_small::<Bf16>(width, src, dst, by) },
        // SAFETY: the caller's promise.
        Dtype::F8E4M3 => unsafe { scale_small::<F8E4M3>(width, src, dst, by) },
        // SAFETY: the caller's promise.
        Dtype::F8E5M2 => unsafe { scale_small::<F8E5M2>(width, src, dst, by) },
        // SAFETY: the caller's promise.
        _ => unsafe { in_strips(src, dst, |dst| scale_in_place(width, dst, dtype, by)) },
    }
}

/// Scales elements that are computed in `f32`.
///
/// # Safety
/// As for [`scale`].
#[expect(clippy::cast_possible_truncation, reason = "the factor is rounded, as documented")]
unsafe fn scale_small<T: Small + OnUnits>(width: Width, src: Memory, dst: Memory, by: Scale) {
    let by = match by {
        Scale::By(factor) => By::Times(factor as f32),
        Scale::Over(count) => By::Over(count as f32),
        Scale::ByInteger(_) => unreachable!("the work was checked: it is no integer"),
    };
    if let Some(scaling) = packed::scale::<T>(width.0) {
        // SAFETY: the caller's promise, and the CPU has the width.
        unsafe { scaling(src.ptr.as_ptr(), dst.ptr.as_ptr(), dst.len, by) };
        return;
    }
    let in_place = |dst: &mut [u8]| match by {
        By::Times(factor) => kernel::map::<T, _>(width, dst, |x| x * factor),
        By::Over(count) => kernel::map::<T, _>(width, dst, |x| x / count),
    };
    // SAFETY: the caller's promise.
    unsafe { in_strips(src, dst, in_place) };
}

/// Copies `src` to `dst` and changes that in place, strip by strip.
///
/// # Safety
/// As for [`scale`].
unsafe fn in_strips(src: Memory, dst: Memory, change: impl Fn(&mut [u8])) {
    for (at, len) in strips(dst.len, STRIP) {
        let (from, to) = (src.part(at, len), dst.part(at, len));
        // SAFETY: the caller's promise.
        unsafe { reduce::copy_cached(from, to) };
        // SAFETY: the caller's promise; the source is not read any more.
        change(unsafe { access::write(to) });
    }
}

/// Scales elements that are computed in their own type.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "factors are converted and wrap as documented"
)]
fn scale_in_place(width: Width, dst: &mut [u8], dtype: Dtype, by: Scale) {
    /// Multiplies integers, wrapping, by a factor given as a number or as bits.
    macro_rules! multiply {
        ($type:ty, $bits:ty) => {{
            let factor = match by {
                Scale::By(factor) => factor as $type as $bits,
                Scale::ByInteger(factor) => factor as $bits,
                Scale::Over(_) => unreachable!("division is not multiplication"),
            };
            kernel::map::<$bits, _>(width, dst, |x| x.wrapping_mul(factor));
        }};
    }
    match (dtype, by) {
        (Dtype::F32, Scale::By(factor)) => kernel::map::<f32, _>(width, dst, |x| x * factor as f32),
        (Dtype::F64, Scale::By(factor)) => kernel::map::<f64, _>(width, dst, |x| x * factor),
        (_, Scale::Over(count)) => divide(width, dst, dtype, count),
        (Dtype::Int8, _) => multiply!(i8, u8),
        (Dtype::Uint8, _) => multiply!(u8, u8),
        (Dtype::Int32, _) => multiply!(i32, u32),
        (Dtype::Uint32, _) => multiply!(u32, u32),
        (Dtype::Int64, _) => multiply!(i64, u64),
        (Dtype::Uint64, _) => multiply!(u64, u64),
        _ => unreachable!("the work was checked: {by:?} does not serve {dtype}"),
    }
}

/// Divides by a count that is not zero.
#[expect(clippy::cast_possible_truncation, reason = "a quotient fits where the dividend did")]
fn divide(width: Width, dst: &mut [u8], dtype: Dtype, count: u32) {
    let signed = i64::from(count);
    match dtype {
        Dtype::F32 => kernel::map::<f32, _>(width, dst, |x| x / count as f32),
        Dtype::F64 => kernel::map::<f64, _>(width, dst, |x| x / f64::from(count)),
        Dtype::Int8 => kernel::map::<i8, _>(width, dst, |x| (i64::from(x) / signed) as i8),
        Dtype::Uint8 => kernel::map::<u8, _>(width, dst, |x| (u32::from(x) / count) as u8),
        Dtype::Int32 => kernel::map::<i32, _>(width, dst, |x| (i64::from(x) / signed) as i32),
        Dtype::Uint32 => kernel::map::<u32, _>(width, dst, |x| x / count),
        Dtype::Int64 => kernel::map::<i64, _>(width, dst, |x| x / signed),
        Dtype::Uint64 => kernel::map::<u64, _>(width, dst, |x| x / u64::from(count)),
        _ => unreachable!("{dtype} is divided in f32"),
    }
}
