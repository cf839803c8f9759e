//! The flags, which are perftest's where that has them, and what follows from them.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::cxl::Coherence;
use super::test::{Kind, Test};
use crate::output::Failure;
use crate::size;

/// Measure a path between two processes, or all paths of a job.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "The server is started without HOST, the client with the server's: the client measures, and its settings hold; a\n\
        setting that the server is given too must be the same. Both print the table.\n\n\
        Write tests go through the transport as collectives do: a put of the message into the peer's memory, in latency\n\
        tests with its signal. Reads, sends and atomics are verbs of RDMA, beneath the transport. Bandwidth is that of all\n\
        messages from the first post until the server has said that all are there, in units of 2^20 bytes (10^9 bits with\n\
        --report_gbits); BW peak is the best between a post and a later completion, and 0 where only the other side knows when\n\
        messages land. Latency is half of a round trip for\n\
        write and send, a whole one for read and atomic. What arrived is compared with what was sent after every row.\n\n\
        matrix measures the paths between all ranks of a job, one after the other. Ranks come from --local N, or from the\n\
        environment that torchrun, mpirun, srun or DURE_RANK, DURE_SIZE and DURE_ROOT leave."
)]
pub(crate) struct Args {
    /// What to measure.
    #[arg(value_enum, value_name = "TEST")]
    pub(crate) test: Test,
    /// The server's host; this process is the server without it.
    #[arg(value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// The wire: rdma, tcp, pool (shared memory of one host), cxl (memory that hosts share) or npu.
    #[arg(long, value_enum, value_name = "WIRE")]
    pub(crate) transport: Option<Kind>,
    /// RDMA devices; several are used together by the write tests. The first that can be used by default.
    #[arg(short = 'd', long = "ib-dev", value_name = "NAME", value_delimiter = ',')]
    pub(crate) devices: Vec<String>,
    /// cxl: the devices of the pool, or files, as this host names them. Sides are the members of their ranks, the server 0.
    #[arg(long, value_name = "DEVICE", value_delimiter = ',')]
    pub(crate) pool: Vec<PathBuf>,
    /// cxl: which partition of the pool. Default: 0.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) pool_partition: Option<u32>,
    /// cxl: by what hosts see each other's stores. Default: software.
    #[arg(long, value_enum, value_name = "BY")]
    pub(crate) pool_coherence: Option<Coherence>,
    /// Port of the device.
    #[arg(short = 'i', long = "ib-port", value_name = "PORT", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) ib_port: Option<u8>,
    /// Index of the GID.
    #[arg(short = 'x', long = "gid-index", value_name = "INDEX")]
    pub(crate) gid_index: Option<u32>,
    /// Path MTU in bytes: 256, 512, 1024, 2048 or 4096. Default: the smaller of both ports' own.
    #[arg(short = 'm', long = "mtu", value_name = "BYTES", value_parser = mtu)]
    pub(crate) mtu: Option<u32>,
    /// Size of a message. Default: 65536, in latency tests 2.
    #[arg(short = 's', long = "size", value_name = "SIZE", value_parser = message, conflicts_with = "all")]
    pub(crate) size: Option<u64>,
    /// All sizes from 2 to 8388608 bytes.
    #[arg(short = 'a', long = "all")]
    pub(crate) all: bool,
    /// Messages a row and queue pair; at least 5. Default: 1000, for write-bw 5000.
    #[arg(short = 'n', long = "iters", value_name = "COUNT", value_parser = clap::value_parser!(u64).range(5..))]
    pub(crate) iterations: Option<u64>,
    /// Measure for so long instead; with --run_infinitely the time between rows.
    #[arg(short = 'D', long = "duration", value_name = "SECONDS", conflicts_with = "iterations",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: Option<u64>,
    /// Queue pairs, or flows of the transport.
    #[arg(short = 'q', long = "qp", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) queues: Option<u16>,
    /// Both sides send; the figures are their sums.
    #[arg(short = 'b', long = "bidirectional")]
    pub(crate) both: bool,
    /// Messages up to this size are copied when they are posted. Default: the transport decides; 0 for send-bw, 236 for send-lat.
    #[arg(short = 'I', long = "inline_size", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(..=4096))]
    pub(crate) inline: Option<u32>,
    /// Messages under way on a queue pair; the rdma transport of the write tests has at most 128.
    #[arg(short = 't', long = "tx-depth", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub(crate) depth: Option<u32>,
    /// Receives that are posted, for the send tests.
    #[arg(short = 'r', long = "rx-depth", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub(crate) receives: Option<u32>,
    /// Requests for which one completion is made; the transports of the write tests decide that themselves, and look for
    /// completions once in so many messages.
    #[arg(short = 'Q', long = "cq-mod", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) moderation: Option<u32>,
    /// Reads and atomics under way on a queue pair. Default: what both devices allow.
    #[arg(short = 'o', long = "outs", value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) outstanding: Option<u8>,
    /// TCP port where server and client meet.
    #[arg(short = 'p', long = "port", value_name = "PORT", default_value_t = 18515, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// Fail when the average bandwidth of a row is lower, in the unit of the table.
    #[arg(short = 'w', long = "limit_bw", value_name = "BANDWIDTH")]
    pub(crate) limit_bw: Option<f64>,
    /// Fail when the message rate of a row is lower, in millions a second.
    #[arg(short = 'y', long = "limit_msgrate", value_name = "RATE")]
    pub(crate) limit_rate: Option<f64>,
    /// Fail when the typical latency of a row is higher, in microseconds.
    #[arg(long = "limit_lat", value_name = "MICROSECONDS")]
    pub(crate) limit_lat: Option<f64>,
    /// Bandwidth in Gb/s instead of MiB/s.
    #[arg(long = "report_gbits")]
    pub(crate) gbits: bool,
    /// Measure until interrupted, with a row every 5 seconds, or as -D says.
    #[arg(long = "run_infinitely")]
    pub(crate) forever: bool,
    /// Print the distribution of latencies as HdrHistogram does.
    #[arg(short = 'H', long = "report-histogram")]
    pub(crate) histogram: bool,
    /// Measure latency a second time under load: 64 KiB messages on another flow, 16 under way.
    #[arg(long)]
    pub(crate) load: bool,
    /// Print all counters of the devices that moved in a row, not only those of errors.
    #[arg(long)]
    pub(crate) counters: bool,
    /// Write the results as JSON to perftest_out.json, or to the file of --out_json_file.
    #[arg(long = "out_json")]
    pub(crate) out_json: bool,
    /// The file of --out_json.
    #[arg(long = "out_json_file", value_name = "FILE", requires = "out_json")]
    pub(crate) out_json_file: Option<PathBuf>,
    /// Write the results as JSON; with - to standard output, instead of the table.
    #[arg(long, value_name = "FILE", conflicts_with = "out_json")]
    pub(crate) json: Option<PathBuf>,
    /// How long a side waits for the other, as 60s or 10min. Default: 10min for the other to come, then 30s.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) timeout: Option<Duration>,
    /// matrix: start this many ranks on this host.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=256))]
    pub(crate) local: Option<u32>,
    /// matrix: draw the heat maps to a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Accepted as perftest does: the clock here does not depend on the processor's frequency.
    #[arg(short = 'F', long = "CPU-freq", hide = true)]
    pub(crate) any_frequency: bool,
    /// The process that started this one as a local rank.
    #[arg(long, hide = true)]
    pub(crate) child_of: Option<u32>,
}

