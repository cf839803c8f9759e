//! An authenticated, encrypted connection as a state machine over bytes.
//!
//! The pattern is NNpsk0 of the Noise protocol framework: no long-term keys, both sides know the job's secret, and the
//! first message proves it already. Fresh keys on both sides make a replayed conversation useless: nothing that was
//! received counts before a message under the new keys has been read.
//!
//! On the wire: frames of a length (2 bytes, little endian) and a Noise message. After the two frames of the handshake
//! a plaintext begins with a byte that says whether more pieces of the same message follow.

use std::collections::VecDeque;

use snow::{Builder, HandshakeState, TransportState};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
/// Longest Noise message: section 3 of its specification.
const FRAME: usize = 65_535;
/// What encryption adds to a plaintext.
const TAG: usize = 16;
/// Bytes of a message that fit one frame.
const PIECE: usize = FRAME - TAG - 1;
/// Handshake messages carry a key and a tag: 48 bytes. Whoever announces more than this is no peer.
const HANDSHAKE: usize = 128;
const LAST: u8 = 0;
const MORE: u8 = 1;

/// Why a connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoiseError {
    /// The other side does not know the key.
    #[error("the other side does not know the job's secret")]
    WrongKey,
    /// What came was changed on its way, or is out of place.
    #[error("what came over the connection is not genuine")]
    Broken,
    /// A message is longer than any that may come.
    #[error("a message is longer than any that may come")]
    TooLong,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Noise {
    state: State,
    /// Longest message that may come, in bytes.
    limit: usize,
    /// Received bytes that are not a complete frame yet.
    input: Vec<u8>,
    /// Pieces of a message whose last piece has not come.
    partial: Vec<u8>,
    received: VecDeque<Vec<u8>>,
    /// Messages to encrypt once the handshake is done.
    early: Vec<Vec<u8>>,
    output: Vec<u8>,
    /// Bytes at the front of `output` that are written.
    written: usize,
}

enum State {
    Calling(Box<HandshakeState>),
    Listening { keys: Vec<[u8; 32]>, purpose: u8 },
    Open { noise: Box<TransportState>, key: usize },
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Calling(_) => "Calling",
            Self::Listening { .. } => "Listening",
            Self::Open { .. } => "Open",
        })
    }
}

impl Noise {
    /// The end that speaks first. `purpose` keeps a handshake of one kind of connection from being used on another.
    pub(crate) fn caller(key: &[u8; 32], purpose: u8, limit: usize) -> Self {
        let mut noise = builder(key, &prologue(purpose))
            .build_initiator()
            .expect("the pattern needs no other keys");
        let mut message = [0; HANDSHAKE];
        let len = noise.write_message(&[], &mut message).expect("a key and a tag fit");
        let mut this = Self::new(State::Calling(Box::new(noise)), limit);
        this.frame(&message[..len]);
        this
    }

    /// The end that waits, for a caller that knows one of `keys`.
    pub(crate) fn listener(keys: Vec<[u8; 32]>, purpose: u8, limit: usize) -> Self {
        Self::new(State::Listening { keys, purpose }, limit)
    }

    fn new(state: State, limit: usize) -> Self {
        Self {
            state,
            limit,
            input: Vec::new(),
            partial: Vec::new(),
            received: VecDeque::new(),
            early: Vec::new(),
            output: Vec::new(),
            written: 0,
        }
    }

    /// Whether the handshake is done: the other side knows the key. For a listener it may still be a replay, until the
    /// first message has come.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Which of the listener's keys the caller knows.
    pub(crate) fn key(&self) -> Option<usize> {
        match self.state {
            State::Open { key, .. } => Some(key),
            _ => None,
        }
    }

