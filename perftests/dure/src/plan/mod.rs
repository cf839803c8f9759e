//! `dure plan`: what the algorithms do, and the proof that they do it right.

mod prove;
mod world;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use dure_plan::{Algorithm, Collective, FilePlan, Rank, World, algorithms, draw, find, to_text};

use self::world::Placement;
use crate::output::{Failure, Verdict};
use crate::size;

/// Show, prove and draw plans.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Name every algorithm, and the collectives that it serves.
    List,
    /// Print the steps of all ranks, in the text form that files have.
    Show(Chosen),
    /// Prove algorithms, or the plan in a file.
    Verify(prove::Args),
    /// Draw a plan as SVG: ranks by time.
    Draw(Drawing),
}

/// A plan, and the world that it is for.
#[derive(Clone, Debug, clap::Args)]
struct Chosen {
    /// Name of an algorithm, or a file with a plan.
    #[arg(value_name = "ALGO or FILE")]
    plan: String,
    /// The collective; by default the first that the algorithm serves.
    #[arg(long, value_enum)]
    collective: Option<What>,
    /// Number of ranks.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    ranks: u32,
    /// Number of hosts that the ranks are on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    hosts: u32,
    /// Number of lanes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    lanes: u16,
    /// The distinguished rank.
    #[arg(long, default_value_t = 0)]
    root: u32,
}

#[derive(Clone, Debug, clap::Args)]
struct Drawing {
    #[command(flatten)]
    chosen: Chosen,
    /// The lane to draw.
    #[arg(long, default_value_t = 0)]
    lane: u16,
    /// Slots on each edge: how many messages may be under way.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    slots: u32,
    /// File to write; - for standard output.
    #[arg(short = 'o', long, value_name = "FILE.svg")]
    output: PathBuf,
}

/// A collective on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    AllReduce,
    ReduceScatter,
    AllGather,
    AllToAll,
    Broadcast,
    Reduce,
    Gather,
    Scatter,
    Barrier,
}

