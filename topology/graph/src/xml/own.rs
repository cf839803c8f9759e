//! The element `<dure>`: a whole graph, node by node and link by link.
//!
//! ```xml
//! <dure version="1">
//!   <host id="0" name="a1"><info name="version" value="1"/></host>
//!   <numa id="1" in="0" name="numa 0"/>
//!   <link a="0" b="1" kind="inside" gb_per_s="5000" latency_ns="10" source="default"/>
//! </dure>
//! ```

use std::fmt::Write;

use super::MOST_DEPTH;
use super::element::Element;
use super::escape::{escape, unwrap, wrap};
use crate::error::Error;
use crate::graph::{Graph, Kind, Link, LinkKind, Node, NodeId, Source};
use crate::names::Named;

/// The version that is written.
const VERSION: &str = "1";

/// Appends a graph as `<dure>`, `indent` spaces from the left.
pub(super) fn write(out: &mut String, graph: &Graph, indent: usize) {
    put(out, indent, format_args!("<dure version=\"{VERSION}\">\n"));
    for (id, node) in graph.nodes() {
        let place = graph.parent(id).map_or_else(String::new, |NodeId(id)| format!(" in=\"{id}\""));
        let name = escape(&wrap(&node.name));
        let kind = node.kind.name();
        let head = format_args!("<{kind} id=\"{}\"{place} name=\"{name}\"", id.0);
        put(out, indent + 2, head);
        if node.attributes.is_empty() {
            out.push_str("/>\n");
            continue;
        }
        out.push_str(">\n");
        for (name, value) in &node.attributes {
            let (name, value) = (escape(&wrap(name)), escape(&wrap(value)));
            put(out, indent + 4, format_args!("<info name=\"{name}\" value=\"{value}\"/>\n"));
        }
        put(out, indent + 2, format_args!("</{kind}>\n"));
    }
    for (_, Link { ends: [a, b], kind, gb_per_s, latency_ns, source }) in graph.links() {
        let ends = format!("a=\"{}\" b=\"{}\" kind=\"{kind}\"", a.0, b.0);
        let figures = format!("gb_per_s=\"{gb_per_s}\" latency_ns=\"{latency_ns}\"");
        put(out, indent + 2, format_args!("<link {ends} {figures} source=\"{source}\"/>\n"));
    }
    put(out, indent, format_args!("</dure>\n"));
}

fn put(out: &mut String, indent: usize, what: std::fmt::Arguments<'_>) {
    write!(out, "{:indent$}{what}", "").expect("a string takes all that is written");
}

/// Reads the graph in a `<dure>`.
pub(super) fn read(root: Element<'_>) -> Result<Graph, Error> {
    let version = root.required("version")?;
    if version != VERSION {
        let (element, line) = (root.name().to_owned(), root.line());
        return Err(Error::Version { element, line, found: version.to_owned(), known: VERSION });
    }
    let mut reader = Reader { graph: Graph::new(), depths: Vec::new() };
    for element in root.children()? {
        match Kind::named(element.name()) {
            Some(kind) => reader.node(element, kind)?,
            None if element.name() == "link" => reader.link(element)?,
            None => {
                let (element, line) = (element.name().to_owned(), element.line());
                return Err(Error::Element {
                    element,
                    line,
                    known: format!("{}, link", Kind::all()),
                });
            }
        }
    }
    Ok(reader.graph)
}

struct Reader {
    graph: Graph,
    /// Per node, how many nodes it is in.
    depths: Vec<u32>,
}

impl Reader {
    fn node(&mut self, element: Element<'_>, kind: Kind) -> Result<(), Error> {
        let id = element.required("id")?;
        if id.parse() != Ok(self.depths.len()) {
            let expected = format!("{}: nodes are counted from 0", self.depths.len());
            return Err(element.wrong("id", id, expected));
        }
        let parent = element.optional("in").map(|_| self.known(element, "in")).transpose()?;
        let depth = parent.map_or(0, |parent| self.depths[parent.0 as usize] + 1);
        if depth >= MOST_DEPTH {
            let (element, line) = (element.name().to_owned(), element.line());
            return Err(Error::Deep { element, line, most: MOST_DEPTH });
        }
        let mut node = Node::new(kind, text(element, "name")?);
        for info in element.children()? {
            if info.name() != "info" {
                let (element, line) = (info.name().to_owned(), info.line());
                return Err(Error::Element { element, line, known: "info".to_owned() });
            }
            node.attributes.push((text(info, "name")?, text(info, "value")?));
        }
        self.depths.push(depth);
        self.graph.add(parent, node);
        Ok(())
    }

    fn link(&mut self, element: Element<'_>) -> Result<(), Error> {
        let ends = [self.known(element, "a")?, self.known(element, "b")?];
        let (kind, source): (LinkKind, Source) =
            (one_of(element, "kind")?, one_of(element, "source")?);
        let gb_per_s = figure(element, "gb_per_s")?;
        let latency_ns = figure(element, "latency_ns")?;
        self.graph.join(Link { ends, kind, gb_per_s, latency_ns, source });
        Ok(())
    }

    /// A node that is in the graph already.
    fn known(&self, element: Element<'_>, attribute: &'static str) -> Result<NodeId, Error> {
        let value = element.required(attribute)?;
        let id = value.parse().ok().filter(|id| (*id as usize) < self.depths.len());
        id.map(NodeId).ok_or_else(|| element.wrong(attribute, value, "a node that stands before"))
    }
}

fn text(element: Element<'_>, attribute: &'static str) -> Result<String, Error> {
    let value = element.required(attribute)?;
    let expected = "no backslash but in \\\\ and \\x with six digits";
    unwrap(value).ok_or_else(|| element.wrong(attribute, value, expected))
}

fn one_of<T: Named>(element: Element<'_>, attribute: &'static str) -> Result<T, Error> {
    let value = element.required(attribute)?;
    T::named(value).ok_or_else(|| element.wrong(attribute, value, format!("one of {}", T::all())))
}

/// A figure is 0 or more, and may be infinite.
fn figure(element: Element<'_>, attribute: &'static str) -> Result<f64, Error> {
    let value = element.required(attribute)?;
    let number = value.parse().ok().filter(|number: &f64| *number >= 0.0);
    number.ok_or_else(|| element.wrong(attribute, value, "a number of at least 0"))
}
