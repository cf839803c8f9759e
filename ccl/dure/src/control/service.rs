//! What the control thread does: it waits for connections, messages and orders, and drives the state machines of
//! [`crate::bootstrap`]. It never waits for anything in particular, and sleeps when nothing happens.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dure_tcp::{Inbox, Incoming, Kind, Port};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::link::{Broken, Link, purpose};
use super::node::{Door, Node, Token};
use super::shared::Shared;
use super::thread::{Command, Entry, Name, Order, Orders, Place};
use crate::bootstrap::noise::{Noise, NoiseError};
use crate::bootstrap::root::Root;
use crate::bootstrap::wire::{self, Message, Question};
use crate::error::{Error, Result};

/// Marks events of bells: orders, ports, inboxes. Connections are marked with numbers from 1.
const BELL: Token = 0;
/// Check-ins name no job: who does not know the secret could not name it right, and the root wants to tell that rank
/// what is wrong. The keys of the roots in this process are tried instead.
pub(super) const CHECK_IN: Name = *b"dure check-in 1\0";
/// How often a connection that takes nothing any more is read, a turn's worth each time.
const LAST_READS: usize = 64;
/// Connections whose other end has not proven itself. Beyond, the oldest is closed.
const UNPROVEN: usize = 4096;
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

/// A port that this thread turns, and where its check-ins arrive.
struct Gate {
    port: Arc<Port>,
    check_in: Inbox,
}

struct Connection {
    link: Link,
    role: Role,
    /// Whether the set of events includes room to write.
    watches_write: bool,
}

/// Who is at the other end of a connection.
enum Role {
    /// A rank that reports to one of these roots: which, shows when it has spoken.
    Guest { from: std::net::SocketAddr, rank: u32, meetings: Vec<u64>, met: Option<u64> },
    /// A rank that wants to be the child of a rank here.
    Child { name: Name },
    /// A neighbour in the tree of a rank here.
    Neighbour { node: u64, rank: u32 },
    /// A rank with a question.
    Asker { name: Name },
    /// Done, but for what is still to be written.
    Done,
}

/// See the module.
pub(super) struct Service {
    epoll: Epoll,
    orders: Arc<Orders>,
    gates: Vec<Gate>,
    meetings: BTreeMap<u64, Meeting>,
    doors: BTreeMap<Name, Door>,
    nodes: BTreeMap<u64, Node>,
    connections: BTreeMap<Token, Connection>,
    /// Connections without proof, and until when; in order of both.
    unproven: BTreeMap<Token, Instant>,
    next: u64,
}

