//! One peer, as this rank writes to it.

use std::os::fd::OwnedFd;

use dure_transport::{Error, Peer, Result, Signal};

use crate::board::{Board, Line};
use crate::doorbell::Source;
use crate::foreign::Process;
use crate::home::Home;
use crate::lobby::Met;
use crate::region::slot;
use crate::signal::{must_wake, publish};
use crate::socket::Socket;

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
    Lost(Option<Board>),
}

/// A peer that is up.
#[derive(Debug)]
pub(crate) struct Remote {
    socket: Socket,
    process: Option<OwnedFd>,
    pub(crate) board: Board,
    /// Its process, if its memory can be read.
    foreign: Option<Process>,
    bell: Line,
    /// How often this rank bumped each line of the peer's board. Nobody else bumps the lines that it bumps, so that it
    /// need not read them back from under the peer's polling.
    counts: Vec<u64>,
}

impl Remote {
    /// Watches the peer from now on.
    pub(crate) fn new(home: &Home, peer: Peer, met: Met) -> Result<Self> {
        let Met { socket, board, bell, .. } = met;
        let process = socket.process();
        home.doorbell.rename(&socket, Source::Peer(peer))?;
        if let Some(process) = &process {
            home.doorbell.watch(process, Source::Process(peer))?;
        }
        let foreign = socket.process_id().and_then(|id| Process::readable(id, board.sample()));
        Ok(Self { socket, process, board, foreign, bell, counts: Vec::new() })
    }

    /// The peer's process, if its private memory can be read.
    pub(crate) fn foreign(&self) -> Option<Process> {
        self.foreign
    }

    /// Bumps a counter of the peer, and wakes the peer if it sleeps.
    pub(crate) fn bump(&mut self, signal: Signal) -> Result<()> {
        let foreign = Error::Protocol { what: "a counter that is not on the peer's board" };
        let counter = self.board.line(signal.0).ok_or(foreign)?;
        let index = slot(signal.0);
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += 1;
        publish(counter, self.counts[index]);
        let bell = self.board.line(self.bell).expect("the lobby checked the bell");
        if must_wake(bell) {
            self.socket.ring();
        }
        Ok(())
    }

    /// Takes the rings that came; an error when the peer is gone.
    pub(crate) fn hush(&self) -> Result<()> {
        self.socket.hush()
    }

    /// Watches the peer no more, and closes the connection.
    pub(crate) fn close(self, home: &Home) -> Board {
        home.doorbell.ignore(&self.socket);
        if let Some(process) = &self.process {
            home.doorbell.ignore(process);
        }
        self.board
    }
}
