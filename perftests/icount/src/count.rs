//! Counting by callgrind, and the file of counts.

use std::path::Path;
use std::process::Command;

use crate::CALLS;
use crate::job::Case;

/// Instructions per call, by the name of the case.
pub(crate) struct Counts(Vec<(String, u64)>);

impl Counts {
    /// Counts all cases.
    pub(crate) fn measure() -> Result<Vec<(String, u64)>, String> {
        Case::all().map(|case| Ok((case.to_string(), count(case)?))).collect()
    }

    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let entry = |line: &str| {
            let (case, count) = line.rsplit_once(' ')?;
            Some((case.to_owned(), count.parse().ok()?))
        };
        let broken = |line: &str| format!("{}: {line:?} is no count", file.display());
        lines
            .map(|line| entry(line).ok_or_else(|| broken(line)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(crate) fn of(&self, case: &str) -> Option<u64> {
        self.0.iter().find(|(name, _)| name == case).map(|(_, count)| *count)
    }
}

/// Instructions per call of one case.
fn count(case: Case) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", "--toggle-collect=dure_icount_counted"])
        .arg(program)
        .args(["run", &case.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split_once("Collected : "));
    let total = collected.and_then(|(_, count)| count.trim().parse::<u64>().ok());
    match total.filter(|total| output.status.success() && *total > 0) {
        Some(total) => Ok(total / u64::from(CALLS)),
        None => Err(format!("valgrind counted nothing for {case}: {text}")),
    }
}
