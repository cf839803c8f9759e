//! The pool that the flags name, for the wire through memory that hosts share.

use std::path::PathBuf;

use clap::ValueEnum;
use dure_pool::cxl::{self, Cxl, Isa};
use dure_transport::Peer;
use serde::{Deserialize, Serialize};

use super::net::{ID, failed};
use super::test::Kind;
use crate::output::Failure;

/// By what hosts see each other's stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Coherence {
    /// Lines are flushed.
    #[default]
    Software,
    /// Caches are coherent: one host, or back-invalidation.
    Hardware,
}

/// A partition of a pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    /// As this host names them.
    pub(super) devices: Vec<PathBuf>,
    pub(super) partition: u32,
    pub(super) coherence: Coherence,
}

impl From<cxl::Coherence> for Coherence {
    fn from(of: cxl::Coherence) -> Self {
        match of {
            cxl::Coherence::Hardware => Self::Hardware,
            cxl::Coherence::Software => Self::Software,
        }
    }
}

impl From<Coherence> for cxl::Coherence {
    fn from(of: Coherence) -> Self {
        match of {
            Coherence::Hardware => Self::Hardware,
            Coherence::Software => Self::Software,
        }
    }
}

impl Pool {
    /// Opens the transport of one of so many ranks, which is the member of its number.
    pub(super) fn open(&self, rank: u32, ranks: u32) -> Result<Cxl, Failure> {
        let options = cxl::Options {
            partition: self.partition,
            coherence: self.coherence.into(),
            job: ID,
            ..cxl::Options::new(self.devices.clone(), Peer(rank), ranks)
        };
        Cxl::open(&options).map_err(|error| failed(Kind::Cxl, error))
    }

    /// The devices, as they were named.
    pub(super) fn names(&self) -> String {
        let names = self.devices.iter().map(|path| path.display().to_string());
        names.collect::<Vec<_>>().join(",")
    }

    /// The instructions that store, write back and drop lines here; none where caches are coherent.
    pub(super) fn instructions(&self) -> Option<[&'static str; 3]> {
        let flushed = self.coherence == Coherence::Software;
        Isa::detect().filter(|_| flushed).map(Isa::names)
    }
}