/// What both sides must know alike. The names are those of the flags, so that a difference names the flag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    #[serde(rename = "TEST")]
    pub(crate) test: Test,
    #[serde(rename = "--transport")]
    pub(crate) transport: Kind,
    #[serde(rename = "-s or -a")]
    pub(crate) sizes: Vec<u64>,
    #[serde(rename = "-n")]
    pub(crate) iterations: u64,
    #[serde(rename = "-D")]
    pub(crate) seconds: Option<u64>,
    #[serde(rename = "-q")]
    pub(crate) queues: u16,
    #[serde(rename = "-b")]
    pub(crate) both: bool,
    #[serde(rename = "-I")]
    pub(crate) inline: Option<u32>,
    #[serde(rename = "-t")]
    pub(crate) depth: u32,
    #[serde(rename = "-r")]
    pub(crate) receives: u32,
    #[serde(rename = "-Q")]
    pub(crate) moderation: u32,
    #[serde(rename = "-o")]
    pub(crate) outstanding: Option<u8>,
    #[serde(rename = "-m")]
    pub(crate) mtu: Option<u32>,
    #[serde(rename = "--pool-partition")]
    pub(crate) partition: u32,
    #[serde(rename = "--pool-coherence")]
    pub(crate) coherence: Coherence,
    #[serde(rename = "--run_infinitely")]
    pub(crate) forever: bool,
    #[serde(rename = "--load")]
    pub(crate) load: bool,
}

