//! Slurm's topology.conf, of the tree and the block plug-in (its manual page, Slurm 26.11), also as NVIDIA's topograph
//! writes it, and with GUIDs in the place of nodes.

use std::collections::{HashMap, HashSet};

use super::Warning;
use super::build::Builder;
use super::hostlist::expand;
use crate::{Graph, NodeId};

/// Reads a topology.conf.
pub(super) fn read(text: &str) -> (Graph, Vec<Warning>) {
    let mut reader = Reader::default();
    let mut whole = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        // A backslash at the end joins lines, as in all of Slurm's files.
        if let Some(part) = line.strip_suffix('\\') {
            whole.push_str(part);
            continue;
        }
        whole.push_str(line);
        reader.line(number, &whole);
        whole.clear();
    }
    reader.finish()
}

/// A tree as its lines say it, shared with the YAML form.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) builder: Builder,
    /// Switches with the switches that they name.
    children: Vec<(NodeId, Vec<NodeId>)>,
    described: HashSet<NodeId>,
    /// Blocks in the order of the file, with their numbers of nodes.
    blocks: Vec<(NodeId, usize)>,
    block_sizes: Vec<usize>,
    /// What comments say of switches that may come: `# switch.2.1=network-block-1`, as topograph writes it.
    remarks: HashMap<String, String>,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) {
        let (line, comment) = line.split_once('#').unwrap_or((line, ""));
        let remark = comment.trim().split_once('=');
        if let Some((name, id)) = remark.filter(|(name, _)| !name.contains(char::is_whitespace)) {
            self.remarks.insert(name.to_owned(), id.to_owned());
        }
        let mut fields = Vec::new();
        for field in line.split_whitespace() {
            match field.split_once('=') {
                Some((name, value)) => fields.push((name.to_ascii_lowercase(), value)),
                None => self.builder.warn(number, format!("`{field}` is no name=value")),
            }
        }
        let Some((first, name)) = fields.first().cloned() else { return };
        let fields = &fields[1..];
        match &*first {
            "switchname" => self.switch(number, name, fields),
            "blockname" => self.group(number, name, "block", fields),
            "ringname" => {
                self.builder
                    .warn(number, format!("ring {name}: taken as a group without an order"));
                self.group(number, name, "ring", fields);
            }
            "blocksizes" => self.sizes(number, name, fields),
            _ => self.builder.warn(number, format!("`{first}={name}` is unknown")),
        }
    }

    fn switch(&mut self, line: usize, name: &str, fields: &[(String, &str)]) {
        let switch = self.named(line, name);
        for (field, value) in fields {
            match &**field {
                "switches" => {
                    let names = self.names(line, value);
                    self.switches(switch, &names);
                }
                "nodes" => {
                    let names = self.names(line, value);
                    self.nodes(line, switch, &names);
                }
                // Slurm has no unit for it and no use.
                "linkspeed" => self.builder.note(switch, "LinkSpeed", *value),
                _ => self.unknown(line, switch, field, value),
            }
        }
    }

    fn group(&mut self, line: usize, name: &str, what: &str, fields: &[(String, &str)]) {
        let block = self.named(line, name);
        self.builder.note(block, "what", what);
        for (field, value) in fields {
            if field == "nodes" {
                let names = self.names(line, value);
                self.block(line, block, &names);
            } else {
                self.unknown(line, block, field, value);
            }
        }
    }

    fn sizes(&mut self, line: usize, value: &str, fields: &[(String, &str)]) {
        let sizes: Result<Vec<usize>, _> = value.split(',').map(str::parse).collect();
        match sizes {
            Ok(sizes) => self.block_sizes = sizes,
            Err(_) => {
                self.builder.warn(line, format!("`BlockSizes={value}` is no list of numbers"))
            }
        }
        for (field, value) in fields {
            self.builder.warn(line, format!("`{field}={value}` is unknown"));
        }
    }

    /// A switch that a line is about.
    pub(super) fn named(&mut self, line: usize, name: &str) -> NodeId {
        let switch = self.builder.switch(name);
        if !self.described.insert(switch) {
            self.builder.warn(line, format!("{name} is described twice"));
        }
        self.children.push((switch, Vec::new()));
        if let Some(id) = self.remarks.remove(name) {
            self.builder.note(switch, "id", id);
        }
        switch
    }

    fn names(&mut self, line: usize, list: &str) -> Vec<String> {
        expand(list).unwrap_or_else(|error| {
            self.builder.warn(line, error.to_string());
            Vec::new()
        })
    }

    pub(super) fn switches(&mut self, switch: NodeId, names: &[String]) {
        let children: Vec<NodeId> = names.iter().map(|name| self.builder.switch(name)).collect();
        let known = self.children.iter_mut().rev().find(|(known, _)| *known == switch);
        known.expect("each switch is named first").1.extend(children);
    }

    pub(super) fn nodes(&mut self, line: usize, switch: NodeId, names: &[String]) {
        for name in names {
            if self.builder.knows(false, name) {
                self.builder.warn(line, format!("node {name} is on two switches"));
            }
            let host = self.builder.host(name);
            self.builder.cable(switch, host, None);
        }
    }

    pub(super) fn block(&mut self, line: usize, block: NodeId, names: &[String]) {
        self.blocks.push((block, names.len()));
        self.nodes(line, block, names);
    }

    pub(super) fn block_sizes(&mut self, sizes: Vec<usize>) {
        self.block_sizes = sizes;
    }

    fn unknown(&mut self, line: usize, node: NodeId, field: &str, value: &str) {
        self.builder.warn(line, format!("`{field}={value}` is unknown"));
        self.builder.note(node, field, value);
    }

    pub(super) fn finish(mut self) -> (Graph, Vec<Warning>) {
        self.join();
        self.aggregate();
        self.builder.finish()
    }

    /// Joins switches, once each: some files name a link at both of its ends.
    fn join(&mut self) {
        let listed: HashSet<(NodeId, NodeId)> = self
            .children
            .iter()
            .flat_map(|(switch, children)| children.iter().map(|child| (*switch, *child)))
            .collect();
        let mutual = listed.iter().any(|(upper, lower)| listed.contains(&(*lower, *upper)));
        let mut joined = HashSet::new();
        for (switch, children) in self.children.clone() {
            for child in children {
                let pair = (switch.min(child), switch.max(child));
                if switch != child && joined.insert(pair) {
                    self.builder.cable(switch, child, None);
                }
            }
        }
        // Who names whom says which is higher, unless both do.
        if !mutual && self.blocks.is_empty() {
            self.tiers();
        }
    }

    /// Notes how high each switch stands above the lowest below it; nothing where switches name each other in a circle.
    fn tiers(&mut self) {
        let mut above: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
        // Per switch, the children whose height is not known yet.
        let mut open: HashMap<NodeId, usize> = HashMap::new();
        for (switch, children) in &self.children {
            *open.entry(*switch).or_default() += children.len();
            for child in children {
                above.entry(*child).or_default().push(*switch);
                open.entry(*child).or_default();
            }
        }
        let mut tiers: HashMap<NodeId, usize> = HashMap::new();
        let lowest = open.iter().filter(|(_, open)| **open == 0);
        let mut settled: Vec<(NodeId, usize)> = lowest.map(|(switch, _)| (*switch, 0)).collect();
        while let Some((switch, tier)) = settled.pop() {
            tiers.entry(switch).and_modify(|known| *known = tier.max(*known)).or_insert(tier);
            for parent in above.get(&switch).into_iter().flatten() {
                let higher = tiers.entry(*parent).or_default();
                *higher = (tier + 1).max(*higher);
                let higher = *higher;
                let open = open.get_mut(parent).expect("each switch was counted");
                *open -= 1;
                if *open == 0 {
                    settled.push((*parent, higher));
                }
            }
        }
        if open.values().any(|open| *open > 0) {
            self.builder.warn(
                0,
                "switches name each other in a circle: their heights are found by their hosts",
            );
            return;
        }
        let mut tiers: Vec<(NodeId, usize)> = tiers.into_iter().collect();
        tiers.sort_unstable();
        for (switch, tier) in tiers {
            self.builder.note(switch, "tier", tier.to_string());
        }
    }

    /// Blocks that follow each other form larger ones, as large as the sizes after the first say.
    fn aggregate(&mut self) {
        let blocks: Vec<NodeId> = self.blocks.iter().map(|(block, _)| *block).collect();
        for block in &blocks {
            self.builder.note(*block, "tier", "0");
        }
        let Some((base, larger)) =
            self.block_sizes.split_first().map(|(base, larger)| (*base, larger.to_vec()))
        else {
            return;
        };
        for (block, nodes) in self.blocks.clone() {
            if nodes < base {
                let name = self.builder.node(block).name.clone();
                self.builder.warn(
                    0,
                    format!("block {name} has {nodes} nodes, fewer than BlockSizes={base}"),
                );
            }
        }
        let mut below = blocks;
        let mut width = base;
        for (tier, size) in (1..).zip(larger) {
            let together = size / width.max(1);
            if together < 2 {
                self.builder.warn(0, format!("BlockSizes: {size} is no multiple of {width}"));
                continue;
            }
            let mut above = Vec::new();
            for (number, group) in below.chunks(together).enumerate() {
                let name = format!("blocks of {size}, number {}", number + 1);
                let node = self.builder.switch(&name);
                self.builder.note(node, "what", format!("block of {size}"));
                self.builder.note(node, "tier", tier.to_string());
                for block in group {
                    self.builder.cable(node, *block, None);
                }
                above.push(node);
            }
            below = above;
            width = size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn shape(text: &str) -> (Vec<String>, Vec<String>) {
        let (graph, warnings) = read(text);
        let cables = graph
            .links()
            .map(|(_, link)| link.ends.map(|end| graph.node(end).name.clone()).join("-"));
        let nodes = graph.nodes().filter(|(_, node)| node.kind == Kind::Switch).map(|(_, node)| {
            let tier = node.attribute("tier").unwrap_or("?");
            format!("{}:{tier}", node.name)
        });
        (cables.chain(nodes).collect(), warnings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_tree() {
        let (graph, warnings) = shape(
            "# A comment\nswitchname=top Switches=s[0-1] LinkSpeed=100\n\
             SwitchName=s0 \\\nNodes=a[08-09] # s1=spine-id\nSwitchName=s1 Nodes=b\n",
        );
        let expected = ["s0-a08", "s0-a09", "s1-b", "top-s0", "top-s1", "top:1", "s0:0", "s1:0"];
        assert_eq!(graph, expected);
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn what_topograph_writes() {
        let (graph, _) =
            read("# sw.2=block-7\nSwitchName=sw.2 Switches=sw.1\nSwitchName=sw.1 Nodes=n\n");
        let (_, top) = graph.nodes().next().unwrap();
        assert_eq!(top.attribute("id"), Some("block-7"));
    }

    #[test]
    fn links_that_are_named_at_both_ends() {
        let (graph, _) =
            shape("SwitchName=a Switches=b,c\nSwitchName=b Switches=a\nSwitchName=c Nodes=n\n");
        assert_eq!(graph, ["c-n", "a-b", "a-c", "a:?", "b:?", "c:?"]);
    }

    #[test]
    fn blocks() {
        let (graph, warnings) = shape(
            "BlockName=b1 Nodes=n[1-2]\nBlockName=b2 Nodes=n[3-4]\nBlockName=b3 Nodes=n5\nBlockSizes=2,4\n",
        );
        assert_eq!(
            graph,
            [
                "b1-n1",
                "b1-n2",
                "b2-n3",
                "b2-n4",
                "b3-n5",
                "blocks of 4, number 1-b1",
                "blocks of 4, number 1-b2",
                "blocks of 4, number 2-b3",
                "b1:0",
                "b2:0",
                "b3:0",
                "blocks of 4, number 1:1",
                "blocks of 4, number 2:1",
            ]
        );
        assert_eq!(warnings, ["block b3 has 1 nodes, fewer than BlockSizes=2"]);
    }

    #[test]
    fn warnings() {
        let (_, warnings) = shape(
            "SwitchName=a Nodes=n[1-2 Colour=red\nSwitchName=b Nodes=n1 hello\nSwitchName=b Nodes=n1\nThing=4\n\
             RingName=r Nodes=m\nBlockSizes=x\n",
        );
        assert_eq!(
            warnings,
            [
                "line 1: `n[1-2`: a bracket without its partner",
                "line 1: `colour=red` is unknown",
                "line 2: `hello` is no name=value",
                "line 3: b is described twice",
                "line 3: node n1 is on two switches",
                "line 4: `thing=4` is unknown",
                "line 5: ring r: taken as a group without an order",
                "line 6: `BlockSizes=x` is no list of numbers",
            ]
        );
        let (_, warnings) =
            shape("SwitchName=a Switches=b\nSwitchName=b Switches=c\nSwitchName=c Switches=a\n");
        assert_eq!(
            warnings,
            ["switches name each other in a circle: their heights are found by their hosts"]
        );
    }
}
