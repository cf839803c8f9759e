//! One process of a rehearsal: its control thread's desk, its ranks that join, and its ends of connections.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use dure_tcp::Kind;

use super::post::{Parcel, Sent, Wire};
use super::{PATIENCE, PORT};
use crate::bootstrap::noise::Noise;
use crate::bootstrap::table::Table;
use crate::bootstrap::wire::{self, CheckIn, Member, Packed, Verdict};
use crate::control::{
    Broken, CHECK_IN, Caller, Desk, Entry, Name, Shared, Token, calling_parent, calling_root,
};
use crate::error::{Error, Result};
use crate::unique_id::UniqueId;

/// The root's process.
const ROOT: u32 = 0;

/// A rank that joins.
#[derive(Debug)]
pub(super) struct Seat {
    id: UniqueId,
    /// Until it has reported.
    member: Option<Member>,
    shared: Arc<Shared>,
    /// What it has when it is in: the table of members.
    result: Option<Result<Table>>,
    /// The table, while not all ranks have met.
    table: Option<Table>,
}

impl Seat {
    pub(super) fn new(id: UniqueId, member: Member) -> Self {
        // Nobody sleeps on it: ten thousand ranks of one process would need as many descriptors.
        let shared = Arc::new(Shared::alone(member.rank));
        Self { id, member: Some(member), shared, result: None, table: None }
    }

    fn fail(&mut self, error: Error) {
        self.result.get_or_insert(Err(error.on(self.shared.rank)));
    }
}

/// Whose the end of a connection is.
#[derive(Debug)]
enum Side {
    /// A seat's that has dialled the root.
    Root(usize, Noise),
    /// A seat's that has dialled its parent.
    Parent(usize, u32, Noise),
    /// The desk's.
    Desk(Token),
}

impl Side {
    /// The rank that has dialled.
    fn seat(&self) -> Option<usize> {
        match self {
            Self::Root(index, _) | Self::Parent(index, ..) => Some(*index),
            Self::Desk(_) => None,
        }
    }
}

#[derive(Debug)]
struct End {
    /// The process at the other end.
    peer: u32,
    side: Side,
}

