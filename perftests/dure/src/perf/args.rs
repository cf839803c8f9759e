//! The flags, which are nccl-tests' where that has them, and what follows from them.

use std::path::PathBuf;

use clap::ValueEnum;
use dure::{Config, Dtype};

use super::buffer::Alloc;
use super::collective::{Case, Test};
use super::operation::{OneOrAll, Op, Roots};
use crate::output::Failure;
use crate::size;

/// Measure a collective.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Sizes are those of the whole vector: for all-gather, reduce-scatter, all-to-all, gather and scatter all\n\
        ranks' blocks together. Ranks come from --local N, or from the environment that torchrun, mpirun, srun or\n\
        DURE_RANK, DURE_SIZE and DURE_ROOT leave; without either there is one rank.\n\n\
        time is the mean over ranks of the time per call in a loop of -n calls without pause; the percentiles are of\n\
        the same calls, one by one. Every result is compared bit by bit (-c 0 leaves that out).\n\n\
        --vs mpi adds columns: MPI's time and p50, from a loop of its own after Dure's in every row, and both over\n\
        Dure's. The calls are out-of-place, but those of broadcast, which MPI has in place only.\n\n\
        --memory adds lines about the memory that the communicator takes after the last row, in bytes: of each rank's\n\
        part (largest rank, sum of all), and of the slots that one connected peer has there. What was touched counts.\n\
        A process's segment is what its peers on the host map too, for all its communicators. Buffers of sockets and\n\
        page tables are the kernel's, and left out. In JSON it is \"memory\", with each rank and each of its peers.\n\n\
        --regret measures every algorithm that serves, with one lane and with several, in 5 turns of 50 ms or -n calls,\n\
        whichever is less; a time is the median of the turns. regret is the time of what the library chooses by itself\n\
        over the best time. Results are not checked."
)]
pub(crate) struct Args {
    /// What to measure.
    #[arg(value_enum, value_name = "COLLECTIVE")]
    pub(crate) test: Test,
    /// Smallest size.
    #[arg(short = 'b', long = "minbytes", value_name = "SIZE", default_value = "8", value_parser = size::parse)]
    pub(crate) min: u64,
    /// Largest size.
    #[arg(short = 'e', long = "maxbytes", value_name = "SIZE", default_value = "128M", value_parser = size::parse)]
    pub(crate) max: u64,
    /// Factor between sizes.
    #[arg(short = 'f', long = "stepfactor", value_name = "FACTOR", value_parser = clap::value_parser!(u64).range(2..))]
    pub(crate) factor: Option<u64>,
    /// Step between sizes, instead of a factor.
    #[arg(short = 'i', long = "stepbytes", value_name = "SIZE", conflicts_with = "factor", value_parser = step)]
    pub(crate) step: Option<u64>,
    /// Measured calls a row.
    #[arg(short = 'n', long = "iters", value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) iterations: u32,
    /// Calls before them.
    #[arg(short = 'w', long = "warmup_iters", value_name = "COUNT", default_value_t = 5)]
    pub(crate) warmups: u32,
    /// Checked calls a row; 0 checks nothing.
    #[arg(short = 'c', long = "check", value_name = "COUNT", default_value_t = 1)]
    pub(crate) checks: u32,
    /// How elements are combined: sum, prod, max, min, avg, mulsum, band, bor, bxor, all.
    #[arg(short = 'o', long = "op", default_value = "sum")]
    pub(crate) op: OneOrAll<Op>,
    /// Type of the elements: int8, uint8, int32, uint32, int64, uint64, half, float, double, bfloat16, f8e4m3, f8e5m2, all.
    #[arg(short = 'd', long = "datatype", value_name = "TYPE", default_value = "float")]
    pub(crate) dtype: OneOrAll<Dtype>,
    /// The distinguished rank; all takes each in turn.
    #[arg(short = 'r', long = "root", default_value = "0", allow_hyphen_values = true)]
    pub(crate) root: Roots,
    /// Start this many ranks on this host.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) local: Option<u32>,
    /// Transports that may be used: pool, npu, cxl, rdma, tcp; with ^ in front all but these.
    #[arg(long, value_name = "LIST")]
    pub(crate) transport: Option<String>,
    /// Algorithms that may be used for the collective; `dure plan list` names them.
    #[arg(long, value_name = "NAME")]
    pub(crate) algo: Option<String>,
    /// Parallel lanes of long calls.
    #[arg(long, value_name = "N")]
    pub(crate) lanes: Option<u32>,
    /// Buffers from plain memory, or from memory that the transports know.
    #[arg(long, value_enum, default_value_t = Alloc::Malloc)]
    pub(crate) alloc: Alloc,
    /// Where the buffers are: host, or a device as VENDOR or VENDOR:INDEX (cuda, or of DURE_DEVICE_PLUGINS); one for all ranks, or
    /// one a rank, separated by commas. Without an index it is the rank's number.
    #[arg(long, value_name = "LIST", default_value = "host", value_delimiter = ',')]
    pub(crate) device: Vec<String>,
    /// Make the same calls by another library, row by row: mpi, the installed one. Needs --local, or a start by mpirun.
    #[arg(long, value_enum, value_name = "LIBRARY")]
    pub(crate) vs: Option<Rival>,
    /// Print what the communicator takes of memory, and what a connected peer does.
    #[arg(long)]
    pub(crate) memory: bool,
    /// Measure every algorithm and number of lanes, in turns, and print how far what the library chooses is from the best.
    #[arg(long, conflicts_with_all = ["vs", "memory", "algo"])]
    pub(crate) regret: bool,
    /// How long a rank waits for the others, as 60s or 10min.
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<String>,
    /// Write the results as JSON; with - to standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The process that started this one as a local rank.
    #[arg(long, hide = true)]
    pub(crate) child_of: Option<u32>,
    /// Set by a process that became mpirun for the sake of --local.
    #[arg(long, hide = true)]
    pub(crate) under_mpirun: bool,
}

