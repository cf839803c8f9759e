//! Reads the text form of a plan. The text may be hostile: nothing here panics, and what is kept is never larger than
//! the text and the limits below allow.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::algorithm::{Collective, Shape};
use crate::host_map::HostMap;
use crate::step::{Buf, Chunks, Rank, Sources, Step};
use crate::text::FilePlan;

/// Most ranks of a plan. An exhaustive proof ends long before.
const MOST_RANKS: u32 = 1 << 14;
/// Most lanes of a plan.
const MOST_LANES: u32 = 64;
/// Most sections: ranks times lanes.
const MOST_SECTIONS: u32 = 1 << 16;
/// Most parts of a block, chunks of scratch, and chunks of a message.
const MOST_CHUNKS: u32 = 1 << 20;
/// Most chunks of all ranks together: what a proof has to keep.
const MOST_CELLS: u64 = 1 << 24;
/// Longest name.
const MOST_NAME: usize = 64;

/// Why a text is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The byte of the line, from 1.
    pub column: usize,
    /// What is wrong, and what may be there.
    pub what: String,
}

type Result<T> = std::result::Result<T, ParseError>;

pub(crate) fn parse(text: &str) -> Result<FilePlan> {
    let mut lines = (1..)
        .zip(text.lines())
        .map(|(number, line)| Line::new(number, line))
        .filter(|line| !line.is_empty());
    let mut end = Line::new(text.lines().count() + 1, "");
    let mut first = lines.next().ok_or_else(|| end.expected("`plan 1`"))?;
    first.keyword("plan")?;
    first.number("format version", 1, 1)?;
    first.end()?;
    let mut header = Header::default();
    let mut plan: Option<FilePlan> = None;
    let mut section = None;
    for mut line in lines {
        if line.peek() == "rank" {
            let plan = match &mut plan {
                Some(plan) => plan,
                None => plan.insert(header.finish(&line)?),
            };
            section = Some(open(&mut line, plan)?);
        } else if let (Some(plan), Some(section)) = (&mut plan, section) {
            let step = step(&mut line)?;
            plan.sections.entry(section).or_default().push(step);
        } else {
            header.set(&mut line)?;
        }
        line.end()?;
    }
    let plan = plan.ok_or_else(|| end.expected("the first section: `rank 0 lane 0`"))?;
    complete(&plan, &mut end)?;
    Ok(plan)
}

/// Begins a section: `rank 0 lane 0`.
fn open(line: &mut Line<'_>, plan: &mut FilePlan) -> Result<(Rank, u16)> {
    line.keyword("rank")?;
    let rank = line.number("rank", 0, plan.ranks - 1)?;
    line.keyword("lane")?;
    let lane = line.number("lane", 0, u32::from(plan.lanes) - 1)?;
    let section = (Rank(rank), u16::try_from(lane).expect("lanes are few"));
    match plan.sections.entry(section) {
        Entry::Occupied(_) => Err(line.error(format!("rank {rank} lane {lane} is there twice"))),
        Entry::Vacant(entry) => {
            entry.insert(Vec::new());
            Ok(section)
        }
    }
}

/// Every rank has a section on every lane.
fn complete(plan: &FilePlan, end: &mut Line<'_>) -> Result<()> {
    let all = (0..plan.lanes).flat_map(|lane| (0..plan.ranks).map(move |rank| (Rank(rank), lane)));
    for section in all {
        if !plan.sections.contains_key(&section) {
            return Err(
                end.expected(&format!("a section `rank {} lane {}`", section.0.0, section.1))
            );
        }
    }
    Ok(())
}

/// The lines before the first section.
#[derive(Default)]
struct Header {
    name: Option<String>,
    collective: Option<&'static str>,
    root: Option<u32>,
    ranks: Option<u32>,
    lanes: Option<u32>,
    hosts: Option<Vec<u32>>,
    parts: Option<u32>,
    scratch: Option<u32>,
    run: Option<u32>,
    ragged: Option<bool>,
}

