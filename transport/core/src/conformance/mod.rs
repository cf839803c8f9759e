//! The properties that every transport keeps, as tests.
//!
//! A transport that passes has the semantics that dure-exec builds on. Each property is a function that opens pairs of
//! transports and panics when it does not hold; it waits in loops that poll both ends, at most [`DEADLINE`] for each
//! thing it waits for. [`conformance_tests!`](crate::conformance_tests) makes a `#[test]` of each:
//!
//! ```
//! use dure_transport::conformance::Pair;
//! use dure_transport::simulated::{Options, World};
//!
//! fn open() -> Pair {
//!     let (world, ends) = World::new(2, &Options::default());
//!     Pair { ends: ends.try_into().expect("two ranks"), tick: Box::new(move || _ = world.step()) }
//! }
//!
//! dure_transport::conformance_tests!(open);
//! # fn main() {}
//! ```
//!
//! What a transport cannot do by its [`Caps`](crate::Caps), or by having no window or doorbell, is not asked of it.

mod bytes;
mod connect;
#[expect(unsafe_code, reason = "registers memory, and looks at what transports allocate")]
mod duo;
mod fault;
mod memory;
mod order;
mod sleep;

use std::fmt;
use std::time::Duration;

pub use self::bytes::{
    bumps_without_bytes, gathers_as_many_spans_as_it_says, moves_a_body, moves_a_head,
    moves_empty_and_unaligned_spans, moves_head_and_body, moves_large_bodies_both_ways_at_once,
    publishes_bytes_put_earlier,
};
pub use self::connect::{greets_both_sides, greets_with_the_longest_card, refuses_cards_of_others};
pub use self::fault::{
    refuses_puts_into_released_regions, refuses_puts_past_the_end, refuses_signals_of_nobody,
    reports_a_lost_peer_once,
};
pub use self::memory::{
    allocates_zeroed_apart_and_aligned, lets_regions_come_and_go, opens_windows_on_the_same_bytes,
    reads_memory_of_the_peer, reads_no_source_after_its_release, registers_user_memory_as_it_says,
};
pub use self::order::{
    counts_beyond_16_bits, gives_each_token_back_once, keeps_counters_apart,
    keeps_order_in_every_flow, loses_nothing_when_full,
};
pub use self::sleep::{rings_for_a_lost_peer, rings_for_a_signal, rings_when_a_full_flow_drains};
use crate::Transport;

/// How long a property waits for one thing, by the wall clock, before it fails.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Two transports that can reach each other and are not connected yet.
pub struct Pair {
    /// They are each other's `Peer(0)` and `Peer(1)`, in this order.
    pub ends: [Box<dyn Transport>; 2],
    /// Called again and again while a property waits: moves a virtual clock, if there is one.
    pub tick: Box<dyn FnMut()>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// A property: opens the pairs that it needs, and panics when it does not hold.
pub type Property = fn(open: &mut dyn FnMut() -> Pair);

/// Calls the macro `$then` with the names of all properties, then with what else was given.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_properties {
    ($then:path, $($with:tt)*) => {
        $then! { [
            greets_both_sides
            greets_with_the_longest_card
            refuses_cards_of_others
            moves_a_head
            moves_a_body
            moves_head_and_body
            gathers_as_many_spans_as_it_says
            moves_empty_and_unaligned_spans
            bumps_without_bytes
            publishes_bytes_put_earlier
            moves_large_bodies_both_ways_at_once
            keeps_order_in_every_flow
            counts_beyond_16_bits
            keeps_counters_apart
            loses_nothing_when_full
            gives_each_token_back_once
            allocates_zeroed_apart_and_aligned
            lets_regions_come_and_go
            registers_user_memory_as_it_says
            opens_windows_on_the_same_bytes
            reads_memory_of_the_peer
            reads_no_source_after_its_release
            refuses_puts_past_the_end
            refuses_puts_into_released_regions
            refuses_signals_of_nobody
            reports_a_lost_peer_once
            rings_for_a_signal
            rings_for_a_lost_peer
            rings_when_a_full_flow_drains
        ] $($with)* }
    };
}

/// One `#[test]` per property, over the pairs that a function `fn() -> Pair` opens.
#[macro_export]
macro_rules! conformance_tests {
    ($open:path) => {
        $crate::conformance_properties! { $crate::conformance_tests, $open }
    };
    ([$($name:ident)*] $open:path) => {
        $(
            #[test]
            fn $name() {
                $crate::conformance::$name(&mut $open);
            }
        )*
    };
}

macro_rules! table {
    ([$($name:ident)*]) => {
        /// All properties with their names.
        pub const PROPERTIES: &[(&str, Property)] = &[$((stringify!($name), $name)),*];
    };
}
conformance_properties! { table, }
