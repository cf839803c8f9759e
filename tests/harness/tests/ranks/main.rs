//! Ranks as threads, as processes, and in network namespaces: what only shows when they are apart.

#![allow(clippy::unwrap_used, reason = "tests say by it that something cannot be")]

mod differences;
mod failures;
mod meeting;
mod pools;
mod recorder;
mod results;
mod sharing;
mod staying;

use std::sync::Arc;

use dure_harness::{Cluster, Network, Place, tell_people};

/// `ranks` ranks at a place.
fn cluster(place: Place, ranks: u32) -> Cluster {
    Cluster::new(env!("CARGO_BIN_EXE_dure-rank"), place, ranks)
}

/// `ranks` processes over one transport.
fn over(transport: &str, ranks: u32) -> Cluster {
    cluster(Place::Processes, ranks).set("DURE_TRANSPORT", transport)
}

/// Hosts that reach one another; `None`, loudly, where there can be none.
fn namespaces(hosts: u32, netem: Option<&str>) -> Option<Place> {
    match Network::join(hosts, netem) {
        Ok(network) => Some(Place::Namespaces(Arc::new(network))),
        Err(why) => {
            let name = std::thread::current().name().unwrap_or("a test").to_owned();
            tell_people(&format!("{name} skipped: {why}"));
            None
        }
    }
}
