//! A simulated run as a picture: SVG for people, and the trace that the flight recorder writes of a real run, so that the
//! two open side by side.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dure_plan::Rank;

use crate::cost::{Call, Cost, Options, predict};
use crate::engine::{Seen, Watch};
use crate::error::Error;
use crate::network::Network;
use crate::program::Act;

/// What some ranks do in a simulated run, and when.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// The prediction.
    pub cost: Cost,
    title: String,
    /// The ranks that are shown, in ascending order.
    ranks: Vec<u32>,
    /// Their steps, those of a rank and lane in order.
    steps: Vec<Seen>,
}

/// Most ranks of a timeline, when nobody says.
pub const RANKS: usize = 64;

/// Simulates a call, and remembers the steps of at most `most` ranks: of more, some that are equally far apart. Where one
/// host stands for all, its ranks are shown; of many passes, those that are simulated.
///
/// # Errors
/// As [`crate::cost`].
pub fn timeline(
    call: &Call<'_>,
    network: &Network,
    options: &Options,
    most: usize,
) -> Result<Timeline, Error> {
    let all = call.world.ranks;
    let every = all.div_ceil(u32::try_from(most.max(1)).unwrap_or(u32::MAX)).max(1);
    let (cost, mut seen) = predict(call, network, options, Shown { every, steps: Vec::new() })?;
    if seen.steps.is_empty() && every > 1 {
        seen = predict(call, network, options, Shown { every: 1, steps: Vec::new() })?.1;
    }
    let mut ranks: Vec<u32> = seen.steps.iter().map(|step| step.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    ranks.truncate(most);
    seen.steps.retain(|step| ranks.binary_search(&step.rank).is_ok());
    seen.steps.sort_by_key(|step| (step.rank, step.lane, step.pass, step.index));
    let title = format!("{} of {} bytes by {}, {all} ranks", call.what, call.bytes, call.by.name());
    Ok(Timeline { cost, title, ranks, steps: seen.steps })
}

/// Remembers the steps of every so many-th rank.
struct Shown {
    every: u32,
    steps: Vec<Seen>,
}

impl Watch for Shown {
    fn step(&mut self, seen: &Seen) {
        if seen.rank.is_multiple_of(self.every) {
            self.steps.push(*seen);
        }
    }
}

impl Timeline {
    /// As a Chrome trace (the JSON array format of the Trace Event Format), which Perfetto reads too. Names, processes and
    /// threads are those of the flight recorder: a step is drawn from the end of the one before it to its own.
    pub fn trace(&self) -> String {
        let mut text = String::from("[");
        let mut before = None;
        for step in &self.steps {
            let start = match before {
                Some((rank, lane, end)) if (rank, lane) == (step.rank, step.lane) => end,
                _ => {
                    event(&mut text, "call", (0.0, 0.0), (step.rank, step.lane), (0, None, 0));
                    0.0
                }
            };
            let end = step.span.1 * 1e6;
            before = Some((step.rank, step.lane, end));
            let about = (step.pass, step.peer, step.bytes);
            let name = format!("step {}", step.index);
            event(&mut text, &name, (start, end), (step.rank, step.lane), about);
        }
        text.push_str("\n]\n");
        text
    }
}

/// One event; times in microseconds.
fn event(
    text: &mut String,
    name: &str,
    (start, end): (f64, f64),
    (rank, lane): (u32, u16),
    (pass, peer, bytes): (u32, Option<Rank>, u64),
) {
    let comma = if text.len() > 1 { "," } else { "" };
    let peer = peer.map_or_else(|| "null".to_owned(), |Rank(peer)| peer.to_string());
    let took = end - start;
    write!(
        text,
        "{comma}\n{{\"name\":\"{name}\",\"ph\":\"X\",\"ts\":{start:.3},\"dur\":{took:.3},\"pid\":{rank},\"tid\":{lane},\
         \"args\":{{\"call\":0,\"pass\":{pass},\"peer\":{peer},\"bytes\":{bytes}}}}}"
    )
    .expect("strings take all text");
}

/// Left of the plot, above it, and its width, in pixels.
const LEFT: f64 = 84.0;
const TOP: f64 = 64.0;
const WIDTH: f64 = 1000.0;
/// Height of a lane of a rank.
const ROW: f64 = 14.0;
/// What is shorter is drawn together with what is beside it.
const LEAST: f64 = 0.4;
/// With more messages than this lines would cover all else.
const LINES: usize = 1500;

const KINDS: [(&str, &str); 4] =
    [("send", "#3b6fb6"), ("receive", "#58a55c"), ("reduce", "#d98b2b"), ("copy", "#9a77b8")];

fn kind(act: Act) -> usize {
    match act {
        Act::Send => 0,
        Act::Recv => 1,
        Act::RecvReduce | Act::Reduce => 2,
        Act::Copy => 3,
    }
}

impl Timeline {
    /// As a picture: a row for each rank and lane, time to the right, a line for each message while there are few.
    pub fn svg(&self) -> String {
        let mut rows: Vec<(u32, u16)> = self.steps.iter().map(|s| (s.rank, s.lane)).collect();
        rows.dedup();
        let end = self.steps.iter().map(|step| step.span.1).fold(0.0, f64::max).max(1e-12);
        let picture = Picture { end, rows };
        let height = TOP + ROW * picture.rows.len() as f64 + 34.0;
        let width = LEFT + WIDTH + 24.0;
        let mut svg = String::new();
        line(
            &mut svg,
            format_args!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">"
            ),
        );
        line(&mut svg, format_args!("<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"));
        line(
            &mut svg,
            format_args!(
                "<text x=\"{LEFT}\" y=\"18\" font-size=\"13\">{}: {} predicted</text>",
                self.title,
                duration(self.cost.seconds)
            ),
        );
        picture.legend(&mut svg);
        picture.axis(&mut svg);
        picture.bars(&mut svg, &self.steps);
        picture.messages(&mut svg, &self.steps);
        svg.push_str("</svg>\n");
        svg
    }

    /// The ranks that are shown.
    pub fn ranks(&self) -> &[u32] {
        &self.ranks
    }
}

