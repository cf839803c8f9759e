//! The answer, as text and as JSON.

use std::fmt::Write as _;

use dure::planner::{Answer, Planner, Prediction, Question};
use dure_sim::{Adapter, Bound, Compute, How, Wire};
use dure_topology::Cluster;
use serde::Serialize;

use super::reason;
use super::ways::Pair;
use crate::size;

/// All that `dure explain` says.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    collective: String,
    bytes: u64,
    ranks: u32,
    layout: String,
    /// Ranks in the fabric's order; null where that is the order of their numbers.
    order: Option<Vec<u32>>,
    bound: Least,
    candidates: Vec<Row>,
    refused: Vec<Refused>,
    constants: Vec<Constant>,
    /// How messages leave the devices of ranks; nothing unless devices were named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ways: Vec<Pair>,
}

/// The least time that any algorithm could take.
#[derive(Debug, Serialize)]
struct Least {
    seconds: f64,
    /// What it follows from.
    because: String,
}

#[derive(Debug, Serialize)]
struct Row {
    algorithm: String,
    lanes: u16,
    order: &'static str,
    seconds: f64,
    /// The bound over `seconds`.
    of_bound: f64,
    /// GB/s, of the whole vector.
    alg_bw: f64,
    /// What measurements make of the model's time.
    factor: f64,
    parts: Vec<Part>,
    /// `exact` or `representative`.
    how: &'static str,
    /// Peers of the rank that has most, and the memory of their slots.
    edges: u32,
    slot_bytes: u64,
    why: String,
}

#[derive(Debug, Serialize)]
struct Part {
    name: &'static str,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Refused {
    algorithm: String,
    why: String,
}

/// Constants of one class, microseconds and GB/s.
#[derive(Debug, Serialize)]
pub(crate) struct Constant {
    pub(crate) class: &'static str,
    pub(crate) source: String,
    pub(crate) text: String,
}

impl Report {
    pub(super) fn new(
        cluster: &Cluster,
        planner: &Planner,
        question: &Question,
        (answer, bound): (&Answer, Bound),
        ways: Vec<Pair>,
    ) -> Self {
        let best = answer.predictions.first();
        let row = |prediction| Row::new(prediction, best, question.bytes, bound.seconds);
        let refused = answer.refused.iter().map(|refused| Refused {
            algorithm: refused.algorithm.clone(),
            why: refused.why.clone(),
        });
        Self {
            collective: question.what.to_string(),
            bytes: question.bytes,
            ranks: cluster.size(),
            layout: cluster.to_string(),
            order: planner.order().map(<[u32]>::to_vec),
            bound: Least { seconds: bound.seconds, because: because(&bound) },
            candidates: answer.predictions.iter().map(row).collect(),
            refused: refused.collect(),
            constants: constants(planner),
            ways,
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text =
            format!("{} of {}: {}\n", self.collective, size::display(self.bytes), self.layout);
        let order = self.order.as_ref().map_or_else(
            || "that of their numbers, which follows the fabric".to_owned(),
            |order| {
                let first: Vec<String> = order.iter().take(16).map(ToString::to_string).collect();
                let more = if order.len() > 16 { " ..." } else { "" };
                format!("by fabric {}{more}", first.join(" "))
            },
        );
        let _ = writeln!(text, "order of ranks: {order}");
        let _ = writeln!(
            text,
            "no algorithm takes less than {}: {}\n",
            time(self.bound.seconds),
            self.bound.because
        );
        let _ = writeln!(
            text,
            "  {:<20} {:>5} {:>7} {:>10} {:>8} {:>9}  {:<32} why it loses",
            "algorithm", "lanes", "order", "predicted", "of bound", "GB/s", "made of"
        );
        for (index, row) in self.candidates.iter().enumerate() {
            let mark = if index == 0 { '*' } else { ' ' };
            let _ = writeln!(text, "{mark} {}", row.text());
        }
        if !self.refused.is_empty() {
            text.push_str("\nnot candidates:\n");
            for Refused { algorithm, why } in &self.refused {
                let _ = writeln!(text, "  {algorithm}: {why}");
            }
        }
        text.push_str("\nconstants:\n");
        for Constant { class, source, text: line } in &self.constants {
            let _ = writeln!(text, "  {class:<22} {line} ({source})");
        }
        if !self.ways.is_empty() {
            text.push_str("\ndevices, as the ranks have found them:\n");
        }
        for pair in &self.ways {
            let _ = writeln!(text, "  {}", pair.text());
        }
        if self.candidates.iter().any(|row| row.how == REPRESENTATIVE) {
            text.push_str(
                "\n~ predicted from a few ranks that stand for all (docs/cost-model.md)\n",
            );
        }
        text
    }
}

/// What the bound follows from.
fn because(bound: &Bound) -> String {
    if bound.latency >= bound.cut {
        "news take so long to reach everybody".to_owned()
    } else {
        format!("so long take the bytes of {}", bound.narrowest)
    }
}

const REPRESENTATIVE: &str = "representative";

impl Row {
    fn new(prediction: &Prediction, best: Option<&Prediction>, bytes: u64, bound: f64) -> Self {
        let Prediction { candidate, seconds, factor, cost } = prediction;
        let parts = reason::named(&cost.parts).map(|(name, seconds)| Part { name, seconds });
        let why = best.filter(|best| *best != prediction);
        Self {
            algorithm: candidate.algorithm.clone(),
            lanes: candidate.lanes,
            order: if candidate.by_fabric { "fabric" } else { "number" },
            seconds: *seconds,
            of_bound: bound / seconds,
            alg_bw: per_second(bytes, *seconds),
            factor: *factor,
            parts: parts.into(),
            how: if cost.how == How::Exact { "exact" } else { REPRESENTATIVE },
            edges: cost.edges,
            slot_bytes: cost.slot_bytes,
            why: why.map_or_else(String::new, |best| reason::why(prediction, best)),
        }
    }

