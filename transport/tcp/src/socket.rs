//! How sockets are set up.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::memory::set_tcp_option;

/// A connection that is silent for 10 s is asked three times, 5 s apart: a host that vanished is missed after 25 s.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(10))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// `TCP_RTO_MAX_MS` of linux/tcp.h (Linux 6.15), which libc does not have yet.
const TCP_RTO_MAX_MS: i32 = 44;

/// Longest time between two retransmissions. Keepalive rests while bytes are unacknowledged; then a connection is
/// given up after net.ipv4.tcp_retries2 (15) retransmissions, which takes 15 minutes with the kernel's limit of 120 s
/// and half a minute with this one. `TCP_USER_TIMEOUT` is no substitute: it also kills connections to a live peer that
/// does not read for so long (a rank that computes), and switches the count of keepalive off.
const RTO_MAX_MS: i32 = 2000;

/// What replaces BBR. With both directions of one connection busy, as in a ring, BBR carried 3.3 GB/s on loopback and
/// 2.0 between namespaces where cubic carried 6.0 and 5.8; and small sends at intervals met its pacing.
const CONGESTION: &[u8] = b"cubic";

/// A socket that is to listen or to connect.
///
/// What replaces BBR must do so before there is a connection: a connection that began with BBR is paced for ever, by a
/// timer for every few segments, which are exits from the guest on virtual machines. Accepted connections do as the
/// socket that listened.
pub(crate) fn create(address: SocketAddr) -> io::Result<Socket> {
    let (domain, kind) = (Domain::for_address(address), Type::STREAM.nonblocking());
    let socket = Socket::new(domain, kind, Some(Protocol::TCP))?;
    if socket.tcp_congestion().is_ok_and(|name| name.starts_with(b"bbr")) {
        // Without privilege only names in net.ipv4.tcp_allowed_congestion_control are granted.
        let _ = socket.set_tcp_congestion(CONGESTION);
    }
    Ok(socket)
}

/// Sets up a connection of the data path, as far as the kernel allows.
///
/// Buffer sizes are left alone: the kernel grows both with the connection (tcp_rmem and tcp_wmem, 6 MiB and 4 MiB by
/// default), whereas setting them ends that and is limited by rmem_max and wmem_max, 208 KiB by default.
pub(crate) fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = socket.set_tcp_keepalive(&KEEPALIVE);
    if let Err(error) = keepalive.and_then(|()| socket.set_tcp_nodelay(true)) {
        tracing::warn!(target: "dure::net", %error, "cannot set up a connection");
    }
    // Older kernels do not know it.
    let _ = set_tcp_option(stream.as_fd(), TCP_RTO_MAX_MS, RTO_MAX_MS);
}

#[cfg(test)]
mod tests {

    use super::*;

    /// Both ends of a connection as the port and those who dial make it.
    fn pair() -> [TcpStream; 2] {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = create(any).unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(1).unwrap();
        listener.set_nonblocking(false).unwrap();
        let dialled = create(any).unwrap();
        dialled.set_nonblocking(false).unwrap();
        dialled.connect(&listener.local_addr().unwrap()).unwrap();
        [dialled.into(), listener.accept().unwrap().0.into()]
    }

    #[test]
    fn a_connection_is_set_up() {
        for stream in pair() {
            tune(&stream);
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(10));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(5));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        }
    }

    #[test]
    fn both_ends_do_without_bbr_from_the_beginning() {
        for stream in pair() {
            let socket = SockRef::from(&stream);
            let is_bbr = socket.tcp_congestion().unwrap().starts_with(b"bbr");
            // It stays only where the system does not grant the other.
            assert!(!is_bbr || socket.set_tcp_congestion(CONGESTION).is_err());
        }
    }
}
