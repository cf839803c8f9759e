//! How a connection comes up: both sides meet over TCP, at the address and with the secret of the handle, and tell one another
//! who they are. Where both have RDMA that reaches the other, they bring that up, and go on over it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use dure::{Error, Result};
use dure_transport::{Card, Event, Peer, Transport};

use crate::device::{Device, Way};
use crate::gpu::Gpus;
use crate::link::Link;
use crate::log;
use crate::message::{Handle, Hello};
use crate::plugin::{Plugin, random};
use crate::rdma;
use crate::ring::{Inbox, Outbox};

/// The sender, which dials.
pub(crate) const SENDER: Peer = Peer(0);
/// The receiver, which listens.
pub(crate) const RECEIVER: Peer = Peer(1);

/// Most addresses of a side channel of RDMA: cards have a limit.
const SIDE_ADDRESSES: usize = 4;

/// A connection that is being made.
#[derive(Debug)]
pub(crate) struct Meeting {
    plugin: &'static Plugin,
    device: &'static Device,
    me: Peer,
    key: [u8; 32],
    /// Of the receiver.
    address: Card,
    stage: Stage,
    deadline: Instant,
}

#[derive(Debug)]
enum Stage {
    /// Nobody has been asked for yet.
    Idle(Box<dyn Transport>),
    /// Over TCP; with what this side has of RDMA.
    Greeting {
        tcp: Wire,
        rdma: Option<Rdma>,
    },
    /// TCP has done its part, and stays until RDMA is up: the peer may need it so long.
    Upgrading {
        tcp: Box<dyn Transport>,
        rdma: Rdma,
        theirs: String,
    },
    Over,
}

/// A transport that is being connected, with the ring of this side.
#[derive(Debug)]
struct Wire {
    net: Box<dyn Transport>,
    inbox: Inbox,
    /// The peer came, said who it is, and went.
    lost: Option<dure_transport::Error>,
}

#[derive(Debug)]
struct Rdma {
    way: Wire,
    gpus: Arc<Gpus>,
}

/// A connection that is up; with the GPUs whose memory it reaches.
#[derive(Debug)]
pub(crate) struct Met {
    pub(crate) link: Link,
    pub(crate) gpus: Option<Arc<Gpus>>,
}

/// An error of this side, about what the transport was asked for.
fn because(what: &str) -> impl FnOnce(dure_transport::Error) -> Error + use<'_> {
    move |error| Error::system(what.to_owned()).because(error)
}

impl Wire {
    fn new(mut net: Box<dyn Transport>, peer: Peer) -> Result<Self> {
        let inbox = Inbox::new(&mut *net, peer).map_err(because("a ring of messages"))?;
        Ok(Self { net, inbox, lost: None })
    }

    fn greeting(&self, peer: Peer) -> Result<Vec<u8>> {
        self.inbox.greeting(&*self.net, peer).map_err(because("a ring of messages"))
    }

    /// What the peer gave to its `connect`, once it is up.
    fn up(&mut self) -> std::result::Result<Option<Card>, dure_transport::Error> {
        let mut events = Vec::new();
        self.net.poll(&mut events);
        let mut up = None;
        for event in events {
            match event {
                Event::Up { hello, .. } => up = Some(hello),
                Event::Lost { error, .. } => self.lost = Some(error),
                Event::Sent(_) | Event::Rerouted { .. } => {}
            }
        }
        match (up, &self.lost) {
            (None, Some(_)) => Err(self.lost.take().expect("it was seen just now")),
            (up, _) => Ok(up),
        }
    }

    fn link(mut self, peer: Peer, greeting: &[u8], about: String) -> Result<Link> {
        let outbox = match self.lost.take() {
            Some(error) => Err(error),
            None => Outbox::open(&mut *self.net, peer, greeting),
        };
        let outbox = outbox.map_err(|error| Error::remote(about.clone()).because(error))?;
        Ok(Link::new(self.net, peer, (self.inbox, outbox), about))
    }
}

