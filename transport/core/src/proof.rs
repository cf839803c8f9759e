//! Mutual proof that both sides of a connection know the data key of the job.
//!
//! Whoever can reach a listening port can connect to it, so a wire runs this before it exposes any memory. Three
//! messages of fixed size, which the wire carries as it likes:
//!
//! ```text
//!   dialler                                    listener
//!   nonce, rank, flow                    ---->
//!                                        <----  nonce, rank, flow, MAC("listener", both hellos)
//!   MAC("dialler", both hellos)          ---->
//! ```
//!
//! The nonces are fresh, so a recorded handshake fails; the labels differ, so a reflected one does; ranks and flow are
//! under the code, so nobody is taken for another rank. This proves who is at the other end and no more: it does not
//! encrypt, and whoever can change bytes on the way can still do so afterwards.
//!
//! ```
//! use dure_transport::proof::{Claim, Dialler, Key, Listener};
//!
//! let key = Key::new([7; 32]).derive("dure data");
//! let dialler = Dialler::new(&key, Claim { rank: 0, flow: 3 }, 1)?;
//! let listener = Listener::new(&key, 1, &dialler.hello())?;
//! let mac = dialler.verify(&listener.reply())?;
//! assert_eq!(listener.verify(&mac)?, Claim { rank: 0, flow: 3 });
//! # Ok::<(), dure_transport::Error>(())
//! ```

use std::fmt;
use std::fs::File;
use std::io::Read;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{Error, Result};

const NONCE_LEN: usize = 16;
/// Length of the first message, which the dialler sends, in bytes.
pub const HELLO_LEN: usize = NONCE_LEN + 4 + 2;
/// Length of the last message, which the dialler sends, in bytes.
pub const MAC_LEN: usize = 32;
/// Length of the message between, which the listener sends, in bytes.
pub const REPLY_LEN: usize = HELLO_LEN + MAC_LEN;

/// Prefixes of what is authenticated, one per direction. The zero ends the label, the number is the version.
const DIALLER: &[u8] = b"dure proof 1 dialler\0";
const LISTENER: &[u8] = b"dure proof 1 listener\0";

/// A secret of 32 bytes that the ranks of a job share.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key for one purpose: HMAC-SHA256 of `label` under this key. Knowing it tells nothing about this key or
    /// about the keys of other labels.
    #[must_use]
    pub fn derive(&self, label: &str) -> Self {
        Self(self.mac(&[label.as_bytes()]).finalize().into_bytes().into())
    }

    /// The bytes, for whoever hands the key to another protocol.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        parts.iter().for_each(|part| mac.update(part));
        mac
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Who the dialler says it is, and what the connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Rank of the dialler.
    pub rank: u32,
    /// The flow that the connection carries.
    pub flow: u16,
}

/// Nonce, rank and flow of one side, as they travel; numbers are little-endian.
#[derive(Clone, Copy, Debug)]
struct Hello([u8; HELLO_LEN]);

impl Hello {
    fn new(claim: Claim) -> Result<Self> {
        let mut bytes = [0; HELLO_LEN];
        bytes[..NONCE_LEN].copy_from_slice(&random_bytes::<NONCE_LEN>()?);
        bytes[NONCE_LEN..NONCE_LEN + 4].copy_from_slice(&claim.rank.to_le_bytes());
        bytes[NONCE_LEN + 4..].copy_from_slice(&claim.flow.to_le_bytes());
        Ok(Self(bytes))
    }

    fn claim(&self) -> Claim {
        let rank = self.0[NONCE_LEN..].first_chunk().expect("a rank follows the nonce");
        let flow = self.0.last_chunk().expect("a flow ends the hello");
        Claim { rank: u32::from_le_bytes(*rank), flow: u16::from_le_bytes(*flow) }
    }
}

/// The side that opened the connection.
#[derive(Debug)]
pub struct Dialler {
    key: Key,
    mine: Hello,
    peer: u32,
}

