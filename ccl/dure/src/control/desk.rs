//! What the control thread knows and answers, without input or output: connections are numbers, and what comes and goes
//! over them is bytes. [`super::service`] drives it over sockets, [`crate::rehearsal`] over memory.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dure_tcp::Kind;

use super::link::{Broken, purpose};
use super::node::{Node, Token};
use super::shared::Shared;
use super::thread::{Entry, Name};
use crate::bootstrap::noise::{Noise, NoiseError};
use crate::bootstrap::root::Root;
use crate::bootstrap::table::Table;
use crate::bootstrap::wire::{self, Message, Packed, Question};
use crate::error::Error;

/// Connections whose other end has not proven itself. Beyond, the oldest is closed. The ranks of the largest jobs all dial
/// the root at the same moment.
const UNPROVEN: usize = 16 << 10;
/// How long such a connection may take.
const UNPROVEN_FOR: Duration = Duration::from_secs(10);
/// How long a root answers late-comers when the meeting is over.
const LINGER: Duration = Duration::from_secs(60);

/// A root of this process.
struct Meeting {
    key: [u8; 32],
    root: Root,
    /// When it stops answering.
    end: Option<Instant>,
}

struct Connection {
    noise: Noise,
    role: Role,
}

/// Who is at the other end of a connection.
enum Role {
    /// A rank that reports to one of these roots: which, shows when it has spoken.
    Guest { from: SocketAddr, rank: u32, meetings: Vec<u64>, met: Option<u64> },
    /// A rank that wants to be the child of a rank here.
    Child { name: Name },
    /// A neighbour in the tree of a rank here.
    Neighbour { node: u64, rank: u32 },
    /// A rank with a question.
    Asker { name: Name },
    /// Done, but for what is still to be written.
    Done,
}

/// A connection that comes: what it says in clear.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) kind: Kind,
    /// The job; of no meaning for a check-in.
    pub(crate) name: Name,
    pub(crate) rank: u32,
    pub(crate) from: SocketAddr,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Desk {
    meetings: BTreeMap<u64, Meeting>,
    /// Keys of the jobs that ranks here belong to.
    doors: BTreeMap<Name, [u8; 32]>,
    nodes: BTreeMap<u64, Node>,
    connections: BTreeMap<Token, Connection>,
    /// Connections without proof, and until when; in order of both.
    unproven: BTreeMap<Token, Instant>,
    /// Connections that have something to write, or are gone.
    touched: VecDeque<Token>,
    last: u64,
}

impl Desk {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// From now on, receives check-ins for the job with this key.
    pub(crate) fn serve(&mut self, key: [u8; 32]) {
        // An agreed place may serve one job after the other.
        self.meetings.retain(|_, meeting| meeting.key != key || !meeting.root.is_over());
        let number = self.number();
        self.meetings.insert(number, Meeting { key, root: Root::default(), end: None });
    }

    /// A rank of this process is about to join a job.
    pub(crate) fn enter(&mut self, entry: &Entry, size: u32) {
        self.doors.insert(entry.name, entry.key);
        let number = self.number();
        self.nodes.insert(number, Node::new(entry, size));
    }

    /// Whether ranks here belong to a job.
    pub(crate) fn has_door(&self, name: Name) -> bool {
        self.doors.contains_key(&name)
    }

    /// The number of a rank. One that is gone already needs nothing any more.
    fn find(&self, shared: &Arc<Shared>) -> Option<u64> {
        let mut nodes = self.nodes.iter();
        nodes.find(|(_, node)| Arc::ptr_eq(&node.shared, shared)).map(|(&number, _)| number)
    }

    fn on_node(&mut self, shared: &Arc<Shared>, act: impl FnOnce(&mut Node)) {
        let Some(number) = self.find(shared) else { return };
        if let Some(node) = self.nodes.get_mut(&number) {
            act(node);
        }
        self.settle(number);
    }

    /// A rank is the top of the tree, and has the table.
    pub(crate) fn top(&mut self, shared: &Arc<Shared>, table: Packed) {
        self.on_node(shared, |node| node.tree.table(Table::new(table)));
    }

