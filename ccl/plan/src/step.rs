//! Steps: what one rank does, in order.

use std::fmt::{self, Display};

/// Number of a member of a communicator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rank(pub u32);

/// Which buffer of a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Buf {
    /// What the caller gives. Never written, unless the call is in place and the chunk is one of `Output` too.
    Input,
    /// What the caller gets.
    Output,
    /// Room of the executor's, for one pass.
    Scratch,
}

/// A run of chunks of one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Chunks {
    /// The buffer.
    pub buf: Buf,
    /// The first chunk.
    pub first: u32,
    /// How many; 0 only for a message without data (a barrier's).
    pub len: u32,
}

/// `len` chunks of the input from `first`.
pub const fn input(first: u32, len: u32) -> Chunks {
    Chunks { buf: Buf::Input, first, len }
}

/// `len` chunks of the output from `first`.
pub const fn output(first: u32, len: u32) -> Chunks {
    Chunks { buf: Buf::Output, first, len }
}

/// `len` chunks of the scratch from `first`.
pub const fn scratch(first: u32, len: u32) -> Chunks {
    Chunks { buf: Buf::Scratch, first, len }
}

/// One step of one rank on one lane. The k-th `Send` on an edge meets the k-th receive on it; there are no tags.
///
/// A message is the bytes of its chunks, one after the other. In a pass in which those chunks are all empty, the
/// message is not sent and not awaited (both sides see it); a message of no chunks always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Send chunks. The step is done when the message is posted: the source may still be read after it, and the
    /// executor holds back a later step that would overwrite it.
    Send {
        /// To whom.
        to: Rank,
        /// What.
        src: Chunks,
    },
    /// Receive chunks: `dst = message`.
    Recv {
        /// From whom.
        from: Rank,
        /// Where to.
        dst: Chunks,
    },
    /// Receive and reduce: `dst = with op message`.
    RecvReduce {
        /// From whom.
        from: Rank,
        /// The local operand; as long as `dst`, and often `dst` itself.
        with: Chunks,
        /// Where to.
        dst: Chunks,
    },
    /// `dst = src`. Nothing to do when the call is in place and both are the same memory.
    Copy {
        /// What.
        src: Chunks,
        /// Where to; as long as `src`.
        dst: Chunks,
    },
    /// `dst = srcs[0] op srcs[1] op ...`, in that order, rounded once.
    Reduce {
        /// The sources.
        srcs: Sources,
        /// Where to.
        dst: Chunks,
    },
}

/// Sources of a [`Step::Reduce`]: `groups` operands, each as long as the destination. Operand `at` is `own`; the
/// others are runs of the scratch: operand `g` begins at scratch chunk `first + g * len`, so that there is a hole for
/// operand `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sources {
    /// Scratch chunk at which operand 0 begins (or would).
    pub first: u32,
    /// Number of operands.
    pub groups: u32,
    /// Which operand is `own`.
    pub at: u32,
    /// The operand that is not in the scratch.
    pub own: Chunks,
}

impl Display for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "in",
            Self::Output => "out",
            Self::Scratch => "scratch",
        })
    }
}

/// `in[3]`, `out[2..4]`.
impl Display for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { buf, first, len } = *self;
        match len {
            1 => write!(f, "{buf}[{first}]"),
            _ => write!(f, "{buf}[{first}..{}]", u64::from(first) + u64::from(len)),
        }
    }
}

/// A line of the text form: `send 1 in[0]`, `recv 3 out[2..4]`, `recv-reduce 3 in[1] out[1]`, `copy in[0] out[0]`,
/// `reduce out[0] = scratch[0] in[0] scratch[2]`.
impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Send { to, src } => write!(f, "send {} {src}", to.0),
            Self::Recv { from, dst } => write!(f, "recv {} {dst}", from.0),
            Self::RecvReduce { from, with, dst } => {
                write!(f, "recv-reduce {} {with} {dst}", from.0)
            }
            Self::Copy { src, dst } => write!(f, "copy {src} {dst}"),
            Self::Reduce { srcs, dst } => {
                write!(f, "reduce {dst} =")?;
                (0..srcs.groups)
                    .try_for_each(|group| write!(f, " {}", srcs.operand(group, dst.len)))
            }
        }
    }
}

impl Step {
    /// The peer with whom it exchanges a message.
    pub const fn peer(&self) -> Option<Rank> {
        match *self {
            Self::Send { to: peer, .. }
            | Self::Recv { from: peer, .. }
            | Self::RecvReduce { from: peer, .. } => Some(peer),
            Self::Copy { .. } | Self::Reduce { .. } => None,
        }
    }

    /// Whether it sends the same chunks as the step directly before it: what several peers get can be written once for all
    /// of them.
    pub fn sends_again(&self, before: &Self) -> bool {
        matches!((before, self), (Self::Send { src: one, .. }, Self::Send { src: other, .. }) if one == other)
    }
}

impl Sources {
    /// Operand `group` of a reduction to `len` chunks.
    pub const fn operand(self, group: u32, len: u32) -> Chunks {
        if group == self.at {
            self.own
        } else {
            scratch(self.first.saturating_add(group.saturating_mul(len)), len)
        }
    }
}
