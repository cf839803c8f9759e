//! No vectors of small floating-point types: the plain loops serve them.

use super::kernel::Fold;
use super::width::Set;

/// Any type.
pub(super) trait OnUnits {}
impl<T> OnUnits for T {}

/// Any operation.
pub(super) trait HalfArithmetic {}
impl<O> HalfArithmetic for O {}

/// By how much `f32` is scaled.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    /// Multiply.
    Times(f32),
    /// Divide.
    Over(f32),
}

/// A function that scales.
pub(super) type Scaling = unsafe fn(*const u8, *mut u8, usize, By);

/// None.
pub(super) const fn fold<T: OnUnits, O: HalfArithmetic>(_: Set) -> Option<Fold> {
    None
}

/// None.
pub(super) const fn scale<T: OnUnits>(_: Set) -> Option<Scaling> {
    None
}
