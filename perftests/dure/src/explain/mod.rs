//! `dure explain`: which algorithm would serve a call, what each would take, and why the others lose.

mod reason;
mod report;
mod ways;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use dure::config::AlgorithmRules;
use dure::planner::{self, Candidate, Planner, Quarantine, Question};
use dure_plan::Rank;
use dure_sim::bound;

use self::report::Report;
pub(crate) use self::report::{Constant, constants, per_second, time};
use crate::layout::Layout;
use crate::output::{self, Failure, Verdict};
use crate::plan::What;
use crate::size;

/// Say which algorithm would serve a call, what each would take, and why the others lose.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Times are predictions of the cost model (docs/cost-model.md). \"of bound\" is the least time that any algorithm\n\
        could take there, over the predicted one. Exit status 1 when no algorithm serves."
)]
pub(crate) struct Args {
    /// The collective.
    #[arg(value_enum, value_name = "COLLECTIVE")]
    what: What,
    /// Size of the whole vector, as dure perf counts it.
    #[arg(value_name = "SIZE", value_parser = size::parse)]
    bytes: u64,
    #[command(flatten)]
    layout: Layout,
    /// The distinguished rank.
    #[arg(long, default_value_t = 0)]
    root: u32,
    /// Most lanes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    lanes: u16,
    /// Algorithms that may be used, in the grammar of DURE_ALGO.
    #[arg(long, value_name = "RULES", default_value = "")]
    algo: String,
    /// Rules for algorithms that may not be used somewhere, as for DURE_QUARANTINE.
    #[arg(long, value_name = "FILE")]
    quarantine: Option<PathBuf>,
    /// Draw what the ranks of the fastest candidate would do, and when.
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    /// Write the same as a trace, which Perfetto and Chrome open.
    #[arg(long, value_name = "FILE.json")]
    trace: Option<PathBuf>,
    /// Most ranks that are drawn or traced; of more, some that are equally far apart.
    #[arg(long, value_name = "N", default_value_t = dure_sim::RANKS)]
    most: usize,
    /// Start the ranks of --local with their buffers on these devices, as for dure perf --device, and say how messages leave
    /// each towards each.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    device: Vec<String>,
    /// Write the answer as JSON; with - to standard output, instead of the text.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The process that started this one as a local rank.
    #[arg(long, hide = true)]
    child_of: Option<u32>,
}

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    for file in [&args.json, &args.svg, &args.trace] {
        output::expect_folder(file.as_deref())?;
    }
    let ways = match ways::find(args)? {
        ControlFlow::Continue(ways) => ways,
        ControlFlow::Break(verdict) => return Ok(verdict),
    };
    let cluster = args.layout.cluster()?;
    if args.root >= cluster.size() {
        let text = format!(
            "root {} of {} ranks (allowed: 0 to {})",
            args.root,
            cluster.size(),
            cluster.size() - 1
        );
        return Err(Failure::Usage(text));
    }
    let planner = args.planner(&cluster)?;
    let question = Question {
        what: args.what.with(Rank(args.root)),
        bytes: args.bytes,
        elem: 1,
        ragged: false,
    };
    let answer = planner.answer(&question);
    let bound = bound(question.what, question.bytes, planner.network());
    let report = Report::new(&cluster, &planner, &question, (&answer, bound), ways);
    if let Some(to) = &args.json {
        output::write_json(to, &report)?;
    }
    if !output::claims_output(args.json.as_ref()) {
        io::stdout().lock().write_all(report.text().as_bytes())?;
    }
    if let Some(best) = answer.best() {
        args.draw(&planner, &question, best)?;
    }
    Ok(Verdict::holds_if(!answer.predictions.is_empty()))
}

impl Args {
    /// Writes the pictures that were asked for.
    fn draw(
        &self,
        planner: &Planner,
        question: &Question,
        best: &Candidate,
    ) -> Result<(), Failure> {
        if self.svg.is_none() && self.trace.is_none() {
            return Ok(());
        }
        let timeline = planner
            .timeline(question, best, self.most)
            .map_err(|error| Failure::Failed(error.to_string()))?;
        let write = |file: &Option<PathBuf>, text: String| match file {
            Some(path) => std::fs::write(path, text)
                .map_err(|source| Failure::system(path.display().to_string(), source)),
            None => Ok(()),
        };
        write(&self.svg, timeline.svg())?;
        write(&self.trace, timeline.trace())
    }

    fn planner(&self, cluster: &dure_topology::Cluster) -> Result<Planner, Failure> {
        let rules = AlgorithmRules::parse(&self.algo)
            .map_err(|why| Failure::Usage(format!("--algo: {why}")))?;
        let quarantine = match &self.quarantine {
            None => Quarantine::default(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| Failure::system(path.display().to_string(), source))?
                .parse()
                .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?,
        };
        let planner = Planner::new(
            cluster,
            self.lanes,
            self.layout.profile(cluster)?,
            planner::options(cluster.size()),
        )
        .map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(planner.restricted(rules, quarantine))
    }
}
