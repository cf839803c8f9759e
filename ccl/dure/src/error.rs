//! The library's error: who must act, what happened, and which ranks it is about.

use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Who must act on an error. Each kind but `Timeout` and `Aborted` corresponds to one failure of `ncclResult_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller: one argument of this call, or one setting, cannot be.
    InvalidArgument,
    /// The caller: the call itself may not come here and now, or the ranks call different things.
    InvalidUsage,
    /// Whoever runs this host: the system refused something.
    System,
    /// Whoever runs the peer: it died, is unreachable, or sent what it may not send.
    Remote,
    /// Whoever runs the device: a copy or a reduction on it failed.
    Device,
    /// Something did not happen before the deadline; the text names what was waited for.
    Timeout,
    /// The caller or a peer ended the communicator on purpose.
    Aborted,
    /// The caller: this build, host or device cannot do it; something else can.
    Unsupported,
    /// Us: please report it.
    Internal,
}

/// What went wrong: the fields are those of [`Details`]. One word, so that the result of a call that went well is one too.
#[derive(Clone, Debug)]
pub struct Error(Box<Details>);

/// What there is to know about an error.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Details {
    /// Who must act.
    pub kind: ErrorKind,
    /// What happened, for people, without the causes below it.
    pub what: String,
    /// The rank that saw it.
    pub rank: Option<u32>,
    /// The rank that it is about.
    pub peer: Option<u32>,
    /// The cause.
    pub source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of a kind; `on`, `about` and `because` complete it.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self(Box::new(Details { kind, what: what.into(), rank: None, peer: None, source: None }))
    }

    /// [`ErrorKind::InvalidArgument`].
    pub fn invalid_argument(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, what)
    }

    /// [`ErrorKind::InvalidUsage`].
    pub fn invalid_usage(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidUsage, what)
    }

    /// [`ErrorKind::System`].
    pub fn system(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::System, what)
    }

    /// [`ErrorKind::Remote`].
    pub fn remote(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Remote, what)
    }

    /// [`ErrorKind::Device`].
    pub fn device(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Device, what)
    }

    /// [`ErrorKind::Timeout`].
    pub fn timeout(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Timeout, what)
    }

    /// [`ErrorKind::Aborted`].
    pub fn aborted(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Aborted, what)
    }

    /// [`ErrorKind::Unsupported`].
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, what)
    }

    /// [`ErrorKind::Internal`].
    pub fn internal(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, what)
    }

    /// Says which rank saw it.
    #[must_use]
    pub fn on(mut self, rank: u32) -> Self {
        self.rank = Some(rank);
        self
    }

    /// Says which rank it is about.
    #[must_use]
    pub fn about(mut self, peer: u32) -> Self {
        self.peer = Some(peer);
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The error and its causes on one line, for places that print no chain of sources.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

impl Deref for Error {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl DerefMut for Error {
    fn deref_mut(&mut self) -> &mut Details {
        &mut self.0
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?}", self.what, self.kind)?;
        if let Some(rank) = self.rank {
            write!(f, ", rank {rank}")?;
        }
        if let Some(peer) = self.peer {
            write!(f, ", peer {peer}")?;
        }
        f.write_str(")")
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_kind_rank_and_peer() {
        let error = Error::remote("the connection is lost").on(3).about(7);
        assert_eq!(error.to_string(), "the connection is lost (Remote, rank 3, peer 7)");
        assert_eq!(Error::timeout("late").to_string(), "late (Timeout)");
    }

    #[test]
    fn chain_prints_the_causes() {
        let cause = std::io::Error::other("no route");
        let error = Error::system("connect").on(1).because(cause);
        assert_eq!(error.chain(), "connect (System, rank 1): no route");
    }
}
