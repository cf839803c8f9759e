//! NCCL's and RCCL's XML (src/graph/xml.cc and topo.cc of both).
//!
//! | element | node |
//! |---|---|
//! | `<system>` | a host, or one for each `host_hash` of the `<cpu>`s |
//! | `<cpu>` | a NUMA node |
//! | `<pci>` | by its class and by what is in it: bridge, accelerator, adapter, switch of accelerators, CXL memory |
//! | `<gpu>` in `<pci>` | the accelerator that `<pci>` is; its attributes get the prefix `gpu.` |
//! | `<nic>` in `<pci>` | the adapter that `<pci>` is; its attributes get the prefix `nic.` |
//! | `<net>` | a port |
//! | `<nvlink>`, `<xgmi>`, `<c2c>`, `<pcilink>` | a link, and a node of kind other that keeps its attributes |
//! | anything else | a node of kind other |

mod names;
mod reader;
mod writer;

use super::element::Element;
use super::own;
use crate::error::Error;
use crate::graph::Graph;
use crate::read::Format;

/// NCCL writes version 1, RCCL 2; what they mean is the same.
const VERSIONS: &str = "1, 2";

/// Reads a `<system>`, with or without `<dure>`.
pub(super) fn read(system: Element<'_>) -> Result<(Graph, Format), Error> {
    let plain = read_plain(system)?;
    let Some(element) = system.children()?.find(|child| child.name() == names::OWN) else {
        return Ok((plain, Format::Nccl));
    };
    let graph = own::read(element)?;
    // Whoever changed one part by hand is told, and not left to guess which part counts.
    if parse(&projection(&graph))? != plain {
        return Err(Error::Contradiction { line: element.line() });
    }
    Ok((graph, Format::Dure))
}

/// Reads what is outside of `<dure>`.
fn read_plain(system: Element<'_>) -> Result<Graph, Error> {
    let version = system.required("version")?;
    if !VERSIONS.split(", ").any(|known| known == version) {
        let (element, line) = (system.name().to_owned(), system.line());
        return Err(Error::Version { element, line, found: version.to_owned(), known: VERSIONS });
    }
    reader::read(system)
}

/// What NCCL understands of a graph: nothing, when it has attributes that NCCL would stumble over.
fn projection(graph: &Graph) -> String {
    let text = writer::known(graph);
    if parse(&text).is_ok() { text } else { writer::nothing() }
}

fn parse(text: &str) -> Result<Graph, Error> {
    let document = roxmltree::Document::parse(text)?;
    read_plain(Element::root(&document))
}

/// Writes a graph: in NCCL's elements alone when these say all, with `<dure>` otherwise.
pub(super) fn write(graph: &Graph) -> String {
    let plain = writer::all(graph).filter(|text| parse(text).is_ok_and(|read| read == *graph));
    plain.unwrap_or_else(|| {
        let mut text = projection(graph);
        let end = text.rfind("</system>").expect("every file is a <system>");
        let close = text.split_off(end);
        own::write(&mut text, graph, 2);
        text + &close
    })
}
