//! The text form of a plan: all ranks and lanes, one step a line.
//!
//! ```text
//! plan 1
//! name pair                # what is after a # is for people
//! collective all-reduce
//! ranks 2
//! lanes 1
//! parts 1
//! scratch 0
//! run 1
//! ragged no
//!
//! rank 0 lane 0
//! send 1 in[0]
//! recv-reduce 1 in[0] out[0]
//!
//! rank 1 lane 0
//! send 0 in[0]
//! recv-reduce 0 in[0] out[0]
//! ```
//!
//! A rooted collective has a line `root 0`; a plan for a certain placement has a line `hosts 0 0 1 1` with the host of
//! each rank. The steps are `send TO SRC`, `recv FROM DST`, `recv-reduce FROM WITH DST`, `copy SRC DST` and
//! `reduce DST = SRC...`; chunks are `in[3]`, `out[2..4]`, `scratch[0]`.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::host_map::HostMap;
use crate::parse::{ParseError, parse};
use crate::step::{Rank, Step};

/// A plan that was read: an algorithm that serves one collective in one world.
///
/// ```
/// use dure_plan::{Collective, FilePlan, World, find, to_text, verify};
///
/// let ring = find(Collective::AllReduce, "ring").unwrap();
/// let text = to_text(Collective::AllReduce, &World::flat(3), ring)?;
/// let plan = FilePlan::parse(&text)?;
/// verify(plan.collective(), &plan.world(), &plan, 1)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePlan {
    pub(crate) name: String,
    pub(crate) collective: Collective,
    pub(crate) ranks: u32,
    pub(crate) lanes: u16,
    /// Host of each rank, if the plan is for a certain placement.
    pub(crate) hosts: Option<HostMap>,
    pub(crate) shape: Shape,
    pub(crate) ragged: bool,
    pub(crate) sections: BTreeMap<(Rank, u16), Vec<Step>>,
}

impl FilePlan {
    /// Reads a plan. It is not proved yet: see [`crate::verify`].
    ///
    /// # Errors
    /// [`ParseError`] tells line, column and what may be there.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse(text)
    }

    /// What it does.
    pub fn collective(&self) -> Collective {
        self.collective
    }

    /// The world that it is for. If it is for any placement, all ranks are on one host here.
    pub fn world(&self) -> World {
        let host_of = self.hosts.clone().unwrap_or_else(|| World::flat(self.ranks).host_of);
        World { ranks: self.ranks, host_of, lanes: self.lanes }
    }
}

impl Algorithm for FilePlan {
    fn name(&self) -> &str {
        &self.name
    }

    fn serves(&self, what: Collective, world: &World) -> Result<(), Refusal> {
        let why = if what != self.collective {
            format!("the plan is for {}", self.collective)
        } else if world.ranks != self.ranks {
            format!("the plan is for {} ranks, not {}", self.ranks, world.ranks)
        } else if world.lanes != self.lanes {
            format!("the plan is for {} lanes, not {}", self.lanes, world.lanes)
        } else if self.hosts.as_ref().is_some_and(|hosts| *hosts != world.host_of) {
            "the plan is for another placement of ranks on hosts".to_owned()
        } else {
            return Ok(());
        };
        Err(Refusal { algorithm: self.name.clone(), what: what.to_string(), why })
    }

    fn ragged(&self, what: Collective) -> bool {
        self.ragged && what == self.collective
    }

    fn shape(&self, _: Collective, _: &World) -> Shape {
        self.shape
    }

    fn steps<'w>(&'w self, _: Collective, _: &'w World, me: Rank, lane: u16) -> Steps<'w> {
        Box::new(self.sections.get(&(me, lane)).into_iter().flatten().copied())
    }
}

/// Writes the plan of all ranks. A plan for several hosts is bound to that placement.
///
/// # Errors
/// [`Refusal`] if the algorithm does not serve the collective in this world.
pub fn to_text(what: Collective, world: &World, by: &dyn Algorithm) -> Result<String, Refusal> {
    by.serves(what, world)?;
    let mut text = header(what, world, by);
    for lane in 0..world.lanes {
        for rank in 0..world.ranks {
            line(&mut text, format_args!("\nrank {rank} lane {lane}"));
            for step in by.steps(what, world, Rank(rank), lane) {
                line(&mut text, format_args!("{step}"));
            }
        }
    }
    Ok(text)
}

fn header(what: Collective, world: &World, by: &dyn Algorithm) -> String {
    let Shape { parts, scratch, run } = by.shape(what, world);
    let mut text = String::new();
    line(&mut text, format_args!("plan 1\nname {}\ncollective {}", by.name(), what.name()));
    if let Some(Rank(root)) = what.root() {
        line(&mut text, format_args!("root {root}"));
    }
    line(&mut text, format_args!("ranks {}\nlanes {}", world.ranks, world.lanes));
    if world.host_of.iter().any(|&host| host != 0) {
        let hosts: Vec<String> = world.host_of.iter().map(u32::to_string).collect();
        line(&mut text, format_args!("hosts {}", hosts.join(" ")));
    }
    line(&mut text, format_args!("parts {parts}\nscratch {scratch}\nrun {run}"));
    line(&mut text, format_args!("ragged {}", if by.ragged(what) { "yes" } else { "no" }));
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}
