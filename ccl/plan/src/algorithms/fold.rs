//! Folding: algorithms that pair ranks by the bits of their numbers want a power of two. If there are more ranks, the
//! first ones pair up: the odd one of a pair gives what it has to the even one, its hub, and gets the result from it.
//!
//! Thakur, Rabenseifner and Gropp, 2005, section 4.5. What pairs up is next to each other, so usually on one host.

/// `n` members, folded onto the largest power of two that is not above `n`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fold {
    n: u32,
    /// Members that are left, a power of two.
    pub(super) core: u32,
    /// Members that are folded away.
    extra: u32,
}

/// What a member does in a fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It only talks to its hub.
    Folded {
        /// The member that stands for it.
        hub: u32,
    },
    /// It is member `v` of the core.
    Core {
        /// Its number there.
        v: u32,
        /// The member that it stands for besides itself.
        folded: Option<u32>,
    },
}

impl Fold {
    pub(super) fn new(n: u32) -> Self {
        let core = 1 << n.ilog2();
        Self { n, core, extra: n - core }
    }

    pub(super) fn role(self, me: u32) -> Role {
        if me >= 2 * self.extra {
            Role::Core { v: me - self.extra, folded: None }
        } else if me.is_multiple_of(2) {
            Role::Core { v: me / 2, folded: Some(me + 1) }
        } else {
            Role::Folded { hub: me - 1 }
        }
    }

    /// The member that is number `v` of the core. All members below it belong to smaller numbers, so that an interval
    /// of the core is an interval of members; `core` itself gives `n`.
    pub(super) fn member(self, v: u32) -> u32 {
        if v < self.extra { 2 * v } else { (v + self.extra).min(self.n) }
    }

    /// The members that the numbers of the core from `v` on, `len` of them, stand for: the first one and how many.
    pub(super) fn members(self, v: u32, len: u32) -> (u32, u32) {
        let first = self.member(v);
        (first, self.member(v + len) - first)
    }

    /// Distances in the core: 1, 2, 4, ... half of it.
    pub(super) fn distances(self) -> impl DoubleEndedIterator<Item = u32> {
        (0..self.core.ilog2()).map(|k| 1 << k)
    }
}
