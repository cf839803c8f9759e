//! A process's place in a partition of a pool: a member's claim and pulse, and its area, which all communicators of the process
//! share.
//!
//! A member writes its own claim, pulse and area, and in the areas of others only what they have given it; nothing is ever
//! changed by comparing and swapping. So two processes that claim the same member at once may both succeed, and the one
//! whose claim was overwritten finds out at its next beat, and stops: members must be numbered apart, as ranks are.

#![allow(
    clippy::disallowed_types,
    reason = "taken when memory is needed, a peer is met, or the pulse is looked at"
)]

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use dure_transport::proof::random_bytes;
use dure_transport::{Error, Result};

#[cfg(feature = "checker")]
use super::emulated::Plant;
use super::exit::free_claims_at_exit;
use super::greet::Tie;
use super::isa::{self, Isa};
use super::layout::{Layout, Shape};
use super::open::{self, Trouble};
use super::view::{Caches, View};
use super::{Coherence, NAME, Options};
use crate::board::{LINE, Line};
use crate::ground::{Estate, Ground, Owner, Range};
use crate::map::PAGE;
use crate::region::wide;

/// How often a member's pulse beats.
const BEAT: Duration = Duration::from_millis(100);
/// The board takes this part of an area, up to [`MOST_BOARD`].
const PART_OF_AREA: u64 = 64;
/// Bytes of the longest board: a quarter of a million counters.
const MOST_BOARD: u64 = 32 << 20;
/// What a claim holds that is free, and a table that is closed.
pub(super) const NOBODY: u64 = 0;

/// What was last seen of a member.
#[derive(Clone, Copy, Debug)]
struct Pulse {
    beats: u64,
    since: Instant,
}

/// The process's member of a partition.
#[derive(Debug)]
pub(super) struct Seat {
    /// The process that took it. A child that was forked has to take one of its own.
    process: u32,
    pub(super) view: View,
    pub(super) layout: Layout,
    pub(super) partition: u32,
    pub(super) member: u32,
    /// What the claim holds: not [`NOBODY`].
    pub(super) nonce: u64,
    patience: Duration,
    beats: AtomicU64,
    /// Another process has overwritten the claim.
    ousted: AtomicBool,
    ground: Mutex<Ground<Tie>>,
    /// By member: what was last seen of those that were looked at.
    pulses: Mutex<HashMap<u32, Pulse>>,
    /// By member: how many communicators of this process may write in its area.
    writes: Mutex<Vec<u32>>,
    /// Nobody uses it any more.
    ended: AtomicBool,
}

/// A seat as long as communicators use it, and the thread that beats its pulse meanwhile.
#[derive(Debug)]
pub(super) struct Tenancy {
    seat: Arc<Seat>,
    heart: Option<JoinHandle<()>>,
}

/// Those of this process.
static TAKEN: Mutex<Vec<Weak<Tenancy>>> = Mutex::new(Vec::new());

impl Tenancy {
    /// The seat of this process in the pool and partition that the options name: taken now, or before by another communicator.
    ///
    /// # Errors
    /// [`Error::Failed`] with [`Trouble`]: the devices, or another process that has the member. [`Error::Exhausted`]: no such
    /// partition or member.
    pub(super) fn take(options: &Options) -> Result<Arc<Self>> {
        let (devices, layout) = open::open(&options.devices).map_err(failed)?;
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|tenancy| tenancy.strong_count() > 0);
        let same = |seat: &Arc<Self>| {
            seat.process == std::process::id()
                && seat.layout.shape == layout.shape
                && seat.partition == options.partition
        };
        if let Some(known) = taken.iter().filter_map(Weak::upgrade).find(same) {
            return Ok(known);
        }
        layout.check(options.partition, options.member)?;
        let caches = match options.coherence {
            Coherence::Hardware => Caches::Coherent,
            Coherence::Software => {
                Caches::Flushed(Isa::detect().ok_or(Trouble::NoFlush).map_err(failed)?)
            }
        };
        let view = View::map(&devices, &layout, options.partition, caches)?;
        let mut tenancy = Self::claim(view, layout, options)?;
        let seat = Arc::clone(&tenancy.seat);
        let heart =
            thread::Builder::new().name("dure-pulse".to_owned()).spawn(move || beat_on(&seat));
        tenancy.heart = Some(heart.map_err(|source| Error::System { call: "clone", source })?);
        let tenancy = Arc::new(tenancy);
        taken.push(Arc::downgrade(&tenancy));
        free_claims_at_exit();
        Ok(tenancy)
    }

    /// Claims the member that the options name, in a view of its partition. Nothing beats its pulse yet.
    pub(super) fn claim(view: View, layout: Layout, options: &Options) -> Result<Self> {
        Seat::check(&view, &layout, options)?;
        Seat::sit(view, layout, options)
    }
}

