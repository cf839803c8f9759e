//! The 128 bytes that make a set of processes a job: where the root listens, and the secret they share.

use std::fmt::{self, Debug, Display, Write as _};
use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use dure_transport::proof::Key;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// Layout: version, number of addresses, port (2, little endian), secret (32), then 17 bytes an address (4 or 6, and 16
/// bytes of which IPv4 uses 4), then zeros, and last the [`Origin`].
const VERSION: u8 = 1;
const SECRET: std::ops::Range<usize> = 4..36;
const ADDRESSES: usize = 36;
const ADDRESS: usize = 17;
const ORIGIN: usize = 127;

/// How an id came about, which decides what a rank makes of a root that does not expect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Made by the root, for one job: the root was there before the id.
    Random = 0,
    /// Derived from another job's: the secret is right, but the root may not expect anybody yet.
    Derived = 1,
    /// An agreed place and text: they may serve one job after the other.
    Agreed = 2,
}

/// Most addresses of the root that an id holds.
pub(crate) const MAX_ADDRESSES: usize = 5;

/// Names a job and lets into it: whoever knows it is a member. Made on one rank, carried to the others by the launcher's
/// means.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UniqueId(pub [u8; 128]);

impl UniqueId {
    /// An id with a fresh secret.
    ///
    /// # Errors
    /// `System` when the system gives no random bytes.
    pub(crate) fn random(port: u16, addresses: &[IpAddr]) -> Result<Self> {
        let mut secret = [0; 32];
        File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut secret))
            .map_err(|source| Error::system("/dev/urandom").because(source))?;
        Ok(Self::assemble(Origin::Random, &secret, port, addresses))
    }

    /// The id of a job whose root listens at an agreed place, `host:port`, and whose ranks know the same text.
    ///
    /// Any text will do, but the job is as safe as the text is hard to guess.
    ///
    /// # Errors
    /// `InvalidArgument` when `root` is not `host:port`, or the host has no address.
    pub fn from_root(root: &str, secret: &str) -> Result<Self> {
        let wrong = || Error::invalid_argument(format!("\"{root}\" is not host:port"));
        let (host, port) = root.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse::<u16>().ok().filter(|&port| port != 0).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong());
        }
        let found = (host, port).to_socket_addrs().map_err(|source| {
            Error::invalid_argument(format!("the root's host \"{host}\" is not known"))
                .because(source)
        })?;
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in found.map(|address| address.ip()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let key = Key::new(Sha256::digest(secret).into()).derive("dure root");
        Ok(Self::assemble(Origin::Agreed, key.bytes(), port, &addresses))
    }

    /// The id of a part of this job: its secret follows from this one's, so that nobody else needs to be told.
    pub(crate) fn derive(&self, label: &str, port: u16, addresses: &[IpAddr]) -> Self {
        let key = self.key(&format!("dure derive {label}"));
        Self::assemble(Origin::Derived, key.bytes(), port, addresses)
    }

    fn assemble(origin: Origin, secret: &[u8; 32], port: u16, addresses: &[IpAddr]) -> Self {
        let mut id = [0; 128];
        let addresses = &addresses[..addresses.len().min(MAX_ADDRESSES)];
        id[0] = VERSION;
        id[ORIGIN] = origin as u8;
        id[1] = u8::try_from(addresses.len()).expect("at most five");
        id[2..4].copy_from_slice(&port.to_le_bytes());
        id[SECRET].copy_from_slice(secret);
        for (slot, address) in id[ADDRESSES..].chunks_exact_mut(ADDRESS).zip(addresses) {
            match address {
                IpAddr::V4(address) => {
                    slot[0] = 4;
                    slot[1..5].copy_from_slice(&address.octets());
                }
                IpAddr::V6(address) => {
                    slot[0] = 6;
                    slot[1..17].copy_from_slice(&address.octets());
                }
            }
        }
        Self(id)
    }

    /// Whether the bytes are an id at all.
    ///
    /// # Errors
    /// `InvalidArgument` says what is wrong.
    pub fn validate(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::invalid_argument(format!("not a unique id: {what}")));
        let count = usize::from(self.0[1]);
        if self.0[0] != VERSION {
            return wrong(format!("version {} instead of {VERSION}", self.0[0]));
        }
        if count > MAX_ADDRESSES {
            return wrong(format!("{count} addresses, at most {MAX_ADDRESSES} fit"));
        }
        if self.0[ORIGIN] > Origin::Agreed as u8 {
            return wrong(format!("origin {}", self.0[ORIGIN]));
        }
        if self.port() == 0 {
            return wrong("port 0".to_owned());
        }
        let slots = self.0[ADDRESSES..].chunks_exact(ADDRESS).take(count);
        if let Some(slot) = slots.into_iter().find(|slot| !matches!(slot[0], 4 | 6)) {
            return wrong(format!("address of kind {}", slot[0]));
        }
        Ok(())
    }

    /// The key for one purpose.
    fn key(&self, purpose: &str) -> Key {
        let secret = self.0[SECRET].try_into().expect("the range is 32 bytes long");
        Key::new(secret).derive(purpose)
    }

    /// How it came about.
    pub(crate) fn origin(&self) -> Origin {
        match self.0[ORIGIN] {
            1 => Origin::Derived,
            2 => Origin::Agreed,
            _ => Origin::Random,
        }
    }

    /// The root's port.
    pub(crate) fn port(&self) -> u16 {
        u16::from_le_bytes([self.0[2], self.0[3]])
    }

    /// Where the root may be reached, best first.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let count = usize::from(self.0[1]).min(MAX_ADDRESSES);
        let slots = self.0[ADDRESSES..].chunks_exact(ADDRESS).take(count);
        slots.filter_map(address).map(|address| SocketAddr::new(address, self.port())).collect()
    }

    /// What connections of this job name in clear, so that a process with several jobs knows whose they are.
    pub(crate) fn name(&self) -> [u8; 16] {
        let full = self.key("dure id");
        std::array::from_fn(|i| full.bytes()[i])
    }

    /// The key that data connections prove to know.
    pub(crate) fn data_key(&self) -> Key {
        self.key("dure data")
    }

    /// The pre-shared key of the control plane's Noise handshakes.
    pub(crate) fn control_key(&self) -> Key {
        self.key("dure control")
    }
}

