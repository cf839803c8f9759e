//! Which cards are of one host.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Builder, Cable, Device};

/// Names that a host has before somebody gives it one.
const NO_NAMES: [&str; 3] = ["localhost", "localhost.localdomain", "(none)"];
/// Where so many of the named hosts have their cards on the same port of each of their leaves, unnamed cards on the same
/// port are taken for cards of one host. Not all have: people cross cables.
const CONFIRMED: f64 = 0.75;

/// Host and card of a description such as `a08-c01 mlx5_5` or `a08-c01 HCA-6`. A card that nobody configured has its
/// maker's name instead: more words, and no number at the end.
pub(super) fn named(description: &str) -> Option<(&str, &str)> {
    let mut words = description.split_whitespace();
    let (host, card) = (words.next()?, words.next()?);
    let good = words.next().is_none()
        && card.ends_with(|c: char| c.is_ascii_digit())
        && card.starts_with(|c: char| c.is_ascii_alphabetic())
        && !NO_NAMES.contains(&host);
    good.then_some((host, card))
}

/// A name for ordering: `mlx5_10` comes after `mlx5_2`.
fn natural(card: &str) -> (&str, u64) {
    let letters = card.trim_end_matches(|c: char| c.is_ascii_digit());
    (letters, card[letters.len()..].parse().unwrap_or(u64::MAX))
}

/// Per host its cards, in the order of their names.
pub(super) fn hosts(
    devices: &[Device],
    cards: &[usize],
    cables: &[Cable],
    builder: &mut Builder,
) -> BTreeMap<String, Vec<usize>> {
    let mut hosts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut unnamed = Vec::new();
    for card in cards {
        match named(&devices[*card].description) {
            Some((host, _)) => hosts.entry(host.to_owned()).or_default().push(*card),
            None => unnamed.push(*card),
        }
    }
    for (host, cards) in std::mem::take(&mut hosts) {
        let names: HashSet<&str> = cards.iter().map(|card| &*devices[*card].description).collect();
        if names.len() < cards.len() {
            let text = format!(
                "{host} has several cards of one name: it is the name of several hosts, and not used"
            );
            builder.warn(0, text);
            unnamed.extend(cards);
        } else {
            hosts.insert(host, cards);
        }
    }
    let count = unnamed.len();
    if count > 0 {
        let named = hosts.len();
        let alone = Places::of(cables).place(&mut hosts, unnamed, devices);
        let made = hosts.len() - named - alone;
        let mut text = format!(
            "{count} adapters do not say of which host they are: their ports, as those of named hosts confirm, make {made} \
             hosts more of them"
        );
        if alone > 0 {
            text += &format!("; of {alone} nothing is known, each counts as a host");
        }
        builder.warn(0, text);
    }
    for cards in hosts.values_mut() {
        cards.sort_by_key(|card| {
            let card = &devices[*card];
            let name = named(&card.description).map_or(&*card.guid, |(_, name)| name);
            (natural(name), &card.guid)
        });
    }
    hosts
}

/// Where cards are cabled.
struct Places {
    /// Per card, the switch and its port.
    of: HashMap<usize, (usize, u32)>,
}

impl Places {
    fn of(cables: &[Cable]) -> Self {
        let mut of = HashMap::new();
        for cable in cables {
            let [one, other] = cable.ends;
            of.insert(one.0, other);
            of.insert(other.0, one);
        }
        Self { of }
    }

