//! Why a candidate loses to the best one.

use dure::planner::Prediction;
use dure_sim::{Parts, Traffic};

/// Parts of a time and their names, in the order of [`Parts`]'s fields.
pub(super) fn named(parts: &Parts) -> [(&'static str, f64); 6] {
    let Parts { latency, overhead, wire, reduce, copy, wait } = *parts;
    [
        ("latency", latency),
        ("overhead", overhead),
        ("wire", wire),
        ("reduce", reduce),
        ("copy", copy),
        ("wait", wait),
    ]
}

/// In one sentence, what it spends more time on than the best one.
pub(super) fn why(loser: &Prediction, best: &Prediction) -> String {
    let times = loser.seconds / best.seconds;
    let more =
        |(theirs, ours): ((&'static str, f64), (&'static str, f64))| (theirs.0, theirs.1 - ours.1);
    let most = named(&loser.cost.parts)
        .into_iter()
        .zip(named(&best.cost.parts))
        .map(more)
        .max_by(|a, b| a.1.total_cmp(&b.1));
    let model_says_more = loser.cost.seconds > best.cost.seconds;
    let what = match most {
        Some((part, excess)) if model_says_more && excess > 0.0 => because(part, loser, best),
        _ => format!(
            "measurements make it {:.2} times the model's time, and {:.2} of the best one's",
            loser.factor, best.factor
        ),
    };
    format!("{times:.2} times as long: {what}")
}

fn because(part: &str, loser: &Prediction, best: &Prediction) -> String {
    let both = |of: fn(&Prediction) -> f64| (of(loser), of(best));
    match part {
        "latency" | "overhead" => {
            let (theirs, ours) = both(|of| messages(of, |traffic| traffic.messages));
            format!("{theirs:.0} messages one after another, not {ours:.0}")
        }
        "wire" => {
            let (theirs, ours) = both(|of| messages(of, |traffic| traffic.bytes));
            format!("{} on the wire one after another, not {}", megabytes(theirs), megabytes(ours))
        }
        "reduce" => {
            let (theirs, ours) = both(|of| of.cost.counts.reduced_bytes);
            format!("{} reduced, not {}", megabytes(theirs), megabytes(ours))
        }
        "copy" => {
            let (theirs, ours) = both(|of| of.cost.counts.copied_bytes);
            format!("{} copied, not {}", megabytes(theirs), megabytes(ours))
        }
        _ => "messages wait for ports, links or cores that others use".to_owned(),
    }
}

/// Of the critical path, inside hosts and between them.
fn messages(of: &Prediction, count: fn(&Traffic) -> f64) -> f64 {
    count(&of.cost.counts.inside) + count(&of.cost.counts.between)
}

fn megabytes(bytes: f64) -> String {
    match bytes {
        _ if bytes < 1e3 => format!("{bytes:.0} B"),
        _ if bytes < 1e6 => format!("{:.1} kB", bytes / 1e3),
        _ => format!("{:.1} MB", bytes / 1e6),
    }
}
