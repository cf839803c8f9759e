//! What every device checks before it does a piece of work.

use std::slice;

use crate::{Dtype, Error, Memory, Result, Scale, Work};

impl Work<'_> {
    /// What is read, in order.
    pub(crate) const fn sources(&self) -> &[Memory] {
        match self {
            Self::Copy { src, .. } | Self::Scale { src, .. } => slice::from_ref(src),
            Self::Reduce { srcs, .. } => srcs,
        }
    }

    /// What is written.
    pub(crate) const fn destination(&self) -> Memory {
        match *self {
            Self::Copy { dst, .. } | Self::Reduce { dst, .. } | Self::Scale { dst, .. } => dst,
        }
    }

    /// What is written besides.
    pub(crate) const fn also(&self) -> Option<Memory> {
        match *self {
            Self::Copy { also, .. } | Self::Reduce { also, .. } => also,
            Self::Scale { .. } => None,
        }
    }

    /// Checks the work: its lengths fit together, nothing overlaps that may not, the operation is defined, and all
    /// memory `is_mine`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] or [`Error::NotMine`], in the name of `device`.
    ///
    /// # Panics
    /// When lengths differ or are not of whole elements, when there is no source, when a source overlaps a destination
    /// without being it, or when two destinations overlap: mistakes of ours that would corrupt memory.
    #[inline]
    pub(crate) fn check(&self, device: &str, is_mine: impl Fn(Memory) -> bool) -> Result<()> {
        let (srcs, dst, also) = (self.sources(), self.destination(), self.also());
        let fits = |dst| is_mine(dst) && srcs.iter().all(|src| may_become(*src, dst));
        let sound = !srcs.is_empty()
            && srcs.iter().all(|src| src.len == dst.len && is_mine(*src))
            && fits(dst)
            && also.is_none_or(|also| fits(also) && also.len == dst.len && !also.overlaps(dst))
            && self.whole_elements()
            && self.unsupported().is_none();
        if sound { Ok(()) } else { Err(self.flaw(device, &is_mine)) }
    }

    /// What is wrong with work that is not sound.
    ///
    /// # Panics
    /// As for [`Work::check`].
    #[cold]
    fn flaw(&self, device: &str, is_mine: &dyn Fn(Memory) -> bool) -> Error {
        let (srcs, dst, also) = (self.sources(), self.destination(), self.also());
        assert!(!srcs.is_empty(), "a reduction has at least one source");
        for dst in [dst].into_iter().chain(also) {
            for src in srcs {
                assert_eq!(src.len, dst.len, "sources are as long as the destination");
                assert!(may_become(*src, dst), "a source is the destination or disjoint from it");
            }
        }
        assert!(also.is_none_or(|also| !also.overlaps(dst)), "destinations are disjoint");
        let mut named = srcs.iter().copied().chain([dst]).chain(also);
        if let Some(memory) = named.find(|&memory| !is_mine(memory)) {
            return Error::NotMine { device: device.to_owned(), address: memory.address() };
        }
        assert!(self.whole_elements(), "{} bytes are no whole number of elements", dst.len);
        let (dtype, what) = self.unsupported().expect("there is nothing else to be wrong");
        Error::Unsupported { device: device.to_owned(), what, dtype }
    }

    /// Whether it is of whole elements.
    #[inline]
    const fn whole_elements(&self) -> bool {
        match *self {
            Self::Copy { .. } => true,
            Self::Reduce { dst, dtype, .. } | Self::Scale { dst, dtype, .. } => {
                dtype.divides(dst.len)
            }
        }
    }

    /// What is not defined on the type, if it is not.
    #[inline]
    fn unsupported(&self) -> Option<(Dtype, &'static str)> {
        match *self {
            Self::Copy { .. } => None,
            Self::Reduce { dtype, by, .. } => {
                (!by.serves(dtype)).then_some((dtype, "reduce bit by bit"))
            }
            Self::Scale { dtype, by, .. } => by.refuses(dtype).map(|what| (dtype, what)),
        }
    }
}

/// Whether `src` is `dst` or disjoint from it.
#[inline]
fn may_become(src: Memory, dst: Memory) -> bool {
    src.ptr == dst.ptr || !src.overlaps(dst)
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