impl Header {
    /// Reads a line.
    fn set(&mut self, line: &mut Line<'_>) -> Result<()> {
        const KEYS: &str =
            "name, collective, root, ranks, lanes, hosts, parts, scratch, run, ragged";
        let key = line.word(&format!("one of {KEYS}, or the first section: `rank 0 lane 0`"))?;
        match key {
            "name" => {
                let name = line.name()?;
                line.once(&mut self.name, name)
            }
            "collective" => {
                let name = line.one_of(&Collective::NAMES)?;
                line.once(&mut self.collective, name)
            }
            "root" => line.once_number(&mut self.root, 0, MOST_RANKS - 1),
            "ranks" => line.once_number(&mut self.ranks, 1, MOST_RANKS),
            "lanes" => line.once_number(&mut self.lanes, 1, MOST_LANES),
            "hosts" => {
                let mut hosts = Vec::new();
                while !line.is_empty() {
                    hosts.push(line.number("host", 0, MOST_RANKS - 1)?);
                }
                line.once(&mut self.hosts, hosts)
            }
            "parts" => line.once_number(&mut self.parts, 1, MOST_CHUNKS),
            "scratch" => line.once_number(&mut self.scratch, 0, MOST_CHUNKS),
            "run" => line.once_number(&mut self.run, 1, MOST_CHUNKS),
            "ragged" => {
                let ragged = line.one_of(&["yes", "no"])? == "yes";
                line.once(&mut self.ragged, ragged)
            }
            _ => Err(line.error(format!("`{}` is none of {KEYS}", shorten(key)))),
        }
    }

    /// All that a plan needs is there and fits together. `line` is the first of the first section.
    fn finish(&mut self, line: &Line<'_>) -> Result<FilePlan> {
        let missing =
            |key: &str| line.error(format!("there is no line `{key}` before the first section"));
        let name = self.name.take().ok_or_else(|| missing("name"))?;
        let collective = self.collective.ok_or_else(|| missing("collective"))?;
        let ranks = self.ranks.ok_or_else(|| missing("ranks"))?;
        let lanes = self.lanes.ok_or_else(|| missing("lanes"))?;
        let parts = self.parts.ok_or_else(|| missing("parts"))?;
        let scratch = self.scratch.ok_or_else(|| missing("scratch"))?;
        let run = self.run.ok_or_else(|| missing("run"))?;
        let ragged = self.ragged.ok_or_else(|| missing("ragged"))?;
        let collective = self.collective(collective, ranks, line)?;
        if ranks * lanes > MOST_SECTIONS {
            return Err(line.error(format!(
                "{ranks} ranks with {lanes} lanes are more than {MOST_SECTIONS} sections"
            )));
        }
        let blocks = u64::from(collective.whole(ranks).max(1));
        let cells = u64::from(ranks) * (2 * blocks * u64::from(parts) + u64::from(scratch));
        if cells > MOST_CELLS {
            return Err(line
                .error(format!("the ranks have {cells} chunks together (allowed: {MOST_CELLS})")));
        }
        if let Some(hosts) = &self.hosts {
            numbered(hosts, ranks).map_err(|what| line.error(what))?;
        }
        let shape = Shape { parts, scratch, run };
        let lanes = u16::try_from(lanes).expect("lanes are few");
        let hosts = self.hosts.take().map(HostMap::from);
        Ok(FilePlan {
            name,
            collective,
            ranks,
            lanes,
            hosts,
            shape,
            ragged,
            sections: BTreeMap::new(),
        })
    }

    fn collective(&self, name: &str, ranks: u32, line: &Line<'_>) -> Result<Collective> {
        let rooted = matches!(name, "broadcast" | "reduce" | "gather" | "scatter");
        let root = match self.root {
            Some(_) if !rooted => return Err(line.error(format!("{name} has no root"))),
            None if rooted => return Err(line.error(format!("{name} needs a line `root`"))),
            Some(root) if root >= ranks => {
                return Err(line.error(format!("root {root} is none of the {ranks} ranks")));
            }
            root => Rank(root.unwrap_or(0)),
        };
        let named = Collective::all(root).into_iter().find(|what| what.name() == name);
        Ok(named.expect("the name was checked"))
    }
}

