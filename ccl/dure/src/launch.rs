//! Who this process is and where the job meets, from the environment that a launcher leaves.
//!
//! | launcher | rank and size | meeting place without `DURE_ROOT` |
//! |---|---|---|
//! | given | `DURE_RANK`, `DURE_SIZE` | none: `DURE_ROOT` is needed |
//! | torchrun | `RANK`, `WORLD_SIZE` | `MASTER_ADDR`, at the port after `MASTER_PORT`, which is the one of torch's own store |
//! | Open MPI | `OMPI_COMM_WORLD_RANK`, `OMPI_COMM_WORLD_SIZE` | on one host: loopback, at a port that follows from the job's name |
//! | MPICH | `PMI_RANK`, `PMI_SIZE` | none: `DURE_ROOT` is needed |
//! | PMIx | `PMIX_RANK`, `DURE_SIZE` | none: `DURE_ROOT` is needed |
//! | Slurm | `SLURM_PROCID`, `SLURM_NTASKS` | the first host of the step, at a port that follows from job and step |
//!
//! The first that is there counts: a job script under Slurm may well start `mpirun`, and that may start `torchrun`.
//! Ports that follow from something are in 20000 to 29999, below those that Linux gives to outgoing connections.

use std::collections::BTreeMap;

use dure_topology::fabric::expand;
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::unique_id::UniqueId;

/// First of the ports that follow from a job's name, and how many there are.
const PORTS: (u64, u64) = (20_000, 10_000);

/// What a launcher told this process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Launch {
    /// Number of this process.
    pub rank: u32,
    /// Number of processes.
    pub size: u32,
    /// Number of this process among those of its host, when known.
    pub local_rank: Option<u32>,
    /// Number of processes on this host, when known.
    pub local_size: Option<u32>,
    /// Where the job meets: `host:port`, or a unique id as text. `None` in a job of one process.
    pub root: Option<String>,
    /// Who started it: `given`, `torchrun`, `Open MPI`, `MPICH`, `PMIx`, `Slurm`.
    pub launcher: &'static str,
    secret: Secret,
}

/// Where the job's secret comes from.
#[derive(Clone, PartialEq, Eq)]
enum Secret {
    Given(String),
    /// Names of what it is derived from, and the text.
    Weak(&'static str, String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Given(_) => f.write_str("given"),
            Self::Weak(from, _) => write!(f, "derived from {from}"),
        }
    }
}

impl Launch {
    /// From the process's environment; `None` when no launcher is recognised.
    ///
    /// # Errors
    /// As [`Launch::from_pairs`].
    pub fn from_env(config: &Config) -> Result<Option<Self>> {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self::from_pairs(config, std::env::vars_os().map(|(name, value)| (text(name), text(value))))
    }

    /// From names and values; `config` holds what the `DURE_` variables say.
    ///
    /// # Errors
    /// `InvalidArgument` names the variables that are missing, wrong, or contradict each other.
    pub fn from_pairs(
        config: &Config,
        pairs: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Option<Self>> {
        let environment =
            Environment(pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect());
        let Some(found) = Found::find(config, &environment)? else { return Ok(None) };
        found.check(config)?;
        let root = match (&config.root, found.size) {
            (Some(root), _) => Some(root.clone()),
            (None, 1) => None,
            (None, _) => Some(found.place.clone()?),
        };
        let secret = match &config.secret {
            Some(secret) => Secret::Given(secret.0.clone()),
            None => Secret::Weak(
                found.job.0,
                found.job.1.clone().or_else(|| root.clone()).unwrap_or_default(),
            ),
        };
        let Found { launcher, rank, size, local_rank, local_size, .. } = found;
        Ok(Some(Self { rank, size, local_rank, local_size, root, launcher, secret }))
    }

    /// The job's id. `None` in a job of one process that was given no meeting place.
    ///
    /// # Errors
    /// `InvalidArgument` when the meeting place is neither `host:port` nor an id.
    pub fn unique_id(&self) -> Result<Option<UniqueId>> {
        let Some(root) = &self.root else { return Ok(None) };
        // An id has no colon, a place has one.
        if !root.contains(':') {
            return root.parse().map(Some);
        }
        let secret = match &self.secret {
            Secret::Given(secret) => secret,
            Secret::Weak(from, secret) => {
                tracing::warn!(
                    target: "dure::init",
                    "the job's secret is derived from {from}, which others may know: set DURE_SECRET to the same text on all ranks"
                );
                secret
            }
        };
        UniqueId::from_root(root, secret).map(Some)
    }
}

/// What one launcher's variables say.
struct Found {
    launcher: &'static str,
    /// Names of the variables of rank and size, for messages.
    names: (&'static str, &'static str),
    rank: u32,
    size: u32,
    local_rank: Option<u32>,
    local_size: Option<u32>,
    /// The meeting place, or why there is none.
    place: Result<String>,
    /// What tells this job from others, and the name of where that is from.
    job: (&'static str, Option<String>),
}

impl Found {
    fn find(config: &Config, environment: &Environment) -> Result<Option<Self>> {
        let launchers = [torchrun, open_mpi, mpich, pmix, slurm];
        if let Some(rank) = config.rank {
            return given(config, rank).map(Some);
        }
        for launcher in launchers {
            if let Some(found) = launcher(config, environment)? {
                return Ok(Some(found));
            }
        }
        if config.size.is_some() {
            return Err(Error::invalid_argument(
                "DURE_SIZE is set, but DURE_RANK is not, and no launcher is recognised",
            ));
        }
        Ok(None)
    }

