//! Worlds to prove plans in.

use std::fmt::{self, Display};

use dure_plan::World;

/// How ranks lie on hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// On this many hosts, neighbours together; the first hosts have one rank more if it does not divide.
    Blocks(u32),
    /// On this many hosts, in turn.
    InTurn(u32),
}

impl Placement {
    /// `ranks` ranks in this placement; at most as many hosts as ranks are used.
    pub(super) fn world(self, ranks: u32, lanes: u16) -> World {
        let host = |rank: u32| match self {
            Self::Blocks(hosts) => {
                let hosts = hosts.min(ranks);
                let (each, more) = (ranks / hosts, ranks % hosts);
                let with_more = more * (each + 1);
                if rank < with_more { rank / (each + 1) } else { more + (rank - with_more) / each }
            }
            Self::InTurn(hosts) => rank % hosts.min(ranks),
        };
        World { ranks, host_of: (0..ranks).map(host).collect(), lanes }
    }
}

impl Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocks(1) => f.write_str("1 host"),
            Self::Blocks(hosts) => write!(f, "{hosts} hosts"),
            Self::InTurn(hosts) => write!(f, "{hosts} hosts in turn"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_numbered_as_they_appear_and_even() {
        assert_eq!(*Placement::Blocks(2).world(5, 1).host_of, [0, 0, 0, 1, 1]);
        assert_eq!(*Placement::Blocks(3).world(4, 1).host_of, [0, 0, 1, 2]);
        assert_eq!(*Placement::InTurn(2).world(5, 1).host_of, [0, 1, 0, 1, 0]);
        assert_eq!(*Placement::Blocks(9).world(2, 1).host_of, [0, 1]);
    }
}
