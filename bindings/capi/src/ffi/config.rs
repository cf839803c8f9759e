//! `dureConfig_t`, and how it is read.

use std::ffi::{c_char, c_int, c_uint};
use std::mem::offset_of;

use dure::{Config, Error, Result};

use super::pointer::Text;
use crate::config::{Fields, Settings, flag, positive};

/// What every structure of the interface that may grow has in its second word, as NCCL's have.
pub(super) const MAGIC: c_uint = 0xcafe_beef;
/// An integer field that was not set.
pub(super) const UNSET: c_int = c_int::MIN;

/// A field that may be left open.
trait Open {
    const UNSET: Self;
}

impl Open for c_int {
    const UNSET: Self = UNSET;
}

impl Open for *const c_char {
    const UNSET: Self = std::ptr::null();
}

macro_rules! config {
    ($($field:ident: $type:ty,)+) => {
        /// `dureConfig_t`. Fields are only ever added, at the end.
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        pub(super) struct RawConfig {
            pub(super) size: usize,
            pub(super) magic: c_uint,
            pub(super) version: c_uint,
            $( pub(super) $field: $type, )+
        }

        impl RawConfig {
            const OPEN: Self =
                Self { size: 0, magic: MAGIC, version: 0, $( $field: Open::UNSET, )+ };
            /// Where each field ends.
            const ENDS: &[usize] = &[$( offset_of!(Self, $field) + size_of::<$type>(), )+];
            /// Name and offset of each field.
            #[cfg(test)]
            pub(super) const OFFSETS: &[(&str, usize)] = &[$( (stringify!($field), offset_of!(Self, $field)), )+];
        }
    };
}

config! {
    blocking: c_int,
    cga_cluster_size: c_int,
    min_ctas: c_int,
    max_ctas: c_int,
    net_name: *const c_char,
    split_share: c_int,
    traffic_class: c_int,
    comm_name: *const c_char,
    collnet_enable: c_int,
    cta_policy: c_int,
    shrink_share: c_int,
    nvls_ctas: c_int,
    n_channels_per_net_peer: c_int,
    nvlink_centric_sched: c_int,
    timeout_ms: c_int,
    deterministic: c_int,
    check: c_int,
    lanes: c_int,
    slots: c_int,
    slot_bytes: c_int,
    algo: *const c_char,
}

/// How every structure begins that may grow.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Head {
    size: usize,
    magic: c_uint,
    _version: c_uint,
}

/// A `const dureConfig_t*`, or null for no settings.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct ConfigPtr(*const RawConfig);

impl ConfigPtr {
    /// No settings.
    pub(super) const NONE: Self = Self(std::ptr::null());

    /// Whether there are none.
    pub(super) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The settings, over those in `base`.
    ///
    /// # Errors
    /// `InvalidArgument` names the field, and what it may be.
    pub(super) fn over(self, base: Config) -> Result<Settings> {
        let fields = if self.is_null() { Fields::default() } else { self.read()?.fields()? };
        Settings::new(base, fields)
    }

    /// A copy of the structure: of the fields that both the caller and this library know.
    fn read(self) -> Result<RawConfig> {
        // SAFETY: the caller in C promised a structure that the initializer made, which begins with these.
        let Head { size, magic, .. } = unsafe { self.0.cast::<Head>().read_unaligned() };
        if magic != MAGIC {
            let text = format!(
                "config was not initialized (magic {magic:#x}): use DURE_CONFIG_INITIALIZER"
            );
            return Err(Error::invalid_argument(text));
        }
        let mut copy = RawConfig::OPEN;
        let known = RawConfig::ENDS.iter().copied().filter(|end| *end <= size).max().unwrap_or(0);
        // SAFETY: the caller's structure has `size` bytes, ours is longer than the end of any of its fields, and every
        // field is an integer or a raw pointer.
        unsafe {
            std::ptr::copy_nonoverlapping(self.0.cast::<u8>(), (&raw mut copy).cast(), known)
        };
        Ok(copy)
    }
}

