//! `DURE_ALGO`: which algorithms may serve which collective, in the grammar of `NCCL_ALGO`.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use dure_plan::Collective;

use super::setting::{Kind, Names};

/// Which algorithms may be used, by collective. Everything, unless said otherwise.
///
/// `allreduce:tree,ring;*:^pairwise`: rules are separated by `;`, each a collective (with or without hyphens, `*` or
/// nothing for all that have no rule of their own), a colon, and a list of algorithms, with `^` in front all but these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlgorithmRules {
    /// By collective; the empty name for all others. Ordered, so that equal rules are equal as text.
    rules: BTreeMap<String, Names>,
}

impl AlgorithmRules {
    /// Whether an algorithm may serve a collective, both by the names of dure-plan.
    pub fn allows(&self, collective: &str, algorithm: &str) -> bool {
        let rule = self.rules.get(collective).or_else(|| self.rules.get(""));
        rule.is_none_or(|names| names.allows(algorithm))
    }

    /// Reads rules.
    ///
    /// # Errors
    /// The text says which name is unknown.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_among(text, &known_algorithms())
    }

    fn parse_among(text: &str, known: &[&str]) -> Result<Self, String> {
        let mut rules = BTreeMap::new();
        for rule in text.split(';').map(str::trim).filter(|rule| !rule.is_empty()) {
            let (collective, list) = rule.split_once(':').unwrap_or(("", rule));
            let collective = collective_name(collective.trim())?;
            let proper = |name: &str| known.iter().copied().find(|known| *known == nccl_name(name));
            let names = Names::parse(list.trim(), proper)?;
            if rules.insert(collective.to_owned(), names).is_some() {
                return Err(format!(
                    "two rules for \"{}\"",
                    if collective.is_empty() { "*" } else { collective }
                ));
            }
        }
        Ok(Self { rules })
    }
}

fn collective_name(text: &str) -> Result<&'static str, String> {
    let plain = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
    match text {
        "" | "*" => Ok(""),
        _ => {
            Collective::NAMES.into_iter().find(|name| plain(name) == plain(text)).ok_or_else(|| {
                format!("unknown collective \"{text}\", known are {}", Collective::NAMES.join(", "))
            })
        }
    }
}

/// NCCL's name of an algorithm that has another name here, so that values of `NCCL_ALGO` can be taken over.
fn nccl_name(name: &str) -> &str {
    if name == "tree" { "double-binary-tree" } else { name }
}

/// Names of all algorithms of all collectives.
fn known_algorithms() -> Vec<&'static str> {
    let mut names: Vec<&str> =
        dure_plan::algorithms().iter().map(|algorithm| algorithm.name()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

impl Kind for AlgorithmRules {
    type Value = Self;

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }

    fn allowed() -> String {
        let known = known_algorithms().join(", ");
        format!(
            "COLLECTIVE:LIST;..., as allreduce:ring;*:^pairwise, with algorithms out of {known}"
        )
    }
}

impl Display for AlgorithmRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rules.is_empty() {
            return f.write_str("all");
        }
        for (i, (collective, names)) in self.rules.iter().enumerate() {
            let separator = if i == 0 { "" } else { ";" };
            let collective = if collective.is_empty() { "*" } else { collective };
            write!(f, "{separator}{collective}:{names}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["double-binary-tree", "pairwise", "ring"];

    fn rules(text: &str) -> AlgorithmRules {
        AlgorithmRules::parse_among(text, &KNOWN).unwrap()
    }

    #[test]
    fn rules_by_collective_and_for_all_others() {
        let rules = rules("allreduce:tree,ring; *:^pairwise");
        assert!(
            rules.allows("all-reduce", "double-binary-tree")
                && !rules.allows("all-reduce", "pairwise")
        );
        assert!(rules.allows("broadcast", "ring") && !rules.allows("all-to-all", "pairwise"));
        assert_eq!(rules.to_string(), "*:^pairwise;all-reduce:double-binary-tree,ring");
    }

    #[test]
    fn a_list_alone_is_for_all() {
        assert!(!rules("ring").allows("broadcast", "double-binary-tree"));
        assert!(rules("reduce_scatter:ring").allows("broadcast", "double-binary-tree"));
        assert!(AlgorithmRules::default().allows("gather", "anything"));
    }

    #[test]
    fn wrong_rules_name_the_culprit() {
        for (text, expected) in [
            ("allreduce:rnig", "\"rnig\""),
            ("alreduce:ring", "\"alreduce\""),
            ("ring;*:tree", "two rules for \"*\""),
            ("allreduce:", "empty name"),
        ] {
            let error = AlgorithmRules::parse_among(text, &KNOWN).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
