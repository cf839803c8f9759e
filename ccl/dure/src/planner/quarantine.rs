//! Algorithms that are known to be bad somewhere, by a file: what an operator writes when one misbehaves, until it is
//! mended.

use std::fmt::{self, Display};
use std::str::FromStr;

use dure_plan::{Collective, algorithms};

use super::Question;

/// What may not serve where.
///
/// A line of the file is a rule: collective, algorithm, and conditions that must all hold; what is after a `#` is the
/// reason.
///
/// ```text
/// all-reduce ring ranks=512.. bytes=..64K   # 40 us a round on the old leaves
/// * bruck                                   # wrong results on one host, ticket 7
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quarantine {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// None for all.
    collective: Option<&'static str>,
    algorithm: String,
    ranks: Span,
    bytes: Span,
    why: String,
}

/// From the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u64,
    last: u64,
}

/// A line that is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct QuarantineError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong, and what is allowed.
    pub what: String,
}

impl Span {
    const ALL: Self = Self { first: 0, last: u64::MAX };

    fn contains(self, value: u64) -> bool {
        (self.first..=self.last).contains(&value)
    }

    /// `A..B`, `A..`, `..B`, `A`; each with K, M or G for powers of 1024.
    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str, default: u64| {
            if text.is_empty() { Some(default) } else { size(text) }
        };
        let span = match text.split_once("..") {
            Some((first, last)) => Self { first: number(first, 0)?, last: number(last, u64::MAX)? },
            None => size(text).map(|one| Self { first: one, last: one })?,
        };
        (span.first <= span.last).then_some(span)
    }
}

fn size(text: &str) -> Option<u64> {
    let shift = match text.chars().last()? {
        'K' | 'k' => 10,
        'M' | 'm' => 20,
        'G' | 'g' => 30,
        _ => 0,
    };
    let digits = if shift > 0 { &text[..text.len() - 1] } else { text };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl Quarantine {
    /// Why an algorithm may not serve a call among so many ranks, if it may not.
    pub fn why(&self, question: &Question, ranks: u32, algorithm: &str) -> Option<&str> {
        let rule = self.rules.iter().find(|rule| {
            rule.collective.is_none_or(|name| name == question.what.name())
                && rule.algorithm == algorithm
                && rule.ranks.contains(ranks.into())
                && rule.bytes.contains(question.bytes)
        })?;
        Some(&rule.why)
    }
}

impl FromStr for Quarantine {
    type Err = QuarantineError;

    fn from_str(text: &str) -> Result<Self, QuarantineError> {
        let mut rules = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let (rule, why) = text.split_once('#').unwrap_or((text, "no reason given"));
            if !rule.trim().is_empty() {
                rules.push(
                    Rule::parse(rule, why.trim()).map_err(|what| QuarantineError { line, what })?,
                );
            }
        }
        Ok(Self { rules })
    }
}

impl Rule {
    fn parse(text: &str, why: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let collective = match words.next().unwrap_or_default() {
            "*" => None,
            name => Some(Collective::NAMES.into_iter().find(|known| *known == name).ok_or_else(
                || {
                    format!(
                        "unknown collective \"{name}\" (allowed: *, {})",
                        Collective::NAMES.join(", ")
                    )
                },
            )?),
        };
        let algorithm = words
            .next()
            .ok_or("the algorithm is missing (COLLECTIVE ALGORITHM [ranks=A..B] [bytes=A..B])")?;
        if !algorithms().iter().any(|by| by.name() == algorithm) {
            let known: Vec<_> = algorithms().iter().map(|by| by.name()).collect();
            return Err(format!("unknown algorithm \"{algorithm}\" (known: {})", known.join(", ")));
        }
        let mut rule = Self {
            collective,
            algorithm: algorithm.to_owned(),
            ranks: Span::ALL,
            bytes: Span::ALL,
            why: why.to_owned(),
        };
        for word in words {
            let (name, span) = word.split_once('=').unwrap_or((word, ""));
            let place = match name {
                "ranks" => &mut rule.ranks,
                "bytes" => &mut rule.bytes,
                _ => {
                    return Err(format!(
                        "unknown condition \"{name}\" (allowed: ranks=A..B, bytes=A..B)"
                    ));
                }
            };
            *place = Span::parse(span).ok_or_else(|| {
                format!(
                    "{name}=\"{span}\" is no range (allowed: A, A..B, A.., ..B, with K, M or G)"
                )
            })?;
        }
        Ok(rule)
    }
}

impl Display for Quarantine {
    /// The rules, as in a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Rule { collective, algorithm, ranks, bytes, why } in &self.rules {
            write!(f, "{} {algorithm}", collective.unwrap_or("*"))?;
            for (name, span) in [("ranks", ranks), ("bytes", bytes)] {
                if *span != Span::ALL {
                    write!(f, " {name}={}..{}", span.first, span.last)?;
                }
            }
            writeln!(f, " # {why}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn why(
        rules: &str,
        what: Collective,
        bytes: u64,
        ranks: u32,
        algorithm: &str,
    ) -> Option<String> {
        let quarantine: Quarantine = rules.parse().unwrap();
        assert_eq!(quarantine.to_string().parse(), Ok(quarantine.clone()));
        quarantine
            .why(&Question { what, bytes, elem: 4, ragged: false }, ranks, algorithm)
            .map(str::to_owned)
    }

    #[test]
    fn a_rule_holds_where_all_its_conditions_do() {
        let rules = "# nothing\n\nall-reduce ring ranks=512.. bytes=..64K # slow leaves\n* bruck";
        let ring = |bytes, ranks| why(rules, Collective::AllReduce, bytes, ranks, "ring");
        assert_eq!(ring(64 << 10, 512).as_deref(), Some("slow leaves"));
        assert_eq!((ring(65537, 512), ring(8, 511)), (None, None));
        assert_eq!(why(rules, Collective::AllGather, 8, 512, "ring"), None);
        assert_eq!(
            why(rules, Collective::AllToAll, 8, 2, "bruck").as_deref(),
            Some("no reason given")
        );
    }

    #[test]
    fn wrong_lines_are_named() {
        for (text, expected) in [
            (
                "\nallreduce ring",
                "line 2: unknown collective \"allreduce\" (allowed: *, all-reduce",
            ),
            ("all-reduce", "the algorithm is missing"),
            ("all-reduce rign", "\"rign\" (known: ring"),
            ("* ring size=3", "unknown condition \"size\""),
            ("* ring bytes=9..3", "bytes=\"9..3\" is no range"),
            ("* ring ranks", "ranks=\"\" is no range"),
        ] {
            let error = text.parse::<Quarantine>().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_rules_or_an_error(text in "\\PC{0,60}") {
            let _ = text.parse::<Quarantine>();
        }
    }
}
