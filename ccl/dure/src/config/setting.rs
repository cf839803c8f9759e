//! How each kind of setting is written.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::path::PathBuf;

pub use dure_pool::cxl::Coherence;
pub use dure_tcp::Driver as TcpDriver;

/// A way to write a value. The error of `parse` says what is wrong, without the text itself.
pub(super) trait Kind {
    type Value;
    fn parse(text: &str) -> Result<Self::Value, String>;
    /// What may be written, for messages and documentation.
    fn allowed() -> String;
}

/// A setting that may be left open.
pub(super) struct Maybe<K>(PhantomData<K>);

impl<K: Kind> Kind for Maybe<K> {
    type Value = Option<K::Value>;

    fn parse(text: &str) -> Result<Self::Value, String> {
        K::parse(text).map(Some)
    }

    fn allowed() -> String {
        K::allowed()
    }
}

pub(super) struct Text;

impl Kind for Text {
    type Value = String;

    fn parse(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    fn allowed() -> String {
        "any text".to_owned()
    }
}

pub(super) struct Path;

impl Kind for Path {
    type Value = PathBuf;

    fn parse(text: &str) -> Result<PathBuf, String> {
        Ok(text.into())
    }

    fn allowed() -> String {
        "a path".to_owned()
    }
}

pub(super) struct Paths;

impl Kind for Paths {
    type Value = Vec<PathBuf>;

    fn parse(text: &str) -> Result<Self::Value, String> {
        Ok(list(text, "path")?.map(PathBuf::from).collect())
    }

    fn allowed() -> String {
        "paths, separated by commas".to_owned()
    }
}

/// The parts of a list with commas between them, none of which is empty.
fn list<'t>(text: &'t str, what: &str) -> Result<impl Iterator<Item = &'t str>, String> {
    let parts = text.split(',').map(str::trim);
    if parts.clone().any(str::is_empty) {
        return Err(format!("an empty {what} in the list"));
    }
    Ok(parts)
}

pub(super) struct Devices;

impl Kind for Devices {
    type Value = Vec<String>;

    fn parse(text: &str) -> Result<Self::Value, String> {
        Ok(list(text, "name")?.map(str::to_owned).collect())
    }

    fn allowed() -> String {
        "VENDOR:INDEX, separated by commas".to_owned()
    }
}

/// A text that is not printed where it might be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Kind for Secret {
    type Value = Self;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }

    fn allowed() -> String {
        Text::allowed()
    }
}

/// A number from 0.
pub(super) struct Number;

impl Kind for Number {
    type Value = u32;

    fn parse(text: &str) -> Result<u32, String> {
        text.parse().map_err(|_| "not a whole number".to_owned())
    }

    fn allowed() -> String {
        "a whole number".to_owned()
    }
}

/// A number from 1.
pub(super) struct Count;

impl Kind for Count {
    type Value = u32;

    fn parse(text: &str) -> Result<u32, String> {
        match Number::parse(text)? {
            0 => Err("too small".to_owned()),
            count => Ok(count),
        }
    }

    fn allowed() -> String {
        "a whole number, at least 1".to_owned()
    }
}

/// Bytes: `65536`, `256K`, `1M`; the units are powers of 1024.
pub(super) struct Size;

impl Kind for Size {
    type Value = usize;

    fn parse(text: &str) -> Result<usize, String> {
        let (number, unit) = split_unit(text);
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            _ => return Err(format!("unknown unit \"{unit}\"")),
        };
        let number: usize = number.parse().map_err(|_| "not a size".to_owned())?;
        match number.checked_mul(1 << shift) {
            None => Err("too large".to_owned()),
            Some(0) => Err("too small".to_owned()),
            Some(bytes) => Ok(bytes),
        }
    }

    fn allowed() -> String {
        "bytes, as 65536, 256K, 1M or 1G".to_owned()
    }
}

/// A time: `500ms`, `60s`, `10min`, `1h`.
pub(super) struct Duration;

impl Kind for Duration {
    type Value = std::time::Duration;

    fn parse(text: &str) -> Result<Self::Value, String> {
        let (number, unit) = split_unit(text);
        let milliseconds: u64 = match unit.to_ascii_lowercase().as_str() {
            "ms" => 1,
            "s" => 1000,
            "min" => 60_000,
            "h" => 3_600_000,
            "" => return Err("no unit".to_owned()),
            _ => return Err(format!("unknown unit \"{unit}\"")),
        };
        let number: u64 = number.parse().map_err(|_| "not a time".to_owned())?;
        // A year: far enough for every deadline, and adding it to a clock cannot overflow.
        match number.checked_mul(milliseconds).filter(|&total| total <= 366 * 86_400_000) {
            None => Err("longer than a year".to_owned()),
            Some(0) => Err("too short".to_owned()),
            Some(total) => Ok(Self::Value::from_millis(total)),
        }
    }

