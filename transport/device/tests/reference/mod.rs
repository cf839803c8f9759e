//! Slow and obviously right: one element at a time, by definition.

#![allow(dead_code, reason = "each test program uses a part")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "cuts bits out of words"
)]
#![expect(clippy::unwrap_used, reason = "helpers of tests, outside a test function")]

use dure_device::{Combine, Dtype, Memory, Queue, Work};
use half::{bf16, f16};

/// A value of any type, in what it is computed in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    Integer(i128),
    Single(f32),
    Double(f64),
}

/// The value of an 8-bit float with `mantissa` bits of mantissa, infinities and NaN left out.
pub(crate) fn number8(bits: u8, mantissa: i32) -> Option<f64> {
    let (bias, top) = if mantissa == 3 { (7, 0x7e) } else { (15, 0x7b) };
    let magnitude = bits & 0x7f;
    let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(magnitude >> mantissa);
    let fraction = f64::from(magnitude & ((1 << mantissa) - 1)) / 2f64.powi(mantissa);
    let (fraction, exponent) =
        if exponent == 0 { (fraction, 1) } else { (1.0 + fraction, exponent) };
    (magnitude <= top).then_some(sign * fraction * 2f64.powi(exponent - bias))
}

/// The nearest number to `x`, which is not NaN, by search over all of them; what is too large saturates.
pub(crate) fn nearest8(x: f32, mantissa: i32) -> u8 {
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    let x = f64::from(x.abs());
    let numbers = (0..0x80).filter_map(|bits| Some((bits, number8(bits, mantissa)?)));
    let (largest, limit) = numbers.clone().next_back().unwrap();
    let far = |v: f64| (v - x).abs();
    let order = |a: &(u8, f64), b: &(u8, f64)| {
        far(a.1).total_cmp(&far(b.1)).then((a.0 & 1).cmp(&(b.0 & 1)))
    };
    sign | if x > limit { largest } else { numbers.min_by(order).unwrap().0 }
}

fn decode8(bits: u8, mantissa: i32) -> f32 {
    let special = if mantissa == 2 && bits & 0x7f == 0x7c { f32::INFINITY } else { f32::NAN };
    let special = if bits & 0x80 == 0 { special } else { -special };
    number8(bits, mantissa).map_or(special, |v| v as f32)
}

fn encode8(x: f32, mantissa: i32) -> u8 {
    if x.is_nan() { 0x7f } else { nearest8(x, mantissa) }
}

/// Reads one element.
pub(crate) fn decode(dtype: Dtype, bytes: &[u8]) -> Value {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(wide);
    match dtype {
        Dtype::Int8 => Value::Integer(i128::from(bits as i8)),
        Dtype::Int32 => Value::Integer(i128::from(bits as i32)),
        Dtype::Int64 => Value::Integer(i128::from(bits as i64)),
        Dtype::Uint8 | Dtype::Uint32 | Dtype::Uint64 => Value::Integer(i128::from(bits)),
        Dtype::F16 => Value::Single(f16::from_bits(bits as u16).to_f32()),
        Dtype::Bf16 => Value::Single(bf16::from_bits(bits as u16).to_f32()),
        Dtype::F8E4M3 => Value::Single(decode8(bits as u8, 3)),
        Dtype::F8E5M2 => Value::Single(decode8(bits as u8, 2)),
        Dtype::F32 => Value::Single(f32::from_bits(bits as u32)),
        Dtype::F64 => Value::Double(f64::from_bits(bits)),
    }
}

/// Writes one element.
pub(crate) fn encode(dtype: Dtype, value: Value) -> Vec<u8> {
    let bits = match (dtype, value) {
        (_, Value::Integer(v)) => v as u64,
        (Dtype::F16, Value::Single(v)) => u64::from(f16::from_f32(v).to_bits()),
        (Dtype::Bf16, Value::Single(v)) => u64::from(bf16::from_f32(v).to_bits()),
        (Dtype::F8E4M3, Value::Single(v)) => u64::from(encode8(v, 3)),
        (Dtype::F8E5M2, Value::Single(v)) => u64::from(encode8(v, 2)),
        (_, Value::Single(v)) => u64::from(v.to_bits()),
        (_, Value::Double(v)) => v.to_bits(),
    };
    bits.to_le_bytes()[..dtype.size()].to_vec()
}

/// Minimum (or maximum) of two numbers of which neither is NaN: -0 is below +0.
macro_rules! extreme {
    ($a:expr, $b:expr, $min:expr) => {
        if $a.is_nan() || $b.is_nan() {
            $a + $b
        } else if ($a.total_cmp(&$b).is_lt()) == $min {
            $a
        } else {
            $b
        }
    };
}

