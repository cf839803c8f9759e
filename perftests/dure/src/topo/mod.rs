//! `dure topo`: what a host or a fabric consists of, as text, picture, JSON or XML, and how two of them differ.

mod diff;
mod json;
mod load;
mod matrix;
mod svg;
mod text;
mod words;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};

use self::load::Description;
use crate::output::{self, Failure, Verdict};

/// Show what a host or a fabric consists of, and compare two of them.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Show this host, or what a file or a recorded host describes.
    Show(Show),
    /// Say how two hosts differ, or how what is declared differs from what is measured; status 1 when they do.
    Diff(diff::Args),
}

#[derive(Clone, Debug, clap::Args)]
struct Show {
    /// XML of NCCL, RCCL, hwloc or dure, a description of a fabric, or a folder with the files of a host (`sys`, `proc`);
    /// by default this host.
    #[arg(long, value_name = "FILE or FOLDER", default_value = "/", hide_default_value = true)]
    from: PathBuf,
    /// What to make of it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// File to write; - for standard output.
    #[arg(short = 'o', long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    output: PathBuf,
}

/// How a topology is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A tree, and the types and bandwidths of paths.
    #[default]
    Text,
    /// A picture.
    Svg,
    /// Everything, for programs.
    Json,
    /// NCCL's XML, with what NCCL has no element for in an element of its own.
    Xml,
}

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    match &args.command {
        Command::Show(args) => show(args),
        Command::Diff(args) => diff::run(args),
    }
}

fn show(args: &Show) -> Result<Verdict, Failure> {
    output::expect_folder(Some(&args.output))?;
    let description = Description::load(&args.from)?;
    let (origin, graph) = (description.origin(), &description.graph);
    if args.format == Format::Json {
        output::write_json(&args.output, &json::Report::of(graph, &origin))?;
        return Ok(Verdict::Holds);
    }
    let text = match (args.format, &description.reading) {
        (Format::Xml, _) => graph.to_xml(),
        (Format::Svg, Some(reading)) => reading.svg(),
        (Format::Svg, None) => svg::draw(graph, &origin),
        // Of a fabric first what operators ask: levels, rails, what contradicts itself.
        (_, Some(reading)) => format!("{}\n{}", reading.summary(), text::show(graph, &origin)),
        (_, None) => text::show(graph, &origin),
    };
    write(&args.output, &text)
}

fn write(to: &Path, text: &str) -> Result<Verdict, Failure> {
    if output::is_standard_output(to) {
        io::stdout().lock().write_all(text.as_bytes())?;
    } else {
        fs::write(to, text).map_err(|source| Failure::system(to.display().to_string(), source))?;
    }
    Ok(Verdict::Holds)
}
