//! Connections that are not up yet: who calls, who must still prove itself, who has not been asked for.
//!
//! ```text
//!   lower rank                         higher rank
//!   connect                     ---->  accept
//!   hello                       ---->
//!                               <----  reply           the three messages of `dure_transport::proof`
//!   code                        ---->
//!   greeting, segment           <--->  greeting, segment
//! ```
//!
//! A greeting leaves when the other side is proven and this side's `connect` was called; the descriptor of the segment
//! travels with it. After it, the only messages on the socket are rings: one byte that says nothing.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use dure_transport::proof::{Claim, Dialler, Listener};
use dure_transport::{Card, Error, Peer, Result};

use crate::board::Line;
use crate::doorbell::Source;
use crate::home::Home;
use crate::link::Tie;
use crate::site::Neighbour;
use crate::socket::{Buffer, LONGEST, Name, Note, Socket};

/// Callers that may be unproven at the same time. The oldest makes room for the next: whoever opens sockets and says
/// nothing cannot use up our descriptors, and a member of the job proves itself at once.
const MOST_STRANGERS: usize = 128;

/// A peer that is up.
#[derive(Debug)]
pub(crate) struct Met {
    pub(crate) socket: Socket,
    pub(crate) neighbour: Arc<Neighbour>,
    /// The line of the peer's board that this side clears to see whether the peer sleeps.
    pub(crate) bell: Line,
    pub(crate) hello: Card,
}

/// What a side says once the other is proven: its bell for the other, and its caller's hello. At most
/// `Card::MOST_ON_THE_WAY + 4` bytes.
#[derive(Debug)]
pub(crate) struct Greeting(Vec<u8>);

impl Greeting {
    pub(crate) fn new(bell: Line, hello: &Card) -> Self {
        Self([bell.to_le_bytes().as_slice(), &hello.0].concat())
    }
}

/// A peer for which `connect` was called, and which is not up.
#[derive(Debug)]
struct Wanted {
    greeting: Greeting,
    /// Where to call again: the listener had no room for another caller.
    redial: Option<Name>,
}

/// The other side's greeting: what its process shows, its bell for this side, and its hello.
type Theirs = (Arc<Neighbour>, Line, Card);

/// How far a connection has come.
#[derive(Debug)]
enum Stage {
    /// Somebody called and must say who it claims to be.
    Called,
    /// It did, and must prove it.
    Claimed(Listener),
    /// We called, and that peer must prove itself.
    Dialled(Peer, Dialler),
    /// The other side is this peer. It is met when both greetings have travelled.
    Proven { peer: Peer, greeted: bool, theirs: Option<Theirs> },
    /// Its last message was wrong.
    Failed(Option<Peer>),
}

impl Stage {
    /// Who is, or must be, at the other end.
    fn peer(&self) -> Option<Peer> {
        match self {
            Self::Called | Self::Claimed(_) => None,
            Self::Dialled(peer, _) | Self::Proven { peer, .. } => Some(*peer),
            Self::Failed(peer) => *peer,
        }
    }
}

#[derive(Debug)]
struct Guest {
    socket: Socket,
    stage: Stage,
}

impl Guest {
    /// Whether the segment has been sent to it.
    fn is_greeted(&self) -> bool {
        matches!(self.stage, Stage::Proven { greeted: true, .. })
    }

    /// Reads what has come.
    fn advance(&mut self, home: &Home) -> Result<()> {
        let mut buffer = [0; LONGEST];
        while self.step(home, &mut buffer)? {}
        Ok(())
    }

    /// Reads one message; false when there is none, or when rings may follow, which belong to the peer's next state.
    fn step(&mut self, home: &Home, buffer: &mut Buffer) -> Result<bool> {
        if let Stage::Proven { greeted, theirs, .. } = &mut self.stage {
            if *greeted && theirs.is_some() {
                return Ok(false);
            }
            let Some((message, files)) = self.socket.receive_files(buffer)? else {
                return Ok(false);
            };
            if theirs.is_some() {
                return Err(match message {
                    [note] if *note == Note::Gone as u8 => Error::Closed,
                    _ => Error::Protocol { what: "a ring before it was greeted" },
                });
            }
            *theirs = Some(read_greeting(home, &self.socket, message, &files)?);
            return Ok(true);
        }
        let Some(message) = self.socket.receive(buffer)? else { return Ok(false) };
        let failed = Stage::Failed(self.stage.peer());
        self.stage = match std::mem::replace(&mut self.stage, failed) {
            Stage::Called => {
                let listener = Listener::new(&home.key, home.me.0, exactly(message)?)?;
                self.socket.send(&listener.reply(), None)?;
                Stage::Claimed(listener)
            }
            Stage::Claimed(listener) => proven(caller(listener.verify(exactly(message)?)?, home)?),
            Stage::Dialled(peer, dialler) => {
                self.socket.send(&dialler.verify(exactly(message)?)?, None)?;
                proven(peer)
            }
            stage @ (Stage::Proven { .. } | Stage::Failed(_)) => stage,
        };
        Ok(true)
    }
}