/// There is one host per rank, numbered in the order in which they first appear.
fn numbered(hosts: &[u32], ranks: u32) -> std::result::Result<(), String> {
    if hosts.len() != ranks as usize {
        return Err(format!("`hosts` names {} hosts for {ranks} ranks", hosts.len()));
    }
    let mut next = 0;
    for &host in hosts {
        if host > next {
            return Err(format!(
                "`hosts` has {host} before {next}: hosts are numbered as they first appear"
            ));
        }
        next = next.max(host + 1);
    }
    Ok(())
}

fn step(line: &mut Line<'_>) -> Result<Step> {
    match line.one_of(&["send", "recv", "recv-reduce", "copy", "reduce"])? {
        "send" => Ok(Step::Send { to: line.peer()?, src: line.chunks()? }),
        "recv" => Ok(Step::Recv { from: line.peer()?, dst: line.chunks()? }),
        "recv-reduce" => {
            Ok(Step::RecvReduce { from: line.peer()?, with: line.chunks()?, dst: line.chunks()? })
        }
        "copy" => Ok(Step::Copy { src: line.chunks()?, dst: line.chunks()? }),
        _ => reduce(line),
    }
}

/// `reduce DST = SRC...`: all sources but one are runs of the scratch in a row, with a hole where that one stands.
fn reduce(line: &mut Line<'_>) -> Result<Step> {
    let dst = line.chunks()?;
    line.keyword("=")?;
    let mut operands = vec![line.chunks()?];
    while !line.is_empty() {
        operands.push(line.chunks()?);
    }
    // If all are in the scratch, it is the one that breaks the row, or the first.
    let elsewhere = operands.iter().position(|operand| operand.buf != Buf::Scratch);
    let breaks = || {
        operands
            .windows(2)
            .position(|pair| pair[0].first.checked_add(dst.len) != Some(pair[1].first))
    };
    let at = elsewhere.or_else(|| breaks().map(|before| before + 1)).unwrap_or(0);
    let srcs = sources(&operands, dst.len, at)
        .or_else(|| sources(&operands, dst.len, 0))
        .ok_or_else(|| {
            let what =
                "all sources but one are runs of the scratch as long as the target, in a row";
            line.error(format!("{what}, with a hole as long where that one stands"))
        })?;
    Ok(Step::Reduce { srcs, dst })
}

/// The operands as [`Sources`], if operand `at` is the own one.
fn sources(operands: &[Chunks], len: u32, at: usize) -> Option<Sources> {
    let row = (0..).zip(operands).find(|&(group, _)| group as usize != at);
    let first = match row {
        Some((group, operand)) => operand.first.checked_sub(u32::checked_mul(group, len)?)?,
        None => 0,
    };
    let (at, groups) = (u32::try_from(at).ok()?, u32::try_from(operands.len()).ok()?);
    let srcs = Sources { first, groups, at, own: operands[at as usize] };
    (0..).zip(operands).all(|(group, operand)| srcs.operand(group, len) == *operand).then_some(srcs)
}

/// One line, word by word.
struct Line<'t> {
    number: usize,
    text: &'t str,
    /// Where the next word begins.
    next: usize,
    /// Where the word before it began.
    last: usize,
}

impl<'t> Line<'t> {
    fn new(number: usize, text: &'t str) -> Self {
        let text = text.split('#').next().unwrap_or("");
        let mut line = Self { number, text, next: 0, last: 0 };
        line.skip();
        line.last = line.next;
        line
    }

    fn skip(&mut self) {
        let rest = &self.text[self.next..];
        self.next += rest.len() - rest.trim_start().len();
    }

