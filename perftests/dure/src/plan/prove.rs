//! `dure plan verify`: proofs by the hundred, on all cores.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use dure_plan::{Algorithm, Collective, Flaw, Proof, Rank, World, algorithms, verify};

use super::world::Placement;
use super::{What, ranks, read, served};
use crate::output::{Failure, Verdict};

/// Prove algorithms, or the plan in a file.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "A proof covers values (every contribution exactly once), matching of messages, and absence of deadlock, in place\n\
    and not. The last line is the count of proofs, or the first flaw with rank and step; then the exit status is 1."
)]
pub(super) struct Args {
    /// A file with a plan.
    #[arg(value_name = "FILE", required_unless_present_any = ["all", "algo"])]
    file: Option<PathBuf>,
    /// Every algorithm of the library, for every collective that it serves.
    #[arg(long, conflicts_with = "file")]
    all: bool,
    /// One algorithm of the library.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["file", "all"])]
    algo: Option<String>,
    /// Only this collective.
    #[arg(long, value_enum, conflicts_with = "file")]
    collective: Option<What>,
    /// Numbers of ranks, both ends included.
    #[arg(long, value_name = "A..B", default_value = "1..16", value_parser = ranks, conflicts_with = "file")]
    ranks: RangeInclusive<u32>,
    /// Slots on each edge. A plan that needs no more than one slot needs no more than any number.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    slots: Vec<u32>,
    /// Numbers of lanes.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u16).range(1..))]
    lanes: Vec<u16>,
    /// Numbers of hosts. Ranks of one host are neighbours, and for two hosts also every other one.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2,3", value_parser = clap::value_parser!(u32).range(1..))]
    hosts: Vec<u32>,
}

/// One proof to make.
struct Task<'a> {
    by: &'a dyn Algorithm,
    what: Collective,
    world: World,
    placement: Option<Placement>,
    slots: u32,
    /// Number of its line in the output.
    line: usize,
}

/// What a line of the output says: an algorithm, for a collective.
#[derive(Default)]
struct Line {
    title: (String, &'static str),
    open: usize,
    proofs: usize,
    refused: usize,
    steps: u64,
    bit_equal: bool,
}

pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    if let Some(path) = &args.file {
        let plan = read(path)?;
        let mut book = Book::default();
        book.add((&plan, plan.collective()), (plan.world(), None), &args.slots);
        return book.prove();
    }
    let mut book = Book::default();
    for by in algorithms()
        .iter()
        .copied()
        .filter(|by| args.algo.as_ref().is_none_or(|name| by.name() == name))
    {
        for what in served(by).filter(|what| args.collective.is_none_or(|only| only == *what)) {
            book.add_all(args, by, what);
        }
    }
    if book.tasks.is_empty() {
        return Err(Failure::Usage(
            "no algorithm has that name and serves that collective (see dure plan list)".to_owned(),
        ));
    }
    book.prove()
}

/// Everything to prove, and what has been.
#[derive(Default)]
struct Book<'a> {
    tasks: Vec<Task<'a>>,
    lines: Vec<Line>,
    numbers: BTreeMap<(String, &'static str), usize>,
}

impl<'a> Book<'a> {
    /// All worlds that the flags name, smallest first.
    fn add_all(&mut self, args: &Args, by: &'a dyn Algorithm, what: What) {
        for ranks in args.ranks.clone() {
            // The first, the last, and one between: what a rotation by the root may get wrong.
            let mut roots = vec![0, ranks / 2, ranks - 1];
            roots.dedup();
            roots.truncate(if what.with(Rank(0)).root().is_some() { 3 } else { 1 });
            for hosts in args.hosts.iter().copied().filter(|hosts| *hosts <= ranks) {
                let in_turn = (hosts == 2 && ranks > 2).then_some(Placement::InTurn(hosts));
                for placement in std::iter::once(Placement::Blocks(hosts)).chain(in_turn) {
                    for &lanes in &args.lanes {
                        for &root in &roots {
                            let world = placement.world(ranks, lanes);
                            self.add(
                                (by, what.with(Rank(root))),
                                (world, Some(placement)),
                                &args.slots,
                            );
                        }
                    }
                }
            }
        }
    }

