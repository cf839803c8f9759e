//! The values that ranks give, and the values that must come back.
//!
//! Every expectation is exact, bit for bit, in every type: no tolerance is needed. Inputs are whole numbers so small
//! that all partial results, in whatever order they are combined, are exact in the type. Where the type is so short and
//! the ranks so many that not even ones fit, only some ranks give something other than zero (or one, for products) at
//! an element; which, changes from element to element.
//!
//! Values repeat after a prime number of elements, which no buffer is cut into multiples of.

use std::collections::HashMap;

use dure::{Bf16, Dtype, F8E4M3, F8E5M2, F16};

use super::collective::Origin;
use super::operation::{Op, factor};

/// Elements after which the values repeat.
pub(crate) const PERIOD: u32 = 4093;

/// Largest magnitude of an input or a sum. All types of 32 bits and more are exact far beyond it.
const MOST: i64 = 1 << 20;

/// Ranks whose factor of a product is not one at an element: 2^6 is exact in int8 and in every 8-bit float.
const FACTORS: i64 = 6;

/// The values of one type and operation, for all ranks.
#[derive(Debug)]
pub(crate) struct Pattern {
    dtype: Dtype,
    op: Option<Op>,
    ranks: u32,
    tables: HashMap<Origin, Box<[u8]>>,
}

impl Pattern {
    pub(crate) fn new(dtype: Dtype, op: Option<Op>, ranks: u32) -> Self {
        Self { dtype, op, ranks, tables: HashMap::new() }
    }

    /// Whether the pattern is that of a type and an operation.
    pub(crate) fn is_for(&self, dtype: Dtype, op: Option<Op>) -> bool {
        (self.dtype, self.op) == (dtype, op)
    }

    /// Writes the elements from number `start` of one rank's input.
    pub(crate) fn fill(&mut self, out: &mut [u8], of: Origin, start: u64) {
        let size = self.dtype.size();
        let table = self.table(of);
        for (piece, at) in runs(out.len(), start, size) {
            out[piece.clone()].copy_from_slice(&table[at..at + piece.len()]);
        }
    }

    /// How many elements of `found` are not the elements from number `start`.
    pub(crate) fn wrong(&mut self, found: &[u8], of: Origin, start: u64) -> u64 {
        let size = self.dtype.size();
        let table = self.table(of);
        let mut wrong = 0;
        for (piece, at) in runs(found.len(), start, size) {
            let (found, wanted) = (&found[piece.clone()], &table[at..at + piece.len()]);
            if found != wanted {
                let elements = found.chunks_exact(size).zip(wanted.chunks_exact(size));
                wrong += elements.filter(|(found, wanted)| found != wanted).count() as u64;
            }
        }
        wrong
    }

    /// The bytes of one period.
    fn table(&mut self, of: Origin) -> &[u8] {
        let Self { dtype, op, ranks, ref mut tables } = *self;
        tables.entry(of).or_insert_with(|| {
            let values = Values { dtype, op, ranks };
            let mut table = Vec::with_capacity(PERIOD as usize * dtype.size());
            for k in 0..PERIOD {
                match of {
                    Origin::Rank(rank) => values.input(rank, k).write(dtype, &mut table),
                    Origin::All => values.combined(k).write(dtype, &mut table),
                }
            }
            table.into()
        })
    }
}

/// Cuts `len` bytes of elements from number `start` where the period ends: ranges of them, and where in the table each
/// begins.
fn runs(
    len: usize,
    start: u64,
    size: usize,
) -> impl Iterator<Item = (std::ops::Range<usize>, usize)> {
    let period = PERIOD as usize * size;
    let first = usize::try_from(start % u64::from(PERIOD)).expect("below the period") * size;
    let (mut done, mut at) = (0, first);
    std::iter::from_fn(move || {
        let run = (period - at).min(len - done);
        let item = (done..done + run, at);
        (done, at) = (done + run, 0);
        (run > 0).then_some(item)
    })
}

/// One element.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    /// A whole number, divided.
    Number { whole: i64, over: u32 },
    /// The low bits are the element.
    Bits(u64),
}