/// Frees all claims of this process, which is about to end.
pub(super) fn leave_all() {
    let Ok(taken) = TAKEN.try_lock() else { return };
    for tenancy in taken.iter().filter_map(Weak::upgrade) {
        if tenancy.process == std::process::id() {
            tenancy.ended.store(true, Ordering::Relaxed);
            tenancy.bury(tenancy.member, tenancy.nonce);
        }
    }
}

impl Deref for Tenancy {
    type Target = Seat;

    fn deref(&self) -> &Seat {
        &self.seat
    }
}

impl Drop for Tenancy {
    fn drop(&mut self) {
        let heart = self.heart.take();
        // A forked child leaves its parent's alone, and has no such thread.
        if self.process != std::process::id() {
            return std::mem::forget(heart);
        }
        self.ended.store(true, Ordering::Relaxed);
        if let Some(heart) = heart {
            heart.thread().unpark();
            let ended = heart.join();
            debug_assert!(ended.is_ok(), "nothing panics there");
        }
        self.bury(self.member, self.nonce);
    }
}

impl Seat {
    /// The first half of a claim: whether the member can be had.
    pub(super) fn check(view: &View, layout: &Layout, options: &Options) -> Result<()> {
        let Options { partition, member, patience, take_over, .. } = *options;
        must_be_free(view, layout, (partition, member), patience, take_over)
    }

    /// The second half: writes the claim.
    pub(super) fn sit(view: View, layout: Layout, options: &Options) -> Result<Tenancy> {
        let (partition, member) = (options.partition, options.member);
        let nonce = u64::from_le_bytes(random_bytes()?).max(NOBODY + 1);
        let area = layout.area(member);
        let ground = Ground::new(area, area + board_len(&layout), area + layout.area_len());
        let seat = Arc::new(Self {
            process: std::process::id(),
            view,
            layout,
            partition,
            member,
            nonce,
            patience: options.patience,
            // Another number than that at which the pulse of a former process has stopped.
            beats: AtomicU64::new(nonce),
            ousted: AtomicBool::new(false),
            ground: Mutex::new(ground),
            pulses: Mutex::default(),
            writes: Mutex::new(vec![0; layout.shape.members as usize]),
            ended: AtomicBool::new(false),
        });
        let seat = Tenancy { seat, heart: None };
        let [low, high] = halves(options.job);
        seat.write_claim([nonce, low, high, std::process::id().into()]);
        seat.beat();
        // What a process that died here last said of itself holds no more.
        (0..layout.shape.members).step_by(isa::LINE).for_each(|first| seat.tell_writes(&[], first));
        seat.await_quiet()?;
        Ok(seat)
    }

    /// Waits until nobody writes in this member's area who was a peer of the process that had it before.
    fn await_quiet(&self) -> Result<()> {
        let begin = Instant::now();
        for member in (0..self.layout.shape.members).filter(|member| *member != self.member) {
            let claim = self.layout.claim(self.partition, member);
            while self.writes_here(member)
                && self.view.observe(claim) != NOBODY
                && self.silent_for(member).is_none()
            {
                if begin.elapsed() > self.patience.saturating_mul(4) {
                    return Err(failed(Held::Written(holder(&self.view, claim, member))));
                }
                self.beat();
                thread::park_timeout(BEAT / 100);
            }
        }
        Ok(())
    }

