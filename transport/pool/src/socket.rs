//! Unix sockets that keep message boundaries and carry descriptors, in the abstract namespace: nothing in the file
//! system to leak, and visible only inside one network namespace.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use dure_transport::{Card, Error, Result};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::sockopt::{PeerCredentials, PeerPidfd};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag,
    SockType, UnixAddr, accept4, bind, connect, getsockopt, listen, recv, recvmsg, send, sendmsg,
    shutdown, socket,
};
use nix::unistd::{Pid, geteuid, getpid};

use crate::{NAME, map, system};

/// Longest message: a greeting with the longest hello.
pub(crate) const LONGEST: usize = Card::MOST_ON_THE_WAY + 8;

/// Room for a message.
pub(crate) type Buffer = [u8; LONGEST];

const TOO_LONG: Error = Error::Protocol { what: "a message that is too long" };

/// `SCM_MAX_FD` of the kernel.
const MOST_FILES: usize = 253;

/// First bytes of an address card: the transport and the version of the card.
const CARD: &[u8; 5] = b"pool\x01";

/// What peers say over a connection that is up: one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// Wake up.
    Ring = 0,
    /// I have lost you, and put nothing more; what is under way through windows may still write.
    Lost = 1,
    /// I write nothing more.
    Gone = 2,
}

/// The random part of a listening socket's name. It keeps namesakes apart; it is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name([u8; 16]);

impl Name {
    pub(crate) fn random() -> Result<Self> {
        Ok(Self(dure_transport::proof::random_bytes()?))
    }

    pub(crate) fn card(self) -> Card {
        Card([CARD.as_slice(), &self.0].concat().into())
    }

    pub(crate) fn parse(card: &Card) -> Result<Self> {
        card.0
            .strip_prefix(CARD)
            .and_then(|name| name.try_into().ok())
            .map(Self)
            .ok_or(Error::BadCard { transport: NAME })
    }

    fn address(self) -> Result<UnixAddr> {
        let text = format!("dure-pool-{:032x}", u128::from_be_bytes(self.0));
        UnixAddr::new_abstract(text.as_bytes()).map_err(system("socket"))
    }
}

