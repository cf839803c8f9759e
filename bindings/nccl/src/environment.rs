//! The environment: `NCCL_*` for what NCCL has a variable for, under `DURE_*`, which wins.

use std::collections::BTreeMap;

use dure::{Config, Error, Result};
use dure_c::environment::log;

use crate::{algorithms, settings};

/// What a variable of NCCL is taken as.
struct Variable {
    nccl: &'static str,
    dure: &'static str,
    /// The value there; `None` when it says the same as no value. The error says what is wrong, and what is allowed.
    value: fn(&str) -> std::result::Result<Option<String>, String>,
}

const VARIABLES: [Variable; 8] = [
    Variable { nccl: "NCCL_DEBUG", dure: "DURE_LOG", value: level },
    Variable { nccl: "NCCL_SOCKET_IFNAME", dure: "DURE_IFNAME", value: same },
    Variable { nccl: "NCCL_IB_HCA", dure: "DURE_HCA", value: without_ports },
    Variable { nccl: "NCCL_IB_GID_INDEX", dure: "DURE_GID_INDEX", value: from_zero },
    Variable { nccl: "NCCL_IB_QPS_PER_CONNECTION", dure: "DURE_RDMA_FLOWS", value: same },
    Variable { nccl: "NCCL_ALGO", dure: "DURE_ALGO", value: algorithm_rules },
    Variable { nccl: "NCCL_NET", dure: "DURE_TRANSPORT", value: network },
    Variable { nccl: "NCCL_IB_DISABLE", dure: "DURE_TRANSPORT", value: without_rdma },
];

/// Settings, and what there is to say of where they are from.
struct Translated {
    config: Config,
    /// For those who look.
    taken: Vec<String>,
    /// For somebody to act on.
    ignored: Vec<String>,
}

/// The settings of the process's environment. The log says which are from variables of NCCL.
///
/// # Errors
/// `InvalidArgument` names the variable, and what it may be.
pub(crate) fn read() -> Result<Config> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    };
    let Translated { config, taken, ignored } = translate(std::env::vars_os().filter_map(text))?;
    log(&config.log)?;
    for line in taken {
        tracing::info!(target: "dure::init", "{line}");
    }
    if !ignored.is_empty() {
        tracing::warn!(target: "dure::init", "of no effect: {}", ignored.join(", "));
    }
    Ok(config)
}

fn translate(environment: impl Iterator<Item = (String, String)>) -> Result<Translated> {
    let all: BTreeMap<String, String> =
        environment.filter(|(_, value)| !value.trim().is_empty()).collect();
    let mut pairs = BTreeMap::new();
    let mut taken = Vec::new();
    for Variable { nccl, dure, value } in &VARIABLES {
        let Some(text) = all.get(*nccl).map(|text| text.trim()) else { continue };
        let wrong = |why: &str| Error::invalid_argument(format!("{nccl}=\"{text}\": {why}"));
        let Some(ours) = value(text).map_err(|why| wrong(&why))? else { continue };
        Config::from_pairs([(dure, &ours)])
            .map_err(|error| wrong(&format!("as {}", error.what)))?;
        if all.contains_key(*dure) {
            taken.push(format!("{nccl} is not used: there is {dure}"));
            continue;
        }
        if let Some(other) = pairs.insert(*dure, ours.clone()).filter(|other| *other != ours) {
            return Err(wrong(&format!(
                "another variable asks for {dure}={other}, and this one for {ours}"
            )));
        }
        taken.push(format!("{nccl}={text} is taken as {dure}={ours}"));
    }
    let dure = all.iter().filter(|(name, _)| name.starts_with("DURE_"));
    let dure = dure.map(|(name, value)| (name.as_str(), value.clone()));
    let config = Config::from_pairs(dure.chain(pairs))?;
    Ok(Translated { config, taken, ignored: unknown(&all) })
}

/// Variables of NCCL that nothing here corresponds to.
fn unknown(all: &BTreeMap<String, String>) -> Vec<String> {
    // Images of CUDA set this one, and it asks for nothing.
    let says_something = |name: &&String| name.starts_with("NCCL_") && *name != "NCCL_VERSION";
    let known = |name: &String| VARIABLES.iter().any(|variable| variable.nccl == name);
    all.keys().filter(says_something).filter(|name| !known(name)).cloned().collect()
}

#[allow(clippy::unnecessary_wraps, reason = "other variables need the rest of the type")]
fn same(text: &str) -> std::result::Result<Option<String>, String> {
    Ok(Some(text.to_owned()))
}

fn level(text: &str) -> std::result::Result<Option<String>, String> {
    match text.to_ascii_uppercase().as_str() {
        "VERSION" | "WARN" | "ABORT" => Ok(Some("warn".to_owned())),
        "INFO" => Ok(Some("info".to_owned())),
        "TRACE" => Ok(Some("trace".to_owned())),
        _ => Err("no level (allowed: VERSION, WARN, ABORT, INFO, TRACE)".to_owned()),
    }
}