    /// Whether another member says that it may write in this one's area.
    fn writes_here(&self, member: u32) -> bool {
        let at = self.layout.row(self.partition, member) + u64::from(self.member);
        self.view.bytes(at, 1)[0] != 0
    }

    /// One more communicator of this process may write in the area of a member from here on, or (`ends`) may not any more.
    pub(super) fn note_writes(&self, member: u32, ends: bool) {
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let count = &mut writes[member as usize];
        *count = if ends { *count - 1 } else { *count + 1 };
        if *count == u32::from(!ends) {
            self.tell_writes(&writes, member);
        }
    }

    /// Publishes the line of this member's row that a member is in.
    fn tell_writes(&self, writes: &[u32], member: u32) {
        let first = member as usize / isa::LINE * isa::LINE;
        let mut bytes = [0; isa::LINE];
        for (byte, count) in bytes.iter_mut().zip(writes.iter().skip(first)) {
            *byte = u8::from(*count > 0);
        }
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        let at = self.layout.row(self.partition, self.member) + wide(first);
        self.view.publish(at, &words.collect::<Vec<_>>());
    }

    /// Every statement under the lock leaves the ground consistent.
    fn ground(&self) -> MutexGuard<'_, Ground<Tie>> {
        self.ground.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_claim(&self, claim: [u64; 4]) {
        let at = self.layout.claim(self.partition, self.member);
        #[cfg(feature = "checker")]
        if let Some(cache) = self.view.emulated()
            && cache.has(Plant::CompareAndSwap)
        {
            let bytes: Vec<u8> = claim.iter().flat_map(|word| word.to_le_bytes()).collect();
            self.ousted.store(!cache.compare_and_swap(&self.view, at, &bytes), Ordering::Relaxed);
            return;
        }
        self.view.publish(at, &claim);
    }

    /// Where a line of a member's board is in the view.
    pub(super) fn line_at(&self, member: u32, line: u32) -> u64 {
        #[cfg(feature = "checker")]
        if let Some(cache) = self.view.emulated()
            && cache.has(Plant::TwoWritersInOneLine)
        {
            return line_at(&self.layout, member, line & !7) + u64::from(line & 7) * 8;
        }
        line_at(&self.layout, member, line)
    }

    /// Shows that this member lives, and looks whether its claim still stands.
    pub(super) fn beat(&self) {
        let beats = self.beats.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        #[cfg(feature = "checker")]
        if self.view.emulated().is_some_and(|cache| cache.has(Plant::CompareAndSwap)) {
            // Who has swapped believes it.
            return self.view.publish(self.layout.pulse(self.partition, self.member), &[beats]);
        }
        if self.view.observe(self.layout.claim(self.partition, self.member)) == self.nonce {
            self.view.publish(self.layout.pulse(self.partition, self.member), &[beats]);
        } else {
            self.ousted.store(true, Ordering::Relaxed);
        }
    }

    /// Whether another process has taken the member, so that nothing may be written any more.
    pub(super) fn is_ousted(&self) -> bool {
        self.ousted.load(Ordering::Relaxed)
    }

    /// Looks at the pulse of another member: since when it has not beaten, if that is longer than a living one takes.
    pub(super) fn silent_for(&self, member: u32) -> Option<Duration> {
        let beats = self.view.observe(self.layout.pulse(self.partition, member));
        let mut pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let pulse = pulses.entry(member).or_insert(Pulse { beats, since: now });
        if pulse.beats != beats {
            *pulse = Pulse { beats, since: now };
        }
        let silence = now - pulse.since;
        (silence > self.patience).then_some(silence)
    }

    /// Whether the process that claimed a member with this nonce has left, or died: then the member is freed.
    pub(super) fn is_vacated(&self, member: u32, nonce: u64) -> bool {
        if self.silent_for(member).is_some() {
            self.bury(member, nonce);
        }
        self.view.observe(self.layout.claim(self.partition, member)) != nonce
    }