    fn add(
        &mut self,
        (by, what): (&'a dyn Algorithm, Collective),
        (world, placement): (World, Option<Placement>),
        slots: &[u32],
    ) {
        let title = (by.name().to_owned(), what.name());
        let next = self.lines.len();
        let line = *self.numbers.entry(title.clone()).or_insert(next);
        if line == next {
            self.lines.push(Line { title, bit_equal: true, ..Line::default() });
        }
        for &slots in slots {
            self.lines[line].open += 1;
            self.tasks.push(Task { by, what, world: world.clone(), placement, slots, line });
        }
    }

    /// Makes all proofs, prints each line when it is complete and those before it are, and answers.
    fn prove(mut self) -> Result<Verdict, Failure> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        let (results, proved) = mpsc::channel();
        let (tasks, lines) = (&self.tasks, &mut self.lines);
        let mut out = io::stdout().lock();
        let flaw = thread::scope(|scope| {
            for _ in 0..cores.min(tasks.len()) {
                let (results, next) = (results.clone(), &next);
                scope.spawn(move || {
                    while let Some((number, task)) = take(tasks, next) {
                        let result = verify(task.what, &task.world, task.by, task.slots);
                        if results.send((number, result)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(results);
            let flaw = collect(tasks, lines, proved, &mut out);
            // Whoever still works stops after its proof.
            next.store(tasks.len(), Ordering::Relaxed);
            flaw
        })?;
        if let Some((task, flaw)) = flaw {
            writeln!(out, "{}", task.describe(&flaw))?;
            return Ok(Verdict::Fails);
        }
        writeln!(out, "{} proofs", self.lines.iter().map(|line| line.proofs).sum::<usize>())?;
        Ok(Verdict::Holds)
    }
}

fn take<'t, 'a>(tasks: &'t [Task<'a>], next: &AtomicUsize) -> Option<(usize, &'t Task<'a>)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    Some((number, tasks.get(number)?))
}

/// Books the results as they come, until all are there or one is a flaw.
fn collect<'t, 'a>(
    tasks: &'t [Task<'a>],
    lines: &mut [Line],
    proved: mpsc::Receiver<(usize, Result<Proof, Flaw>)>,
    out: &mut impl Write,
) -> Result<Option<(&'t Task<'a>, Flaw)>, Failure> {
    let mut complete = 0;
    for (number, result) in proved {
        let task = &tasks[number];
        let line = &mut lines[task.line];
        line.open -= 1;
        match result {
            Ok(proof) => line.book(&proof),
            // A plan of a file that does not serve its own world is wrong; an algorithm may say no to a world.
            Err(Flaw::Refused(_)) if task.placement.is_some() => line.refused += 1,
            Err(flaw) => return Ok(Some((task, flaw))),
        }
        while let Some(line) = lines.get(complete).filter(|line| line.open == 0) {
            writeln!(out, "{line}")?;
            out.flush()?;
            complete += 1;
        }
    }
    Ok(None)
}

impl Line {
    fn book(&mut self, proof: &Proof) {
        self.proofs += 1;
        self.steps += proof.steps;
        self.bit_equal &= proof.bit_equal;
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (algorithm, collective) = &self.title;
        write!(f, "{algorithm:<28} {collective:<15} {:>5} proofs", self.proofs)?;
        if self.refused > 0 {
            write!(f, ", {} worlds refused", self.refused)?;
        }
        if self.proofs > 0 {
            let equal = if self.bit_equal {
                "bit-equal on all ranks"
            } else {
                "not bit-equal on all ranks"
            };
            write!(f, ", {} steps, {equal}", self.steps)?;
        }
        Ok(())
    }
}

impl Task<'_> {
    fn describe(&self, flaw: &Flaw) -> String {
        let Self { by, what, world, placement, slots, .. } = self;
        let placement = placement.map_or_else(String::new, |placement| format!(" on {placement}"));
        let (ranks, lanes) = (world.ranks, world.lanes);
        format!(
            "{} for {what}, {ranks} ranks{placement}, {lanes} lanes, {slots} slots: {flaw}",
            by.name()
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn lines_count_what_was_proved() {
        let by = dure_plan::find(Collective::AllReduce, "ring").unwrap();
        let mut book = Book::default();
        for ranks in 1..=5 {
            book.add(
                (by, Collective::AllReduce),
                (World::flat(ranks), Some(Placement::Blocks(1))),
                &[1, 2],
            );
        }
        assert_eq!((book.tasks.len(), book.lines.len()), (10, 1));
        let (results, proved) = mpsc::channel();
        for (number, task) in book.tasks.iter().enumerate() {
            results.send((number, verify(task.what, &task.world, task.by, task.slots))).unwrap();
        }
        drop(results);
        let mut out = Vec::new();
        assert!(collect(&book.tasks, &mut book.lines, proved, &mut out).unwrap().is_none());
        assert_eq!((book.lines[0].proofs, book.lines[0].open), (10, 0));
        assert!(String::from_utf8(out).unwrap().contains("10 proofs"));
    }

    #[test]
    fn every_collective_can_be_named() {
        assert_eq!(What::value_variants().len(), 9);
        for what in What::value_variants() {
            let name = what.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(name, what.with(Rank(0)).name());
        }
    }
}
