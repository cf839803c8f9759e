//! Operations and types as they are named on the command line.

use std::str::FromStr;

use dure::{Dtype, ReduceOp, Scalar};

/// How elements are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Sum,
    Prod,
    Max,
    Min,
    Avg,
    /// Each rank's input is multiplied by [`factor`] of the rank first.
    MulSum,
    Band,
    Bor,
    Bxor,
}

impl Op {
    pub(crate) const ALL: [Self; 9] = [
        Self::Sum,
        Self::Prod,
        Self::Max,
        Self::Min,
        Self::Avg,
        Self::MulSum,
        Self::Band,
        Self::Bor,
        Self::Bxor,
    ];

    /// What the library calls it, on one rank.
    pub(crate) fn on(self, rank: u32, dtype: Dtype) -> ReduceOp {
        match self {
            Self::Sum => ReduceOp::Sum,
            Self::Prod => ReduceOp::Prod,
            Self::Max => ReduceOp::Max,
            Self::Min => ReduceOp::Min,
            Self::Avg => ReduceOp::Avg,
            Self::MulSum if dtype.is_float() => {
                ReduceOp::PreMulSum(Scalar::Float(f64::from(factor(rank))))
            }
            Self::MulSum => ReduceOp::PreMulSum(Scalar::Integer(i64::from(factor(rank)))),
            Self::Band => ReduceOp::BitAnd,
            Self::Bor => ReduceOp::BitOr,
            Self::Bxor => ReduceOp::BitXor,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.on(0, Dtype::Int32).name()
    }

    /// Whether it works on single bits.
    pub(crate) fn is_bitwise(self) -> bool {
        matches!(self, Self::Band | Self::Bor | Self::Bxor)
    }

    /// Whether it is defined on a type.
    pub(crate) fn serves(self, dtype: Dtype) -> bool {
        !(self.is_bitwise() && dtype.is_float())
    }
}

/// The factor of [`Op::MulSum`] on one rank.
pub(crate) fn factor(rank: u32) -> u32 {
    1 + rank % 2
}

/// A flag that takes one of a list, or `all`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OneOrAll<T>(pub(crate) Vec<T>);

impl FromStr for OneOrAll<Op> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        one_or_all(text, &Op::ALL, Op::name)
    }
}

impl FromStr for OneOrAll<Dtype> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        one_or_all(text, &Dtype::ALL, Dtype::name)
    }
}

fn one_or_all<T: Copy>(
    text: &str,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<OneOrAll<T>, String> {
    if text == "all" {
        return Ok(OneOrAll(all.to_vec()));
    }
    let found = all.iter().copied().find(|known| name(*known) == text);
    found.map(|one| OneOrAll(vec![one])).ok_or_else(|| {
        let names: Vec<_> = all.iter().copied().map(name).collect();
        format!("allowed: {}, all", names.join(", "))
    })
}

/// `-r`: one rank, or all of them in turn (`all`; nccl-tests writes `-1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    One(u32),
    All,
}

impl FromStr for Roots {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" | "-1" => Ok(Self::All),
            _ => text.parse().map(Self::One).map_err(|_| "neither a rank nor all".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_nccl_tests() {
        let ops: Vec<_> = Op::ALL.map(Op::name).into();
        assert_eq!(ops, ["sum", "prod", "max", "min", "avg", "mulsum", "band", "bor", "bxor"]);
        assert_eq!("bfloat16".parse::<OneOrAll<Dtype>>().unwrap().0, [Dtype::Bf16]);
        assert_eq!("all".parse::<OneOrAll<Dtype>>().unwrap().0.len(), 12);
        assert!("sums".parse::<OneOrAll<Op>>().unwrap_err().contains("sum, prod"));
    }

    #[test]
    fn roots() {
        assert_eq!("all".parse(), Ok(Roots::All));
        assert_eq!("-1".parse(), Ok(Roots::All));
        assert_eq!("3".parse(), Ok(Roots::One(3)));
        assert!("x".parse::<Roots>().is_err());
    }

    #[test]
    fn bits_only_of_integers() {
        assert!(
            Op::Bxor.serves(Dtype::Uint8)
                && !Op::Bxor.serves(Dtype::Bf16)
                && Op::Avg.serves(Dtype::Bf16)
        );
    }
}