impl Service {
    pub(super) fn new(orders: Arc<Orders>) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|source| Error::system("epoll_create1").because(source))?;
        let this = Self {
            epoll,
            orders,
            gates: Vec::new(),
            meetings: BTreeMap::new(),
            doors: BTreeMap::new(),
            nodes: BTreeMap::new(),
            connections: BTreeMap::new(),
            unproven: BTreeMap::new(),
            next: 1,
        };
        this.watch_bell(this.orders.doorbell())?;
        Ok(this)
    }

    pub(super) fn run(mut self) {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let ready = self.epoll.wait(&mut events, self.timeout()).unwrap_or(0);
            if events[..ready].iter().any(|event| event.data() == BELL) {
                self.bells();
            }
            for event in events[..ready].iter().filter(|event| event.data() != BELL) {
                self.ready(event.data());
            }
            self.expire(Instant::now());
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let meetings =
            self.meetings.values().filter_map(|meeting| meeting.root.deadline().or(meeting.end));
        let unproven = self.unproven.values().next().copied();
        let Some(next) = meetings.chain(unproven).min() else { return EpollTimeout::NONE };
        // Rounded up, so that the last millisecond is not spent in a loop.
        let left = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
    }

    fn watch_bell(&self, bell: BorrowedFd<'_>) -> Result<()> {
        let watched = self.epoll.add(bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL));
        watched.map_err(|source| Error::system("epoll_ctl").because(source))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Some bell rang. There are few, and each is cheap to look at.
    fn bells(&mut self) {
        for Order { command, done } in self.orders.take() {
            done.set(self.obey(command));
        }
        let mut came: Vec<(Incoming, Name)> = Vec::new();
        for gate in &self.gates {
            gate.port.turn();
            came.extend(
                std::iter::from_fn(|| gate.check_in.try_take())
                    .map(|incoming| (incoming, CHECK_IN)),
            );
        }
        for (&name, door) in &self.doors {
            let next = || door.tree.try_take().or_else(|| door.query.try_take());
            came.extend(std::iter::from_fn(next).map(|incoming| (incoming, name)));
        }
        for (incoming, name) in came {
            self.welcome(incoming, name);
        }
    }

    fn obey(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Serve { key, port } => {
                self.open_gate(&port)?;
                // An agreed place may serve one job after the other.
                self.meetings.retain(|_, meeting| meeting.key != key || !meeting.root.is_over());
                let number = self.number();
                self.meetings.insert(number, Meeting { key, root: Root::default(), end: None });
            }
            Command::Enter { entry, size, port } => {
                self.open_gate(&port)?;
                self.open_door(&entry, &port)?;
                let number = self.number();
                self.nodes.insert(number, Node::new(&entry, size));
            }
            Command::Take { shared, place } => {
                self.on_node(&shared, |service, number| service.place(number, place))?
            }
            Command::Gather { shared, bytes } => {
                self.on_tree(&shared, |node| _ = node.tree.gather(&bytes))?
            }
            Command::Raise { shared, error } => {
                self.on_tree(&shared, |node| node.tree.raise(&error))?
            }
            Command::Leave { shared } => self.on_tree(&shared, |node| node.tree.leave())?,
            Command::Forget { shared } => self.on_node(&shared, |service, number| {
                service.remove(number);
                Ok(())
            })?,
        }
        Ok(())
    }

    /// A port is turned from its first use on.
    fn open_gate(&mut self, port: &Arc<Port>) -> Result<()> {
        if self.gates.iter().any(|gate| Arc::ptr_eq(&gate.port, port)) {
            return Ok(());
        }
        let system = |source| Error::system("eventfd").because(source);
        let check_in = port.register(CHECK_IN, Kind::CheckIn).map_err(system)?;
        self.watch_bell(port.doorbell())?;
        self.watch_bell(check_in.doorbell())?;
        self.gates.push(Gate { port: Arc::clone(port), check_in });
        Ok(())
    }

    /// Several ranks of one job in this process share a door.
    fn open_door(&mut self, entry: &Entry, port: &Arc<Port>) -> Result<()> {
        if !self.doors.contains_key(&entry.name) {
            let door = Door::open(entry, port)?;
            self.watch_bell(door.tree.doorbell())?;
            self.watch_bell(door.query.doorbell())?;
            self.doors.insert(entry.name, door);
        }
        Ok(())
    }

    fn find(&self, shared: &Arc<Shared>) -> Option<u64> {
        let mut nodes = self.nodes.iter();
        nodes.find(|(_, node)| Arc::ptr_eq(&node.shared, shared)).map(|(&number, _)| number)
    }

    /// A rank that is gone already needs nothing any more.
    fn on_node(
        &mut self,
        shared: &Arc<Shared>,
        act: impl FnOnce(&mut Self, u64) -> Result<()>,
    ) -> Result<()> {
        self.find(shared).map_or(Ok(()), |number| act(self, number))
    }

    fn on_tree(&mut self, shared: &Arc<Shared>, act: impl FnOnce(&mut Node)) -> Result<()> {
        self.on_node(shared, |service, number| {
            if let Some(node) = service.nodes.get_mut(&number) {
                act(node);
            }
            service.settle(number);
            Ok(())
        })
    }

    fn place(&mut self, number: u64, place: Place) -> Result<()> {
        match place {
            Place::Top(table) => {
                self.nodes
                    .get_mut(&number)
                    .into_iter()
                    .for_each(|node| node.tree.table(table.clone()));
                self.settle(number);
            }
            Place::Under(parent, link) => {
                let token = self.connect(*link, Role::Neighbour { node: number, rank: parent })?;
                self.join(number, parent, token);
                // What came with the handshake raises no event.
                self.ready(token);
            }
        }
        Ok(())
    }

    /// A link to a neighbour is up.
    fn join(&mut self, number: u64, neighbour: u32, token: Token) {
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.link.noise.set_limit(wire::LONG);
            if let Err(error) = connection.link.keep_alive() {
                tracing::warn!(target: "dure::net", %error, "cannot watch for hosts that vanish");
            }
        }
        if let Some(node) = self.nodes.get_mut(&number) {
            node.links.insert(neighbour, token);
            node.tree.linked(neighbour);
        }
        self.settle(number);
    }

    fn connect(&mut self, link: Link, role: Role) -> Result<Token> {
        let token = self.number();
        self.epoll
            .add(&link, EpollEvent::new(EpollFlags::EPOLLIN, token))
            .map_err(|source| Error::system("epoll_ctl").because(source))?;
        self.connections.insert(token, Connection { link, role, watches_write: false });
        Ok(token)
    }

    /// A connection came.
    fn welcome(&mut self, incoming: Incoming, name: Name) {
        let Incoming { stream, kind, rank, from } = incoming;
        let (keys, role) = match kind {
            Kind::CheckIn => {
                let meetings = self.meetings.keys().copied().collect();
                let keys = self.meetings.values().map(|meeting| meeting.key).collect();
                (keys, Role::Guest { from, rank, meetings, met: None })
            }
            Kind::Tree | Kind::Query => {
                let Some(door) = self.doors.get(&name) else { return };
                let role =
                    if kind == Kind::Tree { Role::Child { name } } else { Role::Asker { name } };
                (vec![door.key], role)
            }
            // The inboxes of data connections are the transport's.
            Kind::Data => return,
        };
        let noise = Noise::listener(keys, purpose(kind), wire::SHORT);
        if self.unproven.len() >= UNPROVEN
            && let Some((oldest, _)) = self.unproven.pop_first()
        {
            self.connections.remove(&oldest);
        }
        match self.connect(Link::new(stream, noise), role) {
            Ok(token) => _ = self.unproven.insert(token, Instant::now() + UNPROVEN_FOR),
            Err(error) => {
                tracing::warn!(target: "dure::net", error = error.chain(), "dropped a connection")
            }
        }
    }

    /// A connection can be read or written.
    fn ready(&mut self, token: Token) {
        match self.receive(token) {
            None => {}
            Some(Ok(())) => self.write(token),
            Some(Err(why)) => self.close(token, &why),
        }
    }

    /// Reads what is there, and does what it says. `None` when the connection is closed by that.
    fn receive(&mut self, token: Token) -> Option<std::result::Result<(), Broken>> {
        let read = self.connections.get_mut(&token)?.link.read();
        while let Some(message) = self.connections.get_mut(&token)?.link.noise.next() {
            if let Err(why) = self.message(token, &message) {
                self.close(token, &why);
                return None;
            }
        }
        Some(read)
    }

    /// The other end takes nothing any more. What it said before counts: that may be its goodbye.
    fn hear_out(&mut self, token: Token, why: &Broken) {
        for _ in 0..LAST_READS {
            match self.receive(token) {
                None => return,
                Some(Ok(())) => {}
                Some(Err(_)) => break,
            }
        }
        self.close(token, why);
    }

    fn message(&mut self, token: Token, bytes: &[u8]) -> std::result::Result<(), Broken> {
        let broken = |_| Broken::Noise(NoiseError::Broken);
        let Some(connection) = self.connections.get_mut(&token) else { return Ok(()) };
        self.unproven.remove(&token);
        match &mut connection.role {
            Role::Guest { from, meetings, met, .. } => {
                let number =
                    connection.link.noise.key().and_then(|index| meetings.get(index)).copied();
                let number =
                    number.filter(|_| met.is_none()).ok_or(Broken::Noise(NoiseError::Broken))?;
                *met = Some(number);
                let from = *from;
                if let Some(meeting) = self.meetings.get_mut(&number) {
                    meeting.root.check_in(token, from, bytes, Instant::now());
                }
                self.answer(number);
            }
            Role::Child { name } => {
                let name = *name;
                let Message::Link { from, to } = wire::decode(bytes).map_err(broken)? else {
                    return Err(Broken::Noise(NoiseError::Broken));
                };
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
                let message = wire::decode(bytes).map_err(broken)?;
                if let Some(node) = self.nodes.get_mut(&number) {
                    node.tree.received(rank, message).map_err(broken)?;
                }
                self.settle(number);
            }
            Role::Asker { name } => {
                let question: Question = wire::decode(bytes).map_err(broken)?;
                let asked = |node: &&Node| node.name == *name && node.shared.rank == question.rank;
                let node = self.nodes.values().rev().find(asked).ok_or(Broken::End)?;
                let answer = node.shared.answer(question.sequence);
                connection.link.noise.send(&wire::encode(&answer));
                connection.role = Role::Done;
            }
            Role::Done => {}
        }
        Ok(())
    }

    /// Sends what a root has to say.
    fn answer(&mut self, number: u64) {
        let Some(meeting) = self.meetings.get_mut(&number) else { return };
        let mut told = Vec::new();
        while let Some((token, verdict)) = meeting.root.take_answer() {
            if let Some(connection) = self.connections.get_mut(&token) {
                connection.link.noise.send(&wire::encode(&verdict));
                connection.role = Role::Done;
                told.push(token);
            }
        }
        if meeting.root.is_over() && meeting.end.is_none() {
            meeting.end = Some(Instant::now() + LINGER);
        }
        for token in told {
            self.write(token);
        }
    }

    /// Sends what a rank's tree has to say, and tells the rank what is new.
    fn settle(&mut self, number: u64) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        node.tell();
        let mut told = Vec::new();
        while let Some((neighbour, message)) = node.tree.take_message() {
            let token = node.links.get(&neighbour).copied();
            if let Some((token, connection)) =
                token.and_then(|token| Some((token, self.connections.get_mut(&token)?)))
            {
                connection.link.noise.send(&wire::encode(&message));
                told.push(token);
            }
        }
        let done = node.tree.is_done();
        for token in told {
            self.write(token);
        }
        if done {
            self.remove(number);
        }
    }

    /// Writes what can be written now, and watches for room when that is not all.
    fn write(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if let Err(why) = connection.link.write() {
            return self.hear_out(token, &why);
        }
        let wants = connection.link.wants_write();
        if matches!(connection.role, Role::Done) && !wants {
            self.connections.remove(&token);
        } else if wants != connection.watches_write {
            connection.watches_write = wants;
            let write = if wants { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
            let mut event = EpollEvent::new(EpollFlags::EPOLLIN | write, token);
            self.epoll
                .modify(&connection.link, &mut event)
                .expect("the connection is in the set while it is kept");
        }
    }

    /// A connection is of no use any more.
    fn close(&mut self, token: Token, why: &Broken) {
        self.unproven.remove(&token);
        let Some(Connection { role, .. }) = self.connections.remove(&token) else { return };
        match role {
            Role::Guest { met: Some(number), .. } => {
                self.meetings
                    .get_mut(&number)
                    .into_iter()
                    .for_each(|meeting| meeting.root.lost(token, Instant::now()));
                self.answer(number);
            }
            Role::Guest { from, rank, met: None, .. }
                if matches!(why, Broken::Noise(NoiseError::WrongKey)) =>
            {
                self.meetings
                    .values_mut()
                    .for_each(|meeting| meeting.root.refused(from, rank, "wrong secret"));
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
                self.write(token);
            }
        }
        if self.nodes.values().all(|other| other.name != node.name) {
            self.doors.remove(&node.name);
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some(oldest) = self.unproven.first_entry().filter(|entry| *entry.get() <= now) {
            let (token, _) = oldest.remove_entry();
            self.close(token, &Broken::Late);
        }
        let due: Vec<u64> = self.meetings.keys().copied().collect();
        for number in due {
            self.meetings.get_mut(&number).into_iter().for_each(|meeting| meeting.root.expire(now));
            self.answer(number);
        }
        self.meetings.retain(|_, meeting| meeting.end.is_none_or(|end| end > now));
    }
}
