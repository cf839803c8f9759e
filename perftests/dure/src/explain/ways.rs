//! `--device`: how messages leave the devices of ranks, as the ranks find it when they connect.

use std::ops::ControlFlow;

use dure::{Candidate, Communicator};
use serde::{Deserialize, Serialize};

use super::Args;
use crate::output::{Failure, Verdict};
use crate::perf::args::device_of;
use crate::perf::latency::bring;
use crate::perf::{self, launch};

/// A rank with a device, another rank, and how messages leave the device towards it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pair {
    from: u32,
    device: String,
    to: u32,
    /// Where the other rank's buffers are.
    to_device: String,
    /// Whether nothing of a message is copied to the host's memory.
    direct: bool,
    why: String,
}

/// The pairs, on rank 0 of the ranks that are started. Their parent and the other ranks break; without `--device` there are no
/// ranks, and no pairs.
pub(super) fn find(args: &Args) -> Result<ControlFlow<Verdict, Vec<Pair>>, Failure> {
    if args.device.is_empty() {
        return Ok(ControlFlow::Continue(Vec::new()));
    }
    let Some(ranks) = args.layout.local() else {
        return Err(Failure::Usage(
            "--device is about ranks of this host: give --local N".to_owned(),
        ));
    };
    let config = perf::settings([("DURE_TRANSPORT", args.layout.transport().map(str::to_owned))])?;
    let Some(parent) = args.child_of else {
        for rank in 0..ranks {
            device_of(&args.device, rank)?;
        }
        return launch::run(ranks, &config).map(ControlFlow::Break);
    };
    launch::follow(parent)?;
    let (comm, device) = perf::connect_on_device(&args.device, config, None)?;
    connect_all(&comm)?;
    let mut mine = Vec::new();
    if let Some(device) = device {
        for to in (0..comm.size()).filter(|to| *to != comm.rank()) {
            let way = comm.way(&*device, to)?;
            let place = |rank| device_of(&args.device, rank).map(name);
            mine.push(Pair {
                from: comm.rank(),
                device: place(comm.rank())?,
                to,
                to_device: place(to)?,
                direct: way.is_direct,
                why: way.why,
            });
        }
    }
    let all = bring(&comm, serde_json::to_vec(&mine).expect("text and numbers"))?;
    comm.finalize()?;
    let Some(all) = all else { return Ok(ControlFlow::Break(Verdict::Holds)) };
    let pairs = all.iter().map(|bytes| serde_json::from_slice::<Vec<Pair>>(bytes));
    let pairs: Result<Vec<_>, _> = pairs.collect();
    let pairs = pairs.map_err(|error| Failure::Failed(format!("a rank's pairs: {error}")))?;
    Ok(ControlFlow::Continue(pairs.into_iter().flatten().collect()))
}

/// Each rank sends each other one something: they are connected then.
fn connect_all(comm: &Communicator) -> dure::Result<()> {
    let all_pairs = Candidate { algorithm: "all-pairs".to_owned(), lanes: 1, by_fabric: false };
    comm.pin(Some(&all_pairs))?;
    let mine = vec![0_u8; comm.size() as usize];
    let mut theirs = mine.clone();
    comm.all_to_all(&mine, &mut theirs)?;
    comm.pin(None)
}

fn name(device: Option<String>) -> String {
    device.unwrap_or_else(|| "host".to_owned())
}

impl Pair {
    /// For people.
    pub(super) fn text(&self) -> String {
        let Self { from, device, to, to_device, direct, why } = self;
        let way = if *direct { "directly" } else { "through the host" };
        format!("rank {from} ({device}) to rank {to} ({to_device}): {way}; {why}")
    }
}