    /// From now on, longer messages may come.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes bytes from the wire.
    ///
    /// # Errors
    /// [`NoiseError`]: nothing more will come of this connection.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<(), NoiseError> {
        if self.input.is_empty() {
            let taken = self.frames(bytes)?;
            self.input.extend_from_slice(&bytes[taken..]);
            return Ok(());
        }
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let taken = self.frames(&input)?;
        input.drain(..taken);
        // A connection is idle nearly all its life: it keeps no memory then.
        self.input = if input.is_empty() { Vec::new() } else { input };
        Ok(())
    }

    /// Takes the complete frames at the front, and says how many bytes they are.
    fn frames(&mut self, bytes: &[u8]) -> Result<usize, NoiseError> {
        let mut at = 0;
        while let Some((length, rest)) = bytes[at..].split_first_chunk::<2>() {
            let length = usize::from(u16::from_le_bytes(*length));
            if !self.is_open() && length > HANDSHAKE {
                return Err(NoiseError::TooLong);
            }
            let Some(message) = rest.get(..length) else { break };
            self.message(message)?;
            at += 2 + length;
        }
        Ok(at)
    }

    /// One Noise message came.
    fn message(&mut self, message: &[u8]) -> Result<(), NoiseError> {
        match &mut self.state {
            State::Calling(noise) => {
                noise
                    .read_message(message, &mut [0; HANDSHAKE])
                    .map_err(|_| NoiseError::WrongKey)?;
                self.open(0);
            }
            State::Listening { keys, purpose } => {
                let (index, noise, reply) =
                    answer(keys, *purpose, message).ok_or(NoiseError::WrongKey)?;
                self.state = State::Calling(Box::new(noise));
                self.frame(&reply);
                self.open(index);
            }
            State::Open { noise, .. } => {
                // Decrypted where it stays.
                let start = self.partial.len();
                self.partial.resize(start + message.len(), 0);
                let read = noise.read_message(message, &mut self.partial[start..]);
                self.partial.truncate(start + read.map_err(|_| NoiseError::Broken)?);
                self.piece(start)?;
            }
        }
        Ok(())
    }

    /// The handshake is done: goes over to the transport keys and sends what waited.
    fn open(&mut self, key: usize) {
        let listening = State::Listening { keys: Vec::new(), purpose: 0 };
        let State::Calling(noise) = std::mem::replace(&mut self.state, listening) else {
            unreachable!("only called when the handshake is in its last state");
        };
        let noise = noise.into_transport_mode().expect("both messages of the pattern are through");
        self.state = State::Open { noise: Box::new(noise), key };
        for message in std::mem::take(&mut self.early) {
            self.send(&message);
        }
    }

    /// A piece of a message, and before it the byte that says whether it is the last, are at the end of what has come.
    fn piece(&mut self, start: usize) -> Result<(), NoiseError> {
        if self.partial.len() <= start {
            return Err(NoiseError::Broken);
        }
        let mark = self.partial.remove(start);
        if self.partial.len() > self.limit {
            return Err(NoiseError::TooLong);
        }
        match mark {
            MORE => {}
            LAST => self.received.push_back(std::mem::take(&mut self.partial)),
            _ => return Err(NoiseError::Broken),
        }
        Ok(())
    }

    /// The next message that came.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        self.received.pop_front()
    }

    /// Sends a message; before the handshake is done, right after it.
    pub(crate) fn send(&mut self, message: &[u8]) {
        let State::Open { noise, .. } = &mut self.state else {
            self.early.push(message.to_vec());
            return;
        };
        let pieces = message.len().div_ceil(PIECE).max(1);
        self.output.reserve(message.len() + pieces * (2 + 1 + TAG));
        let mut rest = message;
        let mut plain = Vec::with_capacity(PIECE.min(message.len()) + 1);
        loop {
            let (piece, after) = rest.split_at(rest.len().min(PIECE));
            rest = after;
            plain.clear();
            plain.push(if rest.is_empty() { LAST } else { MORE });
            plain.extend_from_slice(piece);
            let length = u16::try_from(plain.len() + TAG).expect("pieces are cut to fit");
            self.output.extend_from_slice(&length.to_le_bytes());
            let start = self.output.len();
            self.output.resize(start + plain.len() + TAG, 0);
            let written = noise.write_message(&plain, &mut self.output[start..]);
            written.expect("pieces fit, and 2^64 messages are never sent");
            if rest.is_empty() {
                return;
            }
        }
    }

    fn frame(&mut self, message: &[u8]) {
        let length = u16::try_from(message.len()).expect("handshake messages are short");
        self.output.extend_from_slice(&length.to_le_bytes());
        self.output.extend_from_slice(message);
    }

    /// Bytes to write to the wire.
    pub(crate) fn output(&self) -> &[u8] {
        &self.output[self.written..]
    }

    /// So many bytes of [`Noise::output`] are written.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written == self.output.len() {
            self.output = Vec::new();
            self.written = 0;
        }
    }
}

fn prologue(purpose: u8) -> [u8; 5] {
    [b'd', b'u', b'r', b'e', purpose]
}