    fn allowed() -> String {
        "a time, as 500ms, 60s, 10min or 1h".to_owned()
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    (number, unit.trim())
}

/// On or off.
pub(super) struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn parse(text: &str) -> Result<bool, String> {
        match text.to_ascii_lowercase().as_str() {
            "on" | "1" | "true" => Ok(true),
            "off" | "0" | "false" => Ok(false),
            _ => Err("neither on nor off".to_owned()),
        }
    }

    fn allowed() -> String {
        "on, off".to_owned()
    }
}

/// Who moves calls on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The thread that called.
    Caller,
    /// A thread of the library.
    Thread,
}

impl Kind for Progress {
    type Value = Self;

    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "caller" => Ok(Self::Caller),
            "thread" => Ok(Self::Thread),
            _ => Err("unknown".to_owned()),
        }
    }

    fn allowed() -> String {
        "caller, thread".to_owned()
    }
}

impl Kind for Coherence {
    type Value = Self;

    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "software" => Ok(Self::Software),
            "hardware" => Ok(Self::Hardware),
            _ => Err("unknown".to_owned()),
        }
    }

    fn allowed() -> String {
        "software, hardware".to_owned()
    }
}

impl Kind for TcpDriver {
    type Value = Self;

    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "poll" => Ok(Self::Poll),
            "io_uring" => Ok(Self::IoUring),
            _ => Err("unknown".to_owned()),
        }
    }

    fn allowed() -> String {
        "auto, poll, io_uring".to_owned()
    }
}

/// Whether measured times of calls move the choice of algorithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tune {
    /// Calls of one size are served by one algorithm from the first on: the same program gives the same bits each time.
    #[default]
    Off,
    /// The first calls of each size try the candidates that are predicted to be nearly the fastest; the fastest by the
    /// ranks' clocks serves the rest. Not in deterministic mode.
    Online,
}

impl Kind for Tune {
    type Value = Self;

    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "off" => Ok(Self::Off),
            "online" => Ok(Self::Online),
            _ => Err("unknown".to_owned()),
        }
    }

    fn allowed() -> String {
        "off, online".to_owned()
    }
}

impl Display for Tune {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Online => "online",
        })
    }
}

/// Ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
}

impl Kind for PortRange {
    type Value = Self;

    fn parse(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|&port| port != 0);
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            (Some(_), Some(_)) => Err("the range is empty".to_owned()),
            _ => Err("not two ports".to_owned()),
        }
    }

    fn allowed() -> String {
        "A-B, with ports from 1 to 65535".to_owned()
    }
}

/// A list of names, or with a `^` in front all names but these. Names are lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) exclude: bool,
    pub(super) names: Vec<String>,
}

impl Names {
    /// Reads `a,b` or `^a,b`; `known` gives each name its proper form, if it has one.
    pub(super) fn parse<'k>(
        text: &str,
        known: impl Fn(&str) -> Option<&'k str>,
    ) -> Result<Self, String> {
        let (exclude, list) = text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
        let mut names = Vec::new();
        for name in list.split(',').map(|name| name.trim().to_ascii_lowercase()) {
            if name.is_empty() {
                return Err("an empty name in the list".to_owned());
            }
            let proper = known(&name).ok_or_else(|| format!("unknown name \"{name}\""))?;
            names.push(proper.to_owned());
        }
        names.sort();
        names.dedup();
        Ok(Self { exclude, names })
    }

    /// An empty list allows everything.
    pub(super) fn allows(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|known| known == name) != self.exclude
    }
}

impl Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.names.is_empty(), self.exclude) {
            (true, _) => f.write_str("all"),
            (false, exclude) => {
                write!(f, "{}{}", if exclude { "^" } else { "" }, self.names.join(","))
            }
        }
    }
}

/// Which transports may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transports(Names);

impl Transports {
    /// Every name there is.
    pub const KNOWN: [&str; 5] = ["pool", "npu", "cxl", "rdma", "tcp"];

    /// Whether a transport may be used.
    pub fn allows(&self, name: &str) -> bool {
        self.0.allows(name)
    }