impl Dialler {
    /// Begins a proof towards rank `peer`.
    ///
    /// # Errors
    /// [`Error::System`] when the system has no randomness.
    pub fn new(key: &Key, me: Claim, peer: u32) -> Result<Self> {
        Ok(Self { key: key.clone(), mine: Hello::new(me)?, peer })
    }

    /// The first message.
    pub fn hello(&self) -> [u8; HELLO_LEN] {
        self.mine.0
    }

    /// Checks the listener's message and makes the last one. The listener is proven when this returns.
    ///
    /// # Errors
    /// [`Error::NotProven`].
    pub fn verify(self, reply: &[u8; REPLY_LEN]) -> Result<[u8; MAC_LEN]> {
        let (theirs, mac) = reply.split_first_chunk().expect("a reply begins with a hello");
        self.key
            .mac(&[LISTENER, &self.mine.0, theirs])
            .verify_slice(mac)
            .map_err(|_| Error::NotProven)?;
        if Hello(*theirs).claim() != (Claim { rank: self.peer, flow: self.mine.claim().flow }) {
            return Err(Error::NotProven);
        }
        Ok(self.key.mac(&[DIALLER, &self.mine.0, theirs]).finalize().into_bytes().into())
    }
}

/// The side that accepted the connection.
#[derive(Debug)]
pub struct Listener {
    key: Key,
    mine: Hello,
    theirs: Hello,
}

impl Listener {
    /// Continues the proof of a dialler whose first message is `hello`; `me` is the rank of this side.
    ///
    /// # Errors
    /// [`Error::System`] when the system has no randomness.
    pub fn new(key: &Key, me: u32, hello: &[u8; HELLO_LEN]) -> Result<Self> {
        let theirs = Hello(*hello);
        let mine = Hello::new(Claim { rank: me, flow: theirs.claim().flow })?;
        Ok(Self { key: key.clone(), mine, theirs })
    }

    /// The message to the dialler.
    pub fn reply(&self) -> [u8; REPLY_LEN] {
        let mac = self.key.mac(&[LISTENER, &self.theirs.0, &self.mine.0]).finalize().into_bytes();
        let mut reply = [0; REPLY_LEN];
        reply[..HELLO_LEN].copy_from_slice(&self.mine.0);
        reply[HELLO_LEN..].copy_from_slice(&mac);
        reply
    }

    /// Checks the dialler's last message. The dialler is proven to be who it claimed when this returns.
    ///
    /// # Errors
    /// [`Error::NotProven`].
    pub fn verify(self, mac: &[u8; MAC_LEN]) -> Result<Claim> {
        let expected = self.key.mac(&[DIALLER, &self.theirs.0, &self.mine.0]);
        expected.verify_slice(mac).map_err(|_| Error::NotProven)?;
        Ok(self.theirs.claim())
    }
}

