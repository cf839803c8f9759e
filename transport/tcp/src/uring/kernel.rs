//! What is asked of the kernel through a ring, and the memory that it holds on to meanwhile.
//!
//! All of that memory is this module's own: the buffers into which the kernel receives by itself, and the bytes of
//! small frames that it sends. So no region of anybody has to wait for the kernel.

#![expect(unsafe_code, reason = "memory that the kernel reads and writes on its own")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use crate::memory::Pages;
use crate::region::index;

/// Entries of the submission queue: what is asked for between two system calls.
const SUBMISSIONS: u32 = 128;
/// Entries of the completion queue. The kernel keeps what does not fit.
const COMPLETIONS: u32 = 1024;
/// Buffers that the kernel receives into; a power of two.
const BUFFERS: u16 = 64;
/// Bytes of such a buffer.
const BUFFER: usize = 4 << 10;
/// The group that these buffers are.
const GROUP: u16 = 0;
/// Most registered files; later flows use their descriptor.
const FILES: u32 = 4096;
/// How long the kernel may take to let go of memory that is given up. It takes microseconds, or until the next tick of
/// a thread that began what is cancelled.
const LET_GO: Duration = Duration::from_secs(2);

/// What a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Receiving, again and again.
    Receive,
    /// Waiting for something to read, again and again.
    Readable,
    /// Waiting for room to send.
    Writable,
    /// Sending bytes.
    Send,
    /// Giving up one of the others.
    Cancel,
}

impl Op {
    const ALL: [Self; 5] =
        [Self::Receive, Self::Readable, Self::Writable, Self::Send, Self::Cancel];
}

/// The file of a flow, as the kernel is told it: an entry of the ring's table, or a descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    /// The flow's number; completions carry it.
    pub(super) id: u32,
    number: RawFd,
    flags: squeue::Flags,
}

/// One completion.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) op: Op,
    pub(super) id: u32,
    /// A count of bytes, or why it failed.
    pub(super) result: io::Result<usize>,
    /// Whether more completions of this operation follow.
    pub(super) goes_on: bool,
    /// The buffer that bytes were received into.
    buffer: Option<u16>,
}

/// A ring, and the memory that the kernel may touch through it.
pub(super) struct Kernel {
    ring: IoUring,
    buffers: Option<Buffers>,
    /// By flow: the bytes that the kernel sends.
    flying: Vec<Vec<u8>>,
    /// Operations that may still complete.
    pending: usize,
    /// Length of the table of files.
    files: u32,
}

