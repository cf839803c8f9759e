//! Matrices: `<distances2>` between objects of one type, `<distances2hetero>` between any.

use super::object::Numbers;
use crate::error::Error;
use crate::graph::NodeId;
use crate::xml::element::Element;

/// Most objects of a matrix: it has the square of them.
const MOST: usize = 4096;

/// A value for each pair of some objects.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) name: String,
    /// Whether objects are named by the operating system's numbers.
    by_system: bool,
    /// Type and number of each object.
    objects: Vec<(String, u64)>,
    /// Row by row.
    values: Vec<f64>,
}

impl Matrix {
    pub(super) fn read(element: Element<'_>) -> Result<Self, Error> {
        let of = element.optional("type").unwrap_or_default();
        let mut objects = Vec::new();
        let mut values = Vec::new();
        for child in element.children()? {
            let text = child.text().unwrap_or_default();
            for word in text.split_whitespace() {
                let wrong = || child.wrong("text", word, "numbers, or TYPE:NUMBER");
                match child.name() {
                    "indexes" => {
                        let (of, number) = word.split_once(':').unwrap_or((of, word));
                        objects.push((of.to_owned(), number.parse().map_err(|_| wrong())?));
                    }
                    "u64values" => values.push(word.parse::<u64>().map_err(|_| wrong())?),
                    _ => {}
                }
            }
        }
        let length = objects.len();
        if length > MOST || values.len() != length * length {
            let found = format!("{} values for {length} objects", values.len());
            return Err(element.wrong("u64values", &found, "a value for each pair"));
        }
        let name = element.optional("name").unwrap_or_default().to_owned();
        let by_system = element.optional("indexing") == Some("os");
        // Distances and MB/s are far below 2^53.
        #[expect(clippy::cast_precision_loss, reason = "a value that large means nothing")]
        let values = values.into_iter().map(|value| value as f64).collect();
        Ok(Self { name, by_system, objects, values })
    }

    /// Whether this is bandwidth between accelerators, MB/s.
    pub(super) fn is_accelerators(&self) -> bool {
        matches!(&*self.name, "NVLinkBandwidth" | "XGMIBandwidth")
    }

    fn node(&self, numbers: &Numbers, at: usize) -> Option<NodeId> {
        let nodes = if self.by_system { &numbers.system } else { &numbers.own };
        nodes.get(&self.objects[at]).copied()
    }

    /// The value between two nodes.
    pub(super) fn between(&self, numbers: &Numbers, a: NodeId, b: NodeId) -> Option<f64> {
        let place = |id| (0..self.objects.len()).find(|at| self.node(numbers, *at) == Some(id));
        Some(self.values[place(a)? * self.objects.len() + place(b)?])
    }

    /// All pairs of different nodes with a value that is not 0: the smaller one where both directions have one.
    pub(super) fn pairs(&self, numbers: &Numbers) -> impl Iterator<Item = ([NodeId; 2], f64)> {
        let length = self.objects.len();
        let pairs = (0..length).flat_map(move |a| (a + 1..length).map(move |b| (a, b)));
        pairs.filter_map(move |(a, b)| {
            let (there, back) = (self.values[a * length + b], self.values[b * length + a]);
            let value = if there > 0.0 && back > 0.0 { there.min(back) } else { there.max(back) };
            let ends = [self.node(numbers, a)?, self.node(numbers, b)?];
            (value > 0.0 && ends[0] != ends[1]).then_some((ends, value))
        })
    }
}