/// Libraries to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rival {
    /// The MPI that the program was built with.
    Mpi,
}

/// Where the buffers of a rank are, by a list for `--device`: a device, or `None` for the host.
pub(crate) fn device_of(list: &[String], rank: u32) -> Result<Option<String>, Failure> {
    let place = if list.len() == 1 { Some(0) } else { usize::try_from(rank).ok() };
    let name = place.and_then(|at| list.get(at)).ok_or_else(|| {
        let text = format!("--device names {} devices, and none for rank {rank}", list.len());
        Failure::Usage(text)
    })?;
    Ok(match name.as_str() {
        "host" => None,
        name if name.contains(':') => Some(name.to_owned()),
        vendor => Some(format!("{vendor}:{rank}")),
    })
}

/// The factor between sizes when no flag says otherwise.
const FACTOR: u64 = 2;

fn step(text: &str) -> Result<u64, String> {
    match size::parse(text)? {
        0 => Err("too small".to_owned()),
        bytes => Ok(bytes),
    }
}

/// The library's settings: those of the environment, with those of the flags that were given over them.
pub(crate) fn settings(
    flags: impl IntoIterator<Item = (&'static str, Option<String>)>,
) -> Result<Config, Failure> {
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("DURE_"))?;
        Some((name, value.to_string_lossy().into_owned()))
    });
    let flags = flags.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Ok(Config::from_pairs(environment.chain(flags))?)
}

impl Args {
    /// How many ranks to start; none in a process that is a rank.
    pub(crate) fn ranks_to_start(&self) -> Option<u32> {
        self.local.filter(|_| self.child_of.is_none() && !self.under_mpirun)
    }

    /// The library's settings: those of the environment, with those of the flags over them.
    pub(crate) fn settings(&self) -> Result<Config, Failure> {
        let flags = [
            ("DURE_TRANSPORT", self.transport.clone()),
            ("DURE_ALGO", self.algorithm_rule()?),
            ("DURE_LANES", self.lanes.map(|lanes| lanes.to_string())),
            ("DURE_TIMEOUT", self.timeout.clone()),
        ];
        let config = settings(flags)?;
        if self.vs.is_some() && self.device != ["host"] {
            return Err(Failure::Usage(
                "--vs compares calls on host memory: it goes without --device".to_owned(),
            ));
        }
        if self.regret && (self.test.collective(0).is_none() || self.test.is_ragged()) {
            let text = format!("{} has no choice of algorithms for --regret", self.test.name());
            return Err(Failure::Usage(text));
        }
        if self.regret && config.plan_file.is_some() {
            let text = "--regret is about the library's algorithms: it goes without DURE_PLAN_FILE";
            return Err(Failure::Usage(text.to_owned()));
        }
        Ok(config)
    }

    /// `--algo` is about the collective that is measured, not about those that bring the results together.
    fn algorithm_rule(&self) -> Result<Option<String>, Failure> {
        let Some(names) = &self.algo else { return Ok(None) };
        let Some(what) = self.test.collective(0) else {
            return Err(Failure::Usage(
                "messages have no algorithm: --algo is for collectives".to_owned(),
            ));
        };
        Ok(Some(format!("{}:{names}", what.name())))
    }

    /// The factor between sizes, if there is no step.
    pub(crate) fn factor(&self) -> u64 {
        self.factor.unwrap_or(FACTOR)
    }

    /// The sizes, ascending.
    pub(crate) fn sizes(&self) -> Result<Vec<u64>, Failure> {
        if self.min > self.max {
            let text =
                format!("the smallest size, {}, is above the largest, {}", self.min, self.max);
            return Err(Failure::Usage(text));
        }
        if self.test == Test::Barrier {
            return Ok(vec![0]);
        }
        let next = |size: &u64| match self.step {
            Some(step) => size.checked_add(step),
            // From size 0, no factor leads on.
            None if *size == 0 => Some(1),
            None => size.checked_mul(self.factor()),
        };
        Ok(std::iter::successors(Some(self.min), next)
            .take_while(|size| *size <= self.max)
            .collect())
    }

