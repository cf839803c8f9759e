//! The structures of settings, `dureConfig_t` and `ncclConfig_t`, and how they are read: alike at the beginning, each with
//! fields of its own after that.

use std::ffi::{c_int, c_uint};
use std::marker::PhantomData;
use std::mem::offset_of;

use dure::{Config, Error, Result};

use super::pointer::Text;
use crate::Interface;
use crate::config::{Fields, Settings, flag, positive};

/// What every structure of the interface that may grow has in its second word, as NCCL's have.
pub const MAGIC: c_uint = 0xcafe_beef;
/// An integer field that was not set.
pub const UNSET: c_int = c_int::MIN;

/// A type of field that may be left open.
pub trait Open {
    /// A field that was not set.
    const UNSET: Self;
}

impl Open for c_int {
    const UNSET: Self = UNSET;
}

impl Open for Text {
    const UNSET: Self = Self::NONE;
}

/// A field of a [`Run`].
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in Rust: `max_ctas` is `maxCTAs` in C.
    pub name: &'static str,
    /// Bytes from the run's beginning to the field's.
    pub offset: usize,
    /// Bytes from the run's beginning to the field's end.
    pub end: usize,
    /// The first version of the header that has it.
    pub since: c_uint,
}

/// Fields of a structure of settings that follow one another. They are only ever added, at the end.
///
/// # Safety
/// It consists of integers and raw pointers, and `FIELDS` are all of them, in order.
pub unsafe trait Run: Copy {
    /// No field was set.
    const OPEN: Self;
    /// Its fields.
    const FIELDS: &'static [Field];
}

/// Defines a [`Run`]: `name: type, since version;` for each field.
#[macro_export]
macro_rules! fields {
    ($(#[$doc:meta])* $visibility:vis $name:ident: $($field:ident: $type:ty, since $since:expr;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        $visibility struct $name {
            $( $visibility $field: $type, )*
        }

        // SAFETY: the fields are integers and raw pointers, as whatever has `Open`, and each one is listed.
        unsafe impl $crate::ffi::config::Run for $name {
            const OPEN: Self = Self { $( $field: $crate::ffi::config::Open::UNSET, )* };
            const FIELDS: &'static [$crate::ffi::config::Field] = &[$( $crate::ffi::config::Field {
                name: stringify!($field),
                offset: ::std::mem::offset_of!(Self, $field),
                end: ::std::mem::offset_of!(Self, $field) + size_of::<$type>(),
                since: $since,
            }, )*];
        }
    };
}

fields! {
    /// The fields that NCCL 2.28 has, and what it has them since.
    Nccl:
    blocking: c_int, since 21_400;
    cga_cluster_size: c_int, since 21_700;
    min_ctas: c_int, since 21_700;
    max_ctas: c_int, since 21_700;
    net_name: Text, since 21_700;
    split_share: c_int, since 21_800;
    traffic_class: c_int, since 22_500;
    comm_name: Text, since 22_700;
    collnet_enable: c_int, since 22_700;
    cta_policy: c_int, since 22_700;
    shrink_share: c_int, since 22_700;
    nvls_ctas: c_int, since 22_700;
    n_channels_per_net_peer: c_int, since 22_800;
    nvlink_centric_sched: c_int, since 22_800;
}

/// The fields of an interface's structure that follow those of NCCL 2.28.
pub trait Further: Run + 'static {
    /// Whether `version` is one of NCCL's, so that it says which fields there are. Otherwise their size alone does.
    const NCCL_VERSIONS: bool;

    /// What all fields say, from what NCCL's say.
    ///
    /// # Errors
    /// `InvalidArgument` names the field, and what it may be.
    fn add_to(&self, fields: Fields) -> Result<Fields>;
}

/// How every structure begins that may grow.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Head {
    size: usize,
    magic: c_uint,
    version: c_uint,
}

/// A structure of settings.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RawConfig<F> {
    head: Head,
    nccl: Nccl,
    further: F,
}

/// A `const ...Config_t*`, or null for no settings.
#[derive(Debug)]
#[repr(transparent)]
pub struct ConfigPtr<I: Interface> {
    address: *const RawConfig<I::Further>,
    interface: PhantomData<I>,
}

impl<I: Interface> Clone for ConfigPtr<I> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I: Interface> Copy for ConfigPtr<I> {}

impl<I: Interface> ConfigPtr<I> {
    /// No settings.
    pub const NONE: Self = Self { address: std::ptr::null(), interface: PhantomData };

    /// Whether there are none.
    pub(super) fn is_null(self) -> bool {
        self.address.is_null()
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
    fn read(self) -> Result<RawConfig<I::Further>> {
        // SAFETY: the caller in C promised a structure that the initializer made, which begins with these.
        let head @ Head { magic, .. } = unsafe { self.address.cast::<Head>().read_unaligned() };
        if magic != MAGIC {
            let text = format!(
                "config was not initialized (magic {magic:#x}): use {}",
                I::constant("CONFIG_INITIALIZER")
            );
            return Err(Error::invalid_argument(text));
        }
        let mut copy = RawConfig::OPEN;
        let known = RawConfig::<I::Further>::known(head);
        // SAFETY: the caller's structure has `size` bytes, ours is longer than the end of any of its fields, and every
        // field is an integer or a raw pointer.
        unsafe {
            std::ptr::copy_nonoverlapping(self.address.cast::<u8>(), (&raw mut copy).cast(), known)
        };
        Ok(copy)
    }
}

impl<F: Further> RawConfig<F> {
    const OPEN: Self = Self {
        head: Head { size: 0, magic: MAGIC, version: 0 },
        nccl: Nccl::OPEN,
        further: F::OPEN,
    };