    /// Puts unnamed cards into hosts by the ports that they are on; returns how many stay alone.
    fn place(
        &self,
        hosts: &mut BTreeMap<String, Vec<usize>>,
        unnamed: Vec<usize>,
        devices: &[Device],
    ) -> usize {
        let sets = self.confirmed(hosts);
        // The named host with a card on a port of a set of leaves, and which leaves it has a card on.
        let mut at: HashMap<(usize, u32), String> = HashMap::new();
        let mut taken: HashSet<(String, usize)> = HashSet::new();
        for (host, cards) in &*hosts {
            for (leaf, port) in cards.iter().filter_map(|card| self.of.get(card)) {
                at.extend(sets.get(leaf).map(|set| ((*set, *port), host.clone())));
                taken.insert((host.clone(), *leaf));
            }
        }
        let mut alone = 0;
        let mut made: BTreeMap<(usize, u32), Vec<usize>> = BTreeMap::new();
        for card in unnamed {
            let place =
                self.of.get(&card).and_then(|(leaf, port)| Some((*sets.get(leaf)?, *leaf, *port)));
            let Some((set, leaf, port)) = place else {
                alone += 1;
                hosts.entry(format!("adapter {}", devices[card].guid)).or_default().push(card);
                continue;
            };
            match at.get(&(set, port)).filter(|host| taken.insert(((*host).clone(), leaf))) {
                Some(host) => hosts.entry(host.clone()).or_default().push(card),
                None => made.entry((set, port)).or_default().push(card),
            }
        }
        self.uncross(&mut made, &sets);
        for ((set, port), cards) in made {
            hosts.insert(format!("port {port} of {}", devices[set].short()), cards);
        }
        alone
    }

    /// Where the cables of an unnamed host are crossed, its cards are on several ports. All that have a card on some of a
    /// set's leaves only are one host if no leaf has two cards of it.
    fn uncross(&self, made: &mut BTreeMap<(usize, u32), Vec<usize>>, sets: &HashMap<usize, usize>) {
        let mut parts: BTreeMap<usize, Vec<(usize, u32)>> = BTreeMap::new();
        for (key, cards) in &*made {
            let leaves = sets.values().filter(|set| **set == key.0).count();
            if cards.len() < leaves {
                parts.entry(key.0).or_default().push(*key);
            }
        }
        for keys in parts.into_values() {
            let cards: Vec<usize> = keys.iter().flat_map(|key| made[key].iter().copied()).collect();
            let leaves: HashSet<usize> = cards.iter().map(|card| self.of[card].0).collect();
            if leaves.len() == cards.len() {
                keys.iter().for_each(|key| {
                    made.remove(key);
                });
                made.insert(keys[0], cards);
            }
        }
    }

    /// Per leaf the set that it is in, if the named hosts of this set have their cards on the same port of each leaf. A
    /// set is known by its first leaf.
    fn confirmed(&self, hosts: &BTreeMap<String, Vec<usize>>) -> HashMap<usize, usize> {
        let mut set_of: HashMap<usize, usize> = HashMap::new();
        let places: Vec<Vec<(usize, u32)>> = hosts
            .values()
            .map(|cards| cards.iter().filter_map(|card| self.of.get(card).copied()).collect())
            .filter(|places: &Vec<_>| places.len() > 1)
            .collect();
        for places in &places {
            let sets: Vec<usize> =
                places.iter().map(|(leaf, _)| *set_of.entry(*leaf).or_insert(*leaf)).collect();
            let first = sets.iter().copied().min().unwrap_or_default();
            for set in set_of.values_mut().filter(|set| sets.contains(set)) {
                *set = first;
            }
        }
        let mut votes: HashMap<usize, [u32; 2]> = HashMap::new();
        for places in &places {
            let leaves: HashSet<usize> = places.iter().map(|(leaf, _)| *leaf).collect();
            let aligned =
                leaves.len() == places.len() && places.iter().all(|(_, port)| *port == places[0].1);
            let votes = votes.entry(set_of[&places[0].0]).or_default();
            votes[0] += u32::from(aligned);
            votes[1] += 1;
        }
        let good = |set: &usize| {
            votes.get(set).is_some_and(|[aligned, all]| {
                *all > 1 && f64::from(*aligned) >= CONFIRMED * f64::from(*all)
            })
        };
        set_of.retain(|_, set| good(set));
        set_of
    }
}
