//! One peer, as this rank writes to it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use dure_transport::{Error, Peer, Result, Signal};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::board::{Board, LINES_OF_PAGE, Line};
use crate::doorbell::Source;
use crate::foreign::Process;
use crate::home::Home;
use crate::lobby::Met;
use crate::region::slot;
use crate::signal::{must_wake, publish};
use crate::site::Neighbour;
use crate::socket::{Note, Socket};

/// What is known of a peer.
#[derive(Debug, Default)]
pub(crate) enum Link {
    /// `connect` was not called.
    #[default]
    Unknown,
    /// It was.
    Connecting,
    Up(Box<Remote>),
    /// Its segment stays mapped if it ever was: somebody may still hold a window of it.
    Lost(Option<Box<Remote>>),
}

/// A peer that is, or was, up.
#[derive(Debug)]
pub(crate) struct Remote {
    tie: Tie,
    neighbour: Arc<Neighbour>,
    /// The process's descriptor once more, where another rank of that process is watched by it already.
    again: Option<OwnedFd>,
    bell: Line,
    counts: Counts,
}

impl Remote {
    pub(crate) fn new(met: Met) -> Self {
        let Met { socket, neighbour, bell, .. } = met;
        let tie = Tie::new(socket, Some(Arc::clone(&neighbour)));
        Self { tie, neighbour, again: None, bell, counts: Counts::default() }
    }

    /// Watches the peer from now on.
    pub(crate) fn watch(&mut self, home: &Home, peer: Peer) -> Result<()> {
        home.doorbell.rename(&self.tie.socket, Source::Peer(peer))?;
        let Some(process) = &self.neighbour.process else { return Ok(()) };
        match home.doorbell.watch(process, Source::Process(peer)) {
            // A descriptor is watched once.
            Err(Error::System { source, .. })
                if source.raw_os_error() == Some(Errno::EEXIST as i32) =>
            {
                let failed = |source| Error::System { call: "dup", source };
                let again = process.try_clone().map_err(failed)?;
                home.doorbell.watch(&again, Source::Process(peer))?;
                self.again = Some(again);
                Ok(())
            }
            watched => watched,
        }
    }

    /// The peer's segment.
    pub(crate) fn board(&self) -> &Board {
        &self.neighbour.board
    }

    /// The peer's process, if its private memory can be read.
    pub(crate) fn foreign(&self) -> Option<Process> {
        self.neighbour.foreign
    }

    /// Bumps a counter of the peer, and wakes the peer if it sleeps.
    pub(crate) fn bump(&mut self, signal: Signal) -> Result<()> {
        let board = &self.neighbour.board;
        let foreign = Error::Protocol { what: "a counter that is not on the peer's board" };
        let counter = board.line(signal.0).ok_or(foreign)?;
        publish(counter, self.counts.next(signal.0));
        let bell = board.line(self.bell).expect("the lobby checked the bell");
        if must_wake(bell) {
            self.tie.socket.tell(Note::Ring);
        }
        Ok(())
    }

    /// Takes the notes that came; an error when the peer is gone, or has given up this connection.
    pub(crate) fn hush(&mut self) -> Result<()> {
        self.tie.hush()
    }

    /// The peer's process ended.
    pub(crate) fn end(&mut self) {
        self.tie.gone = true;
    }

    /// Watches the peer no more, and tells it so. The connection stays, for what each side says last.
    pub(crate) fn lose(&self, home: &Home) {
        home.doorbell.ignore(&self.tie.socket);
        if let Some(process) = self.again.as_ref().or(self.neighbour.process.as_ref()) {
            home.doorbell.ignore(process);
        }
        if !self.tie.gone {
            self.tie.socket.tell(Note::Lost);
        }
    }

    /// What is left of the connection when this side ends.
    pub(crate) fn part(self) -> Tie {
        self.tie
    }
}

/// A connection, by which each side learns when the other writes nothing any more.
#[derive(Debug)]
pub(crate) struct Tie {
    socket: Socket,
    /// What the other process shows, if that is known.
    neighbour: Option<Arc<Neighbour>>,
    /// Whether the peer writes nothing here any more.
    gone: bool,
}

impl Tie {
    pub(crate) fn new(socket: Socket, neighbour: Option<Arc<Neighbour>>) -> Self {
        Self { socket, neighbour, gone: false }
    }

    /// Takes the notes that came; an error when the peer is gone, or has given up this connection.
    fn hush(&mut self) -> Result<()> {
        // One more than can wait for a reader that parks once per ring; what is left is taken by the next look.
        for _ in 0..64 {
            match self.socket.note() {
                Ok(None) => return Ok(()),
                Ok(Some(Note::Ring)) => {}
                Ok(Some(Note::Lost)) => return Err(Error::Closed),
                Ok(Some(Note::Gone)) => {
                    self.gone = true;
                    return Err(Error::Closed);
                }
                Err(error) => {
                    self.gone = true;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Tells the peer that this side writes nothing from here on. The peer may wait for that to use its memory again.
    pub(crate) fn part(&self) {
        if !self.gone {
            self.socket.tell(Note::Gone);
        }
    }

    /// Whether the peer has ended, or has said that it writes nothing any more.
    pub(crate) fn is_gone(&mut self) -> bool {
        // Behind the note that the peer has lost this side there may be its last.
        for _ in 0..2 {
            if self.gone || self.hush().is_ok() {
                break;
            }
        }
        let process = self.neighbour.as_ref().and_then(|neighbour| neighbour.process.as_ref());
        self.gone || process.is_some_and(is_ended)
    }
}

/// Whether the process of this descriptor has ended.
fn is_ended(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// How often this rank bumped each line of the peer's board, by pages of lines. Nobody else bumps the lines that it
/// bumps, so that it need not read them back from under the peer's polling.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pages: Vec<(Line, Box<[u64; slot(LINES_OF_PAGE)]>)>,
    /// Which of them was used last.
    last: usize,
}

impl Counts {
    /// Counts a line, and says how often it was counted.
    #[inline]
    pub(crate) fn next(&mut self, line: Line) -> u64 {
        let page = line / LINES_OF_PAGE;
        if self.pages.get(self.last).is_none_or(|(known, _)| *known != page) {
            self.find(page);
        }
        let count = &mut self.pages[self.last].1[slot(line % LINES_OF_PAGE)];
        *count += 1;
        *count
    }

    /// A peer's lines are on a few pages.
    #[cold]
    fn find(&mut self, page: Line) {
        let known = self.pages.iter().position(|(known, _)| *known == page);
        self.last = known.unwrap_or_else(|| {
            self.pages.push((page, Box::new([0; slot(LINES_OF_PAGE)])));
            self.pages.len() - 1
        });
    }
}