    /// Name and offset of every field, and the version that it is there since.
    pub fn layout() -> impl Iterator<Item = (Field, usize)> {
        let nccl = Nccl::FIELDS.iter().map(|field| (*field, offset_of!(Self, nccl)));
        nccl.chain(F::FIELDS.iter().map(|field| (*field, offset_of!(Self, further))))
    }

    /// Bytes of the fields that a caller has, of those that there are here.
    fn known(head: Head) -> usize {
        let has = |(field, run): &(Field, usize)| {
            run + field.end <= head.size && (!F::NCCL_VERSIONS || field.since <= head.version)
        };
        Self::layout().filter(has).map(|(field, run)| run + field.end).max().unwrap_or(0)
    }

    fn fields(&self) -> Result<Fields> {
        self.nccl.check_without_effect()?;
        self.further.add_to(Fields {
            blocking: set(self.nccl.blocking),
            net_name: self.nccl.net_name.read(),
            comm_name: self.nccl.comm_name.read(),
            ..Fields::default()
        })
    }
}

/// The value of an integer field, if it was set.
pub fn set(value: c_int) -> Option<c_int> {
    (value != UNSET).then_some(value)
}

impl Nccl {
    /// Fields by which NCCL uses a GPU: they have no effect here, but must have values that NCCL would take.
    fn check_without_effect(&self) -> Result<()> {
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
        if let (Some(min), Some(max)) = (set(self.min_ctas), set(self.max_ctas))
            && min > max
        {
            let text = format!(
                "config->minCTAs is {min} (allowed: at most config->maxCTAs, which is {max})"
            );
            return Err(Error::invalid_argument(text));
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

    fields! {
        Own:
        lanes: c_int, since 22_900;
        slots: c_int, since 22_901;
    }

    impl Further for Own {
        const NCCL_VERSIONS: bool = true;

        fn add_to(&self, fields: Fields) -> Result<Fields> {
            Ok(Fields { lanes: set(self.lanes), slots: set(self.slots), ..fields })
        }
    }

    enum Example {}

    impl Interface for Example {
        const PREFIX: &'static str = "example";
        const VERSION: c_int = 22_901;
        const DEGRADED: c_int = 0;
        const WINDOW_FLAGS: &'static [(&'static str, c_int)] = &[];
        const JOINS_STREAMS: bool = false;
        type Further = Own;

        fn environment() -> Result<Config> {
            Ok(Config::default())
        }
    }

    type Raw = RawConfig<Own>;

    const HEAD: Head = Head { size: size_of::<Raw>(), magic: MAGIC, version: 22_901 };
    const WHOLE: Raw = Raw {
        head: HEAD,
        nccl: Nccl { blocking: 0, ..Nccl::OPEN },
        further: Own { lanes: 3, slots: 7 },
    };

    fn over_default(raw: &Raw) -> Result<Settings> {
        ConfigPtr::<Example> { address: raw, interface: PhantomData }.over(Config::default())
    }

    /// What a structure with another head says: whether to block, lanes, slots.
    fn read(head: Head) -> (bool, Option<u32>, u32) {
        let settings = over_default(&Raw { head, ..WHOLE }).unwrap();
        (settings.blocking, settings.config.lanes, settings.config.slots)
    }

    #[test]
    fn an_uninitialized_structure_is_refused() {
        let error = over_default(&Raw { head: Head { magic: 7, ..HEAD }, ..WHOLE }).unwrap_err();
        assert!(
            error.what.contains("EXAMPLE_CONFIG_INITIALIZER") && error.what.contains("0x7"),
            "{error}"
        );
    }

    #[test]
    fn fields_beyond_the_callers_size_are_not_read() {
        let slots = Config::default().slots;
        let end = offset_of!(Raw, further.slots);
        assert_eq!(read(HEAD), (false, Some(3), 7));
        assert_eq!(read(Head { size: end, ..HEAD }), (false, Some(3), slots));
        assert_eq!(read(Head { size: end + 2, ..HEAD }), (false, Some(3), slots));
        assert_eq!(read(Head { size: 20, ..HEAD }), (false, None, slots));
        assert_eq!(read(Head { size: 16, ..HEAD }), (true, None, slots));
    }

    #[test]
    fn fields_that_the_callers_version_has_not_are_not_read() {
        let slots = Config::default().slots;
        assert_eq!(read(Head { version: 22_900, ..HEAD }), (false, Some(3), slots));
        assert_eq!(read(Head { version: 22_807, ..HEAD }), (false, None, slots));
        assert_eq!(read(Head { version: 21_400, ..HEAD }), (false, None, slots));
        assert_eq!(read(Head { version: 21_303, ..HEAD }), (true, None, slots));
    }

    #[test]
    fn a_longer_structure_of_a_later_library_is_read_as_far_as_it_is_known() {
        let later = Head { size: size_of::<Raw>() + 64, version: 33_000, ..HEAD };
        assert_eq!(read(later), (false, Some(3), 7));
    }

    #[test]
    fn fields_without_effect_are_checked() {
        for (nccl, text) in [
            (Nccl { split_share: 2, ..Nccl::OPEN }, "config->splitShare is 2 (allowed: 0, 1)"),
            (Nccl { max_ctas: 0, ..Nccl::OPEN }, "config->maxCTAs is 0 (allowed: 1 or more)"),
            (Nccl { cta_policy: 9, ..Nccl::OPEN }, "config->CTAPolicy is 9 (allowed: 0 to 3)"),
            (
                Nccl { min_ctas: 3, max_ctas: 2, ..Nccl::OPEN },
                "config->minCTAs is 3 (allowed: at most config->maxCTAs, which is 2)",
            ),
        ] {
            assert_eq!(over_default(&Raw { nccl, ..WHOLE }).unwrap_err().what, text);
        }
    }
}
