//! The transport that routes by peer.

/// A transport made of others, each of which serves some of the peers.
#[derive(Debug)]
pub struct Fabric;
