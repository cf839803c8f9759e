//! One host for all: where every host does the same a number of ranks on, the first stands for all of them.
//!
//! The plan is folded: what the first host sends to another comes back to it as what it receives from the host as far
//! on the other side, since there the same step was made at the same time. So one host is simulated, with its real
//! links and cores, and the messages of all others are counted where they meet those of the first: on what the groups
//! of the fabric have up and down. Of those the group that has most to carry counts, as all wait for it in the end; of
//! the latencies the mean, as every chain of messages passes the long ways and the short ones.

use dure_plan::{Rank, World};

use crate::network::{Network, Stage};
use crate::program::Sample;
use crate::setup::Crowd;

/// The first host, if all hosts are alike and full of ranks one after the other, and no pools join them: what others load
/// on a pool's devices is not what they load on a group's links.
pub(crate) fn sample(network: &Network, world: &World) -> Option<Sample> {
    if !network.pools().is_empty() {
        return None;
    }
    let ranks = world.ranks;
    let on_first = |rank: &u32| network.host(Rank(*rank)) == network.host(Rank(0));
    let size = u32::try_from((0..ranks).take_while(on_first).count()).ok()?;
    let alike = |rank: u32| {
        let (first, local) = (rank - rank % size, rank % size);
        network.host(Rank(rank)) == network.host(Rank(first))
            && world.host_of.get(rank as usize) == Some(&(rank / size))
            && network.is_alike(Rank(rank), Rank(local))
    };
    (size < ranks && ranks.is_multiple_of(size) && (0..ranks).all(alike))
        .then_some(Sample { ranks, size })
}

/// Counts messages on what the groups of the fabric have.
#[derive(Debug)]
pub(crate) struct Crowds<'n> {
    network: &'n Network,
    sample: Sample,
    /// Per link of the fabric, messages that cross it.
    load: Vec<u32>,
    /// Those that some do.
    loaded: Vec<u32>,
}

impl<'n> Crowds<'n> {
    pub(crate) fn new(network: &'n Network, sample: Sample) -> Self {
        Self { network, sample, load: vec![0; network.links() as usize], loaded: Vec::new() }
    }

    /// What all ranks that do as `from` does load, when it sends to `to`; `None` for what stays inside the host.
    pub(crate) fn of(&mut self, from: Rank, to: Rank) -> Option<Crowd> {
        let Sample { ranks, size } = self.sample;
        let route = self.network.route(from, to);
        if !route.between {
            return None;
        }
        let mut latency = 0.0;
        for moved in (0..ranks).step_by(size as usize) {
            let pair = (Rank(from.0 + moved), Rank((to.0 + moved) % ranks));
            latency += self.network.fabric(pair.0, pair.1, |link| {
                let load = &mut self.load[link as usize];
                if *load == 0 {
                    self.loaded.push(link);
                }
                *load += 1;
            });
        }
        let hosts = f64::from(ranks / size);
        let own = self.network.constants().between.latency;
        let crowd = Crowd { latency: own + latency / hosts, stages: self.stages(from, to) };
        for link in self.loaded.drain(..) {
            self.load[link as usize] = 0;
        }
        Some(crowd)
    }

    /// The links of the first host, those of the fabric as long in use as the one of their level that carries most.
    fn stages(&self, from: Rank, to: Rank) -> Vec<Stage> {
        let image = Rank(self.sample.image(to.0));
        let [leave, enter] = self.network.ports(from, image);
        let mut up: Vec<(usize, f64)> = Vec::new();
        let mut down = up.clone();
        for &link in &self.loaded {
            let (level, is_down, per_byte) = self.network.fabric_link(link);
            let most = if is_down { &mut down } else { &mut up };
            let time = per_byte * f64::from(self.load[link as usize]);
            match most.iter_mut().find(|(known, _)| *known == level) {
                Some((_, longest)) => *longest = longest.max(time),
                None => most.push((level, time)),
            }
        }
        up.sort_by_key(|(level, _)| *level);
        down.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
        let stage = |rank: Rank, is_down: bool, (level, per_byte): (usize, f64)| Stage {
            link: self.network.link_of(rank, level, is_down),
            per_byte,
        };
        let up =
            up.into_iter().filter(|(_, time)| *time > 0.0).map(|most| stage(from, false, most));
        let down =
            down.into_iter().filter(|(_, time)| *time > 0.0).map(|most| stage(image, true, most));
        leave.into_iter().chain(up).chain(down).chain(enter).collect()
    }
}
