//! What every device checks before it does a piece of work.

use std::slice;

use crate::{Dtype, Error, Memory, Result, Scale, Work};

impl Work<'_> {
    /// What is read, in order.
    #[inline(always)]
    pub(crate) const fn sources(&self) -> &[Memory] {
        match self {
            Self::Copy { src, .. } | Self::Scale { src, .. } => slice::from_ref(src),
            Self::Reduce { srcs, .. } => srcs,
        }
    }

    /// What is written.
    #[inline(always)]
    pub(crate) const fn destination(&self) -> Memory {
        match *self {
            Self::Copy { dst, .. } | Self::Reduce { dst, .. } | Self::Scale { dst, .. } => dst,
        }
    }

    /// What is written besides.
    #[inline(always)]
    pub(crate) const fn also(&self) -> Option<Memory> {
        match *self {
            Self::Copy { also, .. } | Self::Reduce { also, .. } => also,
            Self::Scale { .. } => None,
        }
    }

    /// Checks the shape of the work: its lengths fit together, the operation is defined, and all memory `is_mine`. Short
    /// for small work: it is a part of the latency of every message.
    ///
    /// # Errors
    /// [`Error::Unsupported`] or [`Error::NotMine`], in the name of `device`.
    ///
    /// # Panics
    /// When lengths differ or are not of whole elements, when there is no source, when a source overlaps a destination
    /// without being it, or when two destinations overlap: mistakes of ours that would corrupt memory.
    #[inline(always)]
    pub(crate) fn check(&self, device: &str, is_mine: impl Fn(Memory) -> bool) -> Result<()> {
        let (srcs, dst) = (self.sources(), self.destination());
        assert!(!srcs.is_empty(), "a reduction has at least one source");
        let mut foreign = (!is_mine(dst)).then_some(dst);
        for &src in srcs {
            may_become(src, dst);
            if !is_mine(src) {
                foreign = Some(src);
            }
        }
        if let Some(also) = self.also() {
            srcs.iter().for_each(|&src| may_become(src, also));
            assert!(!also.overlaps(dst), "destinations are disjoint");
            if !is_mine(also) {
                foreign = Some(also);
            }
        }
        if let Some(unsupported) = self.unsupported(device, dst.len) {
            return Err(unsupported);
        }
        foreign.map_or(Ok(()), |memory| Err(Error::not_mine(device, memory)))
    }

    /// The error, if the operation is not defined on the type.
    #[inline(always)]
    fn unsupported(&self, device: &str, len: usize) -> Option<Error> {
        let (dtype, what) = match *self {
            Self::Copy { .. } => return None,
            Self::Reduce { dtype, by, .. } => {
                (dtype, (!by.serves(dtype)).then_some("reduce bit by bit"))
            }
            Self::Scale { dtype, by, .. } => (dtype, by.refuses(dtype)),
        };
        // A size is a power of two: no division.
        assert_eq!(len & (dtype.size() - 1), 0, "{len} bytes are no whole number of {dtype}");
        what.map(|what| Error::Unsupported { device: device.to_owned(), what, dtype })
    }
}

/// Panics when `src` may not be copied to `dst`.
#[inline(always)]
fn may_become(src: Memory, dst: Memory) {
    assert_eq!(src.len, dst.len, "sources are as long as the destination");
    assert!(
        src.ptr == dst.ptr || !src.overlaps(dst),
        "a source is the destination or disjoint from it"
    );
}

impl Scale {
    /// What it cannot do on the type, if it cannot.
    const fn refuses(self, dtype: Dtype) -> Option<&'static str> {
        match self {
            Self::ByInteger(_) if dtype.is_float() => Some("multiply by an integer"),
            Self::Over(0) => Some("divide by zero"),
            _ => None,
        }
    }
}
