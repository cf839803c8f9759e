//! Draws a plan as SVG: ranks as rows, time to the right, messages as arrows.

use std::fmt::{self, Display, Write};

use crate::algorithm::{Algorithm, Collective, World};
use crate::check;
use crate::flaw::Flaw;
use crate::schedule::{At, Lane};
use crate::step::{Rank, Step};
use crate::timeline::Timeline;

/// Most ranks and most units of time of a drawing: what a browser still scrolls well and a person still reads.
const MOST_ROWS: u32 = 64;
const MOST_COLUMNS: u32 = 200;

/// Height of a row, and of the box of a step in it.
const ROW: u32 = 64;
const BOX: u32 = 32;
/// Room above the first row and left of the first column.
const TOP: u32 = 112;
const LEFT: u32 = 96;
/// Width of a letter in a box.
const LETTER: u32 = 7;

/// Draws one pass of lane `lane`, with `slots` slots on each edge: every step takes one unit of time, and every message
/// one more on its way. A drawing holds up to 64 ranks and 200 units of time, and says so if there are more. A plan
/// that gets stuck is drawn as far as it gets.
///
/// # Errors
/// A [`Flaw`] of the world or of single steps; whether the plan is right is the business of [`crate::verify`].
pub fn draw(
    what: Collective,
    world: &World,
    by: &dyn Algorithm,
    lane: u16,
    slots: u32,
) -> Result<String, Flaw> {
    check::world(what, world, slots)?;
    by.serves(what, world)?;
    if lane >= world.lanes {
        return Err(Flaw::Unprovable(format!(
            "there is no lane {lane}: there are {}",
            world.lanes
        )));
    }
    let cut = by.shape(what, world);
    check::cut(what, world, cut)?;
    let steps = Lane::collect(what, world, by, lane);
    check::steps(what, world, cut, &steps)?;
    let timeline = Timeline::new(&steps, slots);
    let plural = if slots == 1 { "" } else { "s" };
    let title = format!(
        "{}: {what}, {} ranks, lane {lane} of {}, {slots} slot{plural} an edge",
        by.name(),
        world.ranks,
        world.lanes
    );
    let column =
        steps.steps.iter().flatten().map(|step| widest(*step)).max().unwrap_or(0) * LETTER + 14;
    let drawing =
        Drawing { title, world, lane: &steps, timeline: &timeline, column: column.max(44) };
    Ok(drawing.to_string())
}

/// Looks of a kind of step.
struct Kind {
    name: &'static str,
    class: &'static str,
    color: &'static str,
    ink: &'static str,
}

/// Colours that differ in lightness too, so that they survive grey printing and most colour blindness.
const KINDS: [Kind; 5] = [
    Kind { name: "send", class: "s", color: "#2f5d9b", ink: "#ffffff" },
    Kind { name: "receive", class: "r", color: "#a8d08d", ink: "#1c1c1c" },
    Kind { name: "receive and reduce", class: "a", color: "#f2a33a", ink: "#1c1c1c" },
    Kind { name: "copy", class: "c", color: "#d9d9d9", ink: "#1c1c1c" },
    Kind { name: "reduce", class: "n", color: "#8e5ea2", ink: "#ffffff" },
];

fn kind(step: Step) -> &'static Kind {
    match step {
        Step::Send { .. } => &KINDS[0],
        Step::Recv { .. } => &KINDS[1],
        Step::RecvReduce { .. } => &KINDS[2],
        Step::Copy { .. } => &KINDS[3],
        Step::Reduce { .. } => &KINDS[4],
    }
}

/// The two lines in the box of a step.
fn labels(step: Step) -> (String, String) {
    let chunks = match step {
        Step::Send { src, .. } => src,
        Step::Recv { dst, .. }
        | Step::RecvReduce { dst, .. }
        | Step::Copy { dst, .. }
        | Step::Reduce { dst, .. } => dst,
    };
    let doing = match step {
        Step::Send { to, .. } => format!("to {}", to.0),
        Step::Recv { from, .. } => format!("from {}", from.0),
        Step::RecvReduce { from, .. } => format!("+ from {}", from.0),
        Step::Copy { src, .. } => format!("= {}", src.buf),
        Step::Reduce { srcs, .. } => format!("sum of {}", srcs.groups),
    };
    (doing, if chunks.len == 0 { "nothing".to_owned() } else { chunks.to_string() })
}

