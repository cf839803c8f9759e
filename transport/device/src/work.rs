//! What every device checks before it does a piece of work.

use std::slice;

use crate::{Dtype, Error, Memory, Result, Scale, Work};

impl Work<'_> {
    /// What is read, in order.
    pub(crate) fn sources(&self) -> &[Memory] {
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

    /// All memory that it names.
    pub(crate) fn memory(&self) -> impl Iterator<Item = Memory> {
        self.sources().iter().copied().chain([self.destination()]).chain(self.also())
    }

    /// Checks the shape of the work: its lengths fit together, and the operation is defined.
    ///
    /// # Errors
    /// [`Error::Unsupported`], in the name of `device`.
    ///
    /// # Panics
    /// When lengths differ or are not of whole elements, when there is no source, when a source overlaps a destination
    /// without being it, or when two destinations overlap: mistakes of ours that would corrupt memory.
    pub(crate) fn check(&self, device: &str) -> Result<()> {
        let dst = self.destination();
        assert!(!self.sources().is_empty(), "a reduction has at least one source");
        for dst in [dst].into_iter().chain(self.also()) {
            for src in self.sources() {
                assert_eq!(src.len, dst.len, "sources are as long as the destination");
                assert!(
                    src.ptr == dst.ptr || !src.overlaps(dst),
                    "a source is the destination or disjoint from it"
                );
            }
        }
        assert!(self.also().is_none_or(|also| !also.overlaps(dst)), "destinations are disjoint");
        let (dtype, unsupported) = match *self {
            Self::Copy { .. } => return Ok(()),
            Self::Reduce { dtype, by, .. } => {
                (dtype, (!by.serves(dtype)).then_some("reduce bit by bit"))
            }
            Self::Scale { dtype, by, .. } => (dtype, by.refuses(dtype)),
        };
        assert_eq!(dst.len % dtype.size(), 0, "{} bytes are no whole number of {dtype}", dst.len);
        unsupported.map_or(Ok(()), |what| {
            Err(Error::Unsupported { device: device.to_owned(), what, dtype })
        })
    }
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