    /// Only these, or with `^` all but these: `pool,tcp`, `^tcp`.
    ///
    /// # Errors
    /// The text says which name is unknown.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names =
            Names::parse(text, |name| Self::KNOWN.into_iter().find(|known| *known == name))?;
        let transports = Self(names);
        if Self::KNOWN.iter().any(|name| transports.allows(name)) {
            Ok(transports)
        } else {
            Err("no transport is left".to_owned())
        }
    }
}

impl Kind for Transports {
    type Value = Self;

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }

    fn allowed() -> String {
        format!("a list of {}; with ^ in front all but these", Self::KNOWN.join(", "))
    }
}

impl Display for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

/// Which network interfaces may be used: names that begin with one of `names`, or with `exact` are one of them, or with
/// `exclude` are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    exclude: bool,
    exact: bool,
    names: Vec<String>,
}

impl Interfaces {
    /// Whether an interface may be used.
    pub fn allows(&self, name: &str) -> bool {
        let matches = |known: &String| {
            if self.exact { name == known } else { name.starts_with(known.as_str()) }
        };
        self.names.iter().any(matches) != self.exclude
    }

    /// `eth,ib` for prefixes, `=eth0` for whole names, `^docker` and `^=eth3` for all others; as `NCCL_SOCKET_IFNAME`.
    ///
    /// # Errors
    /// The text says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (exclude, text) = text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
        let (exact, text) = text.strip_prefix('=').map_or((false, text), |rest| (true, rest));
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        if names.iter().any(String::is_empty) {
            return Err("an empty name in the list".to_owned());
        }
        Ok(Self { exclude, exact, names })
    }
}

impl Kind for Interfaces {
    type Value = Self;

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }

    fn allowed() -> String {
        "a list of prefixes; with = in front whole names; with ^ in front all but these".to_owned()
    }
}

impl Display for Interfaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (not, exact) = (if self.exclude { "^" } else { "" }, if self.exact { "=" } else { "" });
        write!(f, "{not}{exact}{}", self.names.join(","))
    }
}

/// The name that was probably meant, if one is near: at most a third of the letters differ.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .min()
        .filter(|&(distance, candidate)| distance * 3 <= candidate.len())
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance: letters to insert, delete or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        assert_eq!(Size::parse("256K"), Ok(262_144));
        assert_eq!(Size::parse("1MiB"), Ok(1 << 20));
        assert_eq!(Size::parse("7"), Ok(7));
        assert!(
            Size::parse("99999999999999G").is_err()
                && Size::parse("K").is_err()
                && Size::parse("0").is_err()
        );
        assert_eq!(Duration::parse("10min").unwrap().as_secs(), 600);
        assert_eq!(Duration::parse("500 ms").unwrap().as_millis(), 500);
        for wrong in ["10", "s", "0s", "9999999h", "1.5s", "-1s"] {
            assert!(Duration::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn transports_include_and_exclude() {
        let allowed = |text: &str| {
            Transports::KNOWN.map(|name| Transports::parse(text).unwrap().allows(name))
        };
        assert_eq!(allowed("tcp"), [false, false, false, false, true]);
        assert_eq!(allowed("^tcp"), [true, true, true, true, false]);
        assert_eq!(allowed("TCP, pool"), [true, false, false, false, true]);
        assert!(Transports::default().allows("tcp"));
        let none = Transports::parse("^tcp,pool,npu,rdma,cxl").unwrap_err();
        assert!(none.contains("no transport is left"), "{none}");
        assert!(Transports::parse("rdna").is_err() && Transports::parse("tcp,").is_err());
    }

    #[test]
    fn interfaces_by_prefix_exact_and_not() {
        let allows = |text: &str, name: &str| Interfaces::parse(text).unwrap().allows(name);
        assert!(allows("eth,ib", "eth0") && allows("eth,ib", "ib1") && !allows("eth", "ens3"));
        assert!(allows("=eth0", "eth0") && !allows("=eth0", "eth01"));
        assert!(!allows("^docker", "docker0") && allows("^docker", "eth0"));
        assert!(!allows("^=eth0", "eth0") && allows("^=eth0", "eth01"));
    }

    #[test]
    fn nearest_name() {
        let known = || ["DURE_LANES", "DURE_SLOTS", "DURE_LOG"].into_iter();
        assert_eq!(nearest("DURE_LANE", known()), Some("DURE_LANES"));
        assert_eq!(nearest("DURE_SLTOS", known()), Some("DURE_SLOTS"));
        assert_eq!(nearest("SOMETHING_ELSE", known()), None);
    }
}
