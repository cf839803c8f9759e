//! What a fresh connection does before it carries frames: the proof of the key, and on the first flow the greetings.
//!
//! All that is written here fits into the send buffer of a fresh connection, so that a write that does not go through
//! at once is an error of the connection.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use dure_transport::proof::{Claim, Dialler, HELLO_LEN, Key, Listener, MAC_LEN, REPLY_LEN};
use dure_transport::{Card, Error, Result};

/// A connection whose two sides prove the key to one another.
#[derive(Debug)]
pub(crate) struct Proving {
    stream: TcpStream,
    stage: Stage,
    input: [u8; REPLY_LEN],
    got: usize,
}

/// What this side waits for.
#[derive(Debug)]
enum Stage {
    /// The dialler: for the listener's only message.
    Reply(Dialler, Claim),
    /// The listener: for the dialler's first message.
    Hello,
    /// The listener: for the dialler's last message.
    Mac(Listener),
    /// Nothing any more.
    Over,
}

impl Proving {
    /// Begins the proof of a connection that this side dialled to rank `peer`.
    pub(crate) fn dial(mut stream: TcpStream, key: &Key, claim: Claim, peer: u32) -> Result<Self> {
        let dialler = Dialler::new(key, claim, peer)?;
        send(&mut stream, &dialler.hello())?;
        Ok(Self { stream, stage: Stage::Reply(dialler, claim), input: [0; REPLY_LEN], got: 0 })
    }

    /// Begins the proof of a connection that this side accepted.
    pub(crate) fn accept(stream: TcpStream) -> Self {
        Self { stream, stage: Stage::Hello, input: [0; REPLY_LEN], got: 0 }
    }

    /// Goes on without waiting. When both sides are proven, it returns what the dialler claims the connection is.
    pub(crate) fn step(&mut self, key: &Key, me: u32) -> Result<Option<Claim>> {
        loop {
            let need = match self.stage {
                Stage::Reply(..) => REPLY_LEN,
                Stage::Hello => HELLO_LEN,
                Stage::Mac(_) => MAC_LEN,
                Stage::Over => return Ok(None),
            };
            if !fill(&mut self.stream, &mut self.input[..need], &mut self.got)? {
                return Ok(None);
            }
            self.got = 0;
            let input = &self.input;
            match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Reply(dialler, claim) => {
                    send(&mut self.stream, &dialler.verify(input)?)?;
                    return Ok(Some(claim));
                }
                Stage::Hello => {
                    let hello = input.first_chunk().expect("a reply is longer than a hello");
                    let listener = Listener::new(key, me, hello)?;
                    send(&mut self.stream, &listener.reply())?;
                    self.stage = Stage::Mac(listener);
                }
                Stage::Mac(listener) => {
                    let mac = input.first_chunk().expect("a reply is longer than a code");
                    return listener.verify(mac).map(Some);
                }
                Stage::Over => return Ok(None),
            }
        }
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

const LEN: usize = 2;

/// The greeting that the peer gave to its `connect`, being received: its length in two bytes, little endian, and then
/// its bytes.
#[derive(Debug)]
pub(crate) struct Greeting {
    input: Box<[u8]>,
    got: usize,
}

impl Greeting {
    pub(crate) fn new() -> Self {
        Self { input: vec![0; LEN + Card::MAX].into(), got: 0 }
    }

    pub(crate) fn step(&mut self, stream: &mut TcpStream) -> Result<Option<Card>> {
        if self.got < LEN && !fill(stream, &mut self.input[..LEN], &mut self.got)? {
            return Ok(None);
        }
        let len: usize = u16::from_le_bytes([self.input[0], self.input[1]]).into();
        if len > Card::MAX {
            return Err(Error::Protocol { what: "a greeting longer than a card" });
        }
        let whole = fill(stream, &mut self.input[..LEN + len], &mut self.got)?;
        Ok(whole.then(|| Card(self.input[LEN..LEN + len].into())))
    }

    pub(crate) fn send(card: &Card, stream: &mut TcpStream) -> Result<()> {
        let len = u16::try_from(card.0.len()).expect("connect checked the greeting's length");
        send(stream, &[&len.to_le_bytes(), &card.0[..]].concat())
    }
}

/// Whether the other side of a connection that is silent for now is still there.
pub(crate) fn is_open(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(got) => got > 0,
        Err(error) => {
            matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
        }
    }
}

/// Reads until `into` is full, not a byte more: what follows belongs to others. False when more has to come.
fn fill(stream: &mut TcpStream, into: &mut [u8], got: &mut usize) -> Result<bool> {
    while *got < into.len() {
        match stream.read(&mut into[*got..]) {
            Ok(0) => return Err(Error::Closed),
            Ok(count) => *got += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken("recv", error)),
        }
    }
    Ok(true)
}

fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).map_err(|error| broken("send", error))
}

/// The error of a connection on which a system call failed.
pub(crate) fn broken(call: &'static str, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Error::Closed,
        _ => Error::System { call, source },
    }
}