/// Above this size each message has a completion by default, as in perftest.
const MODERATED: u64 = 8192;
/// Messages for which one completion is made below.
const MODERATION: u32 = 100;
/// Seconds between the rows of `--run_infinitely`.
const PERIOD: u64 = 5;
/// How long a server waits for its client, and a client for its server.
const MEETING: Duration = Duration::from_secs(600);
/// How long a side waits for a word, or for any progress, of the other.
const PATIENCE: Duration = Duration::from_secs(30);

fn mtu(text: &str) -> Result<u32, String> {
    let allowed = [256, 512, 1024, 2048, 4096];
    let known = text.parse().ok().filter(|bytes| allowed.contains(bytes));
    known.ok_or_else(|| "not an MTU (allowed: 256, 512, 1024, 2048, 4096)".to_owned())
}

fn message(text: &str) -> Result<u64, String> {
    match size::parse(text)? {
        bytes @ 1..=0x4000_0000 => Ok(bytes),
        _ => Err("no size of a message (allowed: 1 to 1G)".to_owned()),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is not a time (as 500ms, 60s or 10min)");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u32 = number.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
    match unit {
        "ms" => Ok(Duration::from_millis(number.into())),
        "s" | "" => Ok(Duration::from_secs(number.into())),
        "min" => Ok(Duration::from_secs(u64::from(number) * 60)),
        _ => Err(wrong()),
    }
}

impl Args {
    /// How long this side waits for the other to come.
    pub(crate) fn meeting(&self) -> Duration {
        self.timeout.unwrap_or(MEETING)
    }

    /// How long this side waits for a word, or for any progress, of the other.
    pub(crate) fn patience(&self) -> Duration {
        self.timeout.unwrap_or(PATIENCE)
    }

    /// Where the JSON goes.
    pub(crate) fn json_file(&self) -> Option<PathBuf> {
        let named = self.out_json_file.clone().unwrap_or_else(|| "perftest_out.json".into());
        self.json.clone().or_else(|| self.out_json.then_some(named))
    }

    /// The settings: what the flags say over `base`, which are the client's, or over what is usual.
    pub(crate) fn settings(&self, base: Option<&Settings>) -> Result<Settings, Failure> {
        let test = self.test;
        let usual = self.usual();
        let base = base.unwrap_or(&usual);
        let sizes = match self.size {
            Some(size) => vec![size],
            None if self.all => (1..=23).map(|power| 1 << power).collect(),
            None => base.sizes.clone(),
        };
        let depth = self.depth.unwrap_or(base.depth);
        let few = sizes.iter().max().is_some_and(|size| *size > MODERATED);
        let moderation = if few { 1 } else { MODERATION };
        let moderation = if *base == usual { moderation } else { base.moderation };
        let settings = Settings {
            test,
            transport: self.transport.unwrap_or(base.transport),
            sizes,
            iterations: self.iterations.unwrap_or(base.iterations),
            seconds: self.seconds.or(base.seconds).or_else(|| self.forever.then_some(PERIOD)),
            queues: self.queues.unwrap_or(base.queues),
            both: self.both || base.both,
            inline: self.inline.or(base.inline),
            depth,
            receives: self.receives.unwrap_or(base.receives),
            moderation: self.moderation.unwrap_or(moderation).min(depth),
            outstanding: self.outstanding.or(base.outstanding),
            mtu: self.mtu.or(base.mtu),
            partition: self.pool_partition.unwrap_or(base.partition),
            coherence: self.pool_coherence.unwrap_or(base.coherence),
            forever: self.forever || base.forever,
            load: self.load || base.load,
        };
        self.check(&settings)?;
        Ok(settings)
    }

    /// What holds where no flag says otherwise.
    fn usual(&self) -> Settings {
        let test = self.test;
        Settings {
            test,
            transport: Kind::Rdma,
            sizes: vec![test.usual_size()],
            iterations: if test == Test::WriteBw { 5000 } else { 1000 },
            seconds: None,
            queues: 1,
            both: false,
            inline: (test == Test::SendLat).then_some(236),
            depth: 128,
            receives: 512,
            moderation: MODERATION,
            outstanding: None,
            mtu: None,
            partition: 0,
            coherence: Coherence::default(),
            forever: false,
            load: false,
        }
    }

    /// Refuses what does not go together.
    fn check(&self, settings: &Settings) -> Result<(), Failure> {
        let test = settings.test;
        settings.transport.offers(test)?;
        let [rdma, cxl] = [Kind::Rdma, Kind::Cxl].map(|kind| settings.transport == kind);
        let latency = !test.is_bandwidth();
        let refused = [
            (!self.devices.is_empty() && !rdma, "-d is for --transport rdma"),
            (
                self.devices.len() > 1 && !test.is_write(),
                "-d takes one device except in write tests",
            ),
            (self.ib_port.is_some() && !rdma, "-i is for --transport rdma"),
            (self.gid_index.is_some() && !rdma, "-x is for --transport rdma"),
            (self.mtu.is_some() && !rdma, "-m is for --transport rdma"),
            (!self.pool.is_empty() && !cxl, "--pool is for --transport cxl"),
            (self.pool_partition.is_some() && !cxl, "--pool-partition is for --transport cxl"),
            (self.pool_coherence.is_some() && !cxl, "--pool-coherence is for --transport cxl"),
            (cxl && self.pool.is_empty(), "--transport cxl needs the devices of a pool: --pool"),
            (self.outstanding.is_some() && !test.is_fetch(), "-o is for reads and atomics"),
            (self.receives.is_some() && !test.is_send(), "-r is for send-bw and send-lat"),
            (self.limit_bw.is_some() && latency, "-w is for bandwidth tests"),
            (self.limit_rate.is_some() && latency, "-y is for bandwidth tests"),
            (self.limit_lat.is_some() && !latency, "--limit_lat is for latency tests"),
            (self.both && latency, "-b is for bandwidth tests"),
            (
                self.queues.is_some_and(|count| count > 1) && latency,
                "latency tests have one queue pair: -q 1",
            ),
            (self.histogram && !latency, "-H is for latency tests"),
            (self.histogram && self.host.is_none(), "-H is for the client, which measures"),
            (self.load && test != Test::WriteLat, "--load is for write-lat and matrix"),
            (self.forever && self.all, "--run_infinitely takes one size: -s instead of -a"),
            (test == Test::AtomicLat && settings.sizes != [8], "an atomic works on 8 bytes: -s 8"),
            (self.local.is_some(), "--local is for matrix"),
            (self.svg.is_some(), "--svg is for matrix"),
        ];
        match refused.iter().find(|(wrong, _)| *wrong) {
            Some((_, why)) => Err(Failure::Usage((*why).to_owned())),
            None => Ok(()),
        }
    }
}

impl Settings {
    /// The flags in which two differ, with both values.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let [ours, theirs] = [self, other].map(|settings| {
            serde_json::to_value(settings).ok().and_then(|value| value.as_object().cloned())
        });
        let (Some(ours), Some(theirs)) = (ours, theirs) else { return Vec::new() };
        let differs = |(flag, value): (&String, &serde_json::Value)| {
            let there = theirs.get(flag).filter(|there| *there != value)?;
            Some(format!("{flag} is {value} here, {there} at the client"))
        };
        ours.iter().filter_map(differs).collect()
    }
}