/// A device is named with its port, as `mlx5_0:1`; here all of its ports are used.
#[allow(clippy::unnecessary_wraps, reason = "other variables need the rest of the type")]
fn without_ports(text: &str) -> std::result::Result<Option<String>, String> {
    let device = |name: &str| name.split(':').next().unwrap_or_default().to_owned();
    Ok(Some(text.split(',').map(device).collect::<Vec<_>>().join(",")))
}

/// -1 is NCCL's way to leave it open.
#[allow(clippy::unnecessary_wraps, reason = "other variables need the rest of the type")]
fn from_zero(text: &str) -> std::result::Result<Option<String>, String> {
    Ok((text != "-1").then(|| text.to_owned()))
}

fn algorithm_rules(text: &str) -> std::result::Result<Option<String>, String> {
    algorithms::translate(text).map(|rules| (!rules.is_empty()).then_some(rules))
}

fn network(text: &str) -> std::result::Result<Option<String>, String> {
    settings::transports(text)
        .map(|transports| Some(transports.to_owned()))
        .map_err(|why| format!("no network: {why}"))
}

fn without_rdma(text: &str) -> std::result::Result<Option<String>, String> {
    match text {
        "0" => Ok(None),
        "1" => Ok(Some("^rdma".to_owned())),
        _ => Err("no switch (allowed: 0, 1)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use dure::config::{Interfaces, Transports};

    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Translated> {
        translate(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn every_variable_is_taken_over_and_told() {
        let translated = of(&[
            ("NCCL_DEBUG", "info"),
            ("NCCL_SOCKET_IFNAME", "^=docker0"),
            ("NCCL_IB_HCA", "=mlx5_0:1,mlx5_2"),
            ("NCCL_IB_GID_INDEX", "3"),
            ("NCCL_IB_QPS_PER_CONNECTION", "2"),
            ("NCCL_ALGO", "allreduce:Ring"),
            ("NCCL_NET", "Socket"),
            ("NCCL_IB_DISABLE", "1"),
            ("DURE_LANES", "2"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        let expected = Config::from_pairs([("DURE_ALGO", "allreduce:ring")])
            .unwrap()
            .log("info".to_owned())
            .ifname(Some(Interfaces::parse("^=docker0").unwrap()))
            .hca(Some(Interfaces::parse("=mlx5_0,mlx5_2").unwrap()))
            .gid_index(Some(3))
            .rdma_flows(Some(2))
            .transport(Transports::parse("^rdma").unwrap())
            .lanes(Some(2));
        assert_eq!(translated.config, expected);
        assert_eq!(translated.taken.len(), VARIABLES.len());
        assert_eq!(translated.taken[0], "NCCL_DEBUG=info is taken as DURE_LOG=info");
        assert!(translated.ignored.is_empty());
    }

    #[test]
    fn values_that_leave_things_open_do() {
        let pairs = [
            ("NCCL_IB_GID_INDEX", "-1"),
            ("NCCL_IB_DISABLE", "0"),
            ("NCCL_ALGO", "^NVLS"),
            ("NCCL_NET", ""),
        ];
        let translated = of(&pairs).unwrap();
        assert_eq!(translated.config, Config::default());
        assert!(translated.taken.is_empty());
    }

    #[test]
    fn a_variable_of_our_own_wins() {
        let translated = of(&[("NCCL_DEBUG", "TRACE"), ("DURE_LOG", "error")]).unwrap();
        assert_eq!(translated.config.log, "error");
        assert_eq!(translated.taken, ["NCCL_DEBUG is not used: there is DURE_LOG"]);
    }

    #[test]
    fn what_has_no_effect_is_named() {
        let pairs = [("NCCL_PROTO", "LL"), ("NCCL_VERSION", "2.27"), ("NCCL_P2P_LEVEL", "SYS")];
        assert_eq!(of(&pairs).unwrap().ignored, ["NCCL_P2P_LEVEL", "NCCL_PROTO"]);
    }

    #[test]
    fn wrong_values_name_the_variable_and_what_is_allowed() {
        for (pairs, text) in [
            (&[("NCCL_DEBUG", "loud")][..], "NCCL_DEBUG=\"loud\": no level (allowed: VERSION"),
            (
                &[("NCCL_IB_GID_INDEX", "x")],
                "NCCL_IB_GID_INDEX=\"x\": as DURE_GID_INDEX=\"x\": not a whole number",
            ),
            (&[("NCCL_ALGO", "rnig")], "NCCL_ALGO=\"rnig\": unknown name"),
            (
                &[("NCCL_NET", "pigeon")],
                "NCCL_NET=\"pigeon\": no network: \"pigeon\" (allowed: Socket, IB)",
            ),
            (
                &[("NCCL_NET", "IB"), ("NCCL_IB_DISABLE", "1")],
                "NCCL_IB_DISABLE=\"1\": another variable asks for",
            ),
            (&[("DURE_LANE", "2")], "unknown setting DURE_LANE"),
        ] {
            let error = of(pairs).err().unwrap();
            assert!(error.what.starts_with(text), "{error}");
        }
    }
}