    fn is_empty(&self) -> bool {
        self.next == self.text.len()
    }

    /// The next word, which may be empty.
    fn peek(&self) -> &'t str {
        self.text[self.next..].split_whitespace().next().unwrap_or("")
    }

    /// An error at the word before.
    fn error(&self, what: String) -> ParseError {
        ParseError { line: self.number, column: self.last + 1, what }
    }

    fn expected(&mut self, what: &str) -> ParseError {
        self.last = self.next;
        let found = if self.is_empty() {
            "nothing".to_owned()
        } else {
            format!("`{}`", shorten(self.peek()))
        };
        self.error(format!("expected {what}, found {found}"))
    }

    fn word(&mut self, what: &str) -> Result<&'t str> {
        let word = self.peek();
        if word.is_empty() {
            return Err(self.expected(what));
        }
        self.last = self.next;
        self.next += word.len();
        self.skip();
        Ok(word)
    }

    fn end(&mut self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(self.expected("the end of the line")) }
    }

    fn keyword(&mut self, word: &str) -> Result<()> {
        if self.peek() == word {
            self.word(word).map(|_| ())
        } else {
            Err(self.expected(&format!("`{word}`")))
        }
    }

    fn one_of(&mut self, allowed: &[&'static str]) -> Result<&'static str> {
        let word = self.peek();
        let Some(found) = allowed.iter().find(|name| **name == word) else {
            return Err(self.expected(&format!("one of {}", allowed.join(", "))));
        };
        self.word(found)?;
        Ok(found)
    }

    fn number(&mut self, what: &str, least: u32, most: u32) -> Result<u32> {
        let number = number(self.peek()).filter(|number| (least..=most).contains(number));
        let Some(number) = number else {
            return Err(self.expected(&format!("a {what} from {least} to {most}")));
        };
        self.word(what)?;
        Ok(number)
    }

    fn peer(&mut self) -> Result<Rank> {
        self.number("rank", 0, MOST_RANKS - 1).map(Rank)
    }

    fn name(&mut self) -> Result<String> {
        let word = self.peek();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if word.is_empty() || word.len() > MOST_NAME || !word.chars().all(fits) {
            return Err(self.expected(&format!(
                "a name: up to {MOST_NAME} letters, digits, `-`, `_` and `.`"
            )));
        }
        Ok(self.word("a name")?.to_owned())
    }

    /// `in[3]`, `out[2..4]`.
    fn chunks(&mut self) -> Result<Chunks> {
        let Some(chunks) = chunks(self.peek()) else {
            return Err(
                self.expected("chunks of in, out or scratch, such as `in[3]` or `out[2..4]`")
            );
        };
        self.word("chunks")?;
        Ok(chunks)
    }

    fn once<T>(&self, field: &mut Option<T>, value: T) -> Result<()> {
        match field.replace(value) {
            Some(_) => Err(self.error("the header says this twice".to_owned())),
            None => Ok(()),
        }
    }

    fn once_number(&mut self, field: &mut Option<u32>, least: u32, most: u32) -> Result<()> {
        let number = self.number("number", least, most)?;
        self.once(field, number)
    }
}

/// A number in plain decimal digits.
fn number(word: &str) -> Option<u32> {
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok()).flatten()
}

fn chunks(word: &str) -> Option<Chunks> {
    let (buf, range) = word.strip_suffix(']')?.split_once('[')?;
    let buf = match buf {
        "in" => Buf::Input,
        "out" => Buf::Output,
        "scratch" => Buf::Scratch,
        _ => return None,
    };
    let (first, len) = match range.split_once("..") {
        None => (number(range)?, 1),
        Some((first, end)) => (number(first)?, number(end)?.checked_sub(number(first)?)?),
    };
    Some(Chunks { buf, first, len })
}

/// The beginning of a word: an error does not repeat a megabyte.
fn shorten(word: &str) -> String {
    word.chars().take(40).collect()
}
