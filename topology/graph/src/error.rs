//! What can be wrong with a description of a topology.

use std::io;

use crate::fabric::ReadError;

/// Why a topology cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no XML, and describes no fabric either.
    #[error("neither XML of NCCL, RCCL, hwloc or dure, nor a description of a fabric")]
    Fabric(#[from] ReadError),
    /// The text begins as XML and is none.
    #[error("the XML is broken")]
    Xml(#[from] roxmltree::Error),
    /// The outermost element is that of no known format.
    #[error(
        "line {line}: <{element}> describes no topology; known are <system> of NCCL and <topology> of hwloc"
    )]
    Root {
        /// The element.
        element: String,
        /// Its line.
        line: u32,
    },
    /// The file holds what NCCL computed from a topology.
    #[error(
        "line {line}: a <graphs> file is a result, the channels that NCCL found in a topology, and no topology: give the \
         file that NCCL_TOPO_DUMP_FILE names"
    )]
    Result {
        /// The line of the element.
        line: u32,
    },
    /// An element is of a version that is not known.
    #[error("line {line}: <{element}> is of version {found:?}; known: {known}")]
    Version {
        /// The element.
        element: String,
        /// Its line.
        line: u32,
        /// What it says.
        found: String,
        /// The versions that can be read.
        known: &'static str,
    },
    /// An attribute that must be there is not.
    #[error("line {line}: <{element}> has no attribute {attribute}")]
    Missing {
        /// The element.
        element: String,
        /// Its line.
        line: u32,
        /// The attribute.
        attribute: &'static str,
    },
    /// An attribute, or what an element holds, has a value that it cannot have.
    #[error("line {line}: {attribute}={value:?} of <{element}>; expected {expected}")]
    Value {
        /// The element.
        element: String,
        /// Its line.
        line: u32,
        /// The attribute.
        attribute: String,
        /// Its value.
        value: String,
        /// What it can be.
        expected: String,
    },
    /// An element is where it has no meaning.
    #[error("line {line}: <{element}> in <dure>; known: {known}")]
    Element {
        /// The element.
        element: String,
        /// Its line.
        line: u32,
        /// What can be there.
        known: String,
    },
    /// An element lacks what it is there for.
    #[error("line {line}: <{element}> holds no <{wanted}>")]
    Empty {
        /// The element.
        element: String,
        /// Its line.
        line: u32,
        /// What should be in it.
        wanted: &'static str,
    },
    /// Elements are nested deeper than any machine is.
    #[error("line {line}: <{element}> is nested deeper than {most} levels")]
    Deep {
        /// The element.
        element: String,
        /// Its line.
        line: u32,
        /// The most levels.
        most: u32,
    },
    /// The two parts of an XML file of this library were changed apart.
    #[error(
        "line {line}: the elements for NCCL and <dure> contradict each other: take one of the two out of the file"
    )]
    Contradiction {
        /// The line of `<dure>`.
        line: u32,
    },
    /// A file or folder of the system's.
    #[error("{path}")]
    System {
        /// Its path.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
