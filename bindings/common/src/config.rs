//! What the fields of `...Config_t` say, over the settings that a communicator would have without them.

use std::ffi::c_int;
use std::time::Duration;

use dure::{Config, Error, Result};

/// The settings of one communicator.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    /// Whether the calls that make communicators wait until that is done.
    pub(crate) blocking: bool,
    /// What the user calls it, for messages.
    pub(crate) name: Option<String>,
}

/// The fields of `...Config_t` that were set. (Those that say how NCCL uses a GPU were checked, and have no effect.)
#[derive(Debug, Default)]
pub struct Fields {
    /// `blocking`.
    pub blocking: Option<c_int>,
    /// `netName`, as `DURE_TRANSPORT` has it.
    pub net_name: Option<String>,
    /// `commName`.
    pub comm_name: Option<String>,
    /// `timeoutMs`.
    pub timeout_ms: Option<c_int>,
    /// `deterministic`.
    pub deterministic: Option<c_int>,
    /// `check`.
    pub check: Option<c_int>,
    /// `lanes`.
    pub lanes: Option<c_int>,
    /// `slots`.
    pub slots: Option<c_int>,
    /// `slotBytes`.
    pub slot_bytes: Option<c_int>,
    /// `algo`, as `DURE_ALGO` has it.
    pub algo: Option<String>,
}

impl Settings {
    /// `base`, changed by `fields`.
    ///
    /// # Errors
    /// `InvalidArgument` names the field, and what it may be.
    pub(crate) fn new(base: Config, fields: Fields) -> Result<Self> {
        let mut config = base;
        if let Some(transports) = fields.net_name {
            config.transport = Config::from_pairs([("DURE_TRANSPORT", transports)])
                .map_err(in_field("netName"))?
                .transport;
        }
        if let Some(algorithms) = fields.algo {
            config.algo =
                Config::from_pairs([("DURE_ALGO", algorithms)]).map_err(in_field("algo"))?.algo;
        }
        if let Some(timeout) = fields.timeout_ms {
            config.timeout = Duration::from_millis(u64::from(positive("timeoutMs", timeout)?));
        }
        config.deterministic =
            flag("deterministic", fields.deterministic)?.unwrap_or(config.deterministic);
        config.check = flag("check", fields.check)?.unwrap_or(config.check);
        if let Some(lanes) = fields.lanes {
            config.lanes = Some(positive("lanes", lanes)?);
        }
        if let Some(slots) = fields.slots {
            config.slots = positive("slots", slots)?;
        }
        if let Some(bytes) = fields.slot_bytes {
            let bytes = positive("slotBytes", bytes)?;
            config.slot_bytes = usize::try_from(bytes).expect("addresses have 32 bits at least");
        }
        Ok(Self {
            config,
            blocking: flag("blocking", fields.blocking)?.unwrap_or(true),
            name: fields.comm_name,
        })
    }
}

fn in_field(field: &'static str) -> impl Fn(Error) -> Error {
    move |mut error| {
        error.what = format!("config->{field}: {}", error.what);
        error
    }
}

/// A field that is 0 or 1.
///
/// # Errors
/// `InvalidArgument`.
pub(crate) fn flag(field: &str, value: Option<c_int>) -> Result<Option<bool>> {
    match value {
        None => Ok(None),
        Some(0) => Ok(Some(false)),
        Some(1) => Ok(Some(true)),
        Some(other) => {
            Err(Error::invalid_argument(format!("config->{field} is {other} (allowed: 0, 1)")))
        }
    }
}

/// A field that counts, from 1.
///
/// # Errors
/// `InvalidArgument`.
pub(crate) fn positive(field: &str, value: c_int) -> Result<u32> {
    u32::try_from(value).ok().filter(|value| *value > 0).ok_or_else(|| {
        Error::invalid_argument(format!("config->{field} is {value} (allowed: 1 or more)"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_fields_keep_what_was_there() {
        let base = Config::default().slots(3).check(false);
        let settings = Settings::new(base.clone(), Fields::default()).unwrap();
        assert_eq!(settings.config, base);
        assert!(settings.blocking && settings.name.is_none());
    }

    #[test]
    fn set_fields_win() {
        let fields = Fields {
            blocking: Some(0),
            net_name: Some("tcp".to_owned()),
            comm_name: Some("mine".to_owned()),
            timeout_ms: Some(1500),
            deterministic: Some(1),
            check: Some(0),
            lanes: Some(3),
            slots: Some(5),
            slot_bytes: Some(4096),
            algo: Some("allreduce:ring".to_owned()),
        };
        let settings = Settings::new(Config::default(), fields).unwrap();
        let text = Config::from_pairs([("DURE_TRANSPORT", "tcp"), ("DURE_ALGO", "allreduce:ring")])
            .unwrap();
        let expected = text
            .timeout(Duration::from_millis(1500))
            .deterministic(true)
            .check(false)
            .lanes(Some(3))
            .slots(5)
            .slot_bytes(4096);
        assert_eq!(settings.config, expected);
        assert_eq!((settings.blocking, settings.name.as_deref()), (false, Some("mine")));
    }

    #[test]
    fn wrong_fields_are_named() {
        let of = |fields| Settings::new(Config::default(), fields).unwrap_err().what.clone();
        assert_eq!(
            of(Fields { blocking: Some(2), ..Fields::default() }),
            "config->blocking is 2 (allowed: 0, 1)"
        );
        assert_eq!(
            of(Fields { slots: Some(0), ..Fields::default() }),
            "config->slots is 0 (allowed: 1 or more)"
        );
        let text = of(Fields { net_name: Some("smoke".to_owned()), ..Fields::default() });
        assert!(text.starts_with("config->netName: ") && text.contains("tcp"), "{text}");
    }
}