    /// The rows of the table, in the order of nccl-tests: by type, operation, root, size.
    pub(crate) fn cases(&self, ranks: u32) -> Result<Vec<Case>, Failure> {
        let sizes = self.sizes()?;
        let roots = self.roots(ranks)?;
        let dtypes: &[Dtype] =
            if self.test == Test::Barrier { &[Dtype::Uint8] } else { &self.dtype.0 };
        let mut cases = Vec::new();
        for &dtype in dtypes {
            for op in self.ops(dtype)? {
                for &root in &roots {
                    let case = |&bytes| Case { test: self.test, bytes, dtype, op, root };
                    cases.extend(sizes.iter().map(case));
                }
            }
        }
        Ok(cases)
    }

    fn roots(&self, ranks: u32) -> Result<Vec<Option<u32>>, Failure> {
        match self.root {
            _ if !self.test.is_rooted() => Ok(vec![None]),
            Roots::All => Ok((0..ranks).map(Some).collect()),
            Roots::One(root) if root < ranks => Ok(vec![Some(root)]),
            Roots::One(root) => Err(Failure::Usage(format!(
                "root {root} is not a rank (allowed: 0 to {}, all)",
                ranks - 1
            ))),
        }
    }

    /// The operations that are defined on a type. One that was asked for by name must be.
    fn ops(&self, dtype: Dtype) -> Result<Vec<Option<Op>>, Failure> {
        if !self.test.reduces() {
            return Ok(vec![None]);
        }
        let serve: Vec<_> =
            self.op.0.iter().copied().filter(|op| op.serves(dtype)).map(Some).collect();
        if serve.is_empty() && self.dtype.0.len() == 1 {
            let text =
                format!("{} is not defined on {dtype} (allowed: integers)", self.op.0[0].name());
            return Err(Failure::Usage(text));
        }
        Ok(serve)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Line, clap::Error> {
        Line::try_parse_from(std::iter::once("perf").chain(line.split_whitespace()))
    }

    pub(in crate::perf) fn args(line: &str) -> Args {
        parse(line).unwrap().args
    }

    fn refused(line: &str) -> bool {
        parse(line).is_err()
    }

    #[test]
    fn the_flags_of_nccl_tests() {
        let args = args(
            "all-reduce -b 8 -e 128M -f 2 -n 20 -w 5 -c 1 -d bfloat16 -o max -r all --local 4",
        );
        assert_eq!(
            (args.min, args.max, args.iterations, args.warmups, args.checks),
            (8, 128 << 20, 20, 5, 1)
        );
        assert_eq!((args.dtype.0[0], args.op.0[0], args.root), (Dtype::Bf16, Op::Max, Roots::All));
        assert_eq!(args.sizes().unwrap().len(), 25);
    }

    #[test]
    fn wrong_flags_are_refused() {
        for line in [
            "",
            "all-reduces",
            "reduce -x",
            "reduce -b 1Q",
            "reduce -f 1",
            "reduce -i 8 -f 2",
            "reduce -n 0",
        ] {
            assert!(refused(line), "{line}");
        }
        assert_eq!(args("reduce -b 9 -e 8").sizes().unwrap_err().status(), 2);
        assert_eq!(args("reduce -r 4").cases(4).unwrap_err().status(), 2);
        assert_eq!(args("reduce -o bxor").cases(4).unwrap_err().status(), 2);
        assert_eq!(args("sendrecv --algo ring").settings().unwrap_err().status(), 2);
        assert_eq!(args("reduce --transport pigeon").settings().unwrap_err().status(), 2);
    }

    #[test]
    fn sizes_by_factor_and_by_step() {
        assert_eq!(args("reduce -b 8 -e 100 -f 3").sizes().unwrap(), [8, 24, 72]);
        assert_eq!(args("reduce -b 8 -e 40 -i 16").sizes().unwrap(), [8, 24, 40]);
        assert_eq!(args("reduce -b 0 -e 4").sizes().unwrap(), [0, 1, 2, 4]);
        assert_eq!(args("barrier").sizes().unwrap(), [0]);
    }

    #[test]
    fn rows_are_the_combinations_that_make_sense() {
        let rows = |line: &str| args(line).cases(4).unwrap().len();
        assert_eq!(rows("all-reduce -b 8 -e 8 -d all -o all"), 6 * 9 + 6 * 6);
        assert_eq!(rows("all-gather -b 8 -e 8 -d all -o all -r all"), 12);
        assert_eq!(rows("reduce -b 8 -e 16 -r all"), 8);
        assert_eq!(rows("barrier -d all -r all"), 1);
    }

    #[test]
    fn the_algorithm_is_for_the_measured_collective() {
        let rule = args("all-to-all-v --algo pairwise").algorithm_rule().unwrap();
        assert_eq!(rule.as_deref(), Some("all-to-all:pairwise"));
    }
}