/// The rule.
#[derive(Clone, Copy, Debug)]
struct Values {
    dtype: Dtype,
    op: Option<Op>,
    ranks: u32,
}

impl Values {
    /// What a rank gives at element `k` of the period.
    fn input(self, rank: u32, k: u32) -> Value {
        let hash = hash(rank, k);
        let whole = match self.op {
            None | Some(Op::Bxor) => return Value::Bits(hash),
            // One bit differs from the neutral element, so that the results of many ranks still tell them apart.
            Some(Op::Band) => return Value::Bits(!(1 << (hash % 64))),
            Some(Op::Bor) => return Value::Bits(1 << (hash % 64)),
            Some(Op::Max | Op::Min) => self.signed(hash, below(hash, self.exact() + 1)),
            Some(Op::Prod) if self.gives(rank, k, FACTORS) => self.signed(hash, 1 + below(hash, 2)),
            Some(Op::Prod) => 1,
            Some(Op::Sum) => self.share(rank, k, self.exact()),
            Some(Op::MulSum) => self.share(rank, k, self.exact() / i64::from(factor(1))),
            Some(Op::Avg) => self.average_share(rank, k),
        };
        Value::Number { whole, over: 1 }
    }

    /// What all ranks' elements `k` of the period combine to.
    fn combined(self, k: u32) -> Value {
        let op = self.op.expect("only operations combine");
        let inputs = (0..self.ranks).map(|rank| (rank, self.input(rank, k)));
        if op.is_bitwise() {
            let bits =
                inputs.map(|(_, value)| if let Value::Bits(bits) = value { bits } else { 0 });
            let result = match op {
                Op::Band => bits.reduce(|a, b| a & b),
                Op::Bor => bits.reduce(|a, b| a | b),
                _ => bits.reduce(|a, b| a ^ b),
            };
            return Value::Bits(result.expect("there is at least one rank"));
        }
        let numbers = inputs.map(|(rank, value)| match value {
            Value::Number { whole, .. } if op == Op::MulSum => whole * i64::from(factor(rank)),
            Value::Number { whole, .. } => whole,
            Value::Bits(_) => unreachable!("numbers are combined as numbers"),
        });
        let whole = match op {
            Op::Prod => numbers.product(),
            Op::Max => numbers.max().expect("there is at least one rank"),
            Op::Min => numbers.min().expect("there is at least one rank"),
            _ => numbers.sum(),
        };
        Value::Number { whole, over: if op == Op::Avg { self.ranks } else { 1 } }
    }

    /// All whole numbers up to this one are exact in the type.
    fn exact(self) -> i64 {
        match self.dtype {
            Dtype::F8E5M2 => 1 << 3,
            Dtype::F8E4M3 => 1 << 4,
            Dtype::Int8 => i64::from(i8::MAX),
            Dtype::Uint8 => i64::from(u8::MAX),
            Dtype::Bf16 => 1 << 8,
            Dtype::F16 => 1 << 11,
            Dtype::Int32
            | Dtype::Uint32
            | Dtype::F32
            | Dtype::Int64
            | Dtype::Uint64
            | Dtype::F64 => MOST,
        }
    }

    /// What a rank adds to a sum whose magnitude stays within `most`.
    fn share(self, rank: u32, k: u32, most: i64) -> i64 {
        let hash = hash(rank, k);
        let each = most / i64::from(self.ranks);
        if each > 0 {
            self.signed(hash, below(hash, each + 1))
        } else if self.gives(rank, k, most) {
            self.signed(hash, 1)
        } else {
            0
        }
    }

    /// What a rank adds to an average. Floating-point averages may divide before they add, so that each quotient must
    /// be exact. Where that cannot be, one rank alone gives something: then one rounding is left, which is the same
    /// before and after.
    fn average_share(self, rank: u32, k: u32) -> i64 {
        let ranks = i64::from(self.ranks);
        if !self.dtype.is_float() {
            self.share(rank, k, self.exact())
        } else if self.exact() >= ranks * ranks {
            ranks * self.share(rank, k, self.exact() / ranks)
        } else if self.exact() >= ranks && self.dtype.size() <= 2 {
            ranks * i64::from(self.gives(rank, k, self.exact() / ranks))
        } else {
            i64::from(self.gives(rank, k, 1)) * (1 + below(hash(0, k), self.exact()))
        }
    }