/// Where things are in the picture.
struct Picture {
    /// The last second that is drawn.
    end: f64,
    rows: Vec<(u32, u16)>,
}

impl Picture {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + WIDTH * seconds / self.end
    }

    /// The middle of the row of a rank and lane.
    fn y(&self, row: (u32, u16)) -> Option<f64> {
        let at = self.rows.binary_search(&row).ok()?;
        Some(TOP + ROW * (at as f64 + 0.5))
    }

    fn legend(&self, svg: &mut String) {
        for (at, (name, colour)) in KINDS.iter().enumerate() {
            let x = LEFT + 84.0 * at as f64;
            line(
                svg,
                format_args!(
                    "<rect x=\"{x}\" y=\"28\" width=\"10\" height=\"10\" fill=\"{colour}\"/>"
                ),
            );
            line(svg, format_args!("<text x=\"{}\" y=\"37\">{name}</text>", x + 14.0));
        }
    }

    /// Ticks at round times, and the names of the rows.
    fn axis(&self, svg: &mut String) {
        let bottom = TOP + ROW * self.rows.len() as f64;
        let rough = self.end / 8.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].iter().map(|k| k * power).find(|s| *s >= rough);
        let step = step.unwrap_or(rough);
        let mut at = 0.0;
        while at <= self.end * 1.0001 {
            let x = self.x(at);
            line(
                svg,
                format_args!(
                    "<line x1=\"{x:.2}\" y1=\"{TOP}\" x2=\"{x:.2}\" y2=\"{bottom}\" stroke=\"#ddd\"/>"
                ),
            );
            line(
                svg,
                format_args!(
                    "<text x=\"{x:.2}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                    bottom + 16.0,
                    duration(at)
                ),
            );
            at += step;
        }
        let lanes = self.rows.iter().any(|(_, lane)| *lane > 0);
        for row in &self.rows {
            let y = self.y(*row).expect("one of the rows") + 4.0;
            let lane = if lanes { format!(".{}", row.1) } else { String::new() };
            line(
                svg,
                format_args!(
                    "<text x=\"{}\" y=\"{y:.1}\" text-anchor=\"end\">rank {}{lane}</text>",
                    LEFT - 6.0,
                    row.0
                ),
            );
        }
    }

    /// Steps, with what is too short to see drawn together.
    fn bars(&self, svg: &mut String, steps: &[Seen]) {
        let mut drawn: Option<((u32, u16), usize, f64, f64)> = None;
        for step in steps {
            let (row, kind) = ((step.rank, step.lane), kind(step.act));
            let (from, to) = (self.x(step.span.0), self.x(step.span.1));
            match &mut drawn {
                Some((last, same, _, end))
                    if *last == row && *same == kind && from - *end < LEAST =>
                {
                    *end = to;
                }
                _ => {
                    self.bar(svg, drawn);
                    drawn = Some((row, kind, from, to));
                }
            }
        }
        self.bar(svg, drawn);
    }

    fn bar(&self, svg: &mut String, drawn: Option<((u32, u16), usize, f64, f64)>) {
        let Some((row, kind, from, to)) = drawn else { return };
        let y = self.y(row).expect("one of the rows") - 4.5;
        let (width, colour) = ((to - from).max(LEAST), KINDS[kind].1);
        line(
            svg,
            format_args!(
                "<rect x=\"{from:.2}\" y=\"{y:.1}\" width=\"{width:.2}\" height=\"9\" fill=\"{colour}\"/>"
            ),
        );
    }

    /// Lines from the end of a send to the begin of its receive, when both ranks are shown.
    fn messages(&self, svg: &mut String, steps: &[Seen]) {
        let mut sent: BTreeMap<(u32, u32, u16), Vec<f64>> = BTreeMap::new();
        for step in steps.iter().filter(|step| step.act == Act::Send) {
            if let Some(Rank(to)) = step.peer {
                sent.entry((step.rank, to, step.lane)).or_default().push(step.span.1);
            }
        }
        let mut taken: BTreeMap<(u32, u32, u16), usize> = BTreeMap::new();
        let mut lines = Vec::new();
        for step in steps.iter().filter(|step| matches!(step.act, Act::Recv | Act::RecvReduce)) {
            let Some(Rank(from)) = step.peer else { continue };
            let edge = (from, step.rank, step.lane);
            let number = taken.entry(edge).or_default();
            let left = sent.get(&edge).and_then(|times| times.get(*number));
            *number += 1;
            let ys = self.y((from, step.lane)).zip(self.y((step.rank, step.lane)));
            if let (Some(left), Some((y1, y2))) = (left, ys) {
                lines.push((self.x(*left), y1, self.x(step.span.0), y2));
            }
        }
        if lines.len() > LINES {
            return;
        }
        for (x1, y1, x2, y2) in lines {
            line(
                svg,
                format_args!(
                    "<line x1=\"{x1:.2}\" y1=\"{y1:.1}\" x2=\"{x2:.2}\" y2=\"{y2:.1}\" stroke=\"#555\" stroke-width=\"0.6\" opacity=\"0.6\"/>"
                ),
            );
        }
    }
}

fn line(svg: &mut String, text: std::fmt::Arguments<'_>) {
    svg.write_fmt(text).expect("strings take all text");
    svg.push('\n');
}

/// A time in the unit that suits it.
fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "us"),
    };
    let digits = if value >= 100.0 || value == 0.0 { 0 } else { 1 };
    format!("{value:.digits$} {unit}")
}
