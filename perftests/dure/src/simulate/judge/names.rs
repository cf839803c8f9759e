//! Which of Dure's algorithms a measured name stands for. docs/choice.md has the same table, and says what is left out.

use super::table::Key;

/// When a name stands for an algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Always,
    /// The number of ranks is a power of two.
    PowerOfTwo,
    /// The number of ranks is no power of two.
    NotPowerOfTwo,
    /// The number of ranks is even.
    Even,
    /// There is an element for each rank: with fewer the library falls back to something else.
    ElementEach,
}

/// Bytes of an element in the measured operations.
const ELEMENT: u64 = 4;

impl When {
    fn holds(self, key: &Key) -> bool {
        match self {
            Self::Always => true,
            Self::PowerOfTwo => key.ranks.is_power_of_two(),
            Self::NotPowerOfTwo => !key.ranks.is_power_of_two(),
            Self::Even => key.ranks.is_multiple_of(2),
            Self::ElementEach => has_element_each(key),
        }
    }
}

/// Whether the vector has an element for each rank.
pub(super) fn has_element_each(key: &Key) -> bool {
    key.bytes / ELEMENT >= u64::from(key.ranks)
}

/// Measured names of one of Dure's algorithms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) collective: &'static str,
    pub(super) algorithm: &'static str,
    pub(super) when: When,
    /// A `*` at the end stands for any rest.
    pub(super) names: &'static [&'static str],
}

const fn rule(
    collective: &'static str,
    algorithm: &'static str,
    when: When,
    names: &'static [&'static str],
) -> Rule {
    Rule { collective, algorithm, when, names }
}

#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    rule("ALLREDUCE", "ring", When::ElementEach,
        &["ring_ompi", "ring_segmented_ompi", "ring_mpich", "ring_over", "default-ring", "default-segmented_ring"]),
    rule("ALLREDUCE", "recursive-doubling", When::Always,
        &["recursive_doubling_ompi", "recursive_doubling_mpich", "recursive_doubling_over",
          "default-recursive_doubling", "RECDOUB-L-*"]),
    rule("ALLREDUCE", "halving-doubling", When::ElementEach,
        &["rabenseifner_ompi", "rabenseifner_mpich", "rabenseifner_over", "RECDOUB-B_CONT-*"]),
    rule("ALLREDUCE", "linear", When::Always, &["linear_ompi", "default-basic_linear"]),

    rule("ALLGATHER", "ring", When::Always, &["ring_ompi", "ring_mpich", "ring_over", "default-ring"]),
    rule("ALLGATHER", "neighbor-exchange", When::Even, &["neighbor_ompi", "default-neighbor"]),
    rule("ALLGATHER", "halving-doubling", When::PowerOfTwo,
        &["recursive_doubling_ompi", "recursive_doubling_mpich", "recursive_doubling_over",
          "default-recursive-doubling"]),
    rule("ALLGATHER", "bruck", When::Always,
        &["k_bruck_ompi", "brucks_mpich", "k_bruck_over", "default-bruck"]),
    rule("ALLGATHER", "bruck", When::NotPowerOfTwo, &["recursive_doubling_ompi"]),

    rule("REDUCE_SCATTER", "ring", When::Always, &["ring_ompi", "ring_over", "default-ring"]),
    rule("REDUCE_SCATTER", "halving-doubling", When::Always,
        &["recursive_halving_ompi", "recursive_halving_mpich", "recursive_halving_over",
          "default-recursive-halving"]),
    rule("REDUCE_SCATTER", "pairwise", When::Always, &["pairwise_mpich"]),

    rule("ALLTOALL", "all-pairs", When::Always,
        &["linear_ompi", "linear_sync_ompi", "scattered_mpich", "default-linear", "default-linear-sync"]),
    rule("ALLTOALL", "pairwise", When::Always,
        &["pairwise_ompi", "pairwise_mpich", "pairwise_sendrecv_replace_mpich", "pairwise_ompi_over",
          "default-pairwise"]),
    rule("ALLTOALL", "bruck", When::Always,
        &["modified_bruck_ompi", "brucks_mpich", "default-modified-bruck", "BRUCK-LOG-MPI-*"]),

    rule("BCAST", "binomial", When::Always, &["binomial_ompi", "binomial_mpich", "default-binomial"]),
    rule("BCAST", "linear", When::Always, &["linear_ompi", "default-basic-linear"]),
    rule("BCAST", "chain", When::Always, &["pipeline_ompi", "default-pipeline"]),

    rule("REDUCE", "binomial", When::Always, &["binomial_ompi", "binomial_mpich", "default-binomial"]),
    rule("REDUCE", "linear", When::Always, &["linear_ompi", "default-linear"]),
    rule("REDUCE", "chain", When::Always, &["pipeline_ompi", "default-pipeline"]),

    rule("GATHER", "binomial", When::Always, &["binomial_ompi", "binomial_mpich", "default-binomial"]),
    rule("GATHER", "linear", When::Always,
        &["linear_ompi", "linear_synch_ompi", "linear_over", "default-basic-linear", "default-linear-sync"]),

    rule("SCATTER", "binomial", When::Always, &["binomial_ompi", "binomial_mpich", "default-binomial"]),
    rule("SCATTER", "linear", When::Always,
        &["linear_ompi", "linear_nb_ompi", "linear_over", "default-basic-linear"]),
];