fn builder<'k>(key: &'k [u8; 32], prologue: &'k [u8]) -> Builder<'k> {
    Builder::new(PATTERN.parse().expect("the pattern is right"))
        .psk(0, key)
        .and_then(|builder| builder.prologue(prologue))
        .expect("each is set once")
}

/// Reads the first message with whichever key fits; a wrong key costs two hashes.
fn answer(
    keys: &[[u8; 32]],
    purpose: u8,
    message: &[u8],
) -> Option<(usize, HandshakeState, Vec<u8>)> {
    keys.iter().enumerate().find_map(|(index, key)| {
        let mut noise = builder(key, &prologue(purpose)).build_responder().ok()?;
        noise.read_message(message, &mut [0; HANDSHAKE]).ok()?;
        let mut reply = vec![0; HANDSHAKE];
        let len = noise.write_message(&[], &mut reply).ok()?;
        reply.truncate(len);
        Some((index, noise, reply))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn pair(limit: usize) -> (Noise, Noise) {
        (Noise::caller(&KEY, 1, limit), Noise::listener(vec![[1; 32], KEY], 1, limit))
    }

    /// Moves everything from one end to the other, `step` bytes at a time.
    fn carry(from: &mut Noise, to: &mut Noise, step: usize) -> Result<Vec<u8>, NoiseError> {
        let bytes = from.output().to_vec();
        from.wrote(bytes.len());
        bytes.chunks(step).try_for_each(|chunk| to.receive(chunk))?;
        Ok(bytes)
    }

    #[test]
    fn messages_cross_both_ways_in_any_cut() {
        for step in [1, 7, 100_000] {
            let (mut caller, mut listener) = pair(1 << 20);
            let long: Vec<u8> = (0..200_000_u32).map(|i| i.to_le_bytes()[1]).collect();
            caller.send(b"early");
            carry(&mut caller, &mut listener, step).unwrap();
            assert!(!caller.is_open() && listener.key() == Some(1) && listener.next().is_none());
            listener.send(&long);
            listener.send(b"");
            carry(&mut listener, &mut caller, step).unwrap();
            carry(&mut caller, &mut listener, step).unwrap();
            assert_eq!(listener.next().as_deref(), Some(&b"early"[..]));
            assert_eq!(caller.next(), Some(long));
            assert_eq!(caller.next(), Some(Vec::new()));
            assert_eq!(caller.next(), None);
        }
    }

    #[test]
    fn another_key_or_purpose_is_refused() {
        for (key, purpose) in [([8; 32], 1), (KEY, 2)] {
            let mut caller = Noise::caller(&key, purpose, 100);
            let mut listener = Noise::listener(vec![KEY], 1, 100);
            assert_eq!(carry(&mut caller, &mut listener, 9), Err(NoiseError::WrongKey));
        }
    }

    #[test]
    fn a_replayed_conversation_gets_nothing() {
        let (mut caller, mut listener) = pair(100);
        caller.send(b"secret");
        let first = carry(&mut caller, &mut listener, 999).unwrap();
        carry(&mut listener, &mut caller, 999).unwrap();
        let second = carry(&mut caller, &mut listener, 999).unwrap();
        assert_eq!(listener.next().as_deref(), Some(&b"secret"[..]));

        let mut victim = Noise::listener(vec![KEY], 1, 100);
        victim.receive(&first).unwrap();
        assert_eq!(victim.receive(&second), Err(NoiseError::Broken));
        assert_eq!(victim.next(), None);
    }

    #[test]
    fn too_long_is_refused_before_it_is_stored() {
        let mut listener = Noise::listener(vec![KEY], 1, 100);
        assert_eq!(listener.receive(&[0xff, 0xff]), Err(NoiseError::TooLong));
        let (mut caller, mut listener) = pair(100);
        carry(&mut caller, &mut listener, 99).unwrap();
        carry(&mut listener, &mut caller, 99).unwrap();
        caller.send(&[0; 101]);
        assert_eq!(carry(&mut caller, &mut listener, 9999), Err(NoiseError::TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), flip in 0..200_usize) {
            let _ = Noise::listener(vec![KEY], 1, 100).receive(&bytes);
            let (mut caller, mut listener) = pair(100);
            carry(&mut caller, &mut listener, 99).unwrap();
            carry(&mut listener, &mut caller, 99).unwrap();
            caller.send(&[1; 90]);
            let mut wire = caller.output().to_vec();
            let at = flip % wire.len();
            wire[at] ^= 1;
            prop_assert!(listener.receive(&wire).is_err() || listener.next().is_none());
        }
    }
}