/// As many of them, from the first, as a handle holds.
fn fitting(addresses: &[IpAddr]) -> &[IpAddr] {
    // The id of 16 bytes behind a tag of 4; each address with its family and its port.
    let mut left = Handle::ADDRESS - 20;
    let fits = |address: &&IpAddr| {
        let len = if address.is_ipv4() { 7 } else { 19 };
        let fits = len <= left;
        left = left.saturating_sub(len);
        fits
    };
    &addresses[..addresses.iter().take_while(fits).count()]
}

impl Meeting {
    /// Prepares to be found by a sender; with what it needs for that.
    ///
    /// # Errors
    /// `System`.
    pub(crate) fn listen(
        plugin: &'static Plugin,
        device: &'static Device,
    ) -> Result<(Self, Handle)> {
        let key = random()?;
        let addresses = plugin.addresses(device)?;
        let tcp = plugin.tcp(RECEIVER, random()?, key, fitting(&addresses))?;
        let handle = Handle { key, address: tcp.address() };
        let meeting = Self::new(plugin, device, RECEIVER, &handle, tcp);
        Ok((meeting, handle))
    }

    /// Prepares to dial a receiver.
    ///
    /// # Errors
    /// `System`.
    pub(crate) fn dial(
        plugin: &'static Plugin,
        device: &'static Device,
        handle: &Handle,
    ) -> Result<Self> {
        let tcp = plugin.tcp(SENDER, random()?, handle.key, &[])?;
        Ok(Self::new(plugin, device, SENDER, handle, tcp))
    }

    fn new(
        plugin: &'static Plugin,
        device: &'static Device,
        me: Peer,
        handle: &Handle,
        tcp: Box<dyn Transport>,
    ) -> Self {
        Self {
            plugin,
            device,
            me,
            key: handle.key,
            address: handle.address.clone(),
            stage: Stage::Idle(tcp),
            deadline: Instant::now() + plugin.config.timeout,
        }
    }

    fn peer(&self) -> Peer {
        if self.me == SENDER { RECEIVER } else { SENDER }
    }

    /// This side, for people.
    fn who(&self) -> String {
        let (host, process) = (dure::addresses::hostname(), std::process::id());
        format!("{host} (process {process}, {})", self.device.name())
    }

