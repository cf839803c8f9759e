//! The control thread's loop: it waits for connections, bytes and orders, and carries them to and from the
//! [`Desk`], which knows what they mean. It never waits for anything in particular, and sleeps when nothing happens.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dure_tcp::{Inbox, Incoming, Kind, Port};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::desk::{Caller, Desk};
use super::link::{self, Broken, Link};
use super::node::{Door, Token};
use super::shared::Shared;
use super::thread::{Command, Entry, Name, Order, Orders, Place};
use crate::error::{Error, Result};

/// Marks events of bells: orders, ports, inboxes. Connections are marked with numbers from 1.
const BELL: Token = 0;
/// Check-ins name no job: who does not know the secret could not name it right, and the root wants to tell that rank
/// what is wrong. The keys of the roots in this process are tried instead.
pub(crate) const CHECK_IN: Name = *b"dure check-in 1\0";
/// How often a connection that takes nothing any more is read, a turn's worth each time.
const LAST_READS: usize = 64;

/// A port that this thread turns, and where its check-ins arrive.
struct Gate {
    port: Arc<Port>,
    check_in: Inbox,
}

struct Socket {
    stream: TcpStream,
    /// Whether the set of events includes room to write.
    watches_write: bool,
}

/// See the module.
pub(super) struct Service {
    epoll: Epoll,
    orders: Arc<Orders>,
    gates: Vec<Gate>,
    doors: BTreeMap<Name, Door>,
    desk: Desk,
    /// The desk's connections.
    sockets: BTreeMap<Token, Socket>,
}

impl Service {
    pub(super) fn new(orders: Arc<Orders>) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|source| Error::system("epoll_create1").because(source))?;
        let (gates, doors) = (Vec::new(), BTreeMap::new());
        let (desk, sockets) = (Desk::default(), BTreeMap::new());
        let this = Self { epoll, orders, gates, doors, desk, sockets };
        this.watch(this.orders.doorbell(), BELL)?;
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
            self.desk.expire(Instant::now());
            self.flush();
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let Some(next) = self.desk.deadline() else { return EpollTimeout::NONE };
        // Rounded up, so that the last millisecond is not spent in a loop.
        let left = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
    }

    fn watch(&self, readable: BorrowedFd<'_>, token: Token) -> Result<()> {
        let watched = self.epoll.add(readable, EpollEvent::new(EpollFlags::EPOLLIN, token));
        watched.map_err(|source| Error::system("epoll_ctl").because(source))
    }

    /// Some bell rang. There are few, and each is cheap to look at.
    fn bells(&mut self) {
        for Order { command, done } in self.orders.take() {
            let result = self.obey(command);
            // Whoever waits for the order counts on its being on the way.
            self.flush();
            done.set(result);
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
                self.desk.serve(key);
            }
            Command::Enter { entry, size, port } => {
                self.open_gate(&port)?;
                self.open_door(&entry, &port)?;
                self.desk.enter(&entry, size);
            }
            Command::Take { shared, place } => self.place(&shared, place)?,
            Command::Gather { shared, part } => self.desk.gather(&shared, part),
            Command::Raise { shared, error } => self.desk.raise(&shared, &error),
            Command::Leave { shared } => self.desk.leave(&shared),
            Command::Forget { shared } => self.desk.forget(&shared),
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
        self.watch(port.doorbell(), BELL)?;
        self.watch(check_in.doorbell(), BELL)?;
        self.gates.push(Gate { port: Arc::clone(port), check_in });
        Ok(())
    }

    /// Several ranks of one job in this process share a door.
    fn open_door(&mut self, entry: &Entry, port: &Arc<Port>) -> Result<()> {
        if !self.doors.contains_key(&entry.name) {
            let door = Door::open(entry, port)?;
            self.watch(door.tree.doorbell(), BELL)?;
            self.watch(door.query.doorbell(), BELL)?;
            self.doors.insert(entry.name, door);
        }
        Ok(())
    }

    fn place(&mut self, shared: &Arc<Shared>, place: Place) -> Result<()> {
        match place {
            Place::Top(table) => self.desk.top(shared, table),
            Place::Under(parent, link) => {
                let Link { stream, noise } = *link;
                if let Some(token) = self.desk.under(shared, parent, noise) {
                    self.connect(token, stream, true)?;
                    // What came with the handshake raises no event.
                    self.desk.receive(token, &[], Instant::now());
                    self.ready(token);
                }
            }
        }
        Ok(())
    }

    /// Gives a connection of the desk's its socket. A link lasts: it is watched for hosts that vanish.
    fn connect(&mut self, token: Token, stream: TcpStream, is_link: bool) -> Result<()> {
        if let Err(error) = self.watch(stream.as_fd(), token) {
            self.desk.close(token, &Broken::End, Instant::now());
            return Err(error);
        }
        if is_link && let Err(error) = link::keep_alive(&stream) {
            tracing::warn!(target: "dure::net", %error, "cannot watch for hosts that vanish");
        }
        self.sockets.insert(token, Socket { stream, watches_write: false });
        Ok(())
    }

    /// A connection came.
    fn welcome(&mut self, incoming: Incoming, name: Name) {
        let Incoming { stream, kind, rank, from } = incoming;
        let caller = Caller { kind, name, rank, from };
        let Some(token) = self.desk.welcome(caller, Instant::now()) else { return };
        if let Err(error) = self.connect(token, stream, kind == Kind::Tree) {
            tracing::warn!(target: "dure::net", error = error.chain(), "dropped a connection");
        }
    }

    /// A connection can be read or written.
    fn ready(&mut self, token: Token) {
        match self.read(token) {
            Ok(()) => self.write(token),
            Err(why) => self.desk.close(token, &why, Instant::now()),
        }
        self.flush();
    }

    /// Reads what is there.
    fn read(&mut self, token: Token) -> std::result::Result<(), Broken> {
        let (now, desk) = (Instant::now(), &mut self.desk);
        let Some(socket) = self.sockets.get_mut(&token) else { return Ok(()) };
        link::read(&mut socket.stream, |bytes| Ok(desk.receive(token, bytes, now)))
    }

    /// Writes what there is to write, to all connections.
    fn flush(&mut self) {
        while let Some(token) = self.desk.next_touched() {
            self.write(token);
        }
        self.doors.retain(|name, _| self.desk.has_door(*name));
    }

    /// Writes what can be written now, and watches for room when that is not all.
    fn write(&mut self, token: Token) {
        let Some(socket) = self.sockets.get_mut(&token) else { return };
        let wants = loop {
            let Some(output) = self.desk.output(token) else {
                self.sockets.remove(&token);
                return;
            };
            if output.is_empty() {
                break false;
            }
            match link::write(&mut socket.stream, output) {
                Ok(0) => break true,
                Ok(written) => self.desk.wrote(token, written),
                Err(why) => return self.hear_out(token, &why),
            }
        };
        if wants != socket.watches_write {
            socket.watches_write = wants;
            let write = if wants { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
            let mut event = EpollEvent::new(EpollFlags::EPOLLIN | write, token);
            self.epoll
                .modify(&socket.stream, &mut event)
                .expect("the connection is in the set while it is kept");
        }
    }

    /// The other end takes nothing any more. What it said before counts: that may be its goodbye.
    fn hear_out(&mut self, token: Token, why: &Broken) {
        for _ in 0..LAST_READS {
            if self.read(token).is_err() {
                break;
            }
        }
        self.desk.close(token, why, Instant::now());
    }
}
