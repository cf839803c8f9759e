//! Peers to whom not all wires work.

#![expect(clippy::disallowed_types, reason = "locked when wires fail, and when somebody asks")]

use std::collections::BTreeMap;
use std::sync::Mutex;

use dure_transport::Route;

/// What is known of peers to whom some wires have failed. Whoever drives the executor writes it, anybody reads it.
#[derive(Debug, Default)]
pub struct Detours(Mutex<BTreeMap<u32, Route>>);

impl Detours {
    pub(crate) fn set(&self, peer: u32, route: Route) {
        let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if route.is_degraded() {
            all.insert(peer, route);
        } else {
            all.remove(&peer);
        }
    }

    /// The ranks to whom some wires have failed and are not back, in ascending order, with what leads to each.
    pub fn list(&self) -> Vec<(u32, Route)> {
        let all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.iter().map(|(peer, route)| (*peer, route.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_peer_is_listed_until_all_wires_are_back() {
        let route = |rails| Route {
            over: "rdma",
            rails,
            rails_at_first: 2,
            why: "mlx5_0 port 1 is down".to_owned(),
            pause: Duration::from_millis(3),
        };
        let detours = Detours::default();
        detours.set(5, route(1));
        detours.set(3, route(0));
        assert_eq!(detours.list(), [(3, route(0)), (5, route(1))]);
        detours.set(5, route(2));
        assert_eq!(detours.list(), [(3, route(0))]);
    }
}