    /// Goes on without waiting: the connection, once it is up.
    ///
    /// # Errors
    /// Why it cannot come up. It is over then.
    pub(crate) fn step(&mut self) -> Result<Option<Met>> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Idle(tcp) => self.begin(tcp)?,
            Stage::Greeting { mut tcp, rdma } => {
                let hello = tcp.up().map_err(|error| self.failed(error))?;
                match hello {
                    Some(hello) => return self.greeted(tcp, rdma, &hello),
                    None => self.stage = Stage::Greeting { tcp, rdma },
                }
            }
            Stage::Upgrading { tcp, mut rdma, theirs } => {
                let greeting = rdma.way.up().map_err(|error| self.failed(error))?;
                let Some(Card(greeting)) = greeting else {
                    self.stage = Stage::Upgrading { tcp, rdma, theirs };
                    return self.in_time();
                };
                let Rdma { way, gpus } = rdma;
                let link = way.link(self.peer(), &greeting, self.about(&theirs, "rdma"))?;
                let gpus = self.device.reaches_gpus().then_some(gpus);
                return Ok(Some(Met { link, gpus }));
            }
            Stage::Over => {
                let what =
                    "the connection was made already, or could not be made: one for each listen";
                return Err(Error::invalid_usage(what));
            }
        }
        self.in_time()
    }

    fn in_time(&self) -> Result<Option<Met>> {
        if Instant::now() < self.deadline {
            return Ok(None);
        }
        let other =
            if self.me == SENDER { "the receiver does not answer" } else { "no sender has come" };
        let after = self.plugin.config.timeout;
        Err(Error::system(format!("{}: {other} after {after:?} (DURE_TIMEOUT)", self.who())))
    }

    fn failed(&self, error: dure_transport::Error) -> Error {
        let to = if self.me == SENDER { "to a receiver" } else { "from a sender" };
        Error::remote(format!("{}: no connection {to}", self.who())).because(error)
    }

    /// Both ends and the wire, for people.
    fn about(&self, theirs: &str, over: &str) -> String {
        let ours = self.who();
        let (from, to) = if self.me == SENDER { (&*ours, theirs) } else { (theirs, &*ours) };
        format!("connection from {from} to {to} over {over}")
    }

    fn begin(&mut self, tcp: Box<dyn Transport>) -> Result<()> {
        let mut tcp = Wire::new(tcp, self.peer())?;
        let rdma = match self.open_rdma() {
            Err(error) if self.plugin.config.transport.allows("tcp") => {
                log::info(&format!("{}: {}", self.who(), error.chain()));
                None
            }
            opened => opened?,
        };
        let hello = Hello {
            who: self.who(),
            transports: self.plugin.config.transport.to_string(),
            greeting: tcp.greeting(self.peer())?,
            rdma: rdma.as_ref().map_or_else(Card::default, |rdma| rdma.way.net.address()),
        };
        let begun = tcp.net.connect(self.peer(), &self.address, &hello.encode());
        begun.map_err(|error| self.failed(error))?;
        self.deadline = Instant::now() + self.plugin.config.timeout;
        self.stage = Stage::Greeting { tcp, rdma };
        Ok(())
    }

    fn open_rdma(&self) -> Result<Option<Rdma>> {
        let Way::Rdma(names) = &self.device.way else { return Ok(None) };
        let addresses = self.plugin.addresses(self.device)?;
        let addresses = &addresses[..addresses.len().min(SIDE_ADDRESSES)];
        let side = self.plugin.tcp(self.me, random()?, self.key, addresses)?;
        let gpus = Arc::new(Gpus::default());
        let net = rdma::open(self.me, &self.plugin.config, names, side, Arc::clone(&gpus))?;
        Ok(Some(Rdma { way: Wire::new(net, self.peer())?, gpus }))
    }

    /// The peer is there, and has said what it has.
    fn greeted(&mut self, tcp: Wire, rdma: Option<Rdma>, hello: &Card) -> Result<Option<Met>> {
        let broken = || Error::remote(format!("{}: a greeting that makes no sense", self.who()));
        let theirs = Hello::decode(hello).ok_or_else(broken)?;
        let transports = self.plugin.config.transport.to_string();
        if theirs.transports != transports {
            return Err(Error::invalid_usage(format!(
                "DURE_TRANSPORT is {transports} at {}, {} at {}: it must be the same",
                self.who(),
                theirs.transports,
                theirs.who
            )));
        }
        let reached = rdma.filter(|rdma| {
            !theirs.rdma.0.is_empty() && rdma::reaches(&rdma.way.net.address(), &theirs.rdma)
        });
        if let Some(mut rdma) = reached {
            let greeting = Card(rdma.way.greeting(self.peer())?.into());
            let begun = rdma.way.net.connect(self.peer(), &theirs.rdma, &greeting);
            begun.map_err(|error| self.failed(error))?;
            self.stage = Stage::Upgrading { tcp: tcp.net, rdma, theirs: theirs.who };
            return self.in_time();
        }
        if !self.plugin.config.transport.allows("tcp") {
            return Err(Error::invalid_usage(format!(
                "{} and {} do not reach one another over RDMA, and DURE_TRANSPORT={transports} leaves nothing else",
                self.who(),
                theirs.who
            )));
        }
        let link = tcp.link(self.peer(), &theirs.greeting, self.about(&theirs.who, "tcp"))?;
        Ok(Some(Met { link, gpus: None }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_holds_the_first_addresses() {
        let [v4, v6] = ["10.0.0.1", "fd00::1"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(fitting(&[v6; 16]).len(), 3);
        assert_eq!(fitting(&[v4; 16]).len(), 9);
        assert_eq!(fitting(&[v4, v6, v6, v6, v4]).len(), 4);
        assert!(fitting(&[]).is_empty());
    }
}
