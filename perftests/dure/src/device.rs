//! `dure device`: devices of plug-ins, and the conformance program for plug-ins.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use dure_device::plugin::conformance::{self, Outcome};
use dure_device::plugin::{Description, Plugin, Refusal};
use dure_device_abi as abi;
use serde::Serialize;

use crate::output::{self, Failure, Verdict};
use crate::size;

/// List devices of plug-ins, and check plug-ins.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// List the devices of the plug-ins that DURE_DEVICE_PLUGINS names, or of those that are installed; and NVIDIA's GPUs.
    List(List),
    /// Check every property of dure_device.h that can be seen from outside; status 1 when one does not hold.
    Check(Check),
}

#[derive(Clone, Debug, clap::Args)]
struct List {
    /// Write the list as JSON; with - to standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
struct Check {
    /// The file of the plug-in; or cuda, which is built in.
    #[arg(value_name = "PLUGIN")]
    plugin: PathBuf,
    /// Which of its devices.
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    device: u32,
    /// Write the verdicts as JSON; with - to standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A device, for people and programs.
#[derive(Debug, Serialize)]
struct Row {
    device: String,
    name: String,
    serial: String,
    pci: String,
    numa: Option<u32>,
    memory: u64,
    can: Vec<&'static str>,
    /// To the others of its plug-in, as far as that says.
    links: Vec<Link>,
    plugin: PathBuf,
}

/// How a device reaches another one.
#[derive(Debug, Serialize)]
struct Link {
    to: String,
    by: &'static str,
    /// Whether it reaches the other one's memory itself.
    reaches: bool,
    /// One way; null where the plug-in does not say.
    gb_per_s: Option<f64>,
    latency_ns: Option<u32>,
}

/// A property, for programs.
#[derive(Debug, Serialize)]
struct Verdicts {
    property: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    match &args.command {
        Command::List(args) => list(args),
        Command::Check(args) => check(args),
    }
}

/// The words for what a device can do.
fn abilities(device: &Description) -> Vec<&'static str> {
    let words = [
        (abi::ASYNC, "streams"),
        (abi::PEER, "peers"),
        (abi::DMABUF, "dma-buf"),
        (abi::MAP, "mapping"),
        (abi::OPAQUE, "opaque layout"),
        (abi::FIXED_PEERS, "fixed peers"),
        (abi::FLUSH, "flush"),
        (abi::JOIN, "joins streams"),
    ];
    let bits = words.into_iter().filter(|(bit, _)| device.can(*bit)).map(|(_, word)| word);
    bits.chain((device.most_sources > 0).then_some("reductions")).collect()
}

/// What joins two devices, from nothing to the processors, by its number.
const LINKS: [(&str, &str); 6] = [
    ("none", "nothing"),
    ("package", "their package"),
    ("own", "a link of the maker's"),
    ("switch", "one PCIe switch"),
    ("bridge", "one host bridge"),
    ("system", "the processors"),
];

/// What a plug-in says of the way from one of its devices to the others. Nothing where it cannot tell.
fn links(plugin: &Plugin, from: u32, count: u32) -> Vec<Link> {
    let others = (0..count).filter(|to| *to != from);
    let link = |to: u32| {
        let link = plugin.link(from, to).ok().flatten()?;
        let (by, _) = LINKS.get(usize::try_from(link.kind).ok()?)?;
        Some(Link {
            to: format!("{}:{to}", plugin.vendor()),
            by,
            reaches: link.peer_access == 1,
            gb_per_s: (link.bandwidth > 0.0).then_some(link.bandwidth),
            latency_ns: (link.latency > 0).then_some(link.latency),
        })
    };
    others.filter_map(link).collect()
}

impl Link {
    /// For people, but for its ends.
    fn text(&self) -> String {
        let Self { by, reaches, gb_per_s, latency_ns, .. } = self;
        let (_, by) = LINKS.iter().find(|(word, _)| word == by).expect("a link of the list");
        let memory = if *reaches { "reaches its memory" } else { "does not reach its memory" };
        let speed = gb_per_s.map_or_else(String::new, |speed| format!(", {speed} GB/s"));
        let latency = latency_ns.map_or_else(String::new, |ns| format!(", {ns} ns"));
        format!("by {by}, {memory}{speed}{latency}")
    }
}

/// Links for people: one line for those of a plug-in that are all alike.
fn link_lines(rows: &[Row]) -> Vec<String> {
    let mut lines = Vec::new();
    for rows in rows.chunk_by(|a, b| a.plugin == b.plugin) {
        let all = || rows.iter().flat_map(|row| row.links.iter().map(|link| (&row.device, link)));
        let Some((first, one)) = all().next() else { continue };
        let one = one.text();
        if all().count() > 2 && all().all(|(_, link)| link.text() == one) {
            let (vendor, _) = first.split_once(':').expect("devices are VENDOR:INDEX");
            lines.push(format!("each {vendor} to each other: {one}"));
        } else {
            lines.extend(
                all().map(|(from, link)| format!("{from} to {}: {}", link.to, link.text())),
            );
        }
    }
    lines
}

fn rows(plugin: &Plugin) -> Result<Vec<Row>, Refusal> {
    let count = plugin.count()?;
    let row = |index| {
        let about = plugin.describe(index)?;
        Ok(Row {
            device: format!("{}:{index}", plugin.vendor()),
            can: abilities(&about),
            name: about.name,
            serial: about.serial,
            pci: about.pci,
            numa: about.numa,
            memory: about.memory,
            links: links(plugin, index, count),
            plugin: plugin.path().to_owned(),
        })
    };
    (0..count).map(row).collect()
}

fn refused(refusal: &dyn std::error::Error) -> Failure {
    let cause = refusal.source().map_or_else(String::new, |cause| format!(": {cause}"));
    Failure::Failed(format!("{refusal}{cause}"))
}

fn list(args: &List) -> Result<Verdict, Failure> {
    let config = crate::perf::settings([])?;
    let mut all = Vec::new();
    for plugin in dure::devices::plugins(&config)? {
        all.extend(rows(&plugin).map_err(|refusal| refused(&refusal))?);
    }
    let idle = dure::devices::why_no_cuda();
    if idle.is_none() {
        let gpus = dure::devices::cuda()?;
        all.extend(rows(&gpus).map_err(|refusal| refused(&refusal))?);
    }
    if let Some(to) = &args.json {
        output::write_json(to, &all)?;
    }
    if !output::claims_output(args.json.as_ref()) {
        let mut out = io::stdout().lock();
        if all.is_empty() {
            let folder = dure::devices::FOLDER;
            writeln!(
                out,
                "no devices: DURE_DEVICE_PLUGINS names no plug-in, and {folder} has none"
            )?;
        }
        for Row { device, name, pci, memory, can, .. } in &all {
            let place = if pci.is_empty() { "no PCI address" } else { pci };
            let memory = size::display(*memory);
            writeln!(
                out,
                "{device:<12}  {name:<24}  {place:<14}  {memory:>6}  {}",
                can.join(", ")
            )?;
        }
        for line in link_lines(&all) {
            writeln!(out, "{line}")?;
        }
        if let Some(why) = idle {
            writeln!(out, "{}: none: {why}", dure::devices::CUDA)?;
        }
    }
    Ok(Verdict::Holds)
}

fn check(args: &Check) -> Result<Verdict, Failure> {
    let plugin = plugin(&args.plugin)?;
    let silent = output::claims_output(args.json.as_ref());
    let mut verdicts = Vec::new();
    let ran = conformance::run(&plugin, args.device, |(property, outcome)| {
        let (word, why) = match outcome {
            Outcome::Holds => ("holds", None),
            Outcome::Absent => ("absent", None),
            Outcome::Fails(why) => ("fails", Some(why.clone())),
        };
        if !silent {
            let why = why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            // Whoever reads may have had enough.
            let _ = writeln!(io::stdout().lock(), "{word:<6}  {property}{why}");
        }
        verdicts.push(Verdicts { property, outcome: word, why });
    });
    let all = ran.map_err(|refusal| refused(&refusal))?;
    if let Some(to) = &args.json {
        output::write_json(to, &verdicts)?;
    }
    Ok(Verdict::holds_if(all))
}

/// A plug-in by its file, or the one that is built in.
fn plugin(path: &Path) -> Result<Arc<Plugin>, Failure> {
    if path == Path::new(dure::devices::CUDA) {
        return Ok(dure::devices::cuda()?);
    }
    // A whole path is not looked for among the system's libraries.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    Plugin::load(&path).map_err(|refusal| refused(&refusal))
}
