//! `dure profile measure`: latency and bandwidth of the wires that join the ranks of a job, by a short probe.

mod cache;
mod declared;
mod pairs;
mod probe;
mod summary;

use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dure::{Communicator, Config, ReduceOp};
use dure_sim::{Corrections, Profile, Wires};
use dure_topology::Graph;
use serde::Serialize;

use self::probe::Sample;
use self::summary::{Class, Name};
use crate::output::{self, Failure, Verdict};
use crate::perf;

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "In round k each rank measures with the rank whose number differs in bit k, all pairs at once; then one pair inside\n\
        a host and one between hosts measure alone. Ranks come from --local N, or from the environment that torchrun,\n\
        mpirun, srun or DURE_RANK, DURE_SIZE and DURE_ROOT leave.\n\n\
        Without -o the profile is kept in $XDG_CACHE_HOME/dure or ~/.cache/dure of rank 0's host, under a name that stands\n\
        for the topology of that host and the transports. What is kept there is not measured again without --again."
)]
pub(super) struct Args {
    /// Start this many ranks on this host.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=4096))]
    local: Option<u32>,
    /// Transports that may be used: pool, npu, cxl, rdma, tcp; with ^ in front all but these.
    #[arg(long, value_name = "LIST")]
    transport: Option<String>,
    /// About how long to measure. Slow wires take longer: each size is sent a few times at least.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// The profile, instead of the file that is kept; - for standard output, instead of the table.
    #[arg(short = 'o', long, value_name = "FILE.json")]
    output: Option<PathBuf>,
    /// Measure even if a profile is kept.
    #[arg(long)]
    again: bool,
    /// Write the figures as JSON; with - to standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The process that started this one as a local rank.
    #[arg(long, hide = true)]
    child_of: Option<u32>,
}

/// Classes of pairs, and the transports that join some of each, as bits.
const INSIDE: u32 = 0;
const BETWEEN: u32 = 3;
const TRANSPORTS: [&str; 3] = ["pool", "rdma", "tcp"];

/// All that `--json` writes.
#[derive(Debug, Serialize)]
struct Report {
    ranks: Vec<Name>,
    /// Where the profile is.
    profile: PathBuf,
    /// Whether it was there before, and nothing was measured.
    kept: bool,
    classes: Vec<Class>,
    /// What contradicts the hosts' and the fabric's description.
    contradictions: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let to_output =
        |file: Option<&PathBuf>| file.is_some_and(|file| output::is_standard_output(file));
    if to_output(args.output.as_ref()) && to_output(args.json.as_ref()) {
        let text = "-o - and --json - both want standard output: name a file for one of them";
        return Err(Failure::Usage(text.to_owned()));
    }
    output::expect_folder(args.output.as_deref())?;
    output::expect_folder(args.json.as_deref())?;
    let config = perf::settings([("DURE_TRANSPORT", args.transport.clone())])?;
    let comm = match perf::join("a probe", &config, (args.local, args.child_of))? {
        ControlFlow::Break(verdict) => return Ok(verdict),
        ControlFlow::Continue(comm) => comm,
    };
    // The others wait for rank 0 to leave, whatever becomes of its files.
    let shown = measure(&comm, &config, args)?;
    comm.finalize()?;
    shown.map(|()| Verdict::Holds)
}

/// Collective. An error outside is one of the communicator; inside is what became of the files of rank 0.
fn measure(comm: &Communicator, config: &Config, args: &Args) -> dure::Result<Result<(), Failure>> {
    let ways = ways(comm)?;
    let file = if comm.rank() == 0 { file(args, ways).map(Some) } else { Ok(None) };
    let kept =
        file.as_ref().is_ok_and(|file| file.as_deref().is_some_and(|file| is_kept(file, args)));
    let mut needed = [u8::from(file.is_ok() && !kept)];
    comm.broadcast(&mut needed, 0)?;
    let mut samples = None;
    if needed[0] == 1 {
        let hosts = hosts(comm)?;
        let budget = Duration::from_secs(args.seconds.into());
        samples = probe::measure(comm, &hosts, budget)?.map(|samples| (hosts, samples));
    }
    Ok(file.and_then(|file| {
        let Some(file) = file else { return Ok(()) };
        let (classes, contradictions) = match samples {
            Some((hosts, samples)) => {
                let classes = classes(comm, &hosts, &samples)?;
                save(&file, wires(config, ways), &classes)?;
                let links = names(ways, BETWEEN).all(|name| name == "rdma");
                (classes, declared::contradicted(&comm.cluster(), &samples, links))
            }
            None => ([None, None], Vec::new()),
        };
        let ranks = (0..comm.size()).map(|rank| name(comm, rank)).collect();
        let classes = classes.into_iter().flatten().collect();
        show(args, &Report { ranks, profile: file, kept, classes, contradictions })
    }))
}