/// `a by b`.
pub(crate) fn combine(a: Value, b: Value, by: &Combine) -> Value {
    match (a, b) {
        (Value::Integer(a), Value::Integer(b)) => Value::Integer(match by {
            Combine::Sum => a + b,
            // Only the low 64 bits count.
            Combine::Prod => a.wrapping_mul(b),
            Combine::Min => a.min(b),
            Combine::Max => a.max(b),
            Combine::BitAnd => a & b,
            Combine::BitOr => a | b,
            Combine::BitXor => a ^ b,
            Combine::Custom(_) => unreachable!("tested elsewhere"),
        }),
        (Value::Single(a), Value::Single(b)) => Value::Single(match by {
            Combine::Sum => a + b,
            Combine::Prod => a * b,
            Combine::Min => extreme!(a, b, true),
            Combine::Max => extreme!(a, b, false),
            _ => unreachable!("not on floating-point types"),
        }),
        (Value::Double(a), Value::Double(b)) => Value::Double(match by {
            Combine::Sum => a + b,
            Combine::Prod => a * b,
            Combine::Min => extreme!(a, b, true),
            Combine::Max => extreme!(a, b, false),
            _ => unreachable!("not on floating-point types"),
        }),
        _ => unreachable!("two types"),
    }
}

/// Reduces buffers of equal length.
pub(crate) fn reduce(srcs: &[Vec<u8>], dtype: Dtype, by: &Combine) -> Vec<u8> {
    let elements = srcs[0].len() / dtype.size();
    let element = |src: &Vec<u8>, i: usize| decode(dtype, &src[i * dtype.size()..][..dtype.size()]);
    let chosen = srcs.len() == 1 || matches!(by, Combine::Min | Combine::Max);
    (0..elements)
        .flat_map(|i| {
            let values = srcs.iter().map(|src| element(src, i));
            let value = values.reduce(|a, b| wrap(dtype, combine(a, b, by))).unwrap();
            match value {
                // What is chosen, not computed, is not rounded: E5M2 keeps its infinities.
                Value::Single(x) if x.is_infinite() && dtype == Dtype::F8E5M2 && chosen => {
                    vec![if x > 0.0 { 0x7c } else { 0xfc }]
                }
                _ => encode(dtype, value),
            }
        })
        .collect()
}

/// An integer as its type holds it.
fn wrap(dtype: Dtype, value: Value) -> Value {
    match value {
        Value::Integer(_) => decode(dtype, &encode(dtype, value)),
        _ => value,
    }
}

/// Whether `ours` is what the reference says; any NaN equals any other.
pub(crate) fn agree(dtype: Dtype, ours: &[u8], reference: &[u8]) -> bool {
    let nan = |bytes: &[u8]| match decode(dtype, bytes) {
        Value::Integer(_) => false,
        Value::Single(v) => v.is_nan(),
        Value::Double(v) => v.is_nan(),
    };
    let (a, b) = (ours.chunks_exact(dtype.size()), reference.chunks_exact(dtype.size()));
    ours.len() == reference.len() && a.zip(b).all(|(a, b)| a == b || nan(a) && nan(b))
}

/// `SplitMix64`: numbers that look random and are a function of the seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// `elements` elements: any bits, numbers of like size, and the corners of the format.
pub(crate) fn data(dtype: Dtype, elements: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    (0..elements)
        .flat_map(|_| {
            let bits = random.next();
            let element = match (random.next() % 4, dtype) {
                (0, Dtype::F32) => corner(bits, 23, 32),
                (0, Dtype::F64) => corner(bits, 52, 64),
                (0, Dtype::F16) => corner(bits, 10, 16),
                (0, Dtype::Bf16) => corner(bits, 7, 16),
                (1, Dtype::F32) => (bits & 0x81ff_ffff) | 0x3e00_0000,
                (1, Dtype::F64) => (bits & 0x803f_ffff_ffff_ffff) | 0x3fc0_0000_0000_0000,
                (1, Dtype::F16) => (bits & 0x8fff) | 0x3000,
                (1, Dtype::Bf16) => (bits & 0x81ff) | 0x3e00,
                _ => bits,
            };
            element.to_le_bytes()[..dtype.size()].to_vec()
        })
        .collect()
}

/// Zeros, subnormal numbers, the smallest and largest numbers, infinities and NaNs, of both signs.
fn corner(random: u64, mantissa: u32, width: u32) -> u64 {
    let (one, infinity) = (1u64 << mantissa, ((1u64 << (width - 1 - mantissa)) - 1) << mantissa);
    let corners = [
        0,
        1,
        2,
        one / 2,
        one - 1,
        one,
        one + 1,
        infinity - 1,
        infinity,
        infinity + 1,
        infinity + one / 2,
    ];
    corners[(random >> 8) as usize % corners.len()] | ((random & 1) << (width - 1))
}

/// Host memory over a buffer.
pub(crate) fn memory(buffer: &mut [u8]) -> Memory {
    Memory::host(buffer.as_mut_ptr(), buffer.len())
}

/// Submits `work` and waits until it is done.
pub(crate) fn finish(queue: &mut dyn Queue, work: &Work<'_>) {
    // SAFETY: the buffers of the tests outlive this call and are used by nobody else meanwhile.
    let number = unsafe { queue.submit(work) }.unwrap();
    while queue.completed().unwrap() < number {
        std::thread::yield_now();
    }
}

/// All operations that are not the user's.
pub(crate) const OPERATIONS: [Combine; 7] = [
    Combine::Sum,
    Combine::Prod,
    Combine::Min,
    Combine::Max,
    Combine::BitAnd,
    Combine::BitOr,
    Combine::BitXor,
];
