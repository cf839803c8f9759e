//! Topologies of real machines, where the checkout has them beside it.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::fs;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/topologies")
}

/// Whether there are any.
pub(crate) fn is_there() -> bool {
    folder().is_dir()
}

/// A file by its path in the folder; says so where it is not there.
pub(crate) fn file(path: &str) -> Option<String> {
    let text = fs::read_to_string(folder().join(path)).ok();
    if text.is_none() {
        eprintln!("skipped: there is no {}", folder().join(path).display());
    }
    text
}

/// The files of a folder, each with its name, sorted; none where it is not there, which it says.
pub(crate) fn files(of: &str) -> Vec<(String, String)> {
    let folder = folder().join(of);
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("skipped: there is no {}", folder.display());
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}