impl RawConfig {
    fn fields(&self) -> Result<Fields> {
        self.check_without_effect()?;
        let set = |value: c_int| (value != UNSET).then_some(value);
        Ok(Fields {
            blocking: set(self.blocking),
            net_name: Text(self.net_name).read(),
            comm_name: Text(self.comm_name).read(),
            timeout_ms: set(self.timeout_ms),
            deterministic: set(self.deterministic),
            check: set(self.check),
            lanes: set(self.lanes),
            slots: set(self.slots),
            slot_bytes: set(self.slot_bytes),
            algo: Text(self.algo).read(),
        })
    }

    /// Fields by which NCCL uses a GPU: they have no effect here, but must have values that NCCL would take.
    fn check_without_effect(&self) -> Result<()> {
        let set = |value: c_int| (value != UNSET).then_some(value);
        for (field, value) in [
            ("splitShare", self.split_share),
            ("shrinkShare", self.shrink_share),
            ("collnetEnable", self.collnet_enable),
            ("nvlinkCentricSched", self.nvlink_centric_sched),
        ] {
            flag(field, set(value))?;
        }
        for (field, value) in [
            ("minCTAs", self.min_ctas),
            ("maxCTAs", self.max_ctas),
            ("nvlsCTAs", self.nvls_ctas),
            ("nChannelsPerNetPeer", self.n_channels_per_net_peer),
        ] {
            set(value).map_or(Ok(0), |value| positive(field, value))?;
        }
        for (field, value, last) in [
            ("cgaClusterSize", self.cga_cluster_size, 8),
            ("CTAPolicy", self.cta_policy, 3),
            ("trafficClass", self.traffic_class, c_int::MAX),
        ] {
            if let Some(value) = set(value).filter(|value| !(0..=last).contains(value)) {
                let text = format!("config->{field} is {value} (allowed: 0 to {last})");
                return Err(Error::invalid_argument(text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: RawConfig =
        RawConfig { size: size_of::<RawConfig>(), version: 100, ..RawConfig::OPEN };

    fn over_default(raw: &RawConfig) -> Result<Settings> {
        ConfigPtr(raw).over(Config::default())
    }

    #[test]
    fn an_uninitialized_structure_is_refused() {
        let error = over_default(&RawConfig { magic: 7, ..WHOLE }).unwrap_err();
        assert!(
            error.what.contains("DURE_CONFIG_INITIALIZER") && error.what.contains("0x7"),
            "{error}"
        );
    }

    #[test]
    fn fields_beyond_the_callers_size_are_not_read() {
        let raw = RawConfig { slots: 7, lanes: 3, ..WHOLE };
        let settings = over_default(&raw).unwrap();
        assert_eq!((settings.config.slots, settings.config.lanes), (7, Some(3)));
        let old = RawConfig { size: offset_of!(RawConfig, slots), ..raw };
        let settings = over_default(&old).unwrap();
        assert_eq!(
            (settings.config.slots, settings.config.lanes),
            (Config::default().slots, Some(3))
        );
        let cut = RawConfig { size: offset_of!(RawConfig, slots) + 2, ..raw };
        assert_eq!(over_default(&cut).unwrap().config.slots, Config::default().slots);
    }

    #[test]
    fn a_longer_structure_of_a_later_library_is_read_as_far_as_it_is_known() {
        let later = RawConfig { size: size_of::<RawConfig>() + 64, blocking: 0, ..WHOLE };
        assert!(!over_default(&later).unwrap().blocking);
    }

    #[test]
    fn fields_without_effect_are_checked() {
        for (raw, text) in [
            (RawConfig { split_share: 2, ..WHOLE }, "config->splitShare is 2 (allowed: 0, 1)"),
            (RawConfig { max_ctas: 0, ..WHOLE }, "config->maxCTAs is 0 (allowed: 1 or more)"),
            (RawConfig { cta_policy: 9, ..WHOLE }, "config->CTAPolicy is 9 (allowed: 0 to 3)"),
        ] {
            assert_eq!(over_default(&raw).unwrap_err().what, text);
        }
    }
}