fn widest(step: Step) -> u32 {
    let (doing, chunks) = labels(step);
    u32::try_from(doing.len().max(chunks.len())).expect("labels are short")
}

struct Drawing<'a> {
    title: String,
    world: &'a World,
    lane: &'a Lane,
    timeline: &'a Timeline,
    /// Width of a unit of time.
    column: u32,
}

impl Drawing<'_> {
    fn rows(&self) -> u32 {
        self.world.ranks.min(MOST_ROWS)
    }

    fn columns(&self) -> u32 {
        self.timeline.end.min(MOST_COLUMNS)
    }

    fn x(&self, time: u32) -> u32 {
        LEFT + time * self.column
    }

    /// The middle of a row.
    fn y(rank: u32) -> u32 {
        TOP + rank * ROW + ROW / 2
    }

    fn start(&self, at: At) -> u32 {
        self.timeline.starts[at.rank as usize][at.index as usize]
    }

    /// Whether a step is on the drawing.
    fn shows(&self, at: At) -> bool {
        at.rank < self.rows() && self.start(at) < self.columns()
    }

    fn width(&self) -> u32 {
        (self.x(self.columns()) + 24)
            .max(LEFT + 8 * u32::try_from(self.title.len()).unwrap_or(0))
            .max(760)
    }

    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (width, height) = (self.width(), TOP + self.rows() * ROW + 40);
        write!(f, r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" "#)?;
        writeln!(f, r#"viewBox="0 0 {width} {height}" role="img">"#)?;
        writeln!(f, "<title>{}</title>", Escaped(&self.title))?;
        f.write_str("<style>text{font:12px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#1c1c1c}")?;
        f.write_str(".t{font-size:16px;font-weight:bold}.h{fill:#666}.m{text-anchor:middle}.e{text-anchor:end}")?;
        f.write_str(".w{fill:#b00020;font-weight:bold}.g{stroke:#e4e4e4}.l{stroke:#bdbdbd}")?;
        f.write_str(".p{stroke:#5a5a5a;stroke-width:1.2;marker-end:url(#tip);opacity:.8}")?;
        for Kind { class, color, ink, .. } in &KINDS {
            write!(f, ".{class} rect,rect.{class}{{fill:{color}}}.{class} text{{fill:{ink}}}")?;
        }
        writeln!(f, "</style>")?;
        f.write_str(r#"<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" "#)?;
        writeln!(
            f,
            r##"orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#5a5a5a"/></marker></defs>"##
        )?;
        writeln!(f, r##"<rect width="{width}" height="{height}" fill="#ffffff"/>"##)?;
        writeln!(f, r#"<text class="t" x="16" y="26">{}</text>"#, Escaped(&self.title))
    }

    /// One colour per kind of step, and what a unit of time is.
    fn legend(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut x = 16;
        for Kind { name, class, .. } in &KINDS {
            writeln!(f, r#"<rect class="{class}" x="{x}" y="40" width="14" height="14" rx="2"/>"#)?;
            writeln!(f, r#"<text x="{}" y="51">{name}</text>"#, x + 20)?;
            x += 20 + LETTER * u32::try_from(name.len()).expect("names are short") + 24;
        }
        let units = "a step takes one unit of time, a message one more on its way";
        writeln!(
            f,
            r#"<text class="h" x="16" y="72">{units}; the whole takes {}</text>"#,
            self.timeline.end
        )
    }

    /// What the drawing leaves out, and what is stuck.
    fn note(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut notes = Vec::new();
        if self.rows() < self.world.ranks {
            notes.push(format!(
                "only ranks 0 to {} of {} are drawn",
                self.rows() - 1,
                self.world.ranks
            ));
        }
        if self.columns() < self.timeline.end {
            notes.push(format!(
                "only the first {} of {} units of time are drawn",
                self.columns(),
                self.timeline.end
            ));
        }
        if !self.timeline.stuck.is_empty() {
            notes.push(format!("deadlock: {} ranks wait for ever", self.timeline.stuck.len()));
        }
        let y = TOP + self.rows() * ROW + 26;
        writeln!(f, r#"<text class="w" x="16" y="{y}">{}</text>"#, notes.join("; "))
    }

    /// The rows with their ranks and hosts, and the units of time.
    fn grid(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (right, bottom) = (self.x(self.columns()), TOP + self.rows() * ROW);
        for time in 0..=self.columns() {
            let x = self.x(time);
            writeln!(f, r#"<line class="g" x1="{x}" y1="{TOP}" x2="{x}" y2="{bottom}"/>"#)?;
            if time < self.columns() {
                let middle = x + self.column / 2;
                writeln!(f, r#"<text class="h m" x="{middle}" y="{}">{time}</text>"#, TOP - 8)?;
            }
        }
        let hosts = self.world.host_of.iter().any(|&host| host != 0);
        for (rank, host) in (0..self.rows()).zip(self.world.host_of.iter()) {
            let (x, y) = (LEFT - 10, Self::y(rank));
            writeln!(f, r#"<line class="l" x1="{LEFT}" y1="{y}" x2="{right}" y2="{y}"/>"#)?;
            writeln!(
                f,
                r#"<text class="e" x="{x}" y="{}">rank {rank}</text>"#,
                if hosts { y - 2 } else { y + 4 }
            )?;
            if hosts {
                writeln!(f, r#"<text class="e h" x="{x}" y="{}">host {host}</text>"#, y + 13)?;
            }
        }
        Ok(())
    }

    fn steps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (rank, steps) in (0..self.rows()).zip(&self.lane.steps) {
            let starts = &self.timeline.starts[rank as usize];
            for ((index, &step), &start) in (0..).zip(steps).zip(starts) {
                if start < self.columns() {
                    self.step(f, At { rank, pass: 0, index }, step, start)?;
                }
            }
        }
        for &at in self.timeline.stuck.iter().filter(|at| at.rank < self.rows()) {
            self.stuck(f, at)?;
        }
        Ok(())
    }

    fn step(&self, f: &mut fmt::Formatter<'_>, at: At, step: Step, start: u32) -> fmt::Result {
        let (x, y) = (self.x(start), Self::y(at.rank));
        let (doing, chunks) = labels(step);
        let middle = x + self.column / 2;
        write!(
            f,
            r#"<g class="{}"><title>rank {}, step {}, time {start}: {step}</title>"#,
            kind(step).class,
            at.rank,
            at.index
        )?;
        let (left, top, width) = (x + 2, y - BOX / 2, self.column - 4);
        write!(f, r#"<rect x="{left}" y="{top}" width="{width}" height="{BOX}" rx="3"/>"#)?;
        write!(f, r#"<text class="m" x="{middle}" y="{}">{doing}</text>"#, y - 3)?;
        writeln!(f, r#"<text class="m" x="{middle}" y="{}">{chunks}</text></g>"#, y + 11)
    }

    /// Where a rank waits for ever, and for what.
    fn stuck(&self, f: &mut fmt::Formatter<'_>, at: At) -> fmt::Result {
        let step = self.lane.steps[at.rank as usize][at.index as usize];
        let after = self.timeline.starts[at.rank as usize].last().map_or(0, |start| start + 1);
        let (x, y) = (self.x(after.min(self.columns())) + 6, Self::y(at.rank));
        let Rank(whom) = step.peer().expect("only messages are waited for");
        writeln!(
            f,
            r#"<text class="w" x="{x}" y="{}">waits for rank {whom}: {step}</text>"#,
            y - 20
        )
    }

    /// An arrow from the end of each send to the beginning of its receive.
    fn messages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for message in &self.timeline.messages {
            if !self.shows(message.from) || !self.shows(message.to) {
                continue;
            }
            let down = message.from.rank < message.to.rank;
            let edge = |rank: u32, down: bool| {
                if down { Self::y(rank) + BOX / 2 } else { Self::y(rank) - BOX / 2 }
            };
            let (x1, x2) = (
                self.x(self.start(message.from)) + self.column / 2,
                self.x(self.start(message.to)) + self.column / 2,
            );
            let (y1, y2) = (edge(message.from.rank, down), edge(message.to.rank, !down));
            writeln!(f, r#"<line class="p" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>"#)?;
        }
        Ok(())
    }
}

impl Display for Drawing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        self.legend(f)?;
        self.grid(f)?;
        // Below the boxes, so that no arrow strikes out a label.
        self.messages(f)?;
        self.steps(f)?;
        self.note(f)?;
        writeln!(f, "</svg>")
    }
}

/// Text of which nothing is taken for markup.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() => f.write_char(' ')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
