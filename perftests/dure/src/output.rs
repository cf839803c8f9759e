//! What commands answer: their verdict, their failures, and where JSON goes.

use std::error::Error as StdError;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use dure::ErrorKind;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// What a command found. When it is not good, the command has already said what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything asked for holds.
    Holds,
    /// Something measured or checked does not.
    Fails,
    /// The call was wrong, as the processes that carried it out said.
    Refused,
}

impl Verdict {
    pub(crate) fn holds_if(condition: bool) -> Self {
        if condition { Self::Holds } else { Self::Fails }
    }

    /// The exit status.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Holds => 0,
            Self::Fails => Failure::FAILED,
            Self::Refused => Failure::USAGE,
        }
    }
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The call was wrong.
    #[error("{0}")]
    Usage(String),
    /// Something that was asked for did not work.
    #[error("{0}")]
    Failed(String),
    /// A file, or another thing of the system's.
    #[error("{what}")]
    System {
        what: String,
        #[source]
        source: io::Error,
    },
    /// Standard output was closed, or is full.
    #[error("standard output")]
    Output(#[from] io::Error),
    /// A wire, or what leads to it.
    #[error("{what}")]
    Wire {
        what: String,
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The library's error.
    #[error(transparent)]
    Library(#[from] dure::Error),
}

impl Failure {
    /// Exit status for something that does not hold.
    pub(crate) const FAILED: u8 = 1;
    /// Exit status for a wrong call.
    pub(crate) const USAGE: u8 = 2;

    /// A failed call of the system's on something.
    pub(crate) fn system(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System { what: what.into(), source: source.into() }
    }

    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => Self::USAGE,
            Self::Library(error) if error.kind == ErrorKind::InvalidArgument => Self::USAGE,
            _ => Self::FAILED,
        }
    }

    /// One line on standard error: the failure and its causes. A reader that closed its pipe has seen enough: nothing
    /// is said to it.
    pub(crate) fn tell(&self) {
        if matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            return;
        }
        complain(&chain(self));
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A line on standard error. If that is closed, there is nobody left to tell.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "dure: {text}");
}

/// Writes `value` as JSON to a file, or to standard output when its name is `-`.
pub(crate) fn write_json(to: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    text.push('\n');
    if is_standard_output(to) {
        return Ok(io::stdout().lock().write_all(text.as_bytes())?);
    }
    fs::write(to, text).map_err(|source| Failure::system(to.display().to_string(), source))
}

/// Refuses a file in a folder that is not there: better before the work than after it.
pub(crate) fn expect_folder(file: Option<&Path>) -> Result<(), Failure> {
    let folder = file.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => {
            Err(Failure::Usage(format!("{}: no such folder", folder.display())))
        }
        _ => Ok(()),
    }
}

pub(crate) fn is_standard_output(to: &Path) -> bool {
    to.as_os_str() == "-"
}

/// How much is left, below what is printed, where standard error is a terminal and it is to be shown.
pub(crate) fn progress_bar(shown: bool, total: u64, unit: &str) -> ProgressBar {
    let target = if shown && io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style =
        ProgressStyle::with_template(&format!("{{bar:40}} {{pos}}/{{len}} {unit}, {{eta}} left"));
    let style = style.expect("the template is right");
    ProgressBar::with_draw_target(Some(total), target).with_style(style)
}

/// Whether `--json -` claims standard output for itself.
pub(crate) fn claims_output(json: Option<&PathBuf>) -> bool {
    json.is_some_and(|to| is_standard_output(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_the_status_of_whoever_must_act() {
        assert_eq!(Failure::Usage(String::new()).status(), 2);
        assert_eq!(Failure::Failed(String::new()).status(), 1);
        assert_eq!(Failure::from(dure::Error::invalid_argument("")).status(), 2);
        assert_eq!(Failure::from(dure::Error::timeout("")).status(), 1);
    }

    #[test]
    fn files_need_their_folder() {
        assert!(expect_folder(None).is_ok());
        assert!(expect_folder(Some(Path::new("-"))).is_ok());
        assert!(expect_folder(Some(Path::new("/tmp/x.json"))).is_ok());
        let refused = expect_folder(Some(Path::new("/no/such/x.json")));
        assert_eq!(refused.unwrap_err().status(), 2);
    }

    #[test]
    fn causes_follow_the_failure() {
        let failure = Failure::system("plans.txt", io::Error::other("no such thing"));
        assert_eq!(chain(&failure), "plans.txt: no such thing");
    }
}
