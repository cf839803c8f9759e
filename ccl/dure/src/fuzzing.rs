//! Entry points for fuzzers: what a stranger or a member may send to the control plane.

use std::collections::VecDeque;
use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bootstrap::noise::Noise;
use crate::bootstrap::table::Table;
use crate::bootstrap::wire::{self, CheckIn, Message, Packed, Question, Verdict};
use crate::record::Answer;

/// Reads bytes as each message of the control plane.
///
/// # Panics
/// When a message that was read is another one once written and read again.
pub fn messages(bytes: &[u8]) {
    if let Ok(check_in) = CheckIn::decode(bytes) {
        assert_eq!(CheckIn::decode(&check_in.encode()), Ok(check_in));
    }
    message::<Message>(bytes);
    message::<Verdict>(bytes);
    message::<Question>(bytes);
    message::<Answer>(bytes);
    let pack = Packed(bytes.into());
    if let Ok(members) = Table::new(pack.clone()).members(3) {
        assert_eq!(Table::new(Table::pack(&*members)).members(3), Ok(members));
    }
    if let Ok(all) = pack.complete(3) {
        let parts = [0, 1, 2].map(|rank| Packed::one(rank, all[rank as usize]));
        assert_eq!(Packed::join(&parts).complete(3), Ok(all));
    }
}

fn message<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(message) = wire::decode::<T>(bytes) {
        assert_eq!(wire::decode(&wire::encode(&message)), Ok(message));
    }
}

/// What may happen on a connection.
#[derive(Clone, Copy, Debug)]
pub enum OnWire {
    /// An end sends a message of so many bytes.
    Send(u32),
    /// So many bytes of what an end has sent arrive.
    Deliver(u16),
    /// A byte of what an end has sent is changed on its way.
    Change(u16),
    /// Bytes that nobody sent arrive instead of those of an end.
    Insert([u8; 8]),
}

/// One end of a connection, what it has put on the wire, and the messages that the other end must get.
struct End {
    noise: Noise,
    wire: VecDeque<u8>,
    sent: VecDeque<Vec<u8>>,
    broken: bool,
}

/// Two ends talk over a wire that somebody else may write to. The caller is the first.
///
/// # Panics
/// When an end gets a message that the other did not send, or gets it out of order; or when nobody wrote to the wire,
/// and a message is missing.
pub fn conversation(events: impl IntoIterator<Item = (bool, OnWire)>) {
    const LIMIT: usize = 1 << 18;
    let key = [7; 32];
    let end = |noise| End { noise, wire: VecDeque::new(), sent: VecDeque::new(), broken: false };
    let mut ends =
        [end(Noise::caller(&key, 1, LIMIT)), end(Noise::listener(vec![[1; 32], key], 1, LIMIT))];
    let mut touched = false;
    for (second, event) in events {
        let from = usize::from(second);
        flush(&mut ends[from]);
        match event {
            OnWire::Send(bytes) => {
                let message = vec![bytes.to_le_bytes()[0]; bytes as usize % LIMIT];
                ends[from].noise.send(&message);
                ends[from].sent.push_back(message);
            }
            OnWire::Deliver(bytes) => deliver(&mut ends, from, bytes.into()),
            OnWire::Change(at) => {
                let at = usize::from(at);
                if let Some(byte) = ends[from].wire.get_mut(at) {
                    *byte ^= 1;
                    touched = true;
                }
            }
            OnWire::Insert(bytes) => {
                bytes.iter().for_each(|byte| ends[from].wire.push_front(*byte));
                touched = true;
            }
        }
    }
    // Each side of the handshake may have something to say once the other has spoken.
    for from in [0, 1, 0, 1] {
        flush(&mut ends[from]);
        deliver(&mut ends, from, usize::MAX);
    }
    assert!(touched || ends.iter().all(|end| end.sent.is_empty() && !end.broken));
}

fn flush(end: &mut End) {
    let output = end.noise.output().to_vec();
    end.noise.wrote(output.len());
    end.wire.extend(output);
}

fn deliver(ends: &mut [End; 2], from: usize, bytes: usize) {
    let wire = &mut ends[from].wire;
    let bytes: Vec<u8> = wire.drain(..bytes.min(wire.len())).collect();
    let to = &mut ends[1 - from];
    if to.broken {
        return;
    }
    to.broken = to.noise.receive(&bytes).is_err();
    while let Some(message) = ends[1 - from].noise.next() {
        assert_eq!(Some(message), ends[from].sent.pop_front());
    }
}