    /// Whether a rank is one of the `most` that give something at element `k`.
    fn gives(self, rank: u32, k: u32, most: i64) -> bool {
        let turn = (u64::from(rank) + u64::from(k)) % u64::from(self.ranks);
        i64::try_from(turn).is_ok_and(|turn| turn < most)
    }

    /// Half of the numbers of signed types are negative.
    fn signed(self, hash: u64, magnitude: i64) -> i64 {
        let unsigned = matches!(self.dtype, Dtype::Uint8 | Dtype::Uint32 | Dtype::Uint64);
        if unsigned || hash >> 63 == 0 { magnitude } else { -magnitude }
    }
}

impl Value {
    /// Appends the element.
    #[expect(clippy::cast_sign_loss, reason = "two's complement is meant")]
    fn write(self, dtype: Dtype, out: &mut Vec<u8>) {
        match self {
            Self::Number { whole, over } if dtype == Dtype::F64 => {
                out.extend((whole as f64 / f64::from(over)).to_le_bytes());
            }
            Self::Number { whole, over } if dtype.is_float() => {
                let value = whole as f32 / over as f32;
                match dtype {
                    Dtype::F16 => out.extend(F16::from_f32(value).0.to_le_bytes()),
                    Dtype::Bf16 => out.extend(Bf16::from_f32(value).0.to_le_bytes()),
                    Dtype::F8E4M3 => out.push(F8E4M3::from_f32(value).0),
                    Dtype::F8E5M2 => out.push(F8E5M2::from_f32(value).0),
                    _ => out.extend(value.to_le_bytes()),
                }
            }
            Self::Number { whole, over } => {
                Self::Bits((whole / i64::from(over)) as u64).write(dtype, out)
            }
            Self::Bits(bits) => out.extend(&bits.to_le_bytes()[..dtype.size()]),
        }
    }
}

/// A number from 0 to one less than `end`.
fn below(hash: u64, end: i64) -> i64 {
    i64::try_from(hash >> 1).expect("63 bits") % end
}

