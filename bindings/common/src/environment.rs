//! The environment: read once, by the first entry point that needs a setting.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use dure::{Config, Error, Result};
use tracing_subscriber::EnvFilter;

use crate::Interface;

/// The settings of the environment. A bad value is the answer to every call that needs settings.
///
/// # Errors
/// As [`Interface::environment`].
pub fn config<I: Interface>() -> Result<Config> {
    // A library has one interface, and so one of these.
    static READ: OnceLock<Result<Config>> = OnceLock::new();
    READ.get_or_init(I::environment).clone()
}

/// Logs to standard error what passes a filter: C programs have no subscriber of ours.
///
/// # Errors
/// `InvalidArgument` when it is no filter.
pub fn log(filter: &str) -> Result<()> {
    let filter = EnvFilter::builder().parse(filter).map_err(|error| {
        Error::invalid_argument(format!("DURE_LOG=\"{filter}\"")).because(error)
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // Fails when there is a subscriber already, which then gets our events.
    let _ = subscriber.try_init();
    Ok(())
}
