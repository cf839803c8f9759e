//! Whether the next host on the way to a peer answers.
//!
//! On Ethernet the kernel looks for the hardware address of the next host when a queue pair is brought to RTR, and the verb
//! waits for it: a second where nobody has asked before, several where nobody answers (`rdma_resolve_ip`,
//! drivers/infiniband/core/addr.c). An empty datagram has the kernel ask before, and nobody waits.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use crate::gid::{Gid, Kind};

/// Where datagrams are thrown away (RFC 863).
const DISCARD: u16 = 9;

/// A way to a peer; nothing on InfiniBand, where no host is asked.
#[derive(Debug)]
pub(crate) struct Neighbour(Option<UdpSocket>);

impl Neighbour {
    /// The way between two addresses. Asks for the first time.
    pub(crate) fn new(ours: &Gid, theirs: &Gid) -> Self {
        let open = || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind(SocketAddr::new(ours.ip(), 0))?;
            socket.set_nonblocking(true)?;
            socket.connect(SocketAddr::new(theirs.ip(), DISCARD))?;
            Ok(socket)
        };
        let way = Self(if ours.kind == Kind::InfiniBand { None } else { open().ok() });
        way.ask();
        way
    }

    fn ask(&self) {
        // What comes of it, `is_gone` tells.
        let _ = self.0.as_ref().map(|socket| socket.send(&[]));
    }

    /// Whether nobody answered since the last time; asks again.
    pub(crate) fn is_gone(&self) -> bool {
        let error = self.0.as_ref().and_then(|socket| socket.take_error().ok().flatten());
        self.ask();
        // That the port is closed is an answer.
        error.is_some_and(|error| error.kind() != io::ErrorKind::ConnectionRefused)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_host_that_answers_is_there() {
        let address = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
        let here = Gid { kind: Kind::RoceV2, bytes: address, prefix: 8 };
        let way = Neighbour::new(&here, &here);
        assert!(way.0.is_some() && !way.is_gone() && !way.is_gone());
        assert!(!Neighbour::new(&Gid { kind: Kind::InfiniBand, ..here }, &here).is_gone());
    }
}
