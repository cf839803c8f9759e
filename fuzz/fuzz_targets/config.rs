//! Settings, as names and values of the environment.
#![no_main]

use std::fmt::Debug;
use std::sync::LazyLock;

use dure::Config;
use dure::config::{AlgorithmRules, Interfaces, Transports};
use libfuzzer_sys::fuzz_target;

/// The names of all variables, as the documentation lists them.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let documentation = Config::documentation();
    let rows = documentation.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once('`')).map(|(name, _)| name.to_owned()).collect()
});

fuzz_target!(|pairs: Vec<(u8, &str)>| {
    let name = |number: u8| NAMES.get(usize::from(number)).map_or("DURE_NOTHING", String::as_str);
    let pairs: Vec<_> = pairs.into_iter().map(|(number, value)| (name(number), value)).collect();
    let config = Config::from_pairs(pairs.iter().copied());
    let unknown =
        pairs.iter().any(|(name, value)| *name == "DURE_NOTHING" && !value.trim().is_empty());
    assert!(!unknown || config.is_err());
    for (_, text) in pairs {
        let text: String = text.split_whitespace().collect();
        written(&text, AlgorithmRules::parse);
        written(&text, Transports::parse);
        written(&text, Interfaces::parse);
    }
});

/// What was read is read again from what it is written as: ranks compare settings as text. (The default is written in
/// words.)
fn written<T: ToString + Default + PartialEq + Debug>(
    text: &str,
    parse: fn(&str) -> Result<T, String>,
) {
    if let Ok(value) = parse(text)
        && value != T::default()
    {
        assert_eq!(parse(&value.to_string()), Ok(value));
    }
}