/// Sebastiano Vigna's splitmix64, of a rank and an element of the period.
fn hash(rank: u32, k: u32) -> u64 {
    let mut x = (u64::from(rank) << 32 | u64::from(k)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANKS: [u32; 9] = [1, 2, 3, 4, 5, 8, 9, 17, 300];

    fn whole(value: Value) -> i64 {
        if let Value::Number { whole, .. } = value {
            whole
        } else {
            panic!("{value:?} is no number")
        }
    }

    fn number_ops() -> impl Iterator<Item = Op> {
        Op::ALL.into_iter().filter(|op| !op.is_bitwise())
    }

    /// The magnitudes of all partial sums, in whatever order, stay within what the type holds exactly.
    #[test]
    fn sums_are_exact_in_every_order() {
        for dtype in Dtype::ALL {
            for ranks in RANKS {
                for op in [Op::Sum, Op::MulSum] {
                    let values = Values { dtype, op: Some(op), ranks };
                    for k in 0..97 {
                        let scale =
                            |rank| if op == Op::MulSum { i64::from(factor(rank)) } else { 1 };
                        let all =
                            (0..ranks).map(|rank| whole(values.input(rank, k)).abs() * scale(rank));
                        assert!(all.sum::<i64>() <= values.exact(), "{op:?} {dtype} {ranks} ranks");
                    }
                }
            }
        }
    }

    /// Averages are exact if every rank divides first, and if the sum is divided.
    #[test]
    fn averages_do_not_depend_on_when_they_divide() {
        for dtype in Dtype::ALL.into_iter().filter(|dtype| dtype.is_float()) {
            for ranks in RANKS {
                let values = Values { dtype, op: Some(Op::Avg), ranks };
                for k in 0..97 {
                    let inputs: Vec<i64> =
                        (0..ranks).map(|rank| whole(values.input(rank, k))).collect();
                    let alone = inputs.iter().filter(|value| **value != 0).count() <= 1;
                    let divided = inputs.iter().all(|value| value % i64::from(ranks) == 0);
                    assert!(alone || divided, "{dtype} {ranks}: {inputs:?}");
                    assert!(
                        inputs.iter().all(|value| value.abs() <= values.exact()),
                        "{dtype} {ranks}: {inputs:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn products_fit_the_shortest_types() {
        for dtype in [Dtype::Int8, Dtype::Uint8, Dtype::F8E4M3, Dtype::F8E5M2] {
            for ranks in RANKS {
                let values = Values { dtype, op: Some(Op::Prod), ranks };
                assert!((0..97).all(|k| whole(values.combined(k)).abs() <= 64), "{dtype} {ranks}");
            }
        }
    }

    #[test]
    fn unsigned_types_get_no_negative_numbers() {
        for op in number_ops() {
            let values = Values { dtype: Dtype::Uint8, op: Some(op), ranks: 3 };
            assert!(
                (0..97).all(|k| (0..3).all(|rank| whole(values.input(rank, k)) >= 0)),
                "{op:?}"
            );
        }
    }

    /// A result that misses a rank, or has one twice, is seen at some element.
    #[test]
    fn a_missing_rank_shows() {
        for dtype in Dtype::ALL {
            for op in Op::ALL.into_iter().filter(|op| op.serves(dtype)) {
                for ranks in [2, 3, 8] {
                    let all = Values { dtype, op: Some(op), ranks };
                    let shows = (0..PERIOD).any(|k| {
                        let mut with = Vec::new();
                        let mut without = Vec::new();
                        all.combined(k).write(dtype, &mut with);
                        all.input(0, k).write(dtype, &mut without);
                        with != without
                    });
                    assert!(shows, "{op:?} {dtype} {ranks}");
                }
            }
        }
    }

    #[test]
    fn elements_are_written_in_their_type() {
        let bytes = |dtype, whole, over| {
            let mut out = Vec::new();
            Value::Number { whole, over }.write(dtype, &mut out);
            out
        };
        assert_eq!(bytes(Dtype::Int8, -3, 1), [0xfd]);
        assert_eq!(
            bytes(Dtype::Int32, -7, 2),
            (-3_i32).to_le_bytes(),
            "averages of integers truncate"
        );
        assert_eq!(bytes(Dtype::F32, 1, 4), 0.25_f32.to_le_bytes());
        assert_eq!(bytes(Dtype::Bf16, 1, 1), 0x3f80_u16.to_le_bytes());
        assert_eq!(bytes(Dtype::F16, -2, 1), 0xc000_u16.to_le_bytes());
        assert_eq!(bytes(Dtype::F8E5M2, 8, 1), [0x48]);
        assert_eq!(bytes(Dtype::F8E4M3, 16, 1), [0x58]);
        assert_eq!(bytes(Dtype::F64, 3, 1), 3.0_f64.to_le_bytes());
    }

    #[test]
    fn what_is_filled_is_found_right_at_every_offset() {
        let mut pattern = Pattern::new(Dtype::Int32, None, 2);
        let elements = 3 * PERIOD as usize + 5;
        for start in [0, 1, 4092, 4093, 10_000] {
            let mut bytes = vec![0; elements * 4];
            pattern.fill(&mut bytes, Origin::Rank(1), start);
            assert_eq!(pattern.wrong(&bytes, Origin::Rank(1), start), 0);
            assert!(pattern.wrong(&bytes, Origin::Rank(0), start) > elements as u64 - 10);
            assert!(pattern.wrong(&bytes, Origin::Rank(1), start + 1) > elements as u64 - 10);
            bytes[4 * 4093] ^= 1;
            bytes[4 * 4093 + 3] ^= 1;
            bytes[7] ^= 0x80;
            assert_eq!(pattern.wrong(&bytes, Origin::Rank(1), start), 2);
        }
    }
}