/// Which transports join ranks of a host, and ranks of different hosts. The same on all ranks. Collective.
fn ways(comm: &Communicator) -> dure::Result<u32> {
    let mut bits = [0_u32];
    for rank in (0..comm.size()).filter(|rank| *rank != comm.rank()) {
        let class = if comm.shares_host(rank) { INSIDE } else { BETWEEN };
        let way = comm.transport_to(rank);
        for (at, _) in (class..).zip(TRANSPORTS).filter(|(_, name)| *name == way) {
            bits[0] |= 1 << at;
        }
    }
    comm.all_reduce(&mut bits, ReduceOp::BitOr)?;
    Ok(bits[0])
}

/// Names of the transports of a class.
fn names(ways: u32, class: u32) -> impl Iterator<Item = &'static str> {
    (class..).zip(TRANSPORTS).filter(move |(at, _)| ways & 1 << at != 0).map(|(_, name)| name)
}

/// What the wires are that nobody measures, too: those that the settings allow.
fn wires(config: &Config, ways: u32) -> Wires {
    let has = |class, name| match names(ways, class).count() {
        0 => config.transport.allows(name),
        _ => names(ways, class).any(|other| other == name),
    };
    Wires { shared_memory: has(INSIDE, "pool"), rdma: has(BETWEEN, "rdma") }
}

/// The lowest rank on each rank's host. Collective.
fn hosts(comm: &Communicator) -> dure::Result<Vec<u32>> {
    let lowest =
        (0..comm.size()).find(|rank| comm.shares_host(*rank)).unwrap_or_else(|| comm.rank());
    let mut hosts = vec![0; comm.size() as usize];
    comm.all_gather(&[lowest], &mut hosts)?;
    Ok(hosts)
}

/// Where the profile belongs.
#[expect(
    clippy::disallowed_methods,
    reason = "where a user's files are is no setting of the library"
)]
fn file(args: &Args, ways: u32) -> Result<PathBuf, Failure> {
    if let Some(file) = &args.output {
        return Ok(file.clone());
    }
    let graph = Graph::discover(Path::new("/"))
        .map_err(|error| Failure::Failed(format!("the topology of this host: {error}")))?;
    // "between" parts the transports of the two classes.
    let names: Vec<_> =
        names(ways, INSIDE).chain(["between"]).chain(names(ways, BETWEEN)).collect();
    let file = cache::file(|name| std::env::var_os(name), &graph.to_xml(), &names);
    let file = file.ok_or_else(|| {
        Failure::Usage("no folder to keep the profile in: give -o FILE, or set HOME".to_owned())
    })?;
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)
            .map_err(|source| Failure::system(folder.display().to_string(), source))?;
    }
    Ok(file)
}

/// Whether there is a profile already that serves. One that cannot be read is measured anew.
fn is_kept(file: &Path, args: &Args) -> bool {
    let text = || fs::read_to_string(file).ok();
    args.output.is_none()
        && !args.again
        && text().is_some_and(|text| Profile::from_json(&text).is_ok())
}

/// What the samples say of the pairs inside hosts, and of those between hosts.
fn classes(
    comm: &Communicator,
    hosts: &[u32],
    samples: &[Sample],
) -> Result<[Option<Class>; 2], Failure> {
    let class = |name, inside: bool| {
        let of: Vec<_> = samples
            .iter()
            .filter(|sample| pairs::is_inside(hosts, sample.ranks) == inside)
            .collect();
        Class::of(name, &of, |rank| self::name(comm, rank))
            .map_err(|error| Failure::Failed(format!("no line fits the times {name}: {error}")))
    };
    Ok([class("inside a host", true)?, class("between hosts", false)?])
}

fn name(comm: &Communicator, rank: u32) -> Name {
    Name { rank, host: comm.host_name(rank).unwrap_or("?").to_owned() }
}

fn save(file: &Path, wires: Wires, [inside, between]: &[Option<Class>; 2]) -> Result<(), Failure> {
    let constants = summary::constants(wires.constants(), [inside, between]);
    output::write_json(file, &Profile { constants, corrections: Corrections::default() })
}

fn show(args: &Args, report: &Report) -> Result<(), Failure> {
    if let Some(to) = &args.json {
        output::write_json(to, report)?;
    }
    if output::claims_output(args.json.as_ref()) || output::is_standard_output(&report.profile) {
        return Ok(());
    }
    let profile = report.profile.display();
    let text = if report.kept {
        format!("profile: {profile}, measured before (--again measures anew)\n")
    } else {
        let contradicted =
            report.contradictions.iter().map(|text| format!("contradiction: {text}\n"));
        let contradicted: String = contradicted.collect();
        format!("{}{contradicted}profile: {profile}\n", summary::text(report.classes.iter()))
    };
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}