impl What {
    pub(crate) fn with(self, root: Rank) -> Collective {
        match self {
            Self::AllReduce => Collective::AllReduce,
            Self::ReduceScatter => Collective::ReduceScatter,
            Self::AllGather => Collective::AllGather,
            Self::AllToAll => Collective::AllToAll,
            Self::Broadcast => Collective::Broadcast { root },
            Self::Reduce => Collective::Reduce { root },
            Self::Gather => Collective::Gather { root },
            Self::Scatter => Collective::Scatter { root },
            Self::Barrier => Collective::Barrier,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    match &args.command {
        Command::List => list(),
        Command::Show(chosen) => show(chosen),
        Command::Verify(args) => prove::run(args),
        Command::Draw(drawing) => picture(drawing),
    }
}

fn list() -> Result<Verdict, Failure> {
    let mut out = io::stdout().lock();
    for by in algorithms() {
        let served: Vec<_> = served(*by).map(|what| what.with(Rank(0)).name()).collect();
        writeln!(out, "{:<28} {}", by.name(), served.join(", "))?;
    }
    Ok(Verdict::Holds)
}

/// The collectives that an algorithm serves: all of them do so for two ranks of one host.
fn served(by: &'static dyn Algorithm) -> impl Iterator<Item = What> {
    let pair = World::flat(2);
    What::value_variants()
        .iter()
        .copied()
        .filter(move |what| by.serves(what.with(Rank(0)), &pair).is_ok())
}

fn show(chosen: &Chosen) -> Result<Verdict, Failure> {
    let plan = chosen.find()?;
    let text = to_text(plan.what, &plan.world, plan.by.algorithm())
        .map_err(|refusal| Failure::Usage(refusal.to_string()))?;
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Verdict::Holds)
}

fn picture(drawing: &Drawing) -> Result<Verdict, Failure> {
    let plan = drawing.chosen.find()?;
    if drawing.lane >= plan.world.lanes {
        let text = format!("lane {} of {} lanes", drawing.lane, plan.world.lanes);
        return Err(Failure::Usage(text));
    }
    let svg = draw(plan.what, &plan.world, plan.by.algorithm(), drawing.lane, drawing.slots)
        .map_err(|flaw| Failure::Usage(flaw.to_string()))?;
    if crate::output::is_standard_output(&drawing.output) {
        io::stdout().lock().write_all(svg.as_bytes())?;
    } else {
        fs::write(&drawing.output, svg)
            .map_err(|source| Failure::system(drawing.output.display().to_string(), source))?;
    }
    Ok(Verdict::Holds)
}

/// A plan to look at.
struct Found {
    by: Origin,
    what: Collective,
    world: World,
}

enum Origin {
    File(FilePlan),
    Library(&'static dyn Algorithm),
}

impl Origin {
    fn algorithm(&self) -> &dyn Algorithm {
        match self {
            Self::File(plan) => plan,
            Self::Library(by) => *by,
        }
    }
}

impl Chosen {
    /// An algorithm of the library if there is one of that name, or else a file, whose plan brings its own world.
    fn find(&self) -> Result<Found, Failure> {
        let root = Rank(self.root);
        let by_name = || algorithms().iter().copied().filter(|by| by.name() == self.plan);
        if by_name().next().is_none() {
            let plan = read(Path::new(&self.plan))?;
            let (what, world) = (plan.collective(), plan.world());
            return Ok(Found { by: Origin::File(plan), what, world });
        }
        if self.root >= self.ranks {
            return Err(Failure::Usage(format!("root {} of {} ranks", self.root, self.ranks)));
        }
        let what = self.collective.or_else(|| by_name().flat_map(served).next());
        let what = what.map(|what| what.with(root));
        let found = what.and_then(|what| Some((what, find(what, &self.plan)?)));
        let (what, by) = found.ok_or_else(|| {
            let served: Vec<_> =
                by_name().flat_map(served).map(|what| what.with(root).name()).collect();
            Failure::Usage(format!("{} serves {} only", self.plan, served.join(", ")))
        })?;
        if self.hosts > self.ranks {
            return Err(Failure::Usage(format!("{} hosts for {} ranks", self.hosts, self.ranks)));
        }
        let world = Placement::Blocks(self.hosts).world(self.ranks, self.lanes);
        Ok(Found { by: Origin::Library(by), what, world })
    }
}

/// The plan in a file. It is not proved yet.
fn read(path: &Path) -> Result<FilePlan, Failure> {
    let text = fs::read_to_string(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Failure::Usage(format!(
            "{} is neither an algorithm (see dure plan list) nor a file",
            path.display()
        )),
        _ => Failure::system(path.display().to_string(), source),
    })?;
    FilePlan::parse(&text).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

/// Lists of numbers on the command line.
fn ranks(text: &str) -> Result<std::ops::RangeInclusive<u32>, String> {
    size::range(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(plan: &str) -> Chosen {
        Chosen { plan: plan.to_owned(), collective: None, ranks: 4, hosts: 1, lanes: 1, root: 0 }
    }

    #[test]
    fn an_algorithm_is_found_by_name_and_collective() {
        let found = chosen("ring").find().unwrap();
        assert_eq!(found.by.algorithm().name(), "ring");
        let found = Chosen { collective: Some(What::AllGather), ..chosen("ring") }.find().unwrap();
        assert_eq!(found.what, Collective::AllGather);
    }

    #[test]
    fn what_cannot_be_shown_is_a_wrong_call() {
        let wrong = [
            chosen("no-such-plan"),
            Chosen { collective: Some(What::Barrier), ..chosen("ring") },
            Chosen { root: 4, ..chosen("binomial") },
            Chosen { hosts: 5, ..chosen("ring") },
        ];
        for chosen in wrong {
            assert_eq!(chosen.find().err().map(|failure| failure.status()), Some(2), "{chosen:?}");
        }
    }

    #[test]
    fn every_algorithm_serves_something() {
        for by in algorithms() {
            assert!(served(*by).next().is_some(), "{}", by.name());
        }
    }
}
