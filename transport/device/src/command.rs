//! Work that waits: for a device's engine, or behind other work.

use crate::{Combine, Dtype, Memory, Scale, Stores, Work};

/// [`Work`] that owns what it names.
#[derive(Debug)]
pub(crate) struct Command {
    srcs: Vec<Memory>,
    dst: Memory,
    also: Option<Memory>,
    stores: Stores,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Copy,
    Reduce(Dtype, Combine),
    Scale(Dtype, Scale),
}

impl Command {
    /// The same work in pieces of one function each: what a reduction writes besides is a copy of what it wrote.
    pub(crate) fn pieces(work: &Work<'_>) -> [Option<Self>; 2] {
        let whole = Self::new(work);
        match (whole.also, &whole.kind) {
            (Some(also), Kind::Reduce(..)) => {
                let besides = Self::new(&Work::copy(whole.dst, also));
                [Some(Self { also: None, ..whole }), Some(besides)]
            }
            _ => [Some(whole), None],
        }
    }

    pub(crate) fn new(work: &Work<'_>) -> Self {
        let (kind, stores) = match *work {
            Work::Copy { stores, .. } => (Kind::Copy, stores),
            Work::Reduce { dtype, by, stores, .. } => (Kind::Reduce(dtype, by.clone()), stores),
            Work::Scale { dtype, by, .. } => (Kind::Scale(dtype, by), Stores::Cached),
        };
        let (srcs, dst, also) = (work.sources().to_vec(), work.destination(), work.also());
        Self { srcs, dst, also, stores, kind }
    }

    /// The same with each memory replaced.
    pub(crate) fn map(mut self, f: impl Fn(Memory) -> Memory) -> Self {
        self.srcs.iter_mut().for_each(|src| *src = f(*src));
        self.dst = f(self.dst);
        self.also = self.also.map(f);
        self
    }

    pub(crate) fn work(&self) -> Work<'_> {
        let Self { ref srcs, dst, also, stores, ref kind } = *self;
        let src = srcs[0];
        match *kind {
            Kind::Copy => Work::Copy { src, dst, also, stores },
            Kind::Reduce(dtype, ref by) => Work::Reduce { srcs, dst, also, dtype, by, stores },
            Kind::Scale(dtype, by) => Work::Scale { src, dst, dtype, by },
        }
    }
}
