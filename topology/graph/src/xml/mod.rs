//! Topologies as XML: that of NCCL and RCCL in and out, that of hwloc in.

mod element;
pub(crate) mod escape;
mod hwloc;
mod nccl;
mod own;

use roxmltree::{Document, ParsingOptions};

use self::element::Element;
use crate::error::Error;
use crate::graph::Graph;
use crate::read::Format;

/// Most levels of nested elements, and of nodes that contain nodes: what real machines have is below 20.
const MOST_DEPTH: u32 = 128;

/// Reads XML of any known format.
pub(crate) fn read(text: &str) -> Result<(Graph, Format), Error> {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    // hwloc's files name a DTD.
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options)?;
    let root = Element::root(&document);
    match root.name() {
        "system" => nccl::read(root),
        "topology" => Ok((hwloc::read(root)?, Format::Hwloc)),
        "graphs" => Err(Error::Result { line: root.line() }),
        name => Err(Error::Root { element: name.to_owned(), line: root.line() }),
    }
}

impl Graph {
    /// The graph as XML that NCCL and RCCL read, in their dialect as far as it goes. What their elements cannot say is in
    /// an element `<dure>`, which they skip; [`Graph::read`] gives the same graph again, as long as all figures are numbers
    /// of at least 0 and no more than 127 nodes contain each other.
    pub fn to_xml(&self) -> String {
        nccl::write(self)
    }
}
