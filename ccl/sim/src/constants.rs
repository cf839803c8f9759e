//! The constants of the model: what a message costs on each class of links, and what work on memory costs.

use dure_topology::Source;
use serde::{Deserialize, Serialize};

/// What a message costs on a class of links, after LogGOPS (Hoefler, Schneider and Lumsdaine, LogGOPSim: simulating
/// large-scale applications in the LogGOPS model, 2010). All times in seconds, all rates in seconds a byte.
///
/// The sender's core is busy for `overhead + (s - 1) cpu_per_byte`; the port begins after the overhead, and is busy for
/// `gap + (s - 1) per_byte`; the message arrives `latency + (s - 1) per_byte` after it began; the receiver's core is
/// busy as long as the sender's. The slowest link of the way counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wire {
    /// L: time on the way of the first byte. Switches of the fabric come on top.
    pub latency: f64,
    /// o: processor time of each end for a message.
    pub overhead: f64,
    /// g: time for which a message occupies the port it leaves by, besides its bytes.
    pub gap: f64,
    /// G: time a byte on the way. Where the cluster names a slower link, that counts, unless this was measured.
    pub per_byte: f64,
    /// O: processor time of each end for a byte.
    pub cpu_per_byte: f64,
    /// S: up to so many bytes a message is copied out of its slot by the receiver. A longer one lands where it belongs.
    pub eager: u64,
    /// Both ends address the same memory: the cores move the bytes. Up to `eager` bytes the sender copies into the slot
    /// and the receiver out of it; a longer message is read by the receiver where it is. `per_byte` is then what reading
    /// the other's memory costs the receiver besides.
    pub shared: bool,
    /// Where these constants come from.
    #[serde(with = "source")]
    pub source: Source,
}

/// What a host's way into pools of memory carries, all devices and all its ranks together, and how messages lie there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// Writing a byte, seconds.
    pub write_per_byte: f64,
    /// Reading a byte, seconds.
    pub read_per_byte: f64,
    /// Bytes on one device before the next one follows.
    pub granule: u64,
    /// Where these constants come from.
    #[serde(with = "source")]
    pub source: Source,
}

/// What work on memory costs a core or a device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compute {
    /// Reducing a byte of one operand, seconds.
    pub reduce_per_byte: f64,
    /// Copying a byte, seconds.
    pub copy_per_byte: f64,
    /// What a call costs every rank however short it is, seconds.
    pub call: f64,
    /// What a step costs besides its bytes, seconds.
    pub step: f64,
    /// A core turns to another rank, seconds.
    pub switch: f64,
    /// Where these constants come from.
    #[serde(with = "source")]
    pub source: Source,
}

/// All constants of a cluster: a profile, which is saved and loaded as JSON.
///
/// ```
/// use dure_sim::Constants;
///
/// let tcp = Constants::tcp();
/// assert_eq!(Constants::from_json(&tcp.to_json())?, tcp);
/// # Ok::<(), dure_sim::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Constants {
    /// Between processors of one host.
    pub inside: Wire,
    /// Between accelerators of one host.
    pub device: Wire,
    /// Between hosts.
    pub between: Wire,
    /// Through a pool of memory that hosts share.
    pub pool: Wire,
    /// By what hosts reach pools. Profiles that were written before it have the usual one.
    #[serde(default)]
    pub adapter: Adapter,
    /// Work of processors.
    pub processor: Compute,
    /// Work of accelerators.
    pub accelerator: Compute,
}

impl Wire {
    /// Shared memory of a host: two threads pass a line in 0.06 to 0.15 us, an all-reduce of 8 B takes two ranks 0.44 us,
    /// and messages above 16 KiB are read in place (docs/performance.md).
    pub const SHARED_MEMORY: Self = Self {
        latency: 100e-9,
        overhead: 80e-9,
        gap: 0.0,
        per_byte: 0.06e-9,
        cpu_per_byte: 0.0,
        eager: 16 << 10,
        shared: true,
        source: Source::Default,
    };

    /// TCP: 4 to 5 us of kernel for both ends of a message, and 2.8 to 3.6 GB/s a direction over loopback
    /// (docs/performance.md). The ports of the cluster bound the rate.
    pub const TCP: Self = Self {
        latency: 5e-6,
        overhead: 1.3e-6,
        gap: 0.2e-6,
        per_byte: 0.1e-9,
        cpu_per_byte: 0.12e-9,
        eager: u64::MAX,
        shared: false,
        source: Source::Default,
    };

    /// RDMA: what vendors and the measured tables of supercomputers give for one hop, 1.5 to 2 us from memory to memory
    /// for a small message of which a third is work of the two ends (shared/scale, shared/reference/research.md 6). From
    /// 128 KiB messages land in place.
    pub const RDMA: Self = Self {
        latency: 1.0e-6,
        overhead: 0.25e-6,
        gap: 0.1e-6,
        per_byte: 0.0,
        cpu_per_byte: 0.0,
        eager: 128 << 10,
        shared: false,
        source: Source::Default,
    };

    /// A shared pool: 650 to 750 ns a load through a switch, some 22 GB/s a device (research.md section 2: cMPI, Beluga,
    /// CCCL). Memory that is not coherent is copied in and out. A message is there L after it was written, which is the
    /// reader's look at the flag: two ends and L make 1.05 us, as half a round trip of Beluga's calls takes (2.11 us).
    /// L is the devices' own where the cluster names it and nobody declared or measured another.
    pub const POOL: Self = Self {
        latency: 750e-9,
        overhead: 150e-9,
        gap: 0.0,
        per_byte: 0.045e-9,
        cpu_per_byte: 0.0,
        eager: u64::MAX,
        shared: true,
        source: Source::Default,
    };