    /// A rank has a link to its parent. `None` when the rank is gone.
    pub(crate) fn under(
        &mut self,
        shared: &Arc<Shared>,
        parent: u32,
        noise: Noise,
    ) -> Option<Token> {
        let node = self.find(shared)?;
        let token = self.number();
        let role = Role::Neighbour { node, rank: parent };
        self.connections.insert(token, Connection { noise, role });
        self.join(node, parent, token);
        Some(token)
    }

    /// A rank gives to a gather.
    pub(crate) fn gather(&mut self, shared: &Arc<Shared>, part: Packed) {
        self.on_node(shared, |node| _ = node.tree.gather(part));
    }

    /// A rank says that the communicator is broken.
    pub(crate) fn raise(&mut self, shared: &Arc<Shared>, error: &Error) {
        self.on_node(shared, |node| node.tree.raise(error));
    }

    /// A rank says goodbye.
    pub(crate) fn leave(&mut self, shared: &Arc<Shared>) {
        self.on_node(shared, |node| node.tree.leave());
    }

    /// A rank did not get in.
    pub(crate) fn forget(&mut self, shared: &Arc<Shared>) {
        if let Some(number) = self.find(shared) {
            self.remove(number);
        }
    }

    /// A link to a neighbour is up.
    fn join(&mut self, number: u64, neighbour: u32, token: Token) {
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.noise.set_limit(wire::LONG);
        }
        if let Some(node) = self.nodes.get_mut(&number) {
            node.links.insert(neighbour, token);
            node.tree.linked(neighbour);
        }
        self.settle(number);
    }

    /// A connection came. `None` when nobody here wants it.
    pub(crate) fn welcome(&mut self, caller: Caller, now: Instant) -> Option<Token> {
        let Caller { kind, name, rank, from } = caller;
        let (keys, role) = match kind {
            Kind::CheckIn => {
                let meetings = self.meetings.keys().copied().collect();
                let keys = self.meetings.values().map(|meeting| meeting.key).collect();
                (keys, Role::Guest { from, rank, meetings, met: None })
            }
            Kind::Tree => (vec![*self.doors.get(&name)?], Role::Child { name }),
            Kind::Query => (vec![*self.doors.get(&name)?], Role::Asker { name }),
            // The inboxes of data connections are the transport's.
            Kind::Data => return None,
        };
        if self.unproven.len() >= UNPROVEN
            && let Some((oldest, _)) = self.unproven.pop_first()
        {
            self.drop_connection(oldest);
        }
        let token = self.number();
        let noise = Noise::listener(keys, purpose(kind), wire::SHORT);
        self.connections.insert(token, Connection { noise, role });
        self.unproven.insert(token, now + UNPROVEN_FOR);
        Some(token)
    }

    fn drop_connection(&mut self, token: Token) -> Option<Connection> {
        self.touched.push_back(token);
        self.connections.remove(&token)
    }

    /// Bytes came over a connection; or none, to look at messages that came with its handshake. Messages before a fault
    /// count. False when the connection is closed.
    pub(crate) fn receive(&mut self, token: Token, bytes: &[u8], now: Instant) -> bool {
        let Some(connection) = self.connections.get_mut(&token) else { return false };
        let received = connection.noise.receive(bytes);
        self.touched.push_back(token);
        while let Some(connection) = self.connections.get_mut(&token) {
            let Some(message) = connection.noise.next() else { break };
            if let Err(why) = self.message(token, &message, now) {
                self.close(token, &why, now);
                return false;
            }
        }
        if let Err(why) = received {
            self.close(token, &why.into(), now);
        }
        self.connections.contains_key(&token)
    }

    fn message(&mut self, token: Token, bytes: &[u8], now: Instant) -> Result<(), Broken> {
        const BROKEN: Broken = Broken::Noise(NoiseError::Broken);
        let Some(connection) = self.connections.get_mut(&token) else { return Ok(()) };
        self.unproven.remove(&token);
        match &mut connection.role {
            Role::Guest { from, meetings, met, .. } => {
                let number = connection.noise.key().and_then(|index| meetings.get(index)).copied();
                let number = number.filter(|_| met.is_none()).ok_or(BROKEN)?;
                *met = Some(number);
                let from = *from;
                if let Some(meeting) = self.meetings.get_mut(&number) {
                    meeting.root.check_in(token, from, bytes, now);
                }
                self.answer(number, now);
            }
            Role::Child { name } => {
                let name = *name;
                let link = wire::decode(bytes).map_err(|_| BROKEN)?;
                let Message::Link { from, to } = link else { return Err(BROKEN) };
                // The newest first: an agreed place may serve one job after the other.
                let mut nodes = self.nodes.iter().rev();
                let node = nodes.find(|(_, node)| {
                    node.name == name && node.shared.rank == to && node.tree.awaits(from)
                });
                let (&node, _) = node.ok_or(Broken::End)?;
                connection.role = Role::Neighbour { node, rank: from };
                self.join(node, from, token);
            }
            Role::Neighbour { node, rank } => {
                let (number, rank) = (*node, *rank);
                let message = wire::decode(bytes).map_err(|_| BROKEN)?;
                if let Some(node) = self.nodes.get_mut(&number) {
                    node.tree.received(rank, message).map_err(|_| BROKEN)?;
                }
                self.settle(number);
            }
            Role::Asker { name } => {
                let question: Question = wire::decode(bytes).map_err(|_| BROKEN)?;
                let asked = |node: &&Node| node.name == *name && node.shared.rank == question.rank;
                let node = self.nodes.values().rev().find(asked).ok_or(Broken::End)?;
                let answer = node.shared.answer(question.sequence);
                connection.noise.send(&wire::encode(&answer));
                connection.role = Role::Done;
            }
            Role::Done => {}
        }
        Ok(())
    }

    /// Sends what a root has to say.
    fn answer(&mut self, number: u64, now: Instant) {
        let Some(meeting) = self.meetings.get_mut(&number) else { return };
        while let Some((token, verdict)) = meeting.root.take_answer() {
            if let Some(connection) = self.connections.get_mut(&token) {
                connection.noise.send(&wire::encode(&verdict));
                connection.role = Role::Done;
                self.touched.push_back(token);
            }
        }
        if meeting.root.is_over() && meeting.end.is_none() {
            meeting.end = Some(now + LINGER);
        }
    }

    /// Sends what a rank's tree has to say, and tells the rank what is new.
    fn settle(&mut self, number: u64) {
        self.look_for_table(number);
        let Some(node) = self.nodes.get_mut(&number) else { return };
        let table = node.tell();
        while let Some((neighbour, message)) = node.tree.take_message() {
            let token = node.links.get(&neighbour).copied();
            if let Some((token, connection)) =
                token.and_then(|token| Some((token, self.connections.get_mut(&token)?)))
            {
                connection.noise.send(&wire::encode(&message));
                self.touched.push_back(token);
            }
        }
        let (name, done) = (node.name, node.tree.is_done());
        if let Some(table) = table {
            self.hand_out(name, &table);
        }
        if done {
            self.remove(number);
        }
    }

    /// A rank's parent may have announced the table. When another rank of this process has it, it is taken from there;
    /// when another one has asked for it, that one will hand it out; else this rank asks.
    fn look_for_table(&mut self, number: u64) {
        let Some(node) = self.nodes.get(&number) else { return };
        let Some(digest) = node.tree.announced().filter(|_| !node.tree.has_asked()) else { return };
        let (mut table, mut asked) = (None, false);
        for other in self.nodes.values().filter(|other| other.name == node.name) {
            table = table.or_else(|| other.tree.known_table().filter(|t| t.digest() == digest));
            asked |= other.tree.announced() == Some(digest) && other.tree.has_asked();
        }
        let table = table.cloned();
        let Some(node) = self.nodes.get_mut(&number) else { return };
        match table {
            Some(table) => node.tree.table(table),
            None if asked => {}
            None => node.tree.ask_for_table(),
        }
    }

    /// Gives a table that came to the ranks of this process that wait for it.
    fn hand_out(&mut self, name: Name, table: &Table) {
        let waits =
            |node: &Node| node.name == name && node.tree.announced() == Some(table.digest());
        let waiting: Vec<u64> =
            self.nodes.iter().filter(|(_, node)| waits(node)).map(|(&number, _)| number).collect();
        for number in waiting {
            if let Some(node) = self.nodes.get_mut(&number) {
                node.tree.table(table.clone());
            }
            self.settle(number);
        }
    }

    /// The next connection that has something to write, or is gone: see [`Desk::output`].
    pub(crate) fn next_touched(&mut self) -> Option<Token> {
        self.touched.pop_front()
    }

    /// What is to be written to a connection; `None` when it is to be closed.
    pub(crate) fn output(&mut self, token: Token) -> Option<&[u8]> {
        let connection = self.connections.get(&token)?;
        if matches!(connection.role, Role::Done) && connection.noise.output().is_empty() {
            self.connections.remove(&token);
        }
        self.connections.get(&token).map(|connection| connection.noise.output())
    }

    /// So many bytes of [`Desk::output`] are written.
    pub(crate) fn wrote(&mut self, token: Token, bytes: usize) {
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.noise.wrote(bytes);
        }
    }

    /// A connection is of no use any more.
    pub(crate) fn close(&mut self, token: Token, why: &Broken, now: Instant) {
        self.unproven.remove(&token);
        let Some(Connection { role, .. }) = self.drop_connection(token) else { return };
        match role {
            Role::Guest { met: Some(number), .. } => {
                if let Some(meeting) = self.meetings.get_mut(&number) {
                    meeting.root.lost(token, now);
                }
                self.answer(number, now);
            }
            Role::Guest { from, rank, met: None, .. }
                if matches!(why, Broken::Noise(NoiseError::WrongKey)) =>
            {
                for meeting in self.meetings.values_mut() {
                    meeting.root.refused(from, rank, "wrong secret");
                }
            }
            Role::Neighbour { node: number, rank } => {
                if let Some(node) = self.nodes.get_mut(&number) {
                    node.links.remove(&rank);
                    node.tree.lost(rank, &why.to_string());
                }
                self.settle(number);
            }
            Role::Guest { .. } | Role::Child { .. } | Role::Asker { .. } | Role::Done => {}
        }
    }

    /// Forgets a rank, with its links, and its job's door when it was the last one.
    fn remove(&mut self, number: u64) {
        let Some(node) = self.nodes.remove(&number) else { return };
        for (_, token) in node.links {
            if let Some(connection) = self.connections.get_mut(&token) {
                connection.role = Role::Done;
                self.touched.push_back(token);
            }
        }
        if self.nodes.values().all(|other| other.name != node.name) {
            self.doors.remove(&node.name);
        }
    }

    /// The ranks here, and whom they have links to.
    #[cfg(test)]
    pub(crate) fn links(&self) -> impl Iterator<Item = (u32, std::collections::BTreeSet<u32>)> {
        self.nodes.values().map(|node| (node.shared.rank, node.links.keys().copied().collect()))
    }

    /// When [`Desk::expire`] has to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let meetings =
            self.meetings.values().filter_map(|meeting| meeting.root.deadline().or(meeting.end));
        meetings.chain(self.unproven.values().next().copied()).min()
    }

    /// Time has passed.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(oldest) = self.unproven.first_entry().filter(|entry| *entry.get() <= now) {
            let (token, _) = oldest.remove_entry();
            self.close(token, &Broken::Late, now);
        }
        let due: Vec<u64> = self.meetings.keys().copied().collect();
        for number in due {
            if let Some(meeting) = self.meetings.get_mut(&number) {
                meeting.root.expire(now);
            }
            self.answer(number, now);
        }
        self.meetings.retain(|_, meeting| meeting.end.is_none_or(|end| end > now));
    }
}