fn address(slot: &[u8]) -> Option<IpAddr> {
    let octets: [u8; 16] = slot[1..17].try_into().expect("a slot is 17 bytes");
    match slot[0] {
        4 => Some(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into()),
        6 => Some(Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// The text form: 256 hexadecimal digits.
impl Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(256);
        for byte in self.0 {
            write!(text, "{byte:02x}")?;
        }
        f.pad(&text)
    }
}

/// Without the secret: debug output ends up in logs.
impl Debug for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UniqueId").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

impl FromStr for UniqueId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: &str| Error::invalid_argument(format!("not a unique id: {what}"));
        let text = text.trim();
        if text.len() != 256 {
            return Err(wrong(&format!("{} characters instead of 256", text.len())));
        }
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut id = [0; 128];
        for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(wrong("only hexadecimal digits may stand in it"));
            };
            *byte = high << 4 | low;
        }
        let id = Self(id);
        id.validate()?;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> UniqueId {
        UniqueId::random(4711, &["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()]).unwrap()
    }

    #[test]
    fn text_form_round_trips() {
        let id = sample();
        assert_eq!(id.to_string().parse::<UniqueId>().unwrap(), id);
        assert_eq!(id.port(), 4711);
        assert_eq!(
            id.addresses(),
            ["10.0.0.7:4711".parse().unwrap(), "[fd00::7]:4711".parse().unwrap()]
        );
    }

    #[test]
    fn debug_hides_the_secret() {
        let id =
            UniqueId::assemble(Origin::Random, &[0xab; 32], 1, &["127.0.0.1".parse().unwrap()]);
        let text = format!("{id:?}");
        assert!(
            text.contains("127.0.0.1:1") && !text.contains("171") && !text.contains("ab"),
            "{text}"
        );
    }

    #[test]
    fn wrong_text_says_what_is_wrong() {
        let text = sample().to_string();
        for (text, expected) in [
            ("12", "2 characters instead of 256"),
            (&text.replacen('0', "z", 1), "only hexadecimal digits"),
            (&format!("02{}", &text[2..]), "version 2 instead of 1"),
            (&format!("0109{}", &text[4..]), "9 addresses"),
            (&format!("01020000{}", &text[8..]), "port 0"),
        ] {
            let error = text.parse::<UniqueId>().unwrap_err();
            assert!(error.what.contains(expected), "{error}");
        }
    }

    #[test]
    fn root_and_text_give_every_rank_the_same_keys() {
        let a = UniqueId::from_root("127.0.0.1:29501", "job 7").unwrap();
        let b = UniqueId::from_root("localhost:29501", "job 7").unwrap();
        let c = UniqueId::from_root("127.0.0.1:29501", "job 8").unwrap();
        let keys = |id: &UniqueId| (id.name(), *id.control_key().bytes(), *id.data_key().bytes());
        assert_eq!(keys(&a), keys(&b));
        assert!(keys(&a).0 != keys(&c).0 && keys(&a).1 != keys(&c).1 && keys(&a).2 != keys(&c).2);
        assert_ne!(keys(&a).1, keys(&a).2);
        assert_eq!(
            UniqueId::from_root("[::1]:80", "").unwrap().addresses(),
            ["[::1]:80".parse().unwrap()]
        );
        for wrong in ["host", "host:", ":80", "host:0", "host:70000"] {
            let error = UniqueId::from_root(wrong, "").unwrap_err();
            assert!(error.what.contains("is not host:port"), "{error}");
        }
    }

    #[test]
    fn derived_ids_depend_on_parent_and_label() {
        let (a, b) = (sample(), sample());
        let part = |id: &UniqueId, label: &str| id.derive(label, 9, &[]).name();
        assert_eq!(part(&a, "1"), part(&a, "1"));
        assert_ne!(part(&a, "1"), part(&a, "2"));
        assert_ne!(part(&a, "1"), part(&b, "1"));
    }

    proptest! {
        #[test]
        fn any_text_is_an_id_or_an_error(text in "[0-9a-f]{0,300}") {
            let _ = text.parse::<UniqueId>();
        }

        #[test]
        fn any_bytes_can_be_looked_at(bytes in proptest::collection::vec(any::<u8>(), 128)) {
            let id = UniqueId(bytes.try_into().unwrap());
            let _ = (id.validate(), id.addresses(), id.name());
        }
    }
}
