//! Where a profile is kept that no flag names a file for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The file of a profile below the user's folder for what can be made anew; none where there is no such folder. `variable`
/// gives the environment's.
pub(super) fn file(
    variable: impl Fn(&str) -> Option<OsString>,
    topology: &str,
    transports: &[&str],
) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder =
        absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(Path::new(".cache"))))?;
    Some(folder.join("dure").join(format!("{}.json", digest(topology, transports))))
}

/// 16 hexadecimal digits that stand for a host and what joins the ranks.
fn digest(topology: &str, transports: &[&str]) -> String {
    let mut hash = Sha256::new();
    hash.update(topology);
    for name in transports {
        // No topology has a zero byte, and no name.
        hash.update([0]);
        hash.update(name);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_for_one_host_and_its_transports() {
        let home = |name: &str| (name == "HOME").then(|| OsString::from("/home/a"));
        let named = |topology: &str, transports: &[&str]| file(home, topology, transports).unwrap();
        let path = named("<system/>", &["pool"]);
        assert_eq!(path.parent(), Some(Path::new("/home/a/.cache/dure")));
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(name.len() == 16 && name.chars().all(|c| c.is_ascii_hexdigit()), "{name}");
        assert_eq!(named("<system/>", &["pool"]), path);
        assert_ne!(named("<system version=\"1\"/>", &["pool"]), path);
        assert_ne!(named("<system/>", &["tcp"]), path);
        assert_ne!(named("<system/>", &["po", "ol"]), path);
        // SHA-256 of "abc", FIPS 180-4's example.
        assert_eq!(digest("abc", &[]), "ba7816bf8f01cfea");
    }

    #[test]
    fn the_folder_is_the_environments() {
        let both = |name: &str| match name {
            "XDG_CACHE_HOME" => Some(OsString::from("/var/cache/a")),
            _ => Some(OsString::from("/home/a")),
        };
        assert!(file(both, "", &[]).unwrap().starts_with("/var/cache/a/dure"));
        let relative = |_: &str| Some(OsString::from("here"));
        assert_eq!(file(relative, "", &[]), None);
        assert_eq!(file(|_| None, "", &[]), None);
    }
}
