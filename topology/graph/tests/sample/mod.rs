//! Recorded trees of files, as `topology/samples` has them.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

/// Makes a folder of a sample: `FILE = TEXT`, `LINK -> TARGET`.
pub(crate) fn unpack(name: &str) -> TempDir {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("topology/samples"));
    let samples = above.find(|folder| folder.is_dir()).unwrap();
    let text = fs::read_to_string(samples.join(format!("{name}.sysfs"))).unwrap();
    let folder = TempDir::new().unwrap();
    let place = |path: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some((path, target)) = line.split_once(" -> ") {
            symlink(Path::new(target), place(path)).unwrap();
        } else {
            let (path, text) = line.split_once(" = ").unwrap();
            fs::write(place(path), text.replace("\\n", "\n") + "\n").unwrap();
        }
    }
    folder
}
