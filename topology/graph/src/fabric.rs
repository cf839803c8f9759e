//! Fabrics: switches, the cables between them and to hosts, from what describes them.
//!
//! Each reader gives a [`Graph`] of [`Kind::Switch`](crate::Kind::Switch) nodes, hosts and cables. What a file says and
//! a reader has no use for is kept as an attribute of a node or reported as a [`Warning`]; nothing is dropped silently.
//! Three attributes mean something to the rest of this crate: `guid` of an adapter or port, `tier` of a switch (0 next
//! to the hosts, where the source says so), and `what` of a switch: what its tier is called.

mod build;
mod hostlist;
mod ibnetdiscover;
mod kubernetes;
mod oddities;
pub(crate) mod rails;
mod slurm;
mod slurm_yaml;
mod summary;
mod svg;
mod text;
pub(crate) mod tiers;
mod topograph;

use std::fmt::{self, Display};

use thiserror::Error;

pub(crate) use self::build::guid;
pub use self::hostlist::{ListError, expand};
use crate::Graph;

/// What a description of a fabric says.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// In which format it is.
    pub format: Format,
    /// The switches, hosts and cables.
    pub graph: Graph,
    /// What was not as it should be, by line.
    pub warnings: Vec<Warning>,
}

/// The formats in which fabrics are described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The output of `ibnetdiscover`.
    Ibnetdiscover,
    /// Slurm's topology.conf: tree or block.
    Slurm,
    /// Slurm's topology.yaml.
    SlurmYaml,
    /// A model of NVIDIA's topograph.
    Topograph,
    /// Kubernetes nodes with their labels: `kubectl get nodes -o json`, or `yaml`.
    Kubernetes,
    /// This library's own text.
    Text,
}

/// Something in a description that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Warning {
    /// The line, counted from 1; 0 for the description as a whole.
    pub line: usize,
    /// What it is.
    pub what: String,
}

/// Why a text is no description of a fabric.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// It is in no format that is known.
    #[error(
        "no known description of a fabric: known are the output of ibnetdiscover, Slurm's topology.conf and topology.yaml, \
         a model of topograph, Kubernetes nodes as JSON or YAML, and lines of `switch`, `host` and `pool`"
    )]
    Format,
    /// It is in a format that is known, and broken.
    #[error("{format}: {what}")]
    Broken {
        /// The format.
        format: Format,
        /// What is wrong, and where.
        what: String,
    },
    /// It names neither a switch nor a host.
    #[error("{format}: it has neither a switch nor a host")]
    Empty {
        /// The format.
        format: Format,
    },
}

/// Reads a description of a fabric; its content tells the format.
///
/// # Errors
///
/// The text is in no known format, is broken, or has nothing in it.
pub fn read(text: &str) -> Result<Reading, ReadError> {
    let text = text.trim_start_matches('\u{feff}');
    let format = recognise(text).ok_or(ReadError::Format)?;
    let (graph, warnings) = match format {
        Format::Ibnetdiscover => ibnetdiscover::read(text),
        Format::Slurm => slurm::read(text),
        Format::SlurmYaml => slurm_yaml::read(text)?,
        Format::Topograph => topograph::read(text)?,
        Format::Kubernetes => kubernetes::read(text)?,
        Format::Text => text::read(text),
    };
    if graph.nodes().next().is_none() {
        return Err(ReadError::Empty { format });
    }
    Ok(Reading { format, graph, warnings })
}

/// The format of a text, by the first line that belongs to one only.
fn recognise(text: &str) -> Option<Format> {
    for line in text.lines() {
        let trimmed = line.trim();
        let small = trimmed.to_ascii_lowercase();
        let starts =
            |beginnings: &[&str]| beginnings.iter().any(|beginning| small.starts_with(beginning));
        if starts(&["switchguid=", "caguid=", "rtguid=", "vendid="]) {
            return Some(Format::Ibnetdiscover);
        }
        if starts(&["switchname=", "blockname=", "ringname=", "blocksizes="]) {
            return Some(Format::Slurm);
        }
        if starts(&["- topology:"]) {
            return Some(Format::SlurmYaml);
        }
        let own_line = line.trim_end() == trimmed;
        if own_line && starts(&["switches:", "blocks:", "capacity_blocks:", "nodes:"]) {
            return Some(Format::Topograph);
        }
        if starts(&["{", "[", "kind:", "apiversion:"]) {
            return Some(Format::Kubernetes);
        }
        if starts(&["switch ", "host ", "pool "]) {
            return Some(Format::Text);
        }
    }
    None
}

impl Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ibnetdiscover => "ibnetdiscover",
            Self::Slurm => "Slurm topology.conf",
            Self::SlurmYaml => "Slurm topology.yaml",
            Self::Topograph => "topograph model",
            Self::Kubernetes => "Kubernetes nodes",
            Self::Text => "text of switches and hosts",
        })
    }
}

impl Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}
