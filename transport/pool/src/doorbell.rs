//! What a parked rank sleeps on: one epoll descriptor over all its sockets.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use dure_transport::{Peer, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::system;

/// Who made the doorbell readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The listening socket: somebody calls.
    Listener,
    /// A connection that is not up yet, by its number in the lobby.
    Guest(u64),
    /// The socket of a peer that is up.
    Peer(Peer),
    /// The process of a peer that is up: it ended.
    Process(Peer),
}

impl Source {
    fn encode(self) -> u64 {
        match self {
            Self::Listener => 0,
            Self::Guest(number) => number << 2 | 1,
            Self::Peer(Peer(peer)) => u64::from(peer) << 2 | 2,
            Self::Process(Peer(peer)) => u64::from(peer) << 2 | 3,
        }
    }

    fn decode(data: u64) -> Self {
        let peer = || Peer(u32::try_from(data >> 2).expect("the number of a peer was encoded"));
        match data & 3 {
            0 => Self::Listener,
            1 => Self::Guest(data >> 2),
            2 => Self::Peer(peer()),
            _ => Self::Process(peer()),
        }
    }
}

/// The epoll descriptor.
#[derive(Debug)]
pub(crate) struct Doorbell(Epoll);

impl Doorbell {
    pub(crate) fn new() -> Result<Self> {
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(Self).map_err(system("epoll_create1"))
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }

    pub(crate) fn watch(&self, fd: impl AsFd, source: Source) -> Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, source.encode());
        self.0.add(fd, event).map_err(system("epoll_ctl"))
    }

    /// Names a watched descriptor anew.
    pub(crate) fn rename(&self, fd: impl AsFd, source: Source) -> Result<()> {
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN, source.encode());
        self.0.modify(fd, &mut event).map_err(system("epoll_ctl"))
    }

    /// To be called before the descriptor is closed: as long as a forked child holds it too, closing does not end the
    /// watch.
    pub(crate) fn ignore(&self, fd: impl AsFd) {
        let ignored = self.0.delete(fd);
        debug_assert_eq!(ignored, Ok(()), "the descriptor was watched");
    }

    /// Some of those who have something to say, without waiting. Those left out come first the next time.
    pub(crate) fn ready(&self) -> Result<impl Iterator<Item = Source> + use<>> {
        let mut events = [EpollEvent::empty(); 32];
        let count = match self.0.wait(&mut events, EpollTimeout::ZERO) {
            Err(Errno::EINTR) => 0,
            other => other.map_err(system("epoll_wait"))?,
        };
        Ok(events.into_iter().take(count).map(|event| Source::decode(event.data())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_survive_the_kernel() {
        let peer = Peer(u32::MAX);
        for source in
            [Source::Listener, Source::Guest(1 << 60), Source::Peer(peer), Source::Process(peer)]
        {
            assert_eq!(Source::decode(source.encode()), source);
        }
    }
}
