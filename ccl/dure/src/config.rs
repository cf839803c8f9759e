//! Settings of a communicator, and the one table that reads, documents and lists them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

mod algo;
mod setting;

pub use self::algo::AlgorithmRules;
pub use self::setting::{
    Coherence, Interfaces, PortRange, Progress, Secret, TcpDriver, Transports, Tune,
};
use self::setting::{
    Count, Devices, Duration as Span, Kind, Maybe, Number, Path, Paths, Size, Switch, Text, nearest,
};

/// One variable, for documentation and messages.
struct Variable {
    name: &'static str,
    meaning: &'static str,
    default: &'static str,
    allowed: fn() -> String,
}

/// From one line a setting: the field, its setter, its parser and its documentation.
macro_rules! settings {
    ($( #[doc = $doc:literal] $name:literal $field:ident: $type:ty, $kind:ty = $value:expr, $default:literal; )+) => {
        /// Settings of a communicator. `Default` is right for most; setters change one at a time.
        ///
        /// Libraries never read the environment: only programs and the C entry points call [`Config::from_env`].
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Config {
            $( #[doc = $doc] pub $field: $type, )+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $( $field: $value, )+ }
            }
        }

        impl Config {
            $( #[doc = $doc]
            #[must_use]
            pub fn $field(mut self, $field: $type) -> Self {
                self.$field = $field;
                self
            } )+

            /// Sets what a variable names; `None` when there is no such variable.
            fn set(&mut self, name: &str, text: &str) -> Option<std::result::Result<(), String>> {
                match name {
                    $( $name => Some(<$kind as Kind>::parse(text).map(|value| self.$field = value)), )+
                    _ => None,
                }
            }
        }

        const VARIABLES: &[Variable] = &[
            $( Variable { name: $name, meaning: $doc, default: $default, allowed: <$kind as Kind>::allowed }, )+
        ];
    };
}

settings! {
    /// Where rank 0 listens, `host:port`, or a unique id in hexadecimal digits.
    "DURE_ROOT" root: Option<String>, Maybe<Text> = None, "set by the launcher";
    /// Number of this process in the job.
    "DURE_RANK" rank: Option<u32>, Maybe<Number> = None, "set by the launcher";
    /// Number of processes in the job.
    "DURE_SIZE" size: Option<u32>, Maybe<Count> = None, "set by the launcher";
    /// Text that the ranks share and nobody else knows, when `DURE_ROOT` is `host:port`.
    "DURE_SECRET" secret: Option<Secret>, Maybe<Secret> = None, "derived from the launcher's job id, which is weak";
    /// Transports that may be used.
    "DURE_TRANSPORT" transport: Transports, Transports = Transports::default(), "all";
    /// Ports to listen on.
    "DURE_PORT_RANGE" port_range: Option<PortRange>, Maybe<PortRange> = None, "any free port";
    /// Network interfaces that may be used.
    "DURE_IFNAME" ifname: Option<Interfaces>, Maybe<Interfaces> = None, "all, likely ones first";
    /// TCP connections per pair of ranks.
    "DURE_TCP_FLOWS" tcp_flows: Option<u32>, Maybe<Count> = None, "chosen by the transport";
    /// How bytes are moved between sockets and memory.
    "DURE_TCP_DRIVER" tcp_driver: TcpDriver, TcpDriver = TcpDriver::Auto, "auto, by the number of peers";
    /// Devices of a pool of memory that hosts share: /dev/dax devices, or files.
    "DURE_POOL" pool: Vec<PathBuf>, Paths = Vec::new(), "none";
    /// Partition of the pool: the same on all ranks, another for each job.
    "DURE_POOL_PARTITION" pool_partition: u32, Number = 0, "0";
    /// Member of the pool that this process is.
    "DURE_POOL_MEMBER" pool_member: Option<u32>, Maybe<Number> = None, "the rank";
    /// Whether hosts flush their caches of the pool, or hardware keeps them coherent: on one host, or by back-invalidation.
    "DURE_POOL_COHERENCE" pool_coherence: Coherence, Coherence = Coherence::Software, "software";
    /// Take over the member of a process that has died.
    "DURE_POOL_TAKE_OVER" pool_take_over: bool, Switch = false, "off";
    /// How long a member of the pool may show no sign of life.
    "DURE_POOL_PATIENCE" pool_patience: Duration, Span = Duration::from_secs(5), "5s";
    /// Plug-ins for devices, and folders of plug-ins.
    "DURE_DEVICE_PLUGINS" device_plugins: Vec<PathBuf>, Paths = Vec::new(), "those in /usr/lib/dure/devices";
    /// Devices whose memory calls of this process may use: NVIDIA's GPUs, as cuda:0, and those of plug-ins.
    "DURE_DEVICE" device: Vec<String>, Devices = Vec::new(), "none: host memory only";
    /// RDMA devices that may be used.
    "DURE_HCA" hca: Option<Interfaces>, Maybe<Interfaces> = None, "all with an active port, four ports at most";
    /// Index of the GID that RDMA uses on every port.
    "DURE_GID_INDEX" gid_index: Option<u32>, Maybe<Number> = None, "by peer: RoCE v2, in the same subnet if there is one";
    /// RDMA queue pairs per pair of ranks, on each pair of ports.
    "DURE_RDMA_FLOWS" rdma_flows: Option<u32>, Maybe<Count> = None, "chosen by the transport";
    /// Memory that stays registered for RDMA after its last call. It must not be unmapped and mapped anew meanwhile.
    "DURE_RDMA_CACHE" rdma_cache: Option<usize>, Maybe<Size> = None, "none";
    /// Algorithms that may be used, by collective.
    "DURE_ALGO" algo: AlgorithmRules, AlgorithmRules = AlgorithmRules::default(), "all, chosen by predicted time";
    /// Parallel lanes of a collective.
    "DURE_LANES" lanes: Option<u32>, Maybe<Count> = None, "chosen by size";
    /// Slots of an edge: how many messages may be under way.
    "DURE_SLOTS" slots: u32, Count = 4, "4";
    /// Bytes of a slot.
    "DURE_SLOT_BYTES" slot_bytes: usize, Size = 1 << 20, "1M";
    /// Put buffers that peers of the same host read again and again on huge pages.
    "DURE_HUGE_PAGES" huge_pages: bool, Switch = true, "on, unless the system is set to never use them";
    /// Who moves calls on: the calling thread, or a progress thread.
    "DURE_PROGRESS" progress: Option<Progress>, Maybe<Progress> = None, "by call";
    /// How long a rank waits for others before it gives up.
    "DURE_TIMEOUT" timeout: Duration, Span = Duration::from_secs(600), "10min";
    /// Compare what the ranks call, so that a mismatch is an error on all of them.
    "DURE_CHECK" check: bool, Switch = true, "on";
    /// Bit-equal results for equal inputs, whatever the lanes, slots, transports and timing.
    "DURE_DETERMINISTIC" deterministic: bool, Switch = false, "off";
    /// File with plans to use, in the text form.
    "DURE_PLAN_FILE" plan_file: Option<PathBuf>, Maybe<Path> = None, "none";
    /// Beginning of the paths that plans in use are written to; `.COLLECTIVE.ALGORITHM.plan` is appended.
    "DURE_PLAN_DUMP" plan_dump: Option<PathBuf>, Maybe<Path> = None, "none";
    /// What predictions of calls' times rest on, as `dure profile fit` or `dure profile measure` writes it.
    "DURE_PROFILE" profile: Option<PathBuf>, Maybe<Path> = None, "what came with the library";
    /// File with algorithms that may not serve somewhere.
    "DURE_QUARANTINE" quarantine: Option<PathBuf>, Maybe<Path> = None, "none";
    /// File that describes the fabric between the hosts.
    "DURE_TOPO_FILE" topo_file: Option<PathBuf>, Maybe<Path> = None, "none: one ideal switch";
    /// Whether measured times of calls move the choice of algorithms.
    "DURE_TUNE" tune: Tune, Tune = Tune::Off, "off";
    /// File that rank 0 writes its profile to at the end, corrected by what was measured with `DURE_TUNE=online`.
    "DURE_PROFILE_DUMP" profile_dump: Option<PathBuf>, Maybe<Path> = None, "none";
    /// What to log: a level, or `target=level` separated by commas.
    "DURE_LOG" log: String, Text = "warn".to_owned(), "warn";
    /// Beginning of the path that flight records are written to; the rank and `.trace` are appended.
    "DURE_TRACE_FILE" trace_file: Option<PathBuf>, Maybe<Path> = None, "none";
}

impl Config {
    /// Settings from the process's environment.
    ///
    /// # Errors
    /// As [`Config::from_pairs`].
    pub fn from_env() -> Result<Self> {
        let pairs = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("DURE_"))?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        Self::from_pairs(pairs)
    }

    /// Settings from names and values. Names that do not begin with `DURE_` are ignored; so are empty values, as after
    /// `export DURE_ALGO=`.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown name, with the nearest known one, and for a bad value, with the allowed ones.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self> {
        let mut config = Self::default();
        for (name, value) in pairs {
            let (name, value) = (name.as_ref(), value.as_ref().trim());
            if !name.starts_with("DURE_") || value.is_empty() {
                continue;
            }
            match config.set(name, value) {
                None => return Err(unknown(name)),
                Some(Err(why)) => return Err(bad_value(name, value, &why)),
                Some(Ok(())) => {}
            }
        }
        Ok(config)
    }

    /// Settings that must be the same on all ranks of a communicator, as text, in a fixed order.
    pub(crate) fn agreed(&self) -> BTreeMap<String, String> {
        let on_off = |on: bool| if on { "on" } else { "off" }.to_owned();
        let lanes = self.lanes.map_or_else(|| "by size".to_owned(), |lanes| lanes.to_string());
        let flows =
            self.tcp_flows.map_or_else(|| "by transport".to_owned(), |flows| flows.to_string());
        let queue_pairs =
            self.rdma_flows.map_or_else(|| "by transport".to_owned(), |flows| flows.to_string());
        [
            ("DURE_TRANSPORT", self.transport.to_string()),
            ("DURE_POOL_PARTITION", self.pool_partition.to_string()),
            ("DURE_POOL_COHERENCE", format!("{:?}", self.pool_coherence).to_lowercase()),
            ("DURE_TCP_FLOWS", flows),
            ("DURE_RDMA_FLOWS", queue_pairs),
            ("DURE_ALGO", self.algo.to_string()),
            ("DURE_LANES", lanes),
            ("DURE_SLOTS", self.slots.to_string()),
            ("DURE_SLOT_BYTES", self.slot_bytes.to_string()),
            ("DURE_TIMEOUT", format!("{:?}", self.timeout)),
            ("DURE_CHECK", on_off(self.check)),
            ("DURE_DETERMINISTIC", on_off(self.deterministic)),
            ("DURE_PROFILE", content(self.profile.as_deref())),
            ("DURE_QUARANTINE", content(self.quarantine.as_deref())),
            ("DURE_TOPO_FILE", content(self.topo_file.as_deref())),
            ("DURE_TUNE", self.tune.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// The table of all variables, as `docs/environment.md` holds it.
    pub fn documentation() -> String {
        let mut text = String::from(
            "# Environment\n\n\
             Programs and the C entry points read these variables once, when they start; the Rust library never does.\n\
             An unknown `DURE_` name or a bad value is an error. An empty value counts as not set.\n\n\
             | variable | meaning | values | default |\n|---|---|---|---|\n",
        );
        for variable in VARIABLES {
            let (name, meaning, default) =
                (variable.name, variable.meaning.trim(), variable.default);
            let allowed = (variable.allowed)().replace('|', "\\|");
            writeln!(text, "| `{name}` | {meaning} | {allowed} | {default} |")
                .expect("strings take all text");
        }
        text
    }
}

/// A file's content, as far as it must be the same on all ranks.
fn content(path: Option<&std::path::Path>) -> String {
    let Some(path) = path else { return "none".to_owned() };
    match std::fs::read(path) {
        Ok(bytes) => {
            Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
        }
        Err(error) => error.to_string(),
    }
}

fn unknown(name: &str) -> Error {
    let names = || VARIABLES.iter().map(|variable| variable.name);
    let nearest =
        nearest(name, names()).map_or_else(String::new, |near| format!("; did you mean {near}?"));
    let all: Vec<_> = names().collect();
    Error::invalid_argument(format!("unknown setting {name}{nearest} (known: {})", all.join(", ")))
}

fn bad_value(name: &str, value: &str, why: &str) -> Error {
    let variable = VARIABLES.iter().find(|variable| variable.name == name);
    let allowed = variable.map_or_else(String::new, |variable| (variable.allowed)());
    Error::invalid_argument(format!("{name}=\"{value}\": {why} (allowed: {allowed})"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(name: &str, value: &str) -> Result<Config> {
        Config::from_pairs([(name, value)])
    }

    #[test]
    fn every_setting_is_read() {
        let config = Config::from_pairs([
            ("PATH", "/bin"),
            ("DURE_ROOT", "node1:29501"),
            ("DURE_RANK", "3"),
            ("DURE_SIZE", "4"),
            ("DURE_SECRET", "s"),
            ("DURE_TRANSPORT", "^tcp"),
            ("DURE_PORT_RANGE", "5000-5010"),
            ("DURE_IFNAME", "eth,ib"),
            ("DURE_TCP_FLOWS", "2"),
            ("DURE_TCP_DRIVER", "io_uring"),
            ("DURE_HCA", "^=mlx5_3"),
            ("DURE_GID_INDEX", "3"),
            ("DURE_RDMA_FLOWS", "4"),
            ("DURE_RDMA_CACHE", "1G"),
            ("DURE_LANES", "8"),
            ("DURE_SLOTS", "2"),
            ("DURE_SLOT_BYTES", "1M"),
            ("DURE_HUGE_PAGES", "off"),
            ("DURE_PROGRESS", "thread"),
            ("DURE_TIMEOUT", "90s"),
            ("DURE_CHECK", "off"),
            ("DURE_DETERMINISTIC", "on"),
            ("DURE_PLAN_FILE", "/tmp/plans"),
            ("DURE_PROFILE", "/tmp/profile"),
            ("DURE_QUARANTINE", "/tmp/bad"),
            ("DURE_TOPO_FILE", "/tmp/fabric"),
            ("DURE_TUNE", "online"),
            ("DURE_PROFILE_DUMP", "/tmp/measured"),
            ("DURE_LOG", "dure=debug"),
            ("DURE_TRACE_FILE", "/tmp/flight"),
        ])
        .unwrap();
        let expected = Config::default()
            .root(Some("node1:29501".to_owned()))
            .rank(Some(3))
            .size(Some(4))
            .secret(Some(Secret("s".to_owned())))
            .transport(Transports::parse("^tcp").unwrap())
            .port_range(Some(PortRange { first: 5000, last: 5010 }))
            .ifname(Some(Interfaces::parse("eth,ib").unwrap()))
            .tcp_flows(Some(2))
            .tcp_driver(TcpDriver::IoUring)
            .hca(Some(Interfaces::parse("^=mlx5_3").unwrap()))
            .gid_index(Some(3))
            .rdma_flows(Some(4))
            .rdma_cache(Some(1 << 30))
            .lanes(Some(8))
            .slots(2)
            .slot_bytes(1 << 20)
            .huge_pages(false)
            .progress(Some(Progress::Thread))
            .timeout(Duration::from_secs(90))
            .check(false)
            .deterministic(true)
            .plan_file(Some("/tmp/plans".into()))
            .profile(Some("/tmp/profile".into()))
            .quarantine(Some("/tmp/bad".into()))
            .topo_file(Some("/tmp/fabric".into()))
            .tune(Tune::Online)
            .profile_dump(Some("/tmp/measured".into()))
            .log("dure=debug".to_owned())
            .trace_file(Some("/tmp/flight".into()));
        assert_eq!(config, expected);
    }

    #[test]
    fn unknown_names_are_errors_with_the_nearest_name() {
        let error = one("DURE_SLOT_BYTE", "1").unwrap_err();
        assert!(
            error.what.contains("did you mean DURE_SLOT_BYTES?")
                && error.what.contains("DURE_RANK"),
            "{error}"
        );
        let error = one("DURE_XYZZY_PLUGH", "1").unwrap_err();
        assert!(!error.what.contains("did you mean"), "{error}");
    }

    #[test]
    fn bad_values_are_errors_with_the_allowed_ones() {
        for (name, value, expected) in [
            ("DURE_TRANSPORT", "tpc", "pool"),
            ("DURE_CHECK", "maybe", "on, off"),
            ("DURE_TIMEOUT", "ten", "10min"),
            ("DURE_SLOTS", "0", "at least 1"),
            ("DURE_SLOT_BYTES", "12X", "256K"),
            ("DURE_PROGRESS", "both", "caller, thread"),
            ("DURE_PORT_RANGE", "9-3", "A-B"),
            ("DURE_ALGO", "allreduce:rign", "ring"),
            ("DURE_TUNE", "on", "off, online"),
        ] {
            let error = one(name, value).unwrap_err();
            assert!(error.what.contains(expected) && error.what.contains(name), "{error}");
        }
    }

    #[test]
    fn empty_values_count_as_not_set() {
        assert_eq!(one("DURE_ALGO", " ").unwrap(), Config::default());
    }

    #[test]
    fn agreed_settings_tell_configurations_apart() {
        let config = Config::default();
        assert_eq!(config.agreed(), Config::default().agreed());
        assert_ne!(config.agreed(), config.clone().slots(3).agreed());
        assert_eq!(Config::default().agreed(), config.log("debug".to_owned()).agreed());
    }

    #[test]
    fn documentation_is_up_to_date() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .unwrap()
            .join("docs/environment.md");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        assert_eq!(
            text,
            Config::documentation(),
            "docs/environment.md differs from the table in config.rs"
        );
    }

    proptest! {
        #[test]
        fn any_value_is_a_setting_or_an_error(which in 0..VARIABLES.len(), value in "\\PC{0,40}") {
            let _ = one(VARIABLES[which].name, &value);
        }
    }
}
