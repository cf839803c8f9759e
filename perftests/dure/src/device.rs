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
    /// List the devices of the plug-ins that DURE_DEVICE_PLUGINS names, or of those that are installed.
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
    /// The plug-in.
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
    plugin: PathBuf,
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
    ];
    let bits = words.into_iter().filter(|(bit, _)| device.can(*bit)).map(|(_, word)| word);
    bits.chain((device.most_sources > 0).then_some("reductions")).collect()
}

fn rows(plugin: &Plugin) -> Result<Vec<Row>, Refusal> {
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
            plugin: plugin.path().to_owned(),
        })
    };
    (0..plugin.count()?).map(row).collect()
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
    }
    Ok(Verdict::Holds)
}

fn check(args: &Check) -> Result<Verdict, Failure> {
    let path = whole(&args.plugin);
    let plugin: Arc<Plugin> = Plugin::load(&path).map_err(|refusal| refused(&refusal))?;
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

/// A path that is not looked for among the system's libraries.
fn whole(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
