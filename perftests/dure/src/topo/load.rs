//! Descriptions of topologies by the name of their file or folder.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use dure_topology::fabric::{self, Reading};
use dure_topology::{Format, Graph, Kind};

use crate::output::{self, Failure};

/// A topology, and where it comes from.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) graph: Graph,
    /// What it was read from, as it was called.
    pub(super) name: String,
    /// In which format; none for the files of a host.
    pub(super) format: Option<Format>,
    /// The fabric in it, if it is one.
    pub(super) reading: Option<Reading>,
}

impl Description {
    /// Reads a file, or the files of a host in a folder.
    pub(super) fn load(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        if path.is_dir() {
            let mut graph = Graph::discover(path)
                .map_err(|error| Failure::Usage(format!("{shown}: {}", output::chain(&error))))?;
            let here = path == Path::new("/");
            ask_rebellions(&mut graph, if here { None } else { Some(path) });
            let name = if here { "this host".to_owned() } else { shown.to_string() };
            return Ok(Self { graph, name, format: None, reading: None });
        }
        let text = fs::read_to_string(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Failure::Usage(format!("{shown}: no such file or folder")),
            io::ErrorKind::InvalidData => Failure::Usage(format!("{shown}: not a text")),
            _ => Failure::system(shown.to_string(), source),
        })?;
        let wrong = |error: &dyn std::error::Error| {
            Failure::Usage(format!("{shown}: {}", output::chain(error)))
        };
        let (graph, format) = Graph::read(&text).map_err(|error| wrong(&error))?;
        let reading = match format {
            Format::Fabric(_) => Some(fabric::read(&text).map_err(|error| wrong(&error))?),
            _ => Self::fabric_in(&graph),
        };
        Ok(Self { graph, name: shown.to_string(), format: Some(format), reading })
    }

    /// Where it comes from, for people.
    pub(super) fn origin(&self) -> String {
        match self.format {
            None => self.name.clone(),
            Some(format) => format!("{}, {format}", self.name),
        }
    }

    /// The last part of its name.
    pub(super) fn short(&self) -> &str {
        Path::new(&self.name).file_name().and_then(|name| name.to_str()).unwrap_or(&self.name)
    }

    /// A graph with switches of a fabric is one, whatever it was written as.
    fn fabric_in(graph: &Graph) -> Option<Reading> {
        let has_switch = graph.nodes().any(|(_, node)| node.kind == Kind::Switch);
        let reading =
            || Reading { format: fabric::Format::Text, graph: graph.clone(), warnings: Vec::new() };
        has_switch.then(reading)
    }
}

/// Adds what Rebellions' program says of its NPUs, where they are: on this host, or what it printed on one that was recorded, in
/// `rbln-stat.json`.
fn ask_rebellions(graph: &mut Graph, recorded: Option<&Path>) {
    let vendor = |node: &dure_topology::Node| node.attribute("vendor") == Some("0x1eff");
    if !graph.nodes().any(|(_, node)| node.kind == Kind::Accelerator && vendor(node)) {
        return;
    }
    let printed = match recorded {
        Some(folder) => fs::read(folder.join("rbln-stat.json")),
        None => Command::new("rbln-stat").args(["-g", "-j"]).output().map(|output| output.stdout),
    };
    // Without it the driver's files have to do.
    let Ok(printed) = printed else { return };
    if let Err(error) = graph.describe_rebellions(&String::from_utf8_lossy(&printed)) {
        output::complain(&format!("rbln-stat -g -j: {error}"));
    }
}
