//! Shapes of sums: who contributes to a value, and in which order of additions.
//!
//! Every shape is stored once, so equal shapes have equal numbers, and each has the exact set of its contributors. Two
//! values with equal shapes are bit-equal whatever the rounding, as the operation is commutative (payloads of NaN
//! aside); nothing is assumed about associativity.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// All shapes seen so far, of sums over some ranks.
pub(crate) struct Shapes {
    /// Words of one set.
    words: usize,
    /// One set a shape, one after the other.
    sets: Vec<u64>,
    /// The sums of two, by the smaller and the larger number.
    pairs: HashMap<u64, Shape, BuildHasherDefault<Mix>>,
    /// The sums of several at once, in order.
    many: HashMap<Box<[Shape]>, Shape>,
    ranks: u32,
}

/// Number of a shape. The numbers of the first shapes are those of the ranks: a contribution alone.
pub(crate) type Shape = u32;

impl Shapes {
    /// The contributions of `ranks` ranks, each alone.
    pub(crate) fn new(ranks: u32) -> Self {
        let words = (ranks as usize).div_ceil(64);
        let mut sets = vec![0; words * ranks as usize];
        for rank in 0..ranks as usize {
            sets[rank * words + rank / 64] |= 1 << (rank % 64);
        }
        Self { words, sets, pairs: HashMap::default(), many: HashMap::new(), ranks }
    }

    /// The sum of two.
    ///
    /// # Errors
    /// The rank that contributes to both.
    pub(crate) fn pair(&mut self, a: Shape, b: Shape) -> Result<Shape, u32> {
        let key = u64::from(a.min(b)) << 32 | u64::from(a.max(b));
        if let Some(&shape) = self.pairs.get(&key) {
            return Ok(shape);
        }
        let shape = self.add(&[a, b])?;
        self.pairs.insert(key, shape);
        Ok(shape)
    }

    /// The sum of several at once, in order.
    ///
    /// # Errors
    /// A rank that contributes to two of them.
    pub(crate) fn many(&mut self, shapes: &[Shape]) -> Result<Shape, u32> {
        if let Some(&shape) = self.many.get(shapes) {
            return Ok(shape);
        }
        let shape = self.add(shapes)?;
        self.many.insert(shapes.into(), shape);
        Ok(shape)
    }

    /// Appends the union of disjoint sets.
    fn add(&mut self, shapes: &[Shape]) -> Result<Shape, u32> {
        let start = self.sets.len();
        self.sets.resize(start + self.words, 0);
        for &shape in shapes {
            for word in 0..self.words {
                let more = self.sets[shape as usize * self.words + word];
                let union = &mut self.sets[start + word];
                if *union & more != 0 {
                    let bit = (*union & more).trailing_zeros();
                    self.sets.truncate(start);
                    return Err(u32::try_from(word).expect("a set has fewer words than ranks")
                        * 64
                        + bit);
                }
                *union |= more;
            }
        }
        Ok(u32::try_from(start / self.words).expect("the memory is full before the numbers are"))
    }

    /// The ranks that contribute, or those that do not.
    pub(crate) fn members(&self, shape: Shape, contribute: bool) -> impl Iterator<Item = u32> {
        let start = shape as usize * self.words;
        (0..self.ranks).filter(move |&rank| {
            (self.sets[start + rank as usize / 64] >> (rank % 64) & 1 == 1) == contribute
        })
    }
}

/// A hasher for keys that are pairs of small numbers: one multiplication (Fibonacci hashing). Nobody outside chooses
/// the keys so freely that collisions could be forced beyond the number of steps.
#[derive(Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u64(&mut self, key: u64) {
        let mixed = (self.0 ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_commute_but_do_not_associate() {
        let mut shapes = Shapes::new(70);
        let (low, high) = (shapes.pair(0, 1).unwrap(), shapes.pair(1, 69).unwrap());
        assert_eq!(low, shapes.pair(1, 0).unwrap());
        assert_ne!(shapes.pair(low, 69).unwrap(), shapes.pair(0, high).unwrap());
        assert_ne!(shapes.many(&[0, 1]).unwrap(), low);
        assert_ne!(shapes.many(&[0, 1]).unwrap(), shapes.many(&[1, 0]).unwrap());
    }

    #[test]
    fn a_contribution_counts_once() {
        let mut shapes = Shapes::new(70);
        let high = shapes.pair(1, 69).unwrap();
        assert_eq!(shapes.pair(high, 69), Err(69));
        assert_eq!(shapes.many(&[0, high, 1]), Err(1));
        assert_eq!(shapes.members(high, true).collect::<Vec<_>>(), [1, 69]);
        assert_eq!(shapes.members(high, false).count(), 68);
    }
}