fn proven(peer: Peer) -> Stage {
    Stage::Proven { peer, greeted: false, theirs: None }
}

/// The peer behind a proven claim: the lower rank calls, and there is one connection to each.
fn caller(claim: Claim, home: &Home) -> Result<Peer> {
    if claim.rank < home.me.0 && claim.flow == 0 {
        Ok(Peer(claim.rank))
    } else {
        Err(Error::Protocol { what: "a call from a rank that is to be called" })
    }
}

fn exactly<const N: usize>(message: &[u8]) -> Result<&[u8; N]> {
    message.try_into().map_err(|_| Error::Protocol { what: "a message of the wrong length" })
}

fn read_greeting(
    home: &Home,
    socket: &Socket,
    message: &[u8],
    files: &[OwnedFd],
) -> Result<Theirs> {
    let broken = |what| Err(Error::Protocol { what });
    let [file] = files else { return broken("a greeting without its segment") };
    let Some((bell, hello)) = message.split_first_chunk() else {
        return broken("a greeting without a bell");
    };
    if hello.len() > Card::MOST_ON_THE_WAY {
        return broken("a hello that is too long");
    }
    let neighbour = home.site.meet(file, socket)?;
    let bell = Line::from_le_bytes(*bell);
    if bell >= neighbour.board.lines() {
        return broken("a bell that is not on the board");
    }
    Ok((neighbour, bell, Card(hello.into())))
}

/// All connections that are not up, and what became of them.
#[derive(Debug)]
pub(crate) struct Lobby {
    listener: Socket,
    guests: BTreeMap<u64, Guest>,
    /// Number of the next guest; never used again, so that a late event cannot mean another guest.
    next: u64,
    wanted: BTreeMap<Peer, Wanted>,
    /// Proven peers that went away before they were asked for.
    gone: BTreeMap<Peer, Error>,
    outcomes: Vec<(Peer, Result<Met>)>,
    /// Connections that failed when the segment had been sent.
    lost: Vec<Tie>,
}

impl Lobby {
    pub(crate) fn open(home: &Home) -> Result<Self> {
        let listener = Socket::listen(home.name)?;
        home.doorbell.watch(&listener, Source::Listener)?;
        Ok(Self {
            listener,
            guests: BTreeMap::new(),
            next: 0,
            wanted: BTreeMap::new(),
            gone: BTreeMap::new(),
            outcomes: Vec::new(),
            lost: Vec::new(),
        })
    }

