//! What became of the ranks.

use std::fmt::{self, Display};
use std::time::Instant;

use dure::ErrorKind;

/// A line that a rank said.
#[derive(Clone, Debug)]
pub struct Said {
    /// When it was heard.
    pub at: Instant,
    /// The line.
    pub text: String,
}

/// An error of the library, as a rank reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Who must act.
    pub kind: ErrorKind,
    /// The rank that it is about.
    pub peer: Option<u32>,
    /// The error and its causes.
    pub text: String,
}

/// How a rank ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The scenario returned well.
    Well,
    /// The scenario, or making the communicator, returned an error.
    Failed(Failure),
    /// It panicked, was killed, or was still there at the deadline: the text says which.
    Died(String),
}

/// One rank's end and what it said before.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Number of the rank.
    pub rank: u32,
    /// How it ended.
    pub ended: Ended,
    /// When it reported its end, or when its end was seen.
    pub at: Instant,
    /// What it said.
    pub said: Vec<Said>,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// What became of all ranks, in the order in which they were started.
#[derive(Clone, Debug)]
pub struct Report {
    /// One a rank.
    pub outcomes: Vec<Outcome>,
}

const KINDS: [ErrorKind; 9] = [
    ErrorKind::InvalidArgument,
    ErrorKind::InvalidUsage,
    ErrorKind::System,
    ErrorKind::Remote,
    ErrorKind::Device,
    ErrorKind::Timeout,
    ErrorKind::Aborted,
    ErrorKind::Unsupported,
    ErrorKind::Internal,
];

impl Failure {
    /// An error of the library.
    pub fn new(error: &dure::Error) -> Self {
        Self { kind: error.kind, peer: error.peer, text: error.chain() }
    }

    /// One line: kind, peer or `-`, text.
    pub(crate) fn to_line(&self) -> String {
        let peer = self.peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string());
        format!("{:?} {peer} {}", self.kind, self.text.replace('\n', " "))
    }

    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let mut words = line.splitn(3, ' ');
        let name = words.next()?;
        let kind = KINDS.into_iter().find(|kind| format!("{kind:?}") == name)?;
        let peer = words.next()?.parse().ok();
        Some(Self { kind, peer, text: words.next()?.to_owned() })
    }
}

impl Report {
    /// The outcome of the first process that was started as this rank.
    ///
    /// # Panics
    /// When there is no such rank.
    pub fn of(&self, rank: u32) -> &Outcome {
        self.outcomes.iter().find(|o| o.rank == rank).expect("the rank was started")
    }

    /// The error of a rank.
    ///
    /// # Panics
    /// When it ended in another way.
    pub fn failure(&self, rank: u32) -> &Failure {
        match &self.of(rank).ended {
            Ended::Failed(failure) => failure,
            _ => panic!("rank {rank} reported no error:\n{self}"),
        }
    }

    /// Checks that every rank ended well.
    ///
    /// # Panics
    /// When one did not.
    pub fn expect_well(&self) {
        assert!(
            self.outcomes.iter().all(|o| o.ended == Ended::Well),
            "not all ended well:\n{self}"
        );
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Outcome { rank, ended, said, stderr, .. } in &self.outcomes {
            match ended {
                Ended::Well => writeln!(f, "rank {rank}: well")?,
                Ended::Failed(failure) => writeln!(f, "rank {rank}: {}", failure.to_line())?,
                Ended::Died(how) => writeln!(f, "rank {rank}: died: {how}")?,
            }
            for line in said {
                writeln!(f, "  said {}", line.text)?;
            }
            for line in stderr.lines() {
                writeln!(f, "  wrote {line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_travel_as_lines() {
        for error in [dure::Error::remote("it is\ngone").about(3), dure::Error::timeout("late")] {
            let failure = Failure::new(&error);
            let again = Failure::from_line(&failure.to_line()).unwrap();
            assert_eq!(again, Failure { text: failure.text.replace('\n', " "), ..failure });
        }
        assert_eq!(Failure::from_line("Nonsense - text"), None);
    }
}
