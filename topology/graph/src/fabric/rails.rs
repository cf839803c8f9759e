//! Which rail a host's port is on.
//!
//! What the ports of one rail have in common is their place among the ports of their host. Where each rail has leaves of
//! its own, each leaf's ports should have one place; that is what confirms the guess.

use std::collections::{BTreeMap, HashMap};

use super::tiers::Tiers;
use crate::cluster::small;
use crate::{Graph, Kind, NodeId};

/// The rails of a fabric.
pub(crate) struct Rails {
    /// Per end of [`Tiers::ends`], its rail: that of its leaf where rails have leaves of their own, else its place.
    pub(crate) of: Vec<u32>,
    /// How many there are.
    pub(crate) count: u32,
    /// Per group of the lowest tier its rail, where rails have leaves of their own.
    pub(crate) of_leaf: Option<Vec<u32>>,
    /// Hosts with all their ports and names for them, and how many of them have each port on the leaf of its place.
    pub(crate) hosts: [u32; 2],
    /// Ends whose cards are, by name, of another rail than the leaf that they are cabled to.
    pub(crate) crossed: Vec<(usize, u32)>,
}

impl Rails {
    pub(crate) fn of(graph: &Graph, tiers: &Tiers) -> Self {
        let mut by_host: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        for (number, end) in tiers.ends.iter().enumerate() {
            by_host.entry(end.host).or_default().push(number);
        }
        let width = by_host.values().map(Vec::len).max().unwrap_or_default();
        let guess = Guess::of(graph, tiers, &by_host, width);
        let mut votes: Vec<BTreeMap<u32, u32>> = vec![BTreeMap::new(); tiers.tiers[0].groups.len()];
        for (end, place) in tiers.ends.iter().zip(&guess.places) {
            *votes[end.group as usize].entry(*place).or_default() += 1;
        }
        let of_leaf: Vec<u32> = votes.iter().map(most).collect();
        let on = |number: &usize| of_leaf[tiers.ends[*number].group as usize];
        let whole = by_host.values().filter(|ends| {
            ends.len() > 1 && ends.len() == width && ends.iter().all(|number| guess.named[*number])
        });
        let (mut hosts, mut crossed) = ([0, 0], Vec::new());
        for ends in whole {
            let wrong = ends.iter().filter(|number| guess.places[**number] != on(number));
            let wrong: Vec<(usize, u32)> =
                wrong.map(|number| (*number, guess.places[*number])).collect();
            hosts[0] += 1;
            hosts[1] += u32::from(wrong.is_empty());
            crossed.extend(wrong);
        }
        let own_leaves = hosts[1] * 2 > hosts[0] && of_leaf.iter().any(|rail| *rail != of_leaf[0]);
        let mut of = guess.places;
        for ends in by_host.values().filter(|_| own_leaves) {
            let mut rails: Vec<u32> = ends.iter().map(on).collect();
            rails.sort_unstable();
            rails.dedup();
            if rails.len() == ends.len() {
                ends.iter().for_each(|number| of[*number] = on(number));
            }
        }
        let count = of.iter().max().map_or(0, |rail| rail + 1);
        if !own_leaves {
            return Self { of, count, of_leaf: None, hosts: [0, 0], crossed: Vec::new() };
        }
        Self { of, count, of_leaf: Some(of_leaf), hosts, crossed }
    }
}

/// Where each end is among those of its host.
struct Guess {
    places: Vec<u32>,
    /// Whether an end's card has a name that other hosts know too.
    named: Vec<bool>,
}

impl Guess {
    /// A host that lacks a port has others in later places: a card's name, where hosts that have all their ports agree on
    /// its place, says more than counting.
    fn of(
        graph: &Graph,
        tiers: &Tiers,
        by_host: &BTreeMap<NodeId, Vec<usize>>,
        width: usize,
    ) -> Self {
        let card = |number: usize| {
            let node = tiers.ends[number].node;
            let nic = graph.parent(node).filter(|parent| graph.node(*parent).kind == Kind::Nic);
            &*graph.node(nic.unwrap_or(node)).name
        };
        let mut of_name: HashMap<&str, BTreeMap<u32, u32>> = HashMap::new();
        for ends in by_host.values().filter(|ends| ends.len() == width) {
            for (place, number) in (0..).zip(ends) {
                *of_name.entry(card(*number)).or_default().entry(place).or_default() += 1;
            }
        }
        of_name.retain(|_, votes| votes.values().sum::<u32>() > 1 || by_host.len() == 1);
        let mut guess =
            Self { places: vec![0; tiers.ends.len()], named: vec![false; tiers.ends.len()] };
        for ends in by_host.values() {
            let places: Vec<Option<u32>> =
                ends.iter().map(|number| of_name.get(card(*number)).map(most)).collect();
            let mut distinct: Vec<u32> = places.iter().flatten().copied().collect();
            distinct.sort_unstable();
            distinct.dedup();
            let named = distinct.len() == ends.len();
            for (counted, (number, place)) in ends.iter().zip(places).enumerate() {
                guess.places[*number] = place.filter(|_| named).unwrap_or_else(|| small(counted));
                guess.named[*number] = named;
            }
        }
        guess
    }
}

/// What most vote for; of equals the lowest.
fn most(votes: &BTreeMap<u32, u32>) -> u32 {
    let best = votes.iter().max_by_key(|(rail, votes)| (**votes, std::cmp::Reverse(**rail)));
    best.map_or(0, |(rail, _)| *rail)
}