    /// Whether a peer is wanted that is not up: the lobby is looked after at every poll then.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.wanted.is_empty() || self.has_news()
    }

    /// Whether something must be done that no doorbell announces.
    pub(crate) fn is_restless(&self) -> bool {
        self.has_news() || self.wanted.values().any(|wanted| wanted.redial.is_some())
    }

    fn has_news(&self) -> bool {
        !self.outcomes.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.guests.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn has_proven(&self) -> bool {
        self.guests.values().any(|guest| guest.stage.peer().is_some())
    }

    /// What became of wanted peers since the last call.
    pub(crate) fn outcomes(&mut self) -> Vec<(Peer, Result<Met>)> {
        std::mem::take(&mut self.outcomes)
    }

    /// Ends, and gives the connections of those who may have taken this side for up.
    pub(crate) fn close(&mut self) -> impl Iterator<Item = Tie> + use<> {
        let met = std::mem::take(&mut self.outcomes).into_iter().filter_map(|(_, met)| met.ok());
        let met = met.map(|met| Tie::new(met.socket, Some(met.neighbour)));
        let guests = std::mem::take(&mut self.guests).into_values().filter(Guest::is_greeted);
        let greeted = guests.map(|guest| Tie::new(guest.socket, None));
        met.chain(greeted).chain(std::mem::take(&mut self.lost))
    }

    /// Starts to meet a peer.
    pub(crate) fn want(
        &mut self,
        home: &Home,
        peer: Peer,
        at: Name,
        greeting: Greeting,
    ) -> Result<()> {
        if let Some(error) = self.gone.remove(&peer) {
            self.outcomes.push((peer, Err(error)));
            return Ok(());
        }
        let mut wanted = Wanted { greeting, redial: None };
        if home.me < peer && !self.dial(home, peer, at)? {
            wanted.redial = Some(at);
        }
        self.wanted.insert(peer, wanted);
        let waiting = self.guests.iter().find(|(_, guest)| guest.stage.peer() == Some(peer));
        if let Some(number) = waiting.map(|(number, _)| *number) {
            self.advance(home, number);
        }
        Ok(())
    }

    /// Calls those again whose listeners had no room.
    pub(crate) fn redial(&mut self, home: &Home) {
        let due = |(peer, wanted): (&Peer, &Wanted)| Some((*peer, wanted.redial?));
        for (peer, at) in self.wanted.iter().filter_map(due).collect::<Vec<_>>() {
            match self.dial(home, peer, at) {
                Ok(false) => {}
                Ok(true) => {
                    let wanted = self.wanted.get_mut(&peer).expect("it was wanted just now");
                    wanted.redial = None;
                }
                Err(error) => self.fail(peer, error),
            }
        }
    }

    fn dial(&mut self, home: &Home, peer: Peer, at: Name) -> Result<bool> {
        let Some(socket) = Socket::dial(at)? else { return Ok(false) };
        let dialler = Dialler::new(&home.key, Claim { rank: home.me.0, flow: 0 }, peer.0)?;
        socket.send(&dialler.hello(), None)?;
        self.admit(home, Guest { socket, stage: Stage::Dialled(peer, dialler) })?;
        Ok(true)
    }

    fn admit(&mut self, home: &Home, guest: Guest) -> Result<()> {
        home.doorbell.watch(&guest.socket, Source::Guest(self.next))?;
        self.guests.insert(self.next, guest);
        self.next += 1;
        Ok(())
    }

    /// Takes in those who call.
    pub(crate) fn accept(&mut self, home: &Home) {
        for _ in 0..MOST_STRANGERS {
            let taken = self.listener.accept().and_then(|caller| {
                let Some(socket) = caller else { return Ok(false) };
                self.make_room(home);
                self.admit(home, Guest { socket, stage: Stage::Called })?;
                Ok(true)
            });
            match taken {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::debug!(target: "dure::net", ?error, "caller not taken");
                    return;
                }
            }
        }
    }

    fn make_room(&mut self, home: &Home) {
        let is_stranger = |guest: &Guest| guest.stage.peer().is_none();
        let mut strangers = self.guests.iter().filter(|(_, guest)| is_stranger(guest));
        let oldest = strangers.next().map(|(number, _)| *number);
        if strangers.count() + 1 >= MOST_STRANGERS
            && let Some(guest) = oldest.and_then(|number| self.guests.remove(&number))
        {
            self.turn_away(home, guest, Error::NotProven);
        }
    }

    /// Moves a connection on.
    pub(crate) fn advance(&mut self, home: &Home, number: u64) {
        let Some(mut guest) = self.guests.remove(&number) else { return };
        match guest.advance(home).and_then(|()| self.greet(home, &mut guest)) {
            Err(error) => self.turn_away(home, guest, error),
            Ok(()) => match guest {
                Guest {
                    socket,
                    stage:
                        Stage::Proven { peer, greeted: true, theirs: Some((neighbour, bell, hello)) },
                } => {
                    self.wanted.remove(&peer);
                    self.outcomes.push((peer, Ok(Met { socket, neighbour, bell, hello })));
                }
                guest => {
                    self.guests.insert(number, guest);
                }
            },
        }
    }

    /// Sends the greeting, and with it the segment, to a guest that is proven and wanted.
    fn greet(&self, home: &Home, guest: &mut Guest) -> Result<()> {
        let Stage::Proven { peer, greeted, .. } = &mut guest.stage else { return Ok(()) };
        if *greeted {
            return Ok(());
        }
        let also = |other: &Guest| matches!(other.stage, Stage::Proven { peer: proven, .. } if proven == *peer);
        if self.guests.values().any(also) {
            // The first one stays.
            guest.stage = Stage::Failed(None);
            return Err(Error::Protocol { what: "a second connection of one rank" });
        }
        if let Some(wanted) = self.wanted.get(peer) {
            guest.socket.send(&wanted.greeting.0, Some(home.segment()))?;
            *greeted = true;
        }
        Ok(())
    }

    fn turn_away(&mut self, home: &Home, guest: Guest, error: Error) {
        home.doorbell.ignore(&guest.socket);
        match guest.stage.peer() {
            Some(peer) if self.wanted.contains_key(&peer) => self.fail(peer, error),
            Some(peer) => {
                self.gone.insert(peer, error);
            }
            // Not a member of the job as far as we know, so nothing that the job should hear of.
            None => tracing::debug!(target: "dure::net", ?error, "caller turned away"),
        }
        if guest.is_greeted() {
            // It has the segment, and may have taken this side for up.
            guest.socket.tell(Note::Lost);
            self.lost.push(Tie::new(guest.socket, None));
        }
    }

    fn fail(&mut self, peer: Peer, error: Error) {
        self.wanted.remove(&peer);
        self.outcomes.push((peer, Err(error)));
    }
}
