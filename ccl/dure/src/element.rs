//! Elements and how they are combined.

use std::fmt::{self, Debug};
use std::sync::Arc;

use dure_device::{Bf16, Combine, Custom, CustomFn, Dtype, F8E4M3, F8E5M2, F16, Scale};

/// A type that buffers may have.
///
/// # Safety
/// `DTYPE` describes exactly the representation of `Self`, and every bit pattern of that size is a valid value.
#[allow(
    unsafe_code,
    reason = "peers write elements as bytes: the implementor vouches for their representation"
)]
pub unsafe trait Element: Copy + Send + Sync + 'static {
    /// The data type of the representation.
    const DTYPE: Dtype;
}

macro_rules! elements {
    ($($type:ty = $dtype:ident),+ $(,)?) => { $(
        // SAFETY: the type is a primitive number, or transparent over one, of the size and meaning of its `Dtype`.
        #[allow(unsafe_code, reason = "see the trait")]
        unsafe impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;
        }
    )+ };
}

elements! {
    i8 = Int8, u8 = Uint8, i32 = Int32, u32 = Uint32, i64 = Int64, u64 = Uint64, f32 = F32, f64 = F64,
    F16 = F16, Bf16 = Bf16, F8E4M3 = F8E4M3, F8E5M2 = F8E5M2,
}

/// The factor of [`ReduceOp::PreMulSum`]. Each rank may have its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// For floating-point types.
    Float(f64),
    /// For integers: the value, sign-extended.
    Integer(i64),
}

/// How elements of different ranks are combined.
#[derive(Clone)]
pub enum ReduceOp {
    /// Sum; integers wrap.
    Sum,
    /// Product; integers wrap.
    Prod,
    /// Maximum; NaN if any is NaN.
    Max,
    /// Minimum; NaN if any is NaN.
    Min,
    /// Sum divided by the number of ranks; integers truncate towards zero. Types of 8 and 16 bits divide first, so that
    /// the sum does not overflow.
    Avg,
    /// Sum of the elements each multiplied by this rank's factor first.
    PreMulSum(Scalar),
    /// Bitwise and; integers only.
    BitAnd,
    /// Bitwise or; integers only.
    BitOr,
    /// Bitwise exclusive or; integers only.
    BitXor,
    /// A function of the user, from [`ReduceOp::custom`].
    Custom {
        /// Number that all ranks must give to the same function.
        id: u16,
        /// The function.
        function: Arc<CustomFn>,
    },
}

impl ReduceOp {
    /// A reduction of the user's: `function(source, inout, dtype)` combines the elements of `source` into those of
    /// `inout`. It must be associative and commutative; it is called on any thread of the library. All ranks must give
    /// the same function the same `id`: that is how they know that they call the same thing.
    pub fn custom(
        id: u16,
        function: impl Fn(&[u8], &mut [u8], Dtype) + Send + Sync + 'static,
    ) -> Self {
        Self::Custom { id, function: Arc::new(function) }
    }

    /// Its name in nccl-tests (`-o`): `sum`, `prod`, `max`, `min`, `avg`, `mulsum`; and `band`, `bor`, `bxor`, `custom`.
    pub fn name(&self) -> &'static str {
        NAMES[usize::from(self.code())]
    }

    /// Its number in a call's signature.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Sum => 0,
            Self::Prod => 1,
            Self::Max => 2,
            Self::Min => 3,
            Self::Avg => 4,
            Self::PreMulSum(_) => 5,
            Self::BitAnd => 6,
            Self::BitOr => 7,
            Self::BitXor => 8,
            Self::Custom { .. } => 9,
        }
    }

    /// The number of a user's function; 0 for all others.
    pub(crate) fn custom_id(&self) -> u16 {
        if let Self::Custom { id, .. } = self { *id } else { 0 }
    }

    /// Whether it is a function of the user's.
    pub(crate) fn is_custom(&self) -> bool {
        matches!(self, Self::Custom { .. })
    }

    /// How two elements become one.
    pub(crate) fn combine(&self) -> Combine {
        match self {
            Self::Sum | Self::Avg | Self::PreMulSum(_) => Combine::Sum,
            Self::Prod => Combine::Prod,
            Self::Max => Combine::Max,
            Self::Min => Combine::Min,
            Self::BitAnd => Combine::BitAnd,
            Self::BitOr => Combine::BitOr,
            Self::BitXor => Combine::BitXor,
            Self::Custom { function, .. } => Combine::Custom(Custom(Arc::clone(function))),
        }
    }

    /// What is done to this rank's input before anything else.
    pub(crate) fn before(&self, dtype: Dtype, ranks: u32) -> Option<Scale> {
        match self {
            Self::PreMulSum(Scalar::Float(factor)) => Some(Scale::By(*factor)),
            Self::PreMulSum(Scalar::Integer(factor)) => Some(Scale::ByInteger(*factor)),
            Self::Avg if dtype.is_float() && dtype.size() <= 2 => Some(Scale::Over(ranks)),
            _ => None,
        }
    }

    /// What is done to the result after everything else.
    pub(crate) fn after(&self, dtype: Dtype, ranks: u32) -> Option<Scale> {
        (matches!(self, Self::Avg) && self.before(dtype, ranks).is_none())
            .then_some(Scale::Over(ranks))
    }
}

const NAMES: [&str; 10] =
    ["sum", "prod", "max", "min", "avg", "mulsum", "band", "bor", "bxor", "custom"];

/// The name of the operation of a code.
pub(crate) fn op_name(code: u8) -> &'static str {
    NAMES.get(usize::from(code)).copied().unwrap_or("an unknown operation")
}

impl Debug for ReduceOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
