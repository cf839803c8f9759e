//! The TCP connection between server and client: what they agree on, and what they tell one another between rows.
//!
//! Messages are JSON behind four bytes of length. Each wait has a deadline.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use super::args::Settings;
use super::row::{Part, Row};
use crate::output::Failure;

/// What travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// First, from each side.
    Hello {
        /// Of this exchange.
        version: u32,
        settings: Settings,
    },
    /// The server takes the client's settings; with the secret of the transports, which only keeps strangers apart.
    Agreed { key: [u8; 32] },
    /// Where the sender's transport or queue pairs are found, and its own address in words.
    Card { card: Vec<u8> },
    /// The sender is ready for what comes next.
    Ready,
    /// The sender has sent so many messages, and is done.
    Sent { messages: u64 },
    /// The server's part of a row.
    Part(Part),
    /// A row, complete.
    Row(Row),
    /// The client has no more rows.
    End,
    /// The sender gives up.
    Failed { why: String },
}

/// Of the exchange; a side of another version is refused.
pub(crate) const VERSION: u32 = 2;
/// Longest message, in bytes.
const LONGEST: u32 = 1 << 20;
/// How long a connection is silent before the system asks the other host whether it is there, and how often it asks.
const IDLE: Duration = Duration::from_secs(5);
const PROBES: u32 = 4;
/// How long a client waits before it tries again to reach a server that does not listen yet.
const RETRY: u16 = 100;

/// The connection.
#[derive(Debug)]
pub(crate) struct Control {
    stream: TcpStream,
    patience: Duration,
}

impl Control {
    /// Waits for a client.
    pub(crate) fn accept(
        port: u16,
        meeting: Duration,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let listener = listen(port)
            .map_err(|source| Failure::system(format!("listening on TCP port {port}"), source))?;
        let failed = |source: io::Error| Failure::system(format!("TCP port {port}"), source);
        if !is_readable(&listener, meeting).map_err(failed)? {
            let text = format!("no client came to TCP port {port} within {meeting:?}");
            return Err(Failure::Failed(text));
        }
        let (stream, _) = listener.accept().map_err(failed)?;
        Self::over(stream, patience).map_err(failed)
    }

    /// Reaches the server.
    pub(crate) fn dial(
        host: &str,
        port: u16,
        meeting: Duration,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let known = (host, port).to_socket_addrs();
        let unknown =
            |source| Failure::Usage(format!("the host \"{host}\" is not known: {source}"));
        let addresses: Vec<_> = known.map_err(unknown)?.collect();
        // A server that is started at the same moment may not listen yet; one that is not there is no reason to wait long.
        let deadline = Instant::now() + meeting.min(patience);
        loop {
            let (tried, error) = match reach(&addresses, deadline) {
                Ok(stream) => {
                    let failed = |source| Failure::system(format!("{host} port {port}"), source);
                    return Self::over(stream, patience).map_err(failed);
                }
                Err(failed) => failed,
            };
            if Instant::now() >= deadline {
                let text = format!("no server at {host} (TCP port {port}, {tried})");
                return Err(Failure::system(text, error));
            }
            let _ = poll(&mut [], PollTimeout::from(RETRY));
        }
    }

    fn over(stream: TcpStream, patience: Duration) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let keep = TcpKeepalive::new().with_time(IDLE).with_interval(IDLE).with_retries(PROBES);
        SockRef::from(&stream).set_tcp_keepalive(&keep)?;
        Ok(Self { stream, patience })
    }

    /// Address of this side, and of the other.
    pub(crate) fn addresses(&self) -> Result<[IpAddr; 2], Failure> {
        let known = self.stream.local_addr().and_then(|here| Ok([here, self.stream.peer_addr()?]));
        let known = known.map_err(|source| Failure::system("the control connection", source))?;
        Ok(known.map(|address| address.ip().to_canonical()))
    }

    pub(crate) fn send(&mut self, message: &Message) -> Result<(), Failure> {
        let text = serde_json::to_vec(message).map_err(io::Error::from);
        let sent = text.and_then(|text| {
            let length = u32::try_from(text.len()).map_err(io::Error::other)?;
            self.stream.write_all(&[&length.to_le_bytes(), &text[..]].concat())
        });
        sent.map_err(|source| Failure::system("telling the other side", source))
    }

    /// The next message, within the patience of this side. That the other side failed is a failure here.
    pub(crate) fn receive(&mut self) -> Result<Message, Failure> {
        self.read()
            .map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => {
                    Failure::Failed("the other side ended, or closed the connection".to_owned())
                }
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    Failure::Failed(format!("the other side said nothing for {:?}", self.patience))
                }
                _ => Failure::system("hearing the other side", source),
            })
            .and_then(|message| match message {
                Message::Failed { why } => {
                    Err(Failure::Failed(format!("the other side failed: {why}")))
                }
                message => Ok(message),
            })
    }

    fn read(&mut self) -> io::Result<Message> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length > LONGEST {
            return Err(io::Error::other(format!("{length} bytes are no message of dure fabric")));
        }
        let mut text = Vec::new();
        (&mut self.stream).take(length.into()).read_to_end(&mut text)?;
        if text.len() as u64 != u64::from(length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&text)?)
    }

    #[cfg(feature = "verbs")]
    /// The next message, whenever it comes: while the other side measures. The system finds out when its host is gone.
    pub(crate) fn receive_whenever(&mut self) -> Result<Message, Failure> {
        while !self.has_message(self.patience)? {}
        self.receive()
    }

    #[cfg(feature = "verbs")]
    /// Whether a message, or the end, has come.
    pub(crate) fn has_message(&self, within: Duration) -> Result<bool, Failure> {
        is_readable(&self.stream, within)
            .map_err(|source| Failure::system("the control connection", source))
    }

    /// Waits until both sides are here.
    pub(crate) fn meet(&mut self) -> Result<(), Failure> {
        self.send(&Message::Ready)?;
        match self.receive()? {
            Message::Ready => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

/// A message that does not belong here.
pub(crate) fn unexpected(message: &Message) -> Failure {
    let text = format!("{message:?}");
    let name = text.split([' ', '(']).next().unwrap_or_default();
    Failure::Failed(format!("the other side said {name} out of turn"))
}

fn is_readable(on: impl AsFd, within: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(on.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if Instant::now() >= deadline => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Listens on all addresses of both families, or of IPv4 where there is no IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    let open = |domain: Domain, address: &str| {
        let ip: IpAddr = address.parse().map_err(io::Error::other)?;
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        socket.bind(&SocketAddr::new(ip, port).into())?;
        socket.listen(1)?;
        Ok(TcpListener::from(socket))
    };
    open(Domain::IPV6, "::").or_else(|error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
        _ => open(Domain::IPV4, "0.0.0.0"),
    })
}

/// Tries all addresses once. The failure is the last one's, with the address.
fn reach(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, (String, io::Error)> {
    let mut last = ("no address".to_owned(), io::Error::from(io::ErrorKind::NotFound));
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now());
        match TcpStream::connect_timeout(address, left.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = (format!("tried {}", address.ip()), error),
        }
    }
    Err(last)
}