/// Bytes that nobody can guess, from the system.
///
/// # Errors
/// [`Error::System`] when `/dev/urandom` cannot be read.
pub fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|source| Error::System { call: "read /dev/urandom", source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Claim = Claim { rank: 4, flow: 2 };

    fn key() -> Key {
        Key::new([9; 32])
    }

    /// A dialler of rank 4 and a listener of rank 5 that has its hello.
    fn pair(dialler: &Key, listener: &Key) -> (Dialler, Listener) {
        let dialler = Dialler::new(dialler, ME, 5).unwrap();
        let listener = Listener::new(listener, 5, &dialler.hello()).unwrap();
        (dialler, listener)
    }

    fn proven<T>(result: Result<T>) -> bool {
        match result {
            Ok(_) => true,
            Err(Error::NotProven) => false,
            Err(other) => panic!("unexpected error {other}"),
        }
    }

    #[test]
    fn the_right_key_proves_both_sides() {
        let (dialler, listener) = pair(&key(), &key());
        let mac = dialler.verify(&listener.reply()).unwrap();
        assert_eq!(listener.verify(&mac).unwrap(), ME);
    }

    #[test]
    fn a_wrong_key_proves_neither_side() {
        let other = key().derive("another job");
        let (dialler, listener) = pair(&key(), &other);
        assert!(!proven(dialler.verify(&listener.reply())));

        // A dialler that does not check: the listener must.
        let (dialler, listener) = pair(&other, &key());
        let forged =
            other.mac(&[DIALLER, &dialler.hello(), &listener.mine.0]).finalize().into_bytes();
        assert!(!proven(listener.verify(&forged.into())));
    }

    #[test]
    fn a_recorded_handshake_fails_on_both_sides() {
        let (dialler, listener) = pair(&key(), &key());
        let (hello, reply) = (dialler.hello(), listener.reply());
        let mac = dialler.verify(&reply).unwrap();
        listener.verify(&mac).unwrap();

        assert!(!proven(Listener::new(&key(), 5, &hello).unwrap().verify(&mac)));
        assert!(!proven(Dialler::new(&key(), ME, 5).unwrap().verify(&reply)));
    }

    #[test]
    fn a_reflected_handshake_fails() {
        // Somebody without the key has the dialler's own rank answer it, under the rank that was dialled.
        let dialler = Dialler::new(&key(), Claim { rank: 4, flow: 0 }, 4).unwrap();
        let mirror = Listener::new(&key(), 4, &dialler.hello()).unwrap();
        let mut reflected = [0; REPLY_LEN];
        reflected[..HELLO_LEN].copy_from_slice(&dialler.hello());
        reflected[HELLO_LEN..].copy_from_slice(&mirror.reply()[HELLO_LEN..]);
        assert!(!proven(dialler.verify(&reflected)));

        // And sends the listener's own code back to it.
        let (_, listener) = pair(&key(), &key());
        let own = *listener.reply().last_chunk().unwrap();
        assert!(!proven(listener.verify(&own)));
    }

    #[test]
    fn another_rank_with_the_key_is_not_taken_for_the_one_dialled() {
        let dialler = Dialler::new(&key(), ME, 5).unwrap();
        let other = Listener::new(&key(), 6, &dialler.hello()).unwrap();
        assert!(!proven(dialler.verify(&other.reply())));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        for bit in 0..HELLO_LEN * 8 {
            let dialler = Dialler::new(&key(), ME, 5).unwrap();
            let mut hello = dialler.hello();
            hello[bit / 8] ^= 1 << (bit % 8);
            let listener = Listener::new(&key(), 5, &hello).unwrap();
            assert!(!proven(dialler.verify(&listener.reply())), "bit {bit} of the hello");
        }
        for bit in 0..REPLY_LEN * 8 {
            let (dialler, listener) = pair(&key(), &key());
            let mut reply = listener.reply();
            reply[bit / 8] ^= 1 << (bit % 8);
            assert!(!proven(dialler.verify(&reply)), "bit {bit} of the reply");
        }
        for bit in 0..MAC_LEN * 8 {
            let (dialler, listener) = pair(&key(), &key());
            let mut mac = dialler.verify(&listener.reply()).unwrap();
            mac[bit / 8] ^= 1 << (bit % 8);
            assert!(!proven(listener.verify(&mac)), "bit {bit} of the code");
        }
    }

    #[test]
    fn derived_keys_are_hmac_sha256() {
        // The expected bytes are from Python's hmac module.
        let derived = Key::new([0; 32]).derive("dure data");
        assert_eq!(derived.bytes()[..8], [0x6a, 0x0c, 0x85, 0x3e, 0x67, 0xb3, 0xc7, 0x61]);
        assert_ne!(derived.bytes(), Key::new([0; 32]).derive("dure id").bytes());
    }

    #[test]
    fn a_key_does_not_print_itself() {
        assert_eq!(format!("{:?}", key()), "Key(..)");
    }
}