    fn check(&self, config: &Config) -> Result<()> {
        let (rank, size) = self.names;
        if let Some(expected) = config.size.filter(|&expected| expected != self.size) {
            let what = format!(
                "DURE_SIZE={expected} contradicts {size}={} of {}",
                self.size, self.launcher
            );
            return Err(Error::invalid_argument(what));
        }
        if self.rank >= self.size {
            let what = format!("{rank}={} is not below {size}={}", self.rank, self.size);
            return Err(Error::invalid_argument(what));
        }
        Ok(())
    }
}

/// No address is to be had from this launcher.
fn no_place(launcher: &str) -> Error {
    Error::invalid_argument(format!(
        "{launcher} does not say where the ranks can meet: set DURE_ROOT=HOST:PORT, with the host of rank 0, on all ranks"
    ))
}

fn given(config: &Config, rank: u32) -> Result<Found> {
    let size = config
        .size
        .ok_or_else(|| Error::invalid_argument("DURE_RANK is set, but DURE_SIZE is not"))?;
    let place =
        Err(Error::invalid_argument("DURE_RANK and DURE_SIZE are set, but DURE_ROOT is not"));
    Ok(Found {
        launcher: "given",
        names: ("DURE_RANK", "DURE_SIZE"),
        rank,
        size,
        local_rank: None,
        local_size: None,
        place,
        job: ("DURE_ROOT", None),
    })
}

fn torchrun(_: &Config, environment: &Environment) -> Result<Option<Found>> {
    let names = ("RANK", "WORLD_SIZE");
    // Both names are so general that one alone means nothing.
    if environment.get(names.0).is_none() || environment.get(names.1).is_none() {
        return Ok(None);
    }
    let (rank, size) = environment.pair(names)?;
    if environment.get("TORCHELASTIC_RUN_ID").is_none()
        && let Some(other) =
            environment.number("OMPI_COMM_WORLD_RANK")?.filter(|&other| other != rank)
    {
        let what = format!("RANK={rank} contradicts OMPI_COMM_WORLD_RANK={other}");
        return Err(Error::invalid_argument(what));
    }
    let place = || {
        let missing =
            |name| Error::invalid_argument(format!("{name} is not set, and neither is DURE_ROOT"));
        let host = environment.get("MASTER_ADDR").ok_or_else(|| missing("MASTER_ADDR"))?;
        let port = environment.number("MASTER_PORT")?.ok_or_else(|| missing("MASTER_PORT"))?;
        let port = u16::try_from(port).ok().and_then(|port| port.checked_add(1));
        let port = port.ok_or_else(|| Error::invalid_argument("MASTER_PORT is beyond 65534"))?;
        Ok(format!("{}:{port}", bracketed(host)))
    };
    Ok(Some(Found {
        launcher: "torchrun",
        names,
        rank,
        size,
        local_rank: environment.number("LOCAL_RANK")?,
        local_size: environment.number("LOCAL_WORLD_SIZE")?,
        place: place(),
        job: ("TORCHELASTIC_RUN_ID", environment.get("TORCHELASTIC_RUN_ID").map(str::to_owned)),
    }))
}

fn open_mpi(_: &Config, environment: &Environment) -> Result<Option<Found>> {
    let names = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE");
    if environment.get(names.0).is_none() {
        return Ok(None);
    }
    let (rank, size) = environment.pair(names)?;
    if let Some(other) = environment.number("PMIX_RANK")?.filter(|&other| other != rank) {
        let what = format!("OMPI_COMM_WORLD_RANK={rank} contradicts PMIX_RANK={other}");
        return Err(Error::invalid_argument(what));
    }
    let local_size = environment.number("OMPI_COMM_WORLD_LOCAL_SIZE")?;
    // The same on all ranks of a job, and different for the next one.
    let job = ["PMIX_NAMESPACE", "OMPI_MCA_orte_hnp_uri", "OMPI_MCA_ess_base_jobid"];
    let job = job.into_iter().find_map(|name| Some((name, environment.get(name)?.to_owned())));
    let place = match &job {
        Some((_, job)) if local_size == Some(size) => Ok(format!("127.0.0.1:{}", port_of(job))),
        _ => Err(no_place("Open MPI")),
    };
    Ok(Some(Found {
        launcher: "Open MPI",
        names,
        rank,
        size,
        local_rank: environment.number("OMPI_COMM_WORLD_LOCAL_RANK")?,
        local_size,
        place,
        job: job.map_or(("DURE_ROOT", None), |(name, job)| (name, Some(job))),
    }))
}

fn mpich(_: &Config, environment: &Environment) -> Result<Option<Found>> {
    let names = ("PMI_RANK", "PMI_SIZE");
    if environment.get(names.0).is_none() {
        return Ok(None);
    }
    let (rank, size) = environment.pair(names)?;
    Ok(Some(Found {
        launcher: "MPICH",
        names,
        rank,
        size,
        local_rank: environment.number("MPI_LOCALRANKID")?,
        local_size: environment.number("MPI_LOCALNRANKS")?,
        place: Err(no_place("MPICH")),
        job: ("DURE_ROOT", None),
    }))
}

/// The size is in no variable, only in the library of PMIx. Slurm's launcher sets its own variables too, and more.
fn pmix(config: &Config, environment: &Environment) -> Result<Option<Found>> {
    let slurm = environment.get("SLURM_PROCID").is_some();
    let Some(rank) = environment.number("PMIX_RANK")?.filter(|_| !slurm) else { return Ok(None) };
    let size = config.size.ok_or_else(|| {
        Error::invalid_argument("PMIX_RANK is set, but not the number of ranks: set DURE_SIZE")
    })?;
    Ok(Some(Found {
        launcher: "PMIx",
        names: ("PMIX_RANK", "DURE_SIZE"),
        rank,
        size,
        local_rank: None,
        local_size: None,
        place: Err(no_place("PMIx")),
        job: ("PMIX_NAMESPACE", environment.get("PMIX_NAMESPACE").map(str::to_owned)),
    }))
}

fn slurm(_: &Config, environment: &Environment) -> Result<Option<Found>> {
    let names = ("SLURM_PROCID", "SLURM_NTASKS");
    // An interactive allocation sets the number of tasks alone.
    if environment.get(names.0).is_none() {
        return Ok(None);
    }
    let (rank, size) = environment.pair(names)?;
    if let Some(other) = environment.number("PMIX_RANK")?.filter(|&other| other != rank) {
        let what = format!("SLURM_PROCID={rank} contradicts PMIX_RANK={other}");
        return Err(Error::invalid_argument(what));
    }
    let lists = ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"];
    let list = lists.into_iter().find_map(|name| Some((name, environment.get(name)?)));
    let job = environment.get("SLURM_JOB_ID").or_else(|| environment.get("SLURM_JOBID"));
    let job = job.map(|job| format!("{job}.{}", environment.get("SLURM_STEP_ID").unwrap_or("0")));
    let place = || {
        let (name, list) = list.ok_or_else(|| {
            Error::invalid_argument("SLURM_JOB_NODELIST is not set, and neither is DURE_ROOT")
        })?;
        let job = job.as_ref().ok_or_else(|| {
            Error::invalid_argument("SLURM_JOB_ID is not set, and neither is DURE_ROOT")
        })?;
        let hosts = expand(list).map_err(|error| {
            Error::invalid_argument(format!("{name}=\"{list}\" is not a list of hosts: {error}"))
        })?;
        let host = hosts.first().expect("a list without a name is an error");
        Ok(format!("{host}:{}", port_of(job)))
    };
    Ok(Some(Found {
        launcher: "Slurm",
        names,
        rank,
        size,
        local_rank: environment.number("SLURM_LOCALID")?,
        local_size: None,
        place: place(),
        job: ("SLURM_JOB_ID", job),
    }))
}

/// A port for a job: the same on all its ranks, and another one for most other jobs.
fn port_of(job: &str) -> u64 {
    let digest = Sha256::digest(job);
    let head = digest.first_chunk::<8>().expect("a digest has 32 bytes");
    PORTS.0 + u64::from_le_bytes(*head) % PORTS.1
}

/// IPv6 addresses need brackets before a port.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

/// Names and values, without those that are empty.
struct Environment(BTreeMap<String, String>);

impl Environment {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim())
    }

    fn number(&self, name: &str) -> Result<Option<u32>> {
        let wrong =
            |value| Error::invalid_argument(format!("{name}=\"{value}\" is not a whole number"));
        self.get(name).map(|value| value.parse().map_err(|_| wrong(value))).transpose()
    }

    fn pair(&self, (rank, size): (&'static str, &'static str)) -> Result<(u32, u32)> {
        let missing =
            |name, other| Error::invalid_argument(format!("{other} is set, but {name} is not"));
        let first = self.number(rank)?.ok_or_else(|| missing(rank, size))?;
        let second = self.number(size)?.ok_or_else(|| missing(size, rank))?;
        Ok((first, second))
    }
}

#[cfg(test)]
mod tests;
