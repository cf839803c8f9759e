//! The installed MPI beside Dure: it starts the ranks, carries the id by which they meet, and makes the same calls.

mod calls;

use std::mem::ManuallyDrop;
use std::os::unix::process::CommandExt;
use std::process::Command;

use dure::{Config, Launch, Request, UniqueId};
use mpi::Threading;
use mpi::environment::{self, Universe};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};

pub(crate) use self::calls::Calls;
use super::buffer::Arena;
use super::collective::{Case, Geometry};
use crate::output::Failure;

/// This process as a rank of MPI's.
pub(crate) struct Mpi {
    /// Ended by [`Mpi::finish`] only: ranks wait for one another there. One that failed leaves without, and `mpirun`
    /// then ends those that would wait for it.
    universe: ManuallyDrop<Universe>,
    world: SimpleCommunicator,
    library: String,
}

impl Mpi {
    /// Joins the job that `mpirun` started, which must have as many ranks as the user asked for, if they did.
    ///
    /// # Errors
    /// `Usage` when this MPI does not know of the ranks that were started.
    pub(crate) fn start(expected: Option<u32>, config: &Config) -> Result<Self, Failure> {
        // Asked first: MPI adds to the environment. With a place to meet, it says who this process is and nothing more;
        // where it is not understood, MPI may know better.
        let told = Launch::from_env(&config.clone().root(Some("MPI".to_owned())));
        let told = told.ok().flatten().map(|told| match told.launcher {
            "given" => ("DURE_SIZE", told.size),
            launcher => (launcher, told.size),
        });
        // Dure has threads, which call no MPI.
        let (universe, _) = mpi::initialize_with_threading(Threading::Funneled)
            .expect("nobody else in this program initializes MPI");
        let world = universe.world();
        let mpi = Self { universe: ManuallyDrop::new(universe), world, library: library() };
        let claims = expected.map(|size| ("--local", size));
        for (who, size) in claims.into_iter().chain(told) {
            if size != mpi.size() {
                return Err(mpi.other_launcher(size, who));
            }
        }
        Ok(mpi)
    }

    pub(crate) fn rank(&self) -> u32 {
        number(self.world.rank())
    }

    pub(crate) fn size(&self) -> u32 {
        number(self.world.size())
    }

    /// Name and version, as `Open MPI v4.1.4`.
    pub(crate) fn library(&self) -> &str {
        &self.library
    }

    /// An id made by rank 0, the same on all ranks. Collective.
    ///
    /// # Errors
    /// As [`UniqueId::over_mpi`].
    pub(crate) fn unique_id(&self, config: &Config) -> Result<UniqueId, Failure> {
        Ok(UniqueId::over_mpi(&self.world, config)?)
    }

    fn other_launcher(&self, ranks: u32, who: &str) -> Failure {
        Failure::Usage(format!(
            "{ranks} ranks according to {who}, {} according to MPI: start the program by the mpirun of {}, with which it was built",
            self.size(),
            self.library
        ))
    }

    pub(crate) fn barrier(&self) {
        self.world.barrier();
    }

    /// Whether MPI has calls for a case. All ranks get the same answer.
    pub(crate) fn serves(&self, case: &Case, geometry: &Geometry) -> bool {
        calls::serve(case, geometry)
    }

    /// The calls of `requests`, which name parts of `arenas` only, of a case that is served.
    pub(crate) fn calls<'a>(
        &self,
        requests: &[Request],
        arenas: &'a mut [Arena<'_>; 2],
    ) -> Calls<'a> {
        Calls::new(&self.world, requests, arenas)
    }

    /// Leaves the job. Collective.
    pub(crate) fn finish(self) {
        drop(ManuallyDrop::into_inner(self.universe));
    }
}

fn number(rank: mpi::Rank) -> u32 {
    u32::try_from(rank).expect("ranks and their number are not negative")
}

/// Name and version, of what MPI says of itself.
fn library() -> String {
    shortened(&environment::library_version().unwrap_or_default())
}

fn shortened(version: &str) -> String {
    let name = version.split([',', '\n']).next().unwrap_or_default();
    name.split_whitespace().filter(|word| *word != "Version:").collect::<Vec<_>>().join(" ")
}

/// Becomes `mpirun`, which starts `size` ranks of this program with the same flags. Comes back when it cannot.
pub(crate) fn become_mpirun(size: u32) -> Failure {
    let library = library();
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(source) => return Failure::system("the path of this program", source),
    };
    for name in launchers(&library) {
        let mut command = Command::new(name);
        command.arg("-n").arg(size.to_string()).arg(&program);
        command.args(std::env::args_os().skip(1)).arg("--under-mpirun").envs(PERMISSIONS);
        let error = command.exec();
        if error.kind() != std::io::ErrorKind::NotFound {
            return Failure::system(*name, error);
        }
    }
    Failure::Usage(format!(
        "--vs mpi: {} not found; start the ranks by the mpirun of {library}: mpirun -n {size} dure perf ... --vs mpi",
        launchers(&library).join(" and ")
    ))
}

/// Commands to try. Where several MPIs are installed, `mpirun` may be that of another one.
fn launchers(library: &str) -> &'static [&'static str] {
    match library {
        _ if library.starts_with("Open MPI") => &["mpirun.openmpi", "mpirun"],
        _ if library.starts_with("MPICH") => &["mpirun.mpich", "mpirun"],
        _ => &["mpirun"],
    }
}

/// What Open MPI, before and since version 5, refuses unless it is told: to start this very program as root, and more
/// ranks than cores.
const PERMISSIONS: [(&str, &str); 6] = [
    ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
    ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
    ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
    ("PRTE_ALLOW_RUN_AS_ROOT", "1"),
    ("PRTE_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
    ("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_have_short_names_and_launchers_of_their_own() {
        let open =
            shortened("Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4, May 26, 2022");
        let mpich = shortened("MPICH Version:\t4.0.2\nMPICH Release date:\tThu Apr  7 2022");
        assert_eq!((open.as_str(), mpich.as_str()), ("Open MPI v4.1.4", "MPICH 4.0.2"));
        assert_eq!(launchers(&open)[0], "mpirun.openmpi");
        assert_eq!(launchers(&mpich)[0], "mpirun.mpich");
        assert_eq!(launchers("Intel(R) MPI Library 2021.18 for Linux* OS"), ["mpirun"]);
    }
}
