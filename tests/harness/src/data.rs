//! Elements of test data, and what becomes of them when they are combined.
//!
//! Integers and elements that only travel are arbitrary bits. Floating-point elements that are combined are small
//! integers, chosen so that every intermediate result of up to five ranks is exact in every type, whatever the order.

use dure::{Bf16, Dtype, F8E4M3, F8E5M2, F16, ReduceOp, Scalar};

/// Bits that depend on two numbers in no visible way (splitmix64's finaliser).
pub(crate) fn hash(a: u64, b: u64) -> u64 {
    let mut z =
        a.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(b.wrapping_mul(0xd1b5_4a32_d192_ed03));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What the elements of a call are, and how they are combined, if they are.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub(crate) dtype: Dtype,
    pub(crate) op: Option<ReduceOp>,
    pub(crate) ranks: u32,
}

/// The operations that every type has, and the bitwise ones.
pub(crate) fn operations(dtype: Dtype, rank: u32) -> Vec<ReduceOp> {
    let factor = i64::from(factor(rank));
    let scalar = if dtype.is_float() {
        Scalar::Float(f64::from(self::factor(rank)))
    } else {
        Scalar::Integer(factor)
    };
    let xor = |source: &[u8], inout: &mut [u8], _| {
        inout.iter_mut().zip(source).for_each(|(inout, source)| *inout ^= source);
    };
    let mut all = vec![
        ReduceOp::Sum,
        ReduceOp::Prod,
        ReduceOp::Max,
        ReduceOp::Min,
        ReduceOp::Avg,
        ReduceOp::PreMulSum(scalar),
        ReduceOp::custom(7, xor),
    ];
    if !dtype.is_float() {
        all.extend([ReduceOp::BitAnd, ReduceOp::BitOr, ReduceOp::BitXor]);
    }
    all
}

/// What a rank multiplies its elements by.
fn factor(rank: u32) -> u32 {
    1 + rank % 2
}

impl Data {
    /// Whether an element is a number; otherwise it is bits.
    fn is_number(&self) -> bool {
        self.dtype.is_float() && self.op.as_ref().is_some_and(|op| op.name() != "custom")
    }

    /// Bytes of element `index` of `rank`'s input.
    pub(crate) fn input(&self, rank: u32, index: u64) -> [u8; 8] {
        self.encode(self.element(rank, index))
    }

    /// Bytes of the combination of all ranks' elements `index`.
    pub(crate) fn combined(&self, index: u64) -> [u8; 8] {
        let op = self.op.as_ref().expect("only asked where elements are combined");
        let is_product = matches!(op, ReduceOp::PreMulSum(_));
        let scaled = |rank| {
            let by = if is_product { i64::from(factor(rank)) } else { 1 };
            self.wrap(self.element(rank, index).wrapping_mul(by))
        };
        let all = (0..self.ranks).map(scaled).reduce(|a, b| self.wrap(self.two(op, a, b)));
        let all = all.expect("there is a rank");
        self.encode(if matches!(op, ReduceOp::Avg) { self.over(all) } else { all })
    }

    fn element(&self, rank: u32, index: u64) -> i64 {
        let bits = hash(u64::from(rank) + 1, index);
        if !self.is_number() {
            return self.wrap(i64::from_le_bytes(bits.to_le_bytes()));
        }
        let below = |n: u64| i64::try_from(bits % n).expect("a small number");
        match self.op {
            Some(ReduceOp::Prod) => 1 + below(2),
            // A type that divides first divides this without a remainder.
            Some(ReduceOp::Avg) => below(2) * i64::from(self.ranks),
            Some(ReduceOp::Max | ReduceOp::Min) => below(5) - 2,
            _ => below(2),
        }
    }

    fn two(&self, op: &ReduceOp, a: i64, b: i64) -> i64 {
        let less =
            if self.dtype == Dtype::Uint64 { a.cast_unsigned() < b.cast_unsigned() } else { a < b };
        match op {
            ReduceOp::Sum | ReduceOp::Avg | ReduceOp::PreMulSum(_) => a.wrapping_add(b),
            ReduceOp::Prod => a.wrapping_mul(b),
            ReduceOp::Max => {
                if less {
                    b
                } else {
                    a
                }
            }
            ReduceOp::Min => {
                if less {
                    a
                } else {
                    b
                }
            }
            ReduceOp::BitAnd => a & b,
            ReduceOp::BitOr => a | b,
            ReduceOp::BitXor | ReduceOp::Custom { .. } => a ^ b,
        }
    }

    /// Divides by the number of ranks, towards zero.
    fn over(&self, sum: i64) -> i64 {
        if self.dtype == Dtype::Uint64 {
            (sum.cast_unsigned() / u64::from(self.ranks)).cast_signed()
        } else {
            sum / i64::from(self.ranks)
        }
    }

    /// The number that is left when only the type's bits are kept.
    fn wrap(&self, value: i64) -> i64 {
        let [a, b, c, d, ..] = value.to_le_bytes();
        match self.dtype {
            Dtype::Int8 => i8::from_le_bytes([a]).into(),
            Dtype::Uint8 => a.into(),
            Dtype::Int32 => i32::from_le_bytes([a, b, c, d]).into(),
            Dtype::Uint32 => u32::from_le_bytes([a, b, c, d]).into(),
            _ => value,
        }
    }

    /// The first bytes are the element's.
    fn encode(&self, value: i64) -> [u8; 8] {
        if !self.is_number() {
            return value.to_le_bytes();
        }
        let number = i16::try_from(value).expect("numbers are small");
        let wide = |bytes: &[u8]| {
            let mut all = [0; 8];
            all[..bytes.len()].copy_from_slice(bytes);
            all
        };
        let single = f32::from(number);
        match self.dtype {
            Dtype::F16 => wide(&F16::from_f32(single).0.to_le_bytes()),
            Dtype::Bf16 => wide(&Bf16::from_f32(single).0.to_le_bytes()),
            Dtype::F8E4M3 => wide(&[F8E4M3::from_f32(single).0]),
            Dtype::F8E5M2 => wide(&[F8E5M2::from_f32(single).0]),
            Dtype::F32 => wide(&single.to_le_bytes()),
            _ => wide(&f64::from(number).to_le_bytes()),
        }
    }
}
