//! Programs of MPI: MPI starts the ranks and carries the id by which they meet; what Dure does afterwards calls no MPI.

use mpi::traits::{Communicator as Ranks, Root as _};

use crate::communicator::Builder;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::unique_id::UniqueId;

/// Hexadecimal digits of an id.
const DIGITS: usize = 256;

impl UniqueId {
    /// An id that rank 0 of a communicator of MPI makes, the same on all its ranks. Collective.
    ///
    /// # Errors
    /// Those of [`UniqueId::new`], on rank 0; `Remote` on the others then.
    pub fn over_mpi(ranks: &impl Ranks, config: &Config) -> Result<Self> {
        let made = (ranks.rank() == 0).then(|| Self::new(config)).transpose();
        // Where there is none, the others must not wait for it.
        let mut digits = [0; DIGITS];
        if let Ok(Some(id)) = &made {
            digits.copy_from_slice(id.to_string().as_bytes());
        }
        ranks.process_at_rank(0).broadcast_into(&mut digits);
        match made? {
            Some(id) => Ok(id),
            None if digits[0] == 0 => {
                Err(Error::new(crate::ErrorKind::Remote, "rank 0 of MPI made no id")
                    .on(rank_of(ranks)))
            }
            None => String::from_utf8_lossy(&digits).parse(),
        }
    }
}

impl Builder {
    /// The ranks are those of a communicator of MPI, with its numbers, and meet by an id that travels over it. Collective. The
    /// settings come first: [`Builder::config`].
    ///
    /// # Errors
    /// As [`UniqueId::over_mpi`].
    pub fn over_mpi(self, ranks: &impl Ranks) -> Result<Self> {
        let id = UniqueId::over_mpi(ranks, self.settings())?;
        let size = u32::try_from(ranks.size()).expect("a number of ranks is not negative");
        Ok(self.rank(rank_of(ranks), size).meet_at(id))
    }
}

fn rank_of(ranks: &impl Ranks) -> u32 {
    u32::try_from(ranks.rank()).expect("a rank is not negative")
}
