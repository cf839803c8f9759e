//! In place of `mpi/` in a build without the feature `mpi`: there is no MPI to start, and so no value of these types.

use std::convert::Infallible;

use dure::{Config, Request, UniqueId};

use super::buffer::Arena;
use super::collective::{Case, Geometry};
use crate::output::Failure;

pub(crate) struct Mpi(Infallible);

pub(crate) struct Calls(Infallible);

fn absent() -> Failure {
    Failure::Usage(
        "--vs mpi: this program was built without MPI; install an MPI and libclang, build it with \
         `cargo build --release -p dure-perf --features mpi`, and start it by `mpirun -n 2 dure perf ... --vs mpi`"
            .to_owned(),
    )
}

pub(crate) fn become_mpirun(_size: u32) -> Failure {
    absent()
}

impl Mpi {
    pub(crate) fn start(_expected: Option<u32>, _config: &Config) -> Result<Self, Failure> {
        Err(absent())
    }

    pub(crate) fn library(&self) -> &str {
        match self.0 {}
    }

    pub(crate) fn rank(&self) -> u32 {
        match self.0 {}
    }

    pub(crate) fn size(&self) -> u32 {
        match self.0 {}
    }

    pub(crate) fn unique_id(&self, _config: &Config) -> Result<UniqueId, Failure> {
        match self.0 {}
    }

    pub(crate) fn barrier(&self) {
        match self.0 {}
    }

    pub(crate) fn serves(&self, _case: &Case, _geometry: &Geometry) -> bool {
        match self.0 {}
    }

    pub(crate) fn calls(&self, _requests: &[Request], _arenas: &mut [Arena<'_>; 2]) -> Calls {
        match self.0 {}
    }

    pub(crate) fn finish(self) {
        match self.0 {}
    }
}

impl Calls {
    pub(crate) fn make(&self) {
        match self.0 {}
    }
}