    /// Links between accelerators of a host: some 1 us to start a copy from the host's side; the rate is the cluster's.
    pub const DEVICE: Self = Self {
        latency: 0.7e-6,
        overhead: 0.5e-6,
        gap: 0.0,
        per_byte: 0.0,
        cpu_per_byte: 0.0,
        eager: 0,
        shared: false,
        source: Source::Default,
    };
}

impl Adapter {
    /// What the root complex of a host with two adapters of 16 lanes lets through: 33 GB/s of writes and 46.2 of reads
    /// (Beluga, arXiv 2511.20172). Granules as large as a message that is worth several devices.
    pub const USUAL: Self = Self {
        write_per_byte: 1e-9 / 33.0,
        read_per_byte: 1e-9 / 46.2,
        granule: 64 << 10,
        source: Source::Default,
    };
}

impl Default for Adapter {
    fn default() -> Self {
        Self::USUAL
    }
}

impl Compute {
    /// A core of a processor: 5 GB/s of one operand past the cache, 33 in it; copies at 7 to 12 GB/s; 6 ns a step; a switch
    /// between ranks of one core some 1.5 us (docs/performance.md; `dure perf --local 8` on two cores).
    pub const PROCESSOR: Self = Self {
        reduce_per_byte: 0.1e-9,
        copy_per_byte: 0.08e-9,
        call: 50e-9,
        step: 6e-9,
        switch: 1.2e-6,
        source: Source::Default,
    };

    /// An accelerator with high-bandwidth memory: 1 TB/s of what it reads and writes, as vendors say of theirs (1.5 to 4
    /// TB/s, research.md section 3), and a few microseconds to give it work.
    pub const ACCELERATOR: Self = Self {
        reduce_per_byte: 0.003e-9,
        copy_per_byte: 0.002e-9,
        call: 3e-6,
        step: 0.5e-6,
        switch: 1.2e-6,
        source: Source::Default,
    };
}

impl Default for Constants {
    /// Shared memory inside hosts, RDMA between them.
    fn default() -> Self {
        Self {
            inside: Wire::SHARED_MEMORY,
            device: Wire::DEVICE,
            between: Wire::RDMA,
            pool: Wire::POOL,
            adapter: Adapter::USUAL,
            processor: Compute::PROCESSOR,
            accelerator: Compute::ACCELERATOR,
        }
    }
}

impl Constants {
    /// Shared memory inside hosts, TCP between them.
    pub fn tcp() -> Self {
        Self { between: Wire::TCP, ..Self::default() }
    }

    /// TCP inside hosts too, over loopback.
    pub fn wired() -> Self {
        Self { inside: Wire { latency: 0.5e-6, ..Wire::TCP }, ..Self::tcp() }
    }

    /// The profile as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and names are always written")
    }

    /// Reads a profile.
    ///
    /// # Errors
    /// [`crate::Error::Profile`] says where the text is none, or which constant is negative or no number.
    pub fn from_json(text: &str) -> Result<Self, crate::Error> {
        let profile: Self =
            serde_json::from_str(text).map_err(|error| crate::Error::Profile(error.to_string()))?;
        profile.check()?;
        Ok(profile)
    }

    /// Whether all constants are finite and none is negative.
    pub(crate) fn check(&self) -> Result<(), crate::Error> {
        let wires = [
            ("inside", self.inside),
            ("device", self.device),
            ("between", self.between),
            ("pool", self.pool),
        ];
        let computes = [("processor", self.processor), ("accelerator", self.accelerator)];
        let wrong = |values: &[f64]| values.iter().any(|value| !value.is_finite() || *value < 0.0);
        let bad_wire =
            |w: &Wire| wrong(&[w.latency, w.overhead, w.gap, w.per_byte, w.cpu_per_byte]);
        let bad_compute =
            |c: &Compute| wrong(&[c.reduce_per_byte, c.copy_per_byte, c.call, c.step, c.switch]);
        let wire = wires.iter().find(|(_, wire)| bad_wire(wire)).map(|(name, _)| *name);
        let compute = computes.iter().find(|(_, c)| bad_compute(c)).map(|(name, _)| *name);
        let Adapter { write_per_byte, read_per_byte, .. } = self.adapter;
        let adapter = wrong(&[write_per_byte, read_per_byte]).then_some("adapter");
        wire.or(compute).or(adapter).map_or(Ok(()), |name| {
            Err(crate::Error::Profile(format!(
                "a constant of {name} is negative or no number (allowed: 0 or more)"
            )))
        })
    }
}

/// A [`Source`] in a profile: its name.
mod source {
    use dure_topology::Source;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    const ALL: [Source; 3] = [Source::Default, Source::Declared, Source::Measured];

    pub(super) fn serialize<S: Serializer>(source: &Source, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(source)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Source, D::Error> {
        let name = String::deserialize(from)?;
        let known = ALL.into_iter().find(|source| source.to_string() == name);
        known.ok_or_else(|| D::Error::unknown_variant(&name, &["default", "declared", "measured"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_written_and_read_and_nonsense_is_refused() {
        let profile = Constants::wired();
        assert_eq!(Constants::from_json(&profile.to_json()).unwrap(), profile);
        for (what, broken) in [
            ("source", profile.to_json().replacen("\"default\"", "\"guessed\"", 1)),
            ("negative", profile.to_json().replacen("\"gap\": 2e-7", "\"gap\": -1.0", 1)),
            ("no JSON", "{".to_owned()),
        ] {
            assert!(
                matches!(Constants::from_json(&broken), Err(crate::Error::Profile(_))),
                "{what}"
            );
        }
    }
}
