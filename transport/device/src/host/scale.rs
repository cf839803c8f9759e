//! Scaling, for averages and sums that are multiplied first.

use super::access;
use super::kernel;
use super::table::Conversion;
use super::width::Width;
use super::worker::{TILE, Worker, tiles};
use crate::{Dtype, Memory, Scale};

/// Bytes of the destination that are scaled at a time; as `f32` they fit in a tile.
const STRIP: usize = TILE / 4;

/// `dst = src` scaled, for checked work.
///
/// # Safety
/// As for [`Queue::submit`](crate::Queue::submit), and all memory is the CPU's.
pub(super) unsafe fn scale(worker: &mut Worker, src: Memory, dst: Memory, dtype: Dtype, by: Scale) {
    let width = worker.width;
    for (offset, len) in tiles(dst.len, STRIP) {
        // SAFETY: the caller's promise.
        unsafe { access::copy(src.part(offset, len), dst.part(offset, len)) };
        // SAFETY: the caller's promise; the source is not read any more.
        let dst = unsafe { access::write(dst.part(offset, len)) };
        match Conversion::of(dtype) {
            Some(conversion) => {
                let wide = worker.next.first(len / dtype.size() * Dtype::F32.size());
                (conversion.widen)(width, wide, dst);
                scale_in_place(width, wide, Dtype::F32, by);
                (conversion.narrow)(width, dst, wide);
            }
            None => scale_in_place(width, dst, dtype, by),
        }
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