    fn text(&self) -> String {
        let mark = if self.how == REPRESENTATIVE { "~" } else { "" };
        format!(
            "{:<20} {:>5} {:>7} {:>10} {:>7.0}% {:>9.2}  {:<32} {}",
            self.algorithm,
            self.lanes,
            self.order,
            format!("{mark}{}", time(self.seconds)),
            self.of_bound * 100.0,
            self.alg_bw,
            self.made_of(),
            self.why
        )
        .trim_end()
        .to_owned()
    }

    /// The parts that matter, largest first.
    fn made_of(&self) -> String {
        let all: f64 = self.parts.iter().map(|part| part.seconds).sum();
        let mut parts: Vec<&Part> =
            self.parts.iter().filter(|part| part.seconds >= 0.05 * all && all > 0.0).collect();
        parts.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let share = |part: &&Part| format!("{} {:.0}%", part.name, 100.0 * part.seconds / all);
        parts.iter().take(3).map(share).collect::<Vec<_>>().join(", ")
    }
}

#[expect(clippy::cast_precision_loss, reason = "a bandwidth has no use for more than 53 bits")]
pub(crate) fn per_second(bytes: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { bytes as f64 / seconds / 1e9 } else { 0.0 }
}

/// A time for people.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        _ if seconds < 1e-3 => format!("{:.2} us", seconds * 1e6),
        _ if seconds < 1.0 => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

/// What predictions rest on, class by class.
pub(crate) fn constants(planner: &Planner) -> Vec<Constant> {
    let all = planner.network().constants();
    let wires = [
        ("inside a host", &all.inside),
        ("between accelerators", &all.device),
        ("between hosts", &all.between),
    ];
    let wires = wires.into_iter().map(|(class, wire)| Constant {
        class,
        source: wire.source.to_string(),
        text: wire_text(wire),
    });
    let pools = planner.network().has_pools().then(|| Constant {
        class: "through pools",
        source: all.adapter.source.to_string(),
        text: pool_text(&all.pool, &all.adapter),
    });
    let work = [("work of processors", &all.processor), ("work of accelerators", &all.accelerator)];
    let work = work.into_iter().map(|(class, compute)| Constant {
        class,
        source: compute.source.to_string(),
        text: compute_text(compute),
    });
    wires.chain(pools).chain(work).collect()
}

fn wire_text(wire: &Wire) -> String {
    let rate = if wire.per_byte > 0.0 {
        format!("{:.1} GB/s at most", 1e-9 / wire.per_byte)
    } else {
        "as fast as the layout's links".to_owned()
    };
    format!(
        "latency {}, {} of processor a message at each end, {rate}",
        time(wire.latency),
        time(wire.overhead)
    )
}

fn pool_text(wire: &Wire, adapter: &Adapter) -> String {
    format!(
        "{} of processor a message at each end, a host writes {:.1} GB/s and reads {:.1} GB/s, {} on a device before the next",
        time(wire.overhead),
        1e-9 / adapter.write_per_byte,
        1e-9 / adapter.read_per_byte,
        size::display(adapter.granule)
    )
}

fn compute_text(compute: &Compute) -> String {
    format!(
        "reduces {:.1} GB/s, copies {:.1} GB/s, {} a call",
        1e-9 / compute.reduce_per_byte,
        1e-9 / compute.copy_per_byte,
        time(compute.call)
    )
}