/// Names of the tests, for messages.
pub(crate) fn name(test: impl ValueEnum) -> String {
    let value = test.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    pub(in crate::fabric) fn args(line: &str) -> Args {
        Line::try_parse_from(std::iter::once("fabric").chain(line.split_whitespace())).unwrap().args
    }

    fn settings(line: &str) -> Settings {
        args(line).settings(None).unwrap()
    }

    #[test]
    fn the_flags_of_perftest() {
        let args = args(
            "read-bw host -d mlx5_0 -x 3 -i 1 -s 4096 -n 100 -q 4 -b -I 0 -t 64 -Q 16 -m 2048 -p 9 -w 90.5 -y 1 --report_gbits --out_json -F",
        );
        let settings = args.settings(None).unwrap();
        assert_eq!((settings.sizes, settings.iterations, settings.queues), (vec![4096], 100, 4));
        assert_eq!((settings.depth, settings.moderation, settings.mtu), (64, 16, Some(2048)));
        assert!(settings.both && args.gbits && args.json_file().is_some() && args.port == 9);
    }

    #[test]
    fn defaults_are_perftests() {
        let write = settings("write-bw");
        assert_eq!((write.sizes[0], write.iterations, write.depth), (65_536, 5000, 128));
        assert_eq!((write.moderation, settings("write-bw -s 64").moderation), (1, 100));
        assert_eq!(settings("write-bw -s 64 -t 16").moderation, 16);
        assert_eq!((settings("send-lat").sizes[0], settings("atomic-lat").sizes[0]), (2, 8));
        let all = settings("write-lat -a").sizes;
        assert_eq!((all.len(), all[0], all[22]), (23, 2, 8 << 20));
        assert_eq!(settings("write-bw --run_infinitely").seconds, Some(5));
    }

    #[test]
    fn what_is_not_offered_is_refused() {
        for line in [
            "read-bw --transport tcp",
            "send-lat --transport pool",
            "atomic-lat --transport tcp",
            "write-bw --transport npu",
            "write-bw --transport tcp -d mlx5_0",
            "write-bw --transport cxl",
            "read-bw --transport cxl --pool /dev/dax0.0",
            "write-bw --transport tcp --pool /dev/dax0.0",
            "write-bw --transport tcp --pool-partition 1",
            "write-bw --transport pool --pool-coherence hardware",
            "write-lat -w 3",
            "write-bw --limit_lat 3",
            "write-lat -b",
            "write-lat -q 2",
            "atomic-lat -s 16",
            "write-bw --load",
            "write-bw -a --run_infinitely",
            "write-bw --local 2",
            "write-lat -H",
        ] {
            let failure = args(line).settings(None).unwrap_err();
            assert_eq!(failure.status(), 2, "{line}: {failure}");
        }
        let failure = args("read-bw --transport tcp").settings(None).unwrap_err().to_string();
        assert!(failure.contains("not offered"), "{failure}");
    }

    #[test]
    fn the_server_takes_what_it_is_not_given_from_the_client() {
        let client = settings("write-bw -s 64 -n 70 -q 2 --transport tcp -t 4");
        assert_eq!(args("write-bw").settings(Some(&client)).unwrap(), client);
        let server = args("write-bw -n 80").settings(Some(&client)).unwrap();
        assert_eq!(server.differences(&client), ["-n is 80 here, 70 at the client"]);
        let cxl = "write-lat --transport cxl --pool";
        let client = settings(&format!("{cxl} /dev/dax0.0 --pool-coherence hardware"));
        let server = args(&format!("{cxl} /dev/dax1.0 --pool-partition 2"));
        assert_eq!(
            server.settings(Some(&client)).unwrap().differences(&client),
            ["--pool-partition is 2 here, 0 at the client"],
            "devices have names of their own on each host"
        );
    }

    #[test]
    fn times_have_units() {
        assert_eq!(time("2min"), Ok(Duration::from_secs(120)));
        assert_eq!(time("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "0s", "s", "5h", "-1s"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
