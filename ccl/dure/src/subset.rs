//! Communicators made from a communicator.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::bootstrap::wire::Member;
use crate::communicator::Communicator;
use crate::config::Config;
use crate::control;
use crate::error::{Error, Result};
use crate::unique_id::UniqueId;

impl Communicator {
    /// A communicator of the ranks that give the same `color`, ordered by `key` and then by rank. A rank that gives
    /// `None` gets none. Collective: all ranks call it.
    ///
    /// # Errors
    /// As [`crate::Builder::connect`]; the first fatal error of this communicator.
    pub fn split(&self, color: Option<u32>, key: i32) -> Result<Option<Self>> {
        self.split_with(color, key, Config::clone(&self.inner.config))
    }

    /// As [`Communicator::split`], with other settings.
    ///
    /// # Errors
    /// As [`Communicator::split`].
    pub fn split_with(&self, color: Option<u32>, key: i32, config: Config) -> Result<Option<Self>> {
        self.health()?;
        let child = self.inner.next_child();
        let mut choices = vec![(color, key)];
        if let Some(control) = &self.inner.control {
            let mine = encode(color, key);
            let all = control.all_gather(&mine, Instant::now() + self.inner.config.timeout)?;
            choices = all
                .iter()
                .map(|bytes| {
                    decode(bytes).ok_or_else(|| Error::internal("a split's choice makes no sense"))
                })
                .collect::<Result<_>>()?;
        }
        let Some(color) = color else { return Ok(None) };
        // The map keeps ranks of equal key in order, as MPI and NCCL do.
        let group: BTreeMap<(i32, u32), u32> = (0..)
            .zip(choices)
            .filter(|(_, (c, _))| *c == Some(color))
            .map(|(rank, (_, key))| ((key, rank), rank))
            .collect();
        let ranks: Vec<u32> = group.into_values().collect();
        self.child(&ranks, &format!("split {child} color {color}"), config).map(Some)
    }

    /// A communicator of the same ranks with calls of its own.
    ///
    /// # Errors
    /// As [`Communicator::split`].
    pub fn duplicate(&self) -> Result<Self> {
        let child = self.inner.next_child();
        self.health()?;
        let ranks: Vec<u32> = (0..self.size()).collect();
        self.child(&ranks, &format!("duplicate {child}"), Config::clone(&self.inner.config))
    }

    /// A communicator of all ranks but some. The ranks that stay call it, with the same exclusions; it works after a
    /// fatal error too, so that a job can go on without the ranks that died.
    ///
    /// # Errors
    /// `InvalidArgument` when a rank is excluded that is none, or this one; as [`crate::Builder::connect`].
    pub fn shrink(&self, excluded: &[u32]) -> Result<Self> {
        let refuse = |what: String| Err(Error::invalid_argument(what).on(self.rank()));
        if let Some(rank) = excluded.iter().find(|rank| **rank >= self.size()) {
            return refuse(format!(
                "excluded rank {rank} is none (allowed: 0 to {})",
                self.size() - 1
            ));
        }
        if excluded.contains(&self.rank()) {
            return refuse("a rank that is excluded does not call shrink".to_owned());
        }
        let child = self.inner.next_child();
        let ranks: Vec<u32> = (0..self.size()).filter(|rank| !excluded.contains(rank)).collect();
        self.child(
            &ranks,
            &format!("shrink {child} to {ranks:?}"),
            Config::clone(&self.inner.config),
        )
    }

    /// A communicator of `size` ranks: of these, which keep their numbers, and of new ones, which meet them by `id`
    /// ([`crate::Builder::meet_at`]) as the ranks behind them. One of these ranks makes the id and gives it; the others
    /// give none, or the same. Collective: all ranks call it.
    ///
    /// # Errors
    /// `InvalidArgument` when `size` adds no rank; `InvalidUsage` when not exactly one id was given; as
    /// [`crate::Builder::connect`]; the first fatal error of this communicator.
    pub fn grow(&self, id: Option<UniqueId>, size: u32, config: Config) -> Result<Self> {
        if size <= self.size() {
            let what = format!("size {size} adds no rank (allowed: more than {})", self.size());
            return Err(Error::invalid_argument(what).on(self.rank()));
        }
        self.health()?;
        let mine = id.map_or_else(Vec::new, |id| id.0.to_vec());
        let given = match &self.inner.control {
            Some(control) => {
                control.all_gather(&mine, Instant::now() + self.inner.config.timeout)?
            }
            None => vec![mine],
        };
        let ids: BTreeSet<[u8; 128]> =
            given.iter().filter_map(|bytes| bytes.as_slice().try_into().ok()).collect();
        let [id] = ids.into_iter().collect::<Vec<_>>()[..] else {
            let what = "the ranks gave no id to meet new ranks by, or different ones";
            return Err(Error::invalid_usage(what).on(self.rank()));
        };
        let builder = Self::builder().config(config).rank(self.rank(), size);
        let builder = self.inner.devices.iter().cloned().fold(builder, crate::Builder::device);
        builder.meet_at(UniqueId(id)).connect()
    }

    /// The communicator of `ranks`, which all call this with the same `label`. They meet at the process of the first.
    fn child(&self, ranks: &[u32], label: &str, config: Config) -> Result<Self> {
        let inner = &self.inner;
        let builder = Self::builder().config(config);
        let builder = inner.devices.iter().cloned().fold(builder, crate::Builder::device);
        let place =
            ranks.iter().position(|rank| *rank == inner.rank).expect("this rank is among them");
        let count = |n: usize| u32::try_from(n).expect("ranks are counted in 32 bits");
        if ranks.len() == 1 {
            return builder.connect();
        }
        let members = &inner.members;
        let root: &Member = &members[ranks[0] as usize];
        let here = members[inner.rank as usize].host;
        let addresses: Vec<IpAddr> = root.reach(here).iter().map(SocketAddr::ip).collect();
        let id = inner.id.derive(label, root.port, &addresses);
        if place == 0 {
            control::serve_root(&id, &inner.config)?;
        }
        builder.rank(count(place), count(ranks.len())).meet_at(id).connect()
    }
}

fn encode(color: Option<u32>, key: i32) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&u32::from(color.is_some()).to_le_bytes());
    bytes[4..8].copy_from_slice(&color.unwrap_or(0).to_le_bytes());
    bytes[8..].copy_from_slice(&key.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(Option<u32>, i32)> {
    let word = |at: usize| Some(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).expect("four bytes"));
    let color = u32::from_le_bytes(word(4)?);
    let given = u32::from_le_bytes(word(0)?) == 1;
    Some((given.then_some(color), i32::from_le_bytes(word(8)?)))
}
