//! `dure pool measure`: what this host's processor does with the memory of a pool.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use dure_pool::cxl::{self, Measured, What};
use serde_json::{Value, json};

use super::{PATIENCE, wire};
use crate::output::{self, Failure, Verdict};
use crate::size;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Measure {
    /// The devices of the pool.
    #[arg(required = true, value_name = "DEVICE")]
    devices: Vec<PathBuf>,
    /// Bytes to use of a member that is free, in units of 1M. Default: 64M, or as much as there is.
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    size: Option<u64>,
    /// How often everything is measured.
    #[arg(long, value_name = "COUNT", default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Write the figures as JSON; with - to standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn bytes(text: &str) -> Result<u64, String> {
    match size::parse(text)? {
        bytes if bytes < 1 << 20 => Err("too little to measure (allowed: 1M or more)".to_owned()),
        bytes => Ok(bytes),
    }
}

pub(super) fn run(args: &Measure) -> Result<Verdict, Failure> {
    output::expect_folder(args.json.as_deref())?;
    let measured = cxl::measure(&args.devices, args.size, args.rounds, PATIENCE)
        .map_err(|source| wire("the pool cannot be measured", source))?;
    if let Some(to) = &args.json {
        output::write_json(to, &report(args, &measured))?;
    }
    if !output::claims_output(args.json.as_ref()) {
        super::describe(&measured.shape)?;
        io::stdout().lock().write_all(table(args.rounds, &measured).as_bytes())?;
    }
    Ok(Verdict::Holds)
}

/// The name of a figure, in JSON and in words.
fn name(what: What) -> [&'static str; 2] {
    match what {
        What::Load => ["load", "load from memory"],
        What::Look => ["look", "drop, fence, load"],
        What::Store => ["store", "store past caches, fence"],
        What::WriteBackDirty => ["write_back_dirty", "write back a changed line"],
        What::WriteBackClean => ["write_back_clean", "write back a clean line"],
        What::DropDirty => ["drop_dirty", "drop a changed line"],
        What::DropClean => ["drop_clean", "drop a clean line"],
        What::StreamThrough => ["store_through", "store, write back"],
        What::StreamPast => ["store_past", "store past caches"],
        What::StreamLoad => ["load_memory", "load from memory"],
        What::StreamFresh => ["load_fresh", "drop, load"],
        What::StreamCached => ["load_cached", "load from cache"],
        What::StreamCopy => ["copy", "copy inside the pool"],
    }
}

/// Figures of one kind, in the units that they are shown in: ns a line, or GB/s.
fn figures(measured: &Measured, bandwidth: bool) -> impl Iterator<Item = (What, [f64; 3])> {
    let unit = if bandwidth { 1e9 } else { 1.0 };
    let of_kind = measured.figures.iter().filter(move |of| of.what.is_bandwidth() == bandwidth);
    of_kind.map(move |of| (of.what, [of.median, of.least, of.most].map(|figure| figure / unit)))
}

fn table(rounds: u32, measured: &Measured) -> String {
    let Measured { partition, member, bytes, instructions: [store, back, drop], .. } = measured;
    let bytes = size::display(*bytes);
    let mut text = format!(
        "member {member} of partition {partition}, {bytes}, {rounds} rounds; stores past caches {store}, writes back {back}, drops {drop}\n"
    );
    for (title, bandwidth) in [("ns a line", false), ("GB/s", true)] {
        let _ = writeln!(text, "# {title:<26}    median     least      most");
        for (what, [median, least, most]) in figures(measured, bandwidth) {
            let [_, words] = name(what);
            let _ = writeln!(text, "  {words:<26}{median:>10.2}{least:>10.2}{most:>10.2}");
        }
    }
    text
}

fn report(args: &Measure, measured: &Measured) -> Value {
    let Measured { shape, partition, member, bytes, instructions: [store, back, drop], .. } =
        measured;
    let of_kind = |bandwidth| {
        let entry = |(what, [median, least, most]): (What, [f64; 3])| {
            let [key, _] = name(what);
            (key.to_owned(), json!({ "median": median, "least": least, "most": most }))
        };
        Value::Object(figures(measured, bandwidth).map(entry).collect())
    };
    json!({
        "version": 1,
        "pool": format!("{:016x}", shape.id),
        "devices": args.devices,
        "partition": partition,
        "member": member,
        "bytes": bytes,
        "rounds": args.rounds,
        "instructions": { "store": store, "write_back": back, "drop": drop },
        "ns_per_line": of_kind(false),
        "gb_per_s": of_kind(true),
    })
}