/// What a measured name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The library's own choice.
    Default,
    /// One of Dure's algorithms.
    Algorithm(&'static str),
    /// Nothing that Dure has.
    Other,
}

/// What the name `measured` stands for in a cell.
pub(super) fn meaning(key: &Key, measured: &str) -> Meaning {
    if measured.starts_with("default_") || measured == "default-default" {
        return Meaning::Default;
    }
    let matches = |name: &str| match name.strip_suffix('*') {
        Some(start) => measured.starts_with(start),
        None => measured == name,
    };
    let mut rules = RULES.iter().filter(|rule| rule.collective == key.collective);
    let found =
        rules.find(|rule| rule.when.holds(key) && rule.names.iter().any(|name| matches(name)));
    found.map_or(Meaning::Other, |rule| Meaning::Algorithm(rule.algorithm))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dure_plan::find;

    use super::*;

    fn key(collective: &str, ranks: u32, bytes: u64) -> Key {
        Key {
            system: "s".to_owned(),
            ranks,
            tasks_per_node: 1,
            collective: collective.to_owned(),
            mpi: "m".to_owned(),
            memory: "host".to_owned(),
            bytes,
        }
    }

    #[test]
    fn every_algorithm_of_the_table_is_one_of_ours() {
        for rule in RULES {
            let what = key(rule.collective, 8, 1024).what().expect("a collective of ours");
            assert!(find(what, rule.algorithm).is_some(), "{rule:?}");
        }
    }

    #[test]
    fn a_name_stands_for_one_algorithm() {
        for collective in RULES.iter().map(|rule| rule.collective).collect::<BTreeSet<_>>() {
            let rules = RULES.iter().filter(|rule| rule.collective == collective);
            let mut names: Vec<_> = rules
                .flat_map(|rule| rule.names.iter().map(move |name| (*name, rule.when)))
                .collect();
            names.sort_by_key(|name| name.0);
            for pair in names.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
                let whens = [pair[0].1, pair[1].1];
                assert!(
                    whens.contains(&When::PowerOfTwo) && whens.contains(&When::NotPowerOfTwo),
                    "{collective}: {pair:?}"
                );
            }
        }
    }

    #[test]
    fn names_are_told_apart() {
        let of = |collective, ranks, bytes, name| meaning(&key(collective, ranks, bytes), name);
        assert_eq!(of("ALLREDUCE", 8, 64, "default_ompi"), Meaning::Default);
        assert_eq!(of("BCAST", 8, 64, "default-default"), Meaning::Default);
        assert_eq!(of("BCAST", 8, 64, "default-binomial"), Meaning::Algorithm("binomial"));
        assert_eq!(of("ALLREDUCE", 8, 64, "bine_lat_over"), Meaning::Other);
        assert_eq!(
            of("ALLREDUCE", 8, 64, "RECDOUB-L-UTOFU-0-6"),
            Meaning::Algorithm("recursive-doubling")
        );
    }

    #[test]
    fn a_name_may_stand_for_another_algorithm_at_other_sizes() {
        let of = |collective, ranks, bytes, name| meaning(&key(collective, ranks, bytes), name);
        let doubling = "recursive_doubling_ompi";
        assert_eq!(of("ALLGATHER", 32, 4096, doubling), Meaning::Algorithm("halving-doubling"));
        assert_eq!(of("ALLGATHER", 60, 4096, doubling), Meaning::Algorithm("bruck"));
        assert_eq!(of("ALLGATHER", 7, 4096, "neighbor_ompi"), Meaning::Other);
        assert_eq!(of("ALLREDUCE", 8, 32, "ring_ompi"), Meaning::Algorithm("ring"));
        assert_eq!(of("ALLREDUCE", 8, 31, "ring_ompi"), Meaning::Other);
    }

    /// The table of docs/choice.md.
    fn documented(rule: &Rule) -> String {
        let names: Vec<_> = rule.names.iter().map(|name| format!("`{name}`")).collect();
        let when = match rule.when {
            When::Always => "",
            When::PowerOfTwo => " ranks are a power of two",
            When::NotPowerOfTwo => " ranks are no power of two",
            When::Even => " ranks are even",
            When::ElementEach => " an element for each rank",
        };
        format!("| {} | `{}` | {} |{when} |", rule.collective, rule.algorithm, names.join(", "))
    }

    #[test]
    fn the_documentation_has_the_same_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/choice.md");
        let text = std::fs::read_to_string(path).unwrap();
        let starts_as =
            |line: &str, rule: &Rule| line.starts_with(&format!("| {} |", rule.collective));
        let is_row = |line: &&str| RULES.iter().any(|rule| starts_as(line, rule));
        let rows: Vec<_> = text.lines().filter(is_row).collect();
        let wanted: Vec<_> = RULES.iter().map(documented).collect();
        assert_eq!(rows, wanted, "{}", wanted.join("\n"));
    }
}
