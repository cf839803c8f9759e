//! Paths between accelerators and from them to the network.

use std::fmt::{self, Display};

use dure_topology::{Graph, Kind, NodeId, PathType, Route, Source};

use super::words;

/// Most accelerators or ports of a table that people still read.
const MOST: usize = 64;

/// The paths between the devices of a graph.
#[derive(Debug)]
pub(super) struct Matrix<'g> {
    graph: &'g Graph,
    accelerators: Vec<NodeId>,
    /// Ports, and adapters of which none are known.
    ports: Vec<NodeId>,
}

impl<'g> Matrix<'g> {
    pub(super) fn of(graph: &'g Graph) -> Self {
        let of_kind =
            |kind| graph.nodes().filter(move |(_, node)| node.kind == kind).map(|(id, _)| id);
        let has_port =
            |id: &NodeId| graph.children(*id).any(|child| graph.node(child).kind == Kind::Port);
        let mut ports: Vec<_> =
            of_kind(Kind::Nic).filter(|id| !has_port(id)).chain(of_kind(Kind::Port)).collect();
        ports.sort();
        Self { graph, accelerators: of_kind(Kind::Accelerator).collect(), ports }
    }

    /// All devices that have a row or column.
    pub(super) fn devices(&self) -> impl Iterator<Item = NodeId> {
        self.accelerators.iter().chain(&self.ports).copied()
    }

    /// All paths from accelerators.
    pub(super) fn paths(&self) -> impl Iterator<Item = (NodeId, NodeId, Option<Route>)> {
        self.accelerators.iter().flat_map(move |from| {
            let routes = self.graph.routes(*from);
            let to = self.devices().filter(|to| to != from);
            to.map(|to| (*from, to, routes.to(to))).collect::<Vec<_>>()
        })
    }

    fn table(&self, f: &mut fmt::Formatter<'_>, columns: &[NodeId], letter: char) -> fmt::Result {
        let rows: Vec<Vec<String>> = self
            .accelerators
            .iter()
            .map(|from| {
                let routes = self.graph.routes(*from);
                columns.iter().map(|to| cell(routes.to(*to).as_ref())).collect()
            })
            .collect();
        let wide = rows.iter().flatten().map(String::len).max().unwrap_or(0).max(4);
        let mut head = format!("  {:<16}", "");
        for number in 0..columns.len() {
            head.push_str(&format!("  {:<wide$}", format!("{letter}{number}")));
        }
        writeln!(f, "{}", head.trim_end())?;
        for (number, (row, from)) in rows.iter().zip(&self.accelerators).enumerate() {
            let mut line =
                format!("  {:<16}", format!("a{number} {}", self.graph.node(*from).name));
            for cell in row {
                line.push_str(&format!("  {cell:<wide$}"));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A path's type and bandwidth; a tilde before what nobody states.
fn cell(route: Option<&Route>) -> String {
    match route {
        None => PathType::Dis.to_string(),
        Some(route) if route.path == PathType::Loc => PathType::Loc.to_string(),
        Some(route) => {
            let mark = if route.source == Source::Default { "~" } else { "" };
            format!("{} {mark}{}", route.path, words::figure(route.gb_per_s))
        }
    }
}

impl Display for Matrix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.accelerators.is_empty() || self.devices().nth(1).is_none() {
            return Ok(());
        }
        if self.accelerators.len() > MOST || self.ports.len() > MOST {
            let (accelerators, ports) = (self.accelerators.len(), self.ports.len());
            return writeln!(
                f,
                "paths of {accelerators} accelerators and {ports} ports: see --format json"
            );
        }
        writeln!(f, "paths, NCCL's types, GB/s in one direction; ~ is assumed")?;
        if self.accelerators.len() > 1 {
            self.table(f, &self.accelerators, 'a')?;
        }
        if !self.ports.is_empty() {
            let name = |id: &NodeId| &*self.graph.node(*id).name;
            let names =
                self.ports.iter().enumerate().map(|(number, id)| format!("p{number} {}", name(id)));
            writeln!(f, "to the network: {}", names.collect::<Vec<_>>().join(", "))?;
            self.table(f, &self.ports, 'p')?;
        }
        Ok(())
    }
}
