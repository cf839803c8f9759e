//! What ranks do. Each scenario runs on every rank, and returns when this rank is through.

mod algorithms;
mod apart;
mod bits;
mod collectives;
mod device;
mod differ;
mod many;
mod segments;
mod steady;
mod trouble;
mod typed;

use dure::Result;

use crate::seat::Seat;

/// A named function that every rank runs.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line of `dure-rank`.
    pub name: &'static str,
    /// What a rank does.
    pub run: fn(&Seat) -> Result<()>,
}

const ALL: &[Scenario] = &[
    Scenario { name: "nothing", run: nothing },
    Scenario { name: "collectives", run: collectives::collectives },
    Scenario { name: "on-devices-alone", run: collectives::on_devices_alone },
    Scenario { name: "types", run: collectives::types },
    Scenario { name: "small-loop", run: collectives::small_loop },
    Scenario { name: "typed", run: typed::typed },
    Scenario { name: "algorithms", run: algorithms::algorithms },
    Scenario { name: "apart", run: apart::apart },
    Scenario { name: "bits", run: bits::bits_agree },
    Scenario { name: "differ", run: differ::differ },
    Scenario { name: "steady", run: steady::steady },
    Scenario { name: "until-failure", run: trouble::until_failure },
    Scenario { name: "until-told", run: trouble::until_told },
    Scenario { name: "abort", run: trouble::abort },
    Scenario { name: "go-on", run: trouble::go_on },
    Scenario { name: "device-until-failure", run: device::until_failure },
    Scenario { name: "many", run: many::many },
    Scenario { name: "segments", run: segments::segments },
];

/// The scenario of a name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

/// The ranks meet, and part.
fn nothing(seat: &Seat) -> Result<()> {
    seat.communicator.finalize()
}