/// A listening or connected socket; never blocks.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    fn new() -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
            .map(Self)
            .map_err(system("socket"))
    }

    /// Listens under a name.
    pub(crate) fn listen(name: Name) -> Result<Self> {
        let this = Self::new()?;
        bind(this.0.as_raw_fd(), &name.address()?).map_err(system("bind"))?;
        listen(&this.0, Backlog::MAXCONN).map_err(system("listen"))?;
        Ok(this)
    }

    /// Connects to a name; `None` when the listener has too many unanswered callers: try again.
    pub(crate) fn dial(name: Name) -> Result<Option<Self>> {
        let this = Self::new()?;
        match connect(this.0.as_raw_fd(), &name.address()?) {
            Ok(()) => this.same_user().map(Some),
            Err(Errno::EAGAIN) => Ok(None),
            Err(error) => {
                let name = name.card();
                let tried = format!("{NAME} {:02x?}: {error}", &name.0[CARD.len()..]);
                Err(Error::Unreachable { tried })
            }
        }
    }

    /// Takes the next caller; `None` when there is none. Callers of other users are turned away unheard.
    pub(crate) fn accept(&self) -> Result<Option<Self>> {
        loop {
            match accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
                Ok(fd) => match Self(map::adopt(fd)).same_user() {
                    Ok(caller) => return Ok(Some(caller)),
                    Err(error) => tracing::debug!(target: "dure::net", %error, "caller refused"),
                },
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR | Errno::ECONNABORTED) => {}
                Err(error) => return Err(system("accept4")(error)),
            }
        }
    }

    /// The other side must run as the same user: whoever may write our memory could as well trace us.
    fn same_user(self) -> Result<Self> {
        let peer = getsockopt(&self.0, PeerCredentials).map_err(system("getsockopt"))?;
        if peer.uid() == geteuid().as_raw() { Ok(self) } else { Err(Error::NotProven) }
    }

    /// A descriptor that becomes readable when the process behind the socket ends, whoever else still holds its socket
    /// (a child that it forked does). `None` for this process itself and on kernels before 6.5.
    pub(crate) fn process(&self) -> Option<OwnedFd> {
        if self.process_id()? == getpid() {
            return None;
        }
        getsockopt(&self.0, PeerPidfd).ok()
    }

    /// The process behind the socket; `None` when it is in a namespace of processes that is hidden from this one.
    pub(crate) fn process_id(&self) -> Option<Pid> {
        let peer = getsockopt(&self.0, PeerCredentials).ok()?;
        (peer.pid() > 0).then(|| Pid::from_raw(peer.pid()))
    }

    /// Sends one message, with a descriptor.
    pub(crate) fn send(&self, message: &[u8], file: Option<BorrowedFd<'_>>) -> Result<()> {
        let files = file.map(|file| [file.as_raw_fd()]);
        let rights = files.as_ref().map(|files| ControlMessage::ScmRights(files));
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        loop {
            match sendmsg::<()>(
                self.0.as_raw_fd(),
                &[IoSlice::new(message)],
                rights.as_slice(),
                flags,
                None,
            ) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(Error::Closed),
                Err(error) => return Err(system("sendmsg")(error)),
            }
        }
    }

    /// Receives one message; `None` when there is none yet. Descriptors that come with it are dropped unseen.
    /// [`Error::Closed`] when the other side is gone; a message without bytes counts as that.
    pub(crate) fn receive<'b>(&self, buffer: &'b mut Buffer) -> Result<Option<&'b [u8]>> {
        // With MSG_TRUNC the length is that of the message, not of what fitted.
        let flags = MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
        match recv(self.0.as_raw_fd(), buffer, flags) {
            Ok(0) | Err(Errno::ECONNRESET) => Err(Error::Closed),
            Ok(len) => buffer.get(..len).map(Some).ok_or(TOO_LONG),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(error) => Err(system("recv")(error)),
        }
    }

    /// Receives one message as `receive` does, and the descriptors that came with it.
    pub(crate) fn receive_files<'b>(
        &self,
        buffer: &'b mut Buffer,
    ) -> Result<Option<(&'b [u8], Vec<OwnedFd>)>> {
        let mut iov = [IoSliceMut::new(buffer)];
        // Room for as many descriptors as one message can carry: nix gives none out if some did not fit.
        let mut space = cmsg_space!([RawFd; MOST_FILES]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let received = match recvmsg::<()>(self.0.as_raw_fd(), &mut iov, Some(&mut space), flags) {
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(Errno::ECONNRESET) => return Err(Error::Closed),
            other => other.map_err(system("recvmsg"))?,
        };
        let mut files = Vec::new();
        for message in received.cmsgs().map_err(system("recvmsg"))? {
            if let ControlMessageOwned::ScmRights(fds) = message {
                files.extend(fds.into_iter().map(map::adopt));
            }
        }
        let (len, cut) = (received.bytes, received.flags.contains(MsgFlags::MSG_TRUNC));
        match len {
            _ if cut => Err(TOO_LONG),
            0 => Err(Error::Closed),
            _ => Ok(Some((&buffer[..len], files))),
        }
    }

    /// Says something to the other side, and makes its doorbell readable. A ring may be lost: when the other side's buffer
    /// is full, it is readable already; when it is gone, the next look at the socket says so. Who loses another note
    /// waits for the end of the connection instead.
    pub(crate) fn tell(&self, note: Note) {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let _ = send(self.0.as_raw_fd(), &[note as u8], flags);
    }

    /// Takes the next note that came; `None` when there is none. [`Error::Closed`] when the other side is gone.
    pub(crate) fn note(&self) -> Result<Option<Note>> {
        let mut note = [0; 1];
        loop {
            return match recv(self.0.as_raw_fd(), &mut note, MsgFlags::MSG_DONTWAIT) {
                Ok(0) | Err(Errno::ECONNRESET) => Err(Error::Closed),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => Ok(None),
                Err(error) => Err(system("recv")(error)),
                Ok(_) if note[0] == Note::Lost as u8 => Ok(Some(Note::Lost)),
                Ok(_) if note[0] == Note::Gone as u8 => Ok(Some(Note::Gone)),
                Ok(_) => Ok(Some(Note::Ring)),
            };
        }
    }
}

impl Drop for Socket {
    /// The other side learns it now, even where a forked child still holds the descriptor.
    fn drop(&mut self) {
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