impl Kernel {
    /// A ring with its buffers.
    ///
    /// # Errors
    /// Why the kernel refuses: it has no rings or not all that is needed (`ENOSYS`, `EINVAL`), does not grant them to
    /// this process (`EPERM`), or has no memory for another one (`ENOMEM`).
    pub(super) fn new() -> io::Result<Self> {
        // Completions are worked off when the thread enters the kernel anyway, or looks at a flag and sees that it
        // should: nothing interrupts it.
        let ring: IoUring = IoUring::builder()
            .dontfork()
            .setup_clamp()
            .setup_cqsize(COMPLETIONS)
            .setup_submit_all()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .build(SUBMISSIONS)?;
        // That the kernel receives again and again cannot be asked for. It came with this operation, in Linux 6.0.
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::SendZc::CODE) {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        let buffers = Buffers::new()?;
        // SAFETY: the pages begin with so many entries, and live until nothing is pending any more (see `Drop`).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(buffers.address(), BUFFERS, GROUP, 0)
        }?;
        // The table may not be longer than the process may have descriptors. Without a table, descriptors do.
        let lengths = [FILES, FILES / 8, FILES / 64];
        let fits = |files: &u32| ring.submitter().register_files_sparse(*files).is_ok();
        let files = lengths.into_iter().find(fits).unwrap_or(0);
        Ok(Self { ring, buffers: Some(buffers), flying: Vec::new(), pending: 0, files })
    }

    /// Readable when completions wait, or when a system call would bring some.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring owns the descriptor, and is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }

    /// Takes on the socket of a flow, which stays open until [`Kernel::forget`].
    pub(super) fn file(&self, id: u32, socket: BorrowedFd<'_>) -> File {
        let number = socket.as_raw_fd();
        let enter = |id: u32| self.ring.submitter().register_files_update(id, &[number]).is_ok();
        match i32::try_from(id) {
            Ok(entry) if id < self.files && enter(id) => {
                File { id, number: entry, flags: squeue::Flags::FIXED_FILE }
            }
            _ => File { id, number, flags: squeue::Flags::empty() },
        }
    }

    /// Lets go of the socket of a flow: as long as it is in the table, closing it does not end the connection.
    pub(super) fn forget(&self, file: File) {
        if file.flags.contains(squeue::Flags::FIXED_FILE) {
            // An entry that was filled can be emptied.
            let _ = self.ring.submitter().register_files_update(file.id, &[-1]);
        }
    }

    /// Receives from a socket into buffers, until it is told otherwise or there are none.
    ///
    /// # Errors
    /// As [`Kernel::enter`]; then nothing was asked for. So it is for all operations.
    pub(super) fn receive(&mut self, file: File) -> io::Result<()> {
        self.push(opcode::RecvMulti::new(Fd(file.number), GROUP).build(), Op::Receive, file)
    }

    /// Tells whenever a socket gets something to read, or ends.
    pub(super) fn readable(&mut self, file: File) -> io::Result<()> {
        let events = u32::from((libc::POLLIN | libc::POLLRDHUP).cast_unsigned());
        let entry = opcode::PollAdd::new(Fd(file.number), events).multi(true).build();
        self.push(entry, Op::Readable, file)
    }

    /// Tells once when a socket takes more.
    pub(super) fn writable(&mut self, file: File) -> io::Result<()> {
        let events = u32::from(libc::POLLOUT.cast_unsigned());
        self.push(opcode::PollAdd::new(Fd(file.number), events).build(), Op::Writable, file)
    }

    /// Sends `bytes`, which [`Kernel::landed`] gives back once this has completed. One at a time for each flow.
    pub(super) fn send(&mut self, file: File, bytes: &mut Vec<u8>) -> io::Result<()> {
        let at = index(file.id);
        if at >= self.flying.len() {
            self.flying.resize_with(at + 1, Vec::new);
        }
        assert!(self.flying[at].is_empty(), "a flow sends one run of bytes at a time");
        let len = u32::try_from(bytes.len()).expect("what is sent at once is bounded");
        // All of it, also when the socket takes only a part at first.
        let send = opcode::Send::new(Fd(file.number), bytes.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL);
        self.push(send.build(), Op::Send, file)?;
        std::mem::swap(&mut self.flying[at], bytes);
        Ok(())
    }

    /// The bytes that were sent, of a send that has completed.
    pub(super) fn landed(&mut self, id: u32) -> &mut Vec<u8> {
        &mut self.flying[index(id)]
    }

    /// Gives up an operation. Its last completion comes soon; it may be a success.
    pub(super) fn cancel(&mut self, file: File, op: Op) -> io::Result<()> {
        let entry = opcode::AsyncCancel::new(user_data(op, file.id)).build();
        self.push_entry(entry.user_data(user_data(Op::Cancel, file.id)))
    }

    fn push(&mut self, entry: squeue::Entry, op: Op, file: File) -> io::Result<()> {
        self.push_entry(entry.flags(file.flags).user_data(user_data(op, file.id)))
    }

    fn push_entry(&mut self, entry: squeue::Entry) -> io::Result<()> {
        if self.ring.submission().is_full() {
            self.enter()?;
        }
        // SAFETY: what the kernel writes are the buffers, and what it reads is in `flying`: both stay until the
        // operation has completed.
        unsafe { self.ring.submission().push(&entry) }.map_err(|_| io::ErrorKind::ResourceBusy)?;
        self.pending += 1;
        Ok(())
    }

    /// Whether entering the kernel would do something.
    pub(super) fn is_due(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// Hands over what was asked for, and lets the kernel work off what it can.
    ///
    /// # Errors
    /// What the kernel says, unless it is to come again.
    pub(super) fn enter(&self) -> io::Result<()> {
        match self.ring.submit() {
            Err(error) if !is_later(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether a completion waits.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// The next completion. Give it to [`Kernel::recycle`] in the end.
    pub(super) fn next(&mut self) -> Option<Done> {
        let entry = self.ring.completion().next()?;
        let goes_on = cqueue::more(entry.flags());
        self.pending -= usize::from(!goes_on);
        let result = usize::try_from(entry.result())
            .map_err(|_| io::Error::from_raw_os_error(-entry.result()));
        let (op, id) = op_and_id(entry.user_data());
        Some(Done { op, id, result, goes_on, buffer: cqueue::buffer_select(entry.flags()) })
    }

    /// The bytes that were received.
    pub(super) fn bytes<'a>(&'a self, done: &Done) -> &'a [u8] {
        match (done.buffer, &done.result, &self.buffers) {
            (Some(buffer), Ok(len), Some(buffers)) => buffers.filled(buffer, *len),
            _ => &[],
        }
    }

    /// Gives the buffer of a completion back to the kernel.
    pub(super) fn recycle(&mut self, done: Done) {
        if let (Some(buffer), Some(buffers)) = (done.buffer, &mut self.buffers) {
            buffers.offer(buffer);
        }
    }

    /// Gives up everything; true when the kernel has let go of all memory.
    fn give_up(&mut self) -> bool {
        let deadline = Instant::now() + LET_GO;
        let pause = Timespec::from(Duration::from_millis(10));
        while self.pending > 0 && Instant::now() < deadline {
            // Nothing to cancel is an error; what counts is what completes.
            let _ = self.ring.submit();
            let _ = self.ring.submitter().register_sync_cancel(Some(pause), CancelBuilder::any());
            while let Some(done) = self.next() {
                self.recycle(done);
            }
        }
        self.pending == 0
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if !self.give_up() {
            // Rather lose memory than let the kernel write into somebody else's.
            std::mem::forget((self.buffers.take(), std::mem::take(&mut self.flying)));
        }
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("pending", &self.pending)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// The buffers that the kernel receives into: first the ring of those that are free, then their bytes.
#[derive(Debug)]
struct Buffers {
    pages: Pages,
    tail: u16,
}

/// Where the bytes of the first buffer begin.
const FIRST: usize = 4 << 10;

impl Buffers {
    fn new() -> io::Result<Self> {
        const { assert!(size_of::<BufRingEntry>() * BUFFERS as usize <= FIRST) };
        let pages = Pages::new(FIRST + usize::from(BUFFERS) * BUFFER)?;
        let mut buffers = Self { pages, tail: 0 };
        (0..BUFFERS).for_each(|buffer| buffers.offer(buffer));
        Ok(buffers)
    }

    /// Where the ring is.
    fn address(&self) -> u64 {
        self.entries().as_ptr().addr() as u64
    }

    fn entries(&self) -> NonNull<BufRingEntry> {
        self.pages.memory().ptr.cast()
    }

    fn bytes(&self, buffer: u16) -> NonNull<u8> {
        self.pages.memory().part(FIRST + usize::from(buffer) * BUFFER, BUFFER).ptr
    }

    /// Adds a buffer to those that are free.
    fn offer(&mut self, buffer: u16) {
        let (bytes, at) = (self.bytes(buffer), usize::from(self.tail % BUFFERS));
        // SAFETY: there are so many entries at the beginning of the pages.
        let mut entry = unsafe { self.entries().add(at) };
        // SAFETY: all bytes of an entry may be zero, as pages are at first. The kernel reads those before the tail
        // only, and gave back the one that this takes the place of.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(bytes.as_ptr().addr() as u64);
        entry.set_len(u32::try_from(BUFFER).expect("a buffer is short"));
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the address is that of the first entry, which is initialized: all bytes of it may be zero.
        let tail = unsafe { BufRingEntry::tail(self.entries().as_ptr()) };
        // SAFETY: the tail is in the pages, aligned, and what this side writes is atomic.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The first bytes of a buffer that the kernel has filled and not got back.
    fn filled(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(len <= BUFFER, "the kernel fills buffers, not more");
        // SAFETY: the bytes are in the pages, which are initialized; the kernel writes there only after `offer`, which
        // borrows these buffers mutably.
        unsafe { std::slice::from_raw_parts(self.bytes(buffer).as_ptr(), len) }
    }
}

fn user_data(op: Op, id: u32) -> u64 {
    (op as u64) << u32::BITS | u64::from(id)
}

#[expect(clippy::cast_possible_truncation, reason = "the two parts that `user_data` put together")]
fn op_and_id(user_data: u64) -> (Op, u32) {
    (Op::ALL[(user_data >> u32::BITS) as usize], user_data as u32)
}

/// Whether the kernel asks to come again.
fn is_later(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}