/// See the module.
pub(super) struct Process {
    number: u32,
    size: u32,
    per_process: u32,
    seats: Vec<Seat>,
    agreed: Arc<BTreeMap<String, String>>,
    desk: Desk,
    ends: HashMap<Wire, End>,
    wires: HashMap<Token, Wire>,
    dialled: u64,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Process {
    pub(super) fn new(
        number: u32,
        (size, per_process): (u32, u32),
        seats: Vec<Seat>,
        agreed: Arc<BTreeMap<String, String>>,
    ) -> Self {
        Self {
            number,
            size,
            per_process,
            seats,
            agreed,
            desk: Desk::default(),
            ends: HashMap::new(),
            wires: HashMap::new(),
            dialled: 0,
        }
    }

    /// The ranks report to this process.
    pub(super) fn serve(&mut self, id: &UniqueId) {
        self.desk.serve(*id.control_key().bytes());
    }

    /// Does what a parcel asks for.
    pub(super) fn receive(&mut self, sent: &mut Sent, parcel: Parcel, now: Instant) {
        match parcel {
            Parcel::Start => (0..self.seats.len()).for_each(|index| self.report(sent, index)),
            Parcel::Dial { wire, caller, from } => match self.desk.welcome(caller, now) {
                Some(token) => self.connect(wire, from, token),
                None => sent.push((from, Parcel::Closed { wire: wire.other() })),
            },
            Parcel::Bytes { wire, bytes } => self.bytes(sent, wire, &bytes, now),
            Parcel::Closed { wire } => self.closed(wire, now),
        }
        self.advance();
        self.flush(sent);
    }

    /// Time has passed.
    pub(super) fn expire(&mut self, sent: &mut Sent, now: Instant) {
        self.desk.expire(now);
        self.flush(sent);
    }

    fn connect(&mut self, wire: Wire, peer: u32, token: Token) {
        self.ends.insert(wire, End { peer, side: Side::Desk(token) });
        self.wires.insert(token, wire);
    }

    /// A rank dials the root.
    fn report(&mut self, sent: &mut Sent, index: usize) {
        let seat = &mut self.seats[index];
        let Some(member) = seat.member.take() else { return };
        let (key, shared) = (*seat.id.control_key().bytes(), Arc::clone(&seat.shared));
        let patience = u64::try_from(PATIENCE.as_millis()).expect("a minute");
        let agreed = BTreeMap::clone(&self.agreed);
        let check_in = CheckIn { member, size: self.size, agreed, patience };
        self.desk.enter(&Entry { name: seat.id.name(), key, shared }, self.size);
        let side = Side::Root(index, calling_root(&key, &check_in));
        self.dial(sent, ROOT, (Kind::CheckIn, CHECK_IN), side);
    }

    fn dial(&mut self, sent: &mut Sent, to: u32, (kind, name): (Kind, Name), side: Side) {
        let number = u64::from(self.number) << 32 | self.dialled;
        let wire = Wire { number, dialled: false };
        self.dialled += 1;
        let [_, b, c, d] = self.number.to_be_bytes();
        let from = SocketAddr::from(([10, b, c, d], PORT));
        let rank = side.seat().map_or(0, |index| self.seats[index].shared.rank);
        let caller = Caller { kind, name, rank, from };
        sent.push((to, Parcel::Dial { wire: wire.other(), caller, from: self.number }));
        self.keep(sent, wire, End { peer: to, side });
    }

    /// Sends what an end of a caller has to say, and keeps it for what comes.
    fn keep(&mut self, sent: &mut Sent, wire: Wire, mut end: End) {
        if let Side::Root(_, noise) | Side::Parent(_, _, noise) = &mut end.side {
            let bytes = noise.output().to_vec();
            noise.wrote(bytes.len());
            sent.push((end.peer, Parcel::Bytes { wire: wire.other(), bytes }));
        }
        self.ends.insert(wire, end);
    }

    fn bytes(&mut self, sent: &mut Sent, wire: Wire, bytes: &[u8], now: Instant) {
        let Some(mut end) = self.ends.remove(&wire) else { return };
        let (index, noise) = match &mut end.side {
            Side::Desk(token) => {
                self.desk.receive(*token, bytes, now);
                self.ends.insert(wire, end);
                return;
            }
            Side::Root(index, noise) | Side::Parent(index, _, noise) => (*index, noise),
        };
        if let Err(why) = noise.receive(bytes) {
            return self.seats[index].fail(Error::remote(why.to_string()));
        }
        if let Side::Root(_, noise) = &mut end.side
            && let Some(verdict) = noise.next()
        {
            return self.place(sent, index, &verdict);
        }
        match end.side {
            Side::Parent(_, parent, noise) if noise.is_open() => {
                let shared = &self.seats[index].shared;
                if let Some(token) = self.desk.under(shared, parent, noise) {
                    self.connect(wire, end.peer, token);
                    self.desk.receive(token, &[], now);
                }
            }
            side => self.keep(sent, wire, End { side, ..end }),
        }
    }

    /// The root has answered a rank.
    fn place(&mut self, sent: &mut Sent, index: usize, verdict: &[u8]) {
        let seat = &mut self.seats[index];
        match wire::decode(verdict) {
            Ok(Verdict::Top { table }) => self.desk.top(&seat.shared, table),
            Ok(Verdict::Under { parent }) => {
                let rank = seat.shared.rank;
                let noise = calling_parent(seat.id.control_key().bytes(), rank, parent.rank);
                let (name, side) = (seat.id.name(), Side::Parent(index, parent.rank, noise));
                self.dial(sent, parent.rank / self.per_process, (Kind::Tree, name), side);
            }
            Ok(Verdict::Refused(failure) | Verdict::Complete(failure)) => seat.fail(failure.into()),
            Err(bad) => seat.fail(Error::remote(bad.to_string())),
        }
    }

    fn closed(&mut self, wire: Wire, now: Instant) {
        match self.ends.remove(&wire).map(|end| end.side) {
            Some(Side::Desk(token)) => {
                self.wires.remove(&token);
                self.desk.close(token, &Broken::End, now);
            }
            Some(Side::Root(index, noise)) => {
                let text = if noise.is_open() {
                    "the connection to the root is lost"
                } else {
                    "the root refused the handshake: wrong secret?"
                };
                self.seats[index].fail(Error::remote(text));
            }
            Some(Side::Parent(index, parent, _)) => {
                let text = format!("rank {parent} does not take the link");
                self.seats[index].fail(Error::remote(text).about(parent));
            }
            None => {}
        }
    }

    /// What the threads that join do when there is news for them.
    fn advance(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            for seat in self.seats.iter_mut().filter(|seat| seat.result.is_none()) {
                if let Some(error) = seat.shared.fault.error().cloned() {
                    seat.fail(error);
                }
                let table = seat.shared.state().table.take();
                if table.is_some() {
                    seat.table = table;
                    self.desk.gather(&seat.shared, Packed::default());
                    moved = true;
                }
                if seat.shared.state().gathered.remove(&0).is_some() {
                    seat.result = seat.table.take().map(|table| match table.members(self.size) {
                        Ok(_) => Ok(table),
                        Err(bad) => Err(Error::internal(bad.to_string())),
                    });
                }
            }
        }
    }

    /// Sends what the desk has to say.
    fn flush(&mut self, sent: &mut Sent) {
        while let Some(token) = self.desk.next_touched() {
            let Some(&wire) = self.wires.get(&token) else { continue };
            let Some(peer) = self.ends.get(&wire).map(|end| end.peer) else { continue };
            loop {
                match self.desk.output(token) {
                    None => {
                        self.wires.remove(&token);
                        self.ends.remove(&wire);
                        sent.push((peer, Parcel::Closed { wire: wire.other() }));
                        break;
                    }
                    Some([]) => break,
                    Some(output) => {
                        let bytes = output.to_vec();
                        self.desk.wrote(token, bytes.len());
                        sent.push((peer, Parcel::Bytes { wire: wire.other(), bytes }));
                    }
                }
            }
        }
    }

    /// Each rank's result, as far as there is one.
    pub(super) fn results(&self) -> Vec<(u32, Result<Table>)> {
        let result = |seat: &Seat| Some((seat.shared.rank, seat.result.clone()?));
        self.seats.iter().filter_map(result).collect()
    }

    /// The ranks that each rank has links to.
    #[cfg(test)]
    pub(super) fn links(&self) -> Vec<(u32, std::collections::BTreeSet<u32>)> {
        self.desk.links().collect()
    }

    /// Whether every rank has its result.
    pub(super) fn is_over(&self) -> bool {
        self.seats.iter().all(|seat| seat.result.is_some())
    }
}
