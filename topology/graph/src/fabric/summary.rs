//! A fabric in a page of text.

use std::fmt::Write as _;

use super::rails::Rails;
use super::tiers::Tiers;
use super::{Reading, oddities};
use crate::cluster::counted;
use crate::{Cluster, Kind, LinkKind, Source};

impl Reading {
    /// A page of text: what there is, the levels with their oversubscription, rails, warnings, and what contradicts
    /// itself.
    pub fn summary(&self) -> String {
        let count = |kind| self.graph.nodes().filter(|(_, node)| node.kind == kind).count();
        let cables = self.graph.links().filter(|(_, link)| link.kind == LinkKind::Cable).count();
        let mut text = format!(
            "{}: {} switches, {} hosts",
            self.format,
            count(Kind::Switch),
            count(Kind::Host)
        );
        for (kind, what) in [(Kind::Nic, "adapters"), (Kind::Port, "ports"), (Kind::Pool, "pools")]
        {
            let count = count(kind);
            if count > 0 {
                let _ = write!(text, ", {count} {what}");
            }
        }
        let _ = writeln!(text, ", {cables} cables");
        match (Cluster::of_fabric(&self.graph), Tiers::of(&self.graph)) {
            (Ok((cluster, _)), Some(tiers)) => {
                let rails = Rails::of(&self.graph, &tiers);
                levels(&cluster, &tiers, &mut text);
                let _ = writeln!(text, "{}", self::rails(&rails));
                section("Notes", &tiers.notes, &mut text);
                section("Contradictions", &oddities::find(&self.graph, &tiers, &rails), &mut text);
            }
            (Err(error), _) => {
                let _ = writeln!(text, "{error}");
            }
            // A fabric without tiers is no cluster either.
            (Ok(_), None) => {}
        }
        section("Warnings", &self.warnings, &mut text);
        text
    }

    /// Where the fabric contradicts itself, in sentences: a switch with fewer cables up than the others, a cable that is
    /// slower, a host with fewer ports or with crossed cables.
    pub fn contradictions(&self) -> Vec<String> {
        Tiers::of(&self.graph).map_or_else(Vec::new, |tiers| {
            let rails = Rails::of(&self.graph, &tiers);
            oddities::find(&self.graph, &tiers, &rails)
        })
    }
}

fn levels(cluster: &Cluster, tiers: &Tiers, text: &mut String) {
    for (number, level) in cluster.levels.iter().enumerate() {
        let switches =
            tiers.switches.iter().filter(|switch| switch.tier as usize == number).count();
        let _ = write!(
            text,
            "{:<8} {switches} switches in {}",
            level.name,
            counted(level.groups.len(), "group")
        );
        if number + 1 < cluster.levels.len() {
            if level.groups.iter().any(|group| group.source == Source::Default) {
                text.push_str("; nothing is said of the way up: taken to let all through");
            } else {
                let ups: Vec<f64> = level.groups.iter().map(|group| group.up_gb_per_s).collect();
                let ratios = cluster.oversubscription(number);
                let _ = write!(
                    text,
                    ", {} GB/s up each, oversubscription {}:1",
                    range(&ups),
                    range(&ratios)
                );
            }
        }
        text.push('\n');
    }
}

/// What is said of rails in one line.
pub(super) fn rails(rails: &Rails) -> String {
    let [several, confirmed] = rails.hosts;
    match &rails.of_leaf {
        _ if rails.count == 1 => "rails    1: each host has one port".to_owned(),
        Some(_) => format!(
            "rails    {}, each with leaves of its own: of {several} hosts that have all ports and name them {confirmed} \
             confirm it",
            rails.count
        ),
        None => format!("rails    {}, which share leaves", rails.count),
    }
}

/// `2`, or `1.5 to 2`.
pub(super) fn range(values: &[f64]) -> String {
    let short = |value: f64| (value * 100.0).round() / 100.0;
    let least = short(values.iter().copied().fold(f64::INFINITY, f64::min));
    let most = short(values.iter().copied().fold(0.0, f64::max));
    if least < most { format!("{least} to {most}") } else { most.to_string() }
}

fn section<T: ToString>(title: &str, lines: &[T], text: &mut String) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    for line in lines {
        let _ = writeln!(text, "  {}", line.to_string());
    }
}
