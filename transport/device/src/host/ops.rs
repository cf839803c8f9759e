//! How two values become one. Every operation is commutative to the bit.

/// An operation on values of type `V`.
pub(super) trait Op<V> {
    /// `a op b`.
    fn apply(a: V, b: V) -> V;
}

pub(super) struct Sum;
pub(super) struct Prod;
pub(super) struct Min;
pub(super) struct Max;
pub(super) struct And;
pub(super) struct Or;
pub(super) struct Xor;

/// The operation `$op` on each of some types, by one expression.
macro_rules! op {
    ($op:ty, [$($value:ty),+], ($a:ident, $b:ident) => $apply:expr) => {
        $(impl Op<$value> for $op {
            #[inline(always)]
            fn apply($a: $value, $b: $value) -> $value {
                $apply
            }
        })+
    };
}

op!(Sum, [u8, u32, u64], (a, b) => a.wrapping_add(b));
op!(Sum, [f32, f64], (a, b) => a + b);
op!(Prod, [u8, u32, u64], (a, b) => a.wrapping_mul(b));
op!(Prod, [f32, f64], (a, b) => a * b);
op!(Min, [u8, i8, i16, u32, i32, u64, i64], (a, b) => if a < b { a } else { b });
op!(Max, [u8, i8, i16, u32, i32, u64, i64], (a, b) => if a > b { a } else { b });
op!(And, [u8], (a, b) => a & b);
op!(Or, [u8], (a, b) => a | b);
op!(Xor, [u8], (a, b) => a ^ b);
