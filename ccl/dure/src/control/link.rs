//! A socket with Noise on it: non-blocking for the control thread, and with a deadline for whoever may block.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use dure_tcp::{Dial, Kind, Preamble};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use socket2::{SockRef, TcpKeepalive};

use crate::bootstrap::noise::{Noise, NoiseError};

/// Most bytes read in one turn, so that one busy link does not keep the others waiting.
const TURN: usize = 1 << 20;
/// A host that vanished without a word is noticed after about `IDLE + PROBES * BETWEEN`.
const IDLE: Duration = Duration::from_secs(10);
const BETWEEN: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;
/// The same, when bytes are under way that nobody acknowledges.
const UNACKNOWLEDGED: Duration = Duration::from_secs(25);

/// Why a link is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The other side closed it.
    #[error("end of stream")]
    End,
    /// The system reports it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other side does not belong here, or sent what it may not.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// The time is up.
    #[error("no answer before the deadline")]
    Late,
}

impl Broken {
    /// For a caller: whether the other side turned it away, as it does with callers that do not know the key.
    pub(crate) fn is_refusal(&self, link: &Link) -> bool {
        !link.noise.is_open() && !matches!(self, Self::Late)
    }
}

/// One end of an authenticated connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    pub(crate) noise: Noise,
}

impl Link {
    /// On a connected, non-blocking socket.
    pub(crate) fn new(stream: TcpStream, noise: Noise) -> Self {
        Self { stream, noise }
    }

    /// Dials, and prepares the handshake; nothing has been proven yet.
    pub(crate) fn dial(
        to: Vec<SocketAddr>,
        preamble: Preamble,
        noise: Noise,
        deadline: Instant,
    ) -> Result<Self, dure_tcp::Error> {
        let stream = Dial::new(to, preamble)?.wait(deadline)?;
        Ok(Self::new(stream, noise))
    }

    /// Reads what is there. Messages that came before the end are delivered even when this is an error.
    fn read(&mut self) -> Result<(), Broken> {
        let noise = &mut self.noise;
        read(&mut self.stream, |bytes| Ok(noise.receive(bytes).map(|()| true)?))
    }

    /// Writes what can be written.
    fn write(&mut self) -> Result<(), Broken> {
        while self.wants_write() {
            match write(&mut self.stream, self.noise.output())? {
                0 => return Ok(()),
                written => self.noise.wrote(written),
            }
        }
        Ok(())
    }

    /// Whether there is something to write.
    fn wants_write(&self) -> bool {
        !self.noise.output().is_empty()
    }

    /// Blocks until the handshake is done, so that the other side is known to have the key.
    pub(crate) fn open(&mut self, deadline: Instant) -> Result<(), Broken> {
        self.until(deadline, |noise| noise.is_open().then_some(()))
    }

    /// Blocks until a message comes.
    pub(crate) fn receive(&mut self, deadline: Instant) -> Result<Vec<u8>, Broken> {
        self.until(deadline, Noise::next)
    }

    fn until<T>(
        &mut self,
        deadline: Instant,
        mut done: impl FnMut(&mut Noise) -> Option<T>,
    ) -> Result<T, Broken> {
        loop {
            self.write()?;
            let read = self.read();
            if let Some(value) = done(&mut self.noise) {
                self.write()?;
                return Ok(value);
            }
            read?;
            // The handshake may just have produced something to write.
            self.write()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Broken::Late);
            }
            let write = if self.wants_write() { PollFlags::POLLOUT } else { PollFlags::empty() };
            let mut wait = [PollFd::new(self.as_fd(), PollFlags::POLLIN | write)];
            // Rounded up, so that the last millisecond is not spent in a loop; an interrupted wait is a short one.
            let timeout =
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            let _ = nix::poll::poll(&mut wait, timeout);
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Makes the kernel notice when the other host vanishes.
pub(crate) fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(IDLE).with_interval(BETWEEN).with_retries(PROBES),
    )
}

/// Reads what is there, a turn's worth at most, for as long as `take` wants more.
pub(crate) fn read(
    stream: &mut TcpStream,
    mut take: impl FnMut(&[u8]) -> Result<bool, Broken>,
) -> Result<(), Broken> {
    let mut buffer = [0; 16 << 10];
    let mut total = 0;
    while total < TURN {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(Broken::End),
            Ok(got) => {
                if !take(&buffer[..got])? {
                    return Ok(());
                }
                total += got;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Writes once. Zero when there is no room.
pub(crate) fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, Broken> {
    loop {
        match stream.write(bytes) {
            Ok(written) => return Ok(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Keeps the handshakes of different kinds of connections apart.
pub(crate) fn purpose(kind: Kind) -> u8 {
    match kind {
        Kind::CheckIn => 1,
        Kind::Tree => 2,
        Kind::Data => 3,
        Kind::Query => 4,
    }
}