    /// Frees the member of a process that has died, for whoever comes next.
    pub(super) fn bury(&self, member: u32, nonce: u64) {
        let claim = self.layout.claim(self.partition, member);
        if self.view.observe(claim) == nonce {
            self.view.publish(claim, &[NOBODY]);
        }
    }

    /// Frees what nobody writes any more, and the members of those who died meanwhile.
    fn tidy(&self) {
        let mut ground = self.ground();
        self.settle(&mut ground);
    }

    /// Takes over what a communicator leaves.
    pub(super) fn inherit(&self, estate: Estate<Tie>) {
        let mut ground = self.ground();
        ground.inherit(estate);
        self.settle(&mut ground);
    }

    /// Frees what nobody writes any more.
    fn settle(&self, ground: &mut Ground<Tie>) {
        ground.settle(|peer| peer.is_gone(self), |_| ());
    }
}

impl Owner for Seat {
    /// What was free holds whatever was there.
    fn take(&self, len: u64) -> Option<Range> {
        let mut ground = self.ground();
        self.settle(&mut ground);
        ground.take(len)
    }

    fn take_lines(&self, what: &str) -> Result<(Line, Range)> {
        let mut ground = self.ground();
        self.settle(&mut ground);
        let full = || Error::Exhausted { transport: NAME, what: what.to_owned() };
        let (first, range) = ground.take_lines().ok_or_else(full)?;
        self.view.zero(range.at, range.len);
        Ok((first, range))
    }
}

/// Beats the pulse of a seat until nobody uses it.
fn beat_on(seat: &Seat) {
    while !seat.ended.load(Ordering::Relaxed) {
        seat.beat();
        seat.tidy();
        thread::park_timeout(BEAT);
    }
}

/// Waits for a member that another process has; refuses it when it stays so, or, unless told to take it over, when that process
/// has died.
fn must_be_free(
    view: &View,
    layout: &Layout,
    (partition, member): (u32, u32),
    patience: Duration,
    take_over: bool,
) -> Result<()> {
    let (claim, pulse) = (layout.claim(partition, member), layout.pulse(partition, member));
    let begin = Instant::now();
    let (mut beats, mut since) = (view.observe(pulse), begin);
    while view.observe(claim) != NOBODY {
        let holder = holder(view, claim, member);
        let now = Instant::now();
        if std::mem::replace(&mut beats, view.observe(pulse)) != beats {
            since = now;
        }
        if now - begin > patience {
            return match now - since < patience / 2 {
                true => Err(failed(Held::Living(holder))),
                false if take_over => Ok(()),
                false => Err(failed(Held::Dead(holder))),
            };
        }
        thread::park_timeout(BEAT / 10);
    }
    Ok(())
}

/// Whose a claim is that was observed just now.
fn holder(view: &View, claim: u64, member: u32) -> Holder {
    let mut job = [0; 16];
    job[..8].copy_from_slice(&view.peek(claim + 8).to_le_bytes());
    job[8..].copy_from_slice(&view.peek(claim + 16).to_le_bytes());
    Holder { member, job, process: view.peek(claim + 24) }
}

fn halves(job: [u8; 16]) -> [u64; 2] {
    let (low, high) = job.split_at(8);
    [low, high].map(|half| u64::from_le_bytes(half.try_into().expect("eight of sixteen bytes")))
}

/// A process that has claimed a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The member.
    pub member: u32,
    /// The name of its job.
    pub job: [u8; 16],
    /// Its number on its host.
    pub process: u64,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {} of the pool, of process {} of job ", self.member, self.process)?;
        self.job[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a member cannot be claimed.
#[derive(Debug, thiserror::Error)]
enum Held {
    #[error("{0}, still writes in the area that was claimed")]
    Written(Holder),
    #[error(
        "{0}, is in use: take another partition or member (DURE_POOL_PARTITION, DURE_POOL_MEMBER)"
    )]
    Living(Holder),
    #[error(
        "{0}, was left by a process that has died: take it over with DURE_POOL_TAKE_OVER=1, or `dure pool release`"
    )]
    Dead(Holder),
}

