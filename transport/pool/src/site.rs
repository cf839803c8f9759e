//! What the pools of a process share: its one segment, and what it knows of other processes.
//!
//! A pool takes ranges of the segment, which nobody else uses as long as a peer of that pool may write there: what a pool
//! leaves behind when it is dropped becomes free again when all its peers have dropped theirs, or are gone. So a rank that
//! still works for a communicator that another rank has left writes into nobody else's memory.

#![allow(
    clippy::disallowed_types,
    reason = "taken when a pool needs memory, meets a peer, or ends"
)]

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use dure_transport::{Error, Result};
use nix::sys::stat::fstat;

use crate::board::{Board, Line, heap_start};
use crate::foreign::{Process, Sample};
use crate::ground::{Estate, Ground, Owner, Range};
use crate::link::Tie;
use crate::map::{File, Map, PAGE};
use crate::socket::Socket;
use crate::{NAME, Usage, system};

/// Lines of a board: 32 MiB of addresses, of which the pages that are used exist. A communicator of a hundred ranks on
/// one host with sixteen lanes uses a few thousand.
const LINES: Line = 1 << 18;

/// The least heap that is worth a segment, in bytes.
const LEAST_HEAP: u64 = 1 << 20;

/// What another process, or this one, shows to its peers.
#[derive(Debug)]
pub(crate) struct Neighbour {
    pub(crate) board: Board,
    /// Readable when the process ends; `None` for this process, and on kernels that do not tell.
    pub(crate) process: Option<OwnedFd>,
    /// The process, if its memory can be read.
    pub(crate) foreign: Option<Process>,
}

/// A segment, and who uses it.
#[derive(Debug)]
pub(crate) struct Site {
    /// The process that made it. A child that was forked has memory of its own to hand out.
    process: u32,
    pub(crate) board: Board,
    file: File,
    /// What peers try to read; its address is in the header of the segment.
    _sample: Sample,
    ground: Mutex<Ground<Tie>>,
    /// By device and inode of the segment.
    neighbours: Mutex<HashMap<(u64, u64), Weak<Neighbour>>>,
}

/// The one of this process; it ends with the last pool that uses it.
static SHARED: Mutex<Weak<Site>> = Mutex::new(Weak::new());

impl Site {
    /// The segment that the pools of this process share.
    ///
    /// # Errors
    /// [`Error::System`] when the system refuses one.
    pub(crate) fn shared() -> Result<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shared.upgrade().filter(|site| site.process == std::process::id());
        if let Some(site) = known {
            return Ok(site);
        }
        let site = Self::new(None)?;
        *shared = Arc::downgrade(&site);
        Ok(site)
    }

    /// A new segment of `capacity` bytes, or of what the system allows.
    ///
    /// # Errors
    /// [`Error::System`] when the system refuses.
    pub(crate) fn new(capacity: Option<u64>) -> Result<Arc<Self>> {
        let (file, map) = File::create(capacity, heap_start(LINES) + LEAST_HEAP)?;
        let sample = Sample::new()?;
        let board = Board::new(map, LINES, &sample);
        let ground = Mutex::new(Ground::new(PAGE, board.heap(), board.map().len()));
        let (process, neighbours) = (std::process::id(), Mutex::default());
        Ok(Arc::new(Self { process, board, file, _sample: sample, ground, neighbours }))
    }

    /// Every statement under the lock leaves the ground consistent.
    fn ground(&self) -> MutexGuard<'_, Ground<Tie>> {
        self.ground.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn neighbours(&self) -> MutexGuard<'_, HashMap<(u64, u64), Weak<Neighbour>>> {
        self.neighbours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The descriptor of the segment.
    pub(crate) fn segment(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Makes bytes of the segment zero, and gives their pages back to the system.
    pub(crate) fn discard(&self, at: u64, len: u64) {
        self.file.discard(self.board.map(), at, len);
    }

    /// Takes over what a pool leaves.
    pub(crate) fn inherit(&self, estate: Estate<Tie>) {
        let mut ground = self.ground();
        ground.inherit(estate);
        self.settle(&mut ground);
    }

    /// Frees what nobody writes any more, zeroed.
    fn settle(&self, ground: &mut Ground<Tie>) {
        ground.settle(Tie::is_gone, |Range { at, len }| self.discard(at, len));
    }

    /// What the process shows whose segment came over this socket. It is mapped once, whatever the number of pools.
    ///
    /// # Errors
    /// [`Error::Protocol`] when it is no segment; [`Error::System`] when the system refuses to map it.
    pub(crate) fn meet(&self, file: &OwnedFd, socket: &Socket) -> Result<Arc<Neighbour>> {
        let name = |file: BorrowedFd<'_>| {
            let status = fstat(file).map_err(system("fstat"))?;
            Ok((status.st_dev, status.st_ino))
        };
        let name_of_file = name(file.as_fd())?;
        let own = name(self.segment())? == name_of_file;
        let mut neighbours = self.neighbours();
        // The kernel keeps the number of a file for it as long as it is mapped.
        if let Some(known) = neighbours.get(&name_of_file).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let board = if own { self.board.clone() } else { Board::join(Map::join(file)?)? };
        let readable = |id| Process::readable(id, board.sample());
        let foreign = socket.process_id().and_then(readable);
        let neighbour = Arc::new(Neighbour { process: socket.process(), foreign, board });
        neighbours.retain(|_, neighbour| neighbour.strong_count() > 0);
        neighbours.insert(name_of_file, Arc::downgrade(&neighbour));
        Ok(neighbour)
    }

    #[cfg(test)]
    pub(crate) fn estates(&self) -> usize {
        self.ground().estates()
    }

    fn usage(&self) -> Usage {
        let known = self.neighbours();
        let neighbours = || known.values().filter_map(Weak::upgrade);
        let others = || neighbours().filter(|n| !n.board.is_of(&self.board));
        Usage {
            segment: fstat(self.segment())
                .map_or(0, |status| u64::try_from(status.st_blocks).unwrap_or(0) * BLOCK),
            reserved: self.board.map().len(),
            neighbours: others().count(),
            neighbours_reserved: others().map(|neighbour| neighbour.board.map().len()).sum(),
        }
    }
}

impl Owner for Site {
    /// What was free is zero.
    fn take(&self, len: u64) -> Option<Range> {
        let mut ground = self.ground();
        self.settle(&mut ground);
        ground.take(len)
    }

    fn take_lines(&self, what: &str) -> Result<(Line, Range)> {
        let mut ground = self.ground();
        self.settle(&mut ground);
        let full = || Error::Exhausted { transport: NAME, what: what.to_owned() };
        ground.take_lines().ok_or_else(full)
    }
}

/// Unit in which the memory of a file is told, whatever its file system (stat(2)).
const BLOCK: u64 = 512;

/// What the pools of this process share now.
pub(crate) fn usage() -> Usage {
    let shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
    shared.map_or_else(Usage::default, |site| site.usage())
}
