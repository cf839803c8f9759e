//! Gathers rows into cells: the times of Dure's algorithms in each.

use std::collections::BTreeMap;

use super::names::{Meaning, has_element_each, meaning};
use super::table::{Key, Row};

/// What was measured in a cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cell {
    /// Seconds of each of Dure's algorithms. Of several rows of one algorithm, as of different libraries or numbers of
    /// ports, the best counts: how an algorithm is best run is not the choice that is judged.
    pub(super) seconds: BTreeMap<&'static str, f64>,
    /// Seconds of the library's own choice.
    pub(super) default: Option<f64>,
}

impl Cell {
    /// Whether there is something to choose between.
    pub(super) fn has_choice(&self) -> bool {
        self.seconds.len() > 1
    }

    /// The least time of Dure's algorithms.
    pub(super) fn best(&self) -> Option<f64> {
        self.seconds.values().copied().reduce(f64::min)
    }
}

/// All cells of a file, in order of their keys.
///
/// Left out are cells of collectives that Dure has not, and those whose blocks are empty, in which nothing was moved;
/// and times of 0, which are below the clock's resolution.
pub(super) fn cells(rows: &[Row]) -> BTreeMap<Key, Cell> {
    let mut cells = BTreeMap::<Key, Cell>::new();
    for row in rows.iter().filter(|row| is_usable(row)) {
        let cell = cells.entry(row.key.clone()).or_default();
        let least = |before: f64| before.min(row.seconds);
        match meaning(&row.key, &row.algorithm) {
            Meaning::Default => cell.default = Some(cell.default.map_or(row.seconds, least)),
            Meaning::Algorithm(name) => {
                let seconds = cell.seconds.entry(name).or_insert(row.seconds);
                *seconds = least(*seconds);
            }
            Meaning::Other => {}
        }
    }
    cells
}

fn is_usable(row: &Row) -> bool {
    let whole = matches!(row.key.collective.as_str(), "ALLREDUCE" | "BCAST" | "REDUCE");
    row.seconds > 0.0
        && row.key.ranks > 1
        && row.key.what().is_some()
        && (whole || has_element_each(&row.key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(collective: &str, algorithm: &str, bytes: u64, seconds: f64) -> Row {
        let key = Key {
            system: "s".to_owned(),
            ranks: 8,
            tasks_per_node: 1,
            collective: collective.to_owned(),
            mpi: "m".to_owned(),
            memory: "host".to_owned(),
            bytes,
        };
        Row { key, algorithm: algorithm.to_owned(), seconds }
    }

    #[test]
    fn the_best_row_of_an_algorithm_counts() {
        let cells = cells(&[
            row("ALLREDUCE", "ring_ompi", 64, 3.0),
            row("ALLREDUCE", "ring_over", 64, 2.0),
            row("ALLREDUCE", "rabenseifner_ompi", 64, 4.0),
            row("ALLREDUCE", "bine_lat_over", 64, 1.0),
            row("ALLREDUCE", "default_ompi", 64, 5.0),
        ]);
        let cell = cells.values().next().unwrap();
        assert_eq!(cell.seconds, BTreeMap::from([("halving-doubling", 4.0), ("ring", 2.0)]));
        assert_eq!((cell.default, cell.best(), cell.has_choice()), (Some(5.0), Some(2.0), true));
    }

    #[test]
    fn cells_in_which_nothing_moved_are_left_out() {
        let one = |row: Row| cells(&[row]).len();
        assert_eq!(one(row("ALLGATHER", "ring_ompi", 32, 1.0)), 1);
        assert_eq!(one(row("ALLGATHER", "ring_ompi", 28, 1.0)), 0);
        assert_eq!(one(row("BCAST", "binomial_ompi", 4, 1.0)), 1);
        assert_eq!(one(row("BCAST", "binomial_ompi", 4, 0.0)), 0);
        assert_eq!(one(row("ALLTOALLV", "pairwise_ompi", 1024, 1.0)), 0);
    }
}