/// What became of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody has it.
    Free,
    /// A process that lives.
    Living(Holder),
    /// A process that has died.
    Dead(Holder),
}

/// The pool's shape, and who has which member: by partition, then by member.
///
/// # Errors
/// [`Trouble`] with the devices.
pub fn members(devices: &[PathBuf], patience: Duration) -> Result<(Shape, Vec<Vec<State>>)> {
    let (view, layout) = plain_view(devices)?;
    Ok((layout.shape, states(&view, &layout, patience)))
}

/// Frees the members of a partition whose processes have died. Returns which.
///
/// # Errors
/// [`Trouble`] with the devices; [`Error::Exhausted`] when there is no such partition.
pub fn release(devices: &[PathBuf], partition: u32, patience: Duration) -> Result<Vec<Holder>> {
    let (view, layout) = plain_view(devices)?;
    layout.check(partition, 0)?;
    let states = states(&view, &layout, patience).swap_remove(partition as usize);
    let dead = states.into_iter().filter_map(|state| match state {
        State::Dead(holder) => Some(holder),
        State::Free | State::Living(_) => None,
    });
    let dead: Vec<_> = dead.collect();
    for holder in &dead {
        view.publish(layout.claim(partition, holder.member), &[NOBODY]);
    }
    Ok(dead)
}

/// Who has which member, by partition, then by member.
fn states(view: &View, layout: &Layout, patience: Duration) -> Vec<Vec<State>> {
    let Shape { partitions, members, .. } = layout.shape;
    let entries: Vec<_> = (0..partitions).flat_map(|p| (0..members).map(move |m| (p, m))).collect();
    let pulses: Vec<u64> =
        entries.iter().map(|(p, m)| view.observe(layout.pulse(*p, *m))).collect();
    let lives = |at: usize| view.observe(layout.pulse(entries[at].0, entries[at].1)) != pulses[at];
    let begin = Instant::now();
    let claimed = |at: &usize| view.observe(layout.claim(entries[*at].0, entries[*at].1)) != NOBODY;
    // The living ones show it soon; only where one does not is all the patience needed.
    while begin.elapsed() < patience && !(0..entries.len()).filter(claimed).all(lives) {
        thread::park_timeout(BEAT / 2);
    }
    let state = |at: usize| {
        let (partition, member) = entries[at];
        let claim = layout.claim(partition, member);
        if view.observe(claim) == NOBODY {
            return State::Free;
        }
        let holder = holder(view, claim, member);
        if lives(at) { State::Living(holder) } else { State::Dead(holder) }
    };
    let all: Vec<_> = (0..entries.len()).map(state).collect();
    all.chunks(members as usize).map(<[_]>::to_vec).collect()
}

/// A view for looking at claims: flushed where that can be done.
fn plain_view(devices: &[PathBuf]) -> Result<(View, Layout)> {
    let (devices, layout) = open::open(devices).map_err(failed)?;
    let caches = Isa::detect().map_or(Caches::Coherent, Caches::Flushed);
    Ok((View::map(&devices, &layout, 0, caches)?, layout))
}

/// Bytes of the board at the start of each area.
pub(super) fn board_len(layout: &Layout) -> u64 {
    (layout.area_len() / PART_OF_AREA).min(MOST_BOARD).next_multiple_of(PAGE)
}

/// How many lines each board has.
pub(super) fn board_lines(layout: &Layout) -> u32 {
    u32::try_from(board_len(layout) / LINE).expect("a board has few lines")
}

fn line_at(layout: &Layout, member: u32, line: u32) -> u64 {
    layout.area(member) + u64::from(line) * LINE
}

fn failed(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Failed { transport: NAME, source: Box::new(source) }
}
