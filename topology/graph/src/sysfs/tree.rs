//! Files below one root folder.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::Error;

/// A folder with `sys` in it, and `proc` where there is one: a machine's own, or a recorded one.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Opens a tree.
    ///
    /// # Errors
    /// There is no folder `sys` in it.
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        let wrong =
            |path: &Path, source| Error::System { path: path.display().to_string(), source };
        let root = fs::canonicalize(root).map_err(|source| wrong(root, source))?;
        let sys = root.join("sys");
        fs::read_dir(&sys).map_err(|source| wrong(&sys, source))?;
        Ok(Self { root })
    }

    /// Text of a file without the space around it; none if there is no such file, it may not be read or is empty.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.root.join(path)).ok()?;
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// A file that holds one number.
    pub(super) fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// Names in a folder in their natural order: `mem2` before `mem10`. None if there is no such folder.
    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root.join(folder)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort_by(|a, b| natural(a, b));
        names
    }

    /// Names in a folder that are a word and a number, with the number.
    pub(super) fn numbered(&self, folder: &str, word: &str) -> Vec<(String, u32)> {
        let number = |name: String| {
            let number = name.strip_prefix(word)?.parse().ok()?;
            Some((name, number))
        };
        self.names(folder).into_iter().filter_map(number).collect()
    }

    /// Where a file really is: the folders from the root to it. None if there is no such file, or it is elsewhere.
    pub(super) fn place(&self, path: &str) -> Option<Vec<String>> {
        let real = fs::canonicalize(self.root.join(path)).ok()?;
        let inside = real.strip_prefix(&self.root).ok()?;
        Some(inside.iter().filter_map(|part| Some(part.to_str()?.to_owned())).collect())
    }

    /// The name of what a link leads to, which need not be in a recorded tree.
    pub(super) fn target(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.root.join(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// The PCI device that a file belongs to: the last one on the way to it.
    pub(super) fn pci(&self, path: &str) -> Option<String> {
        self.place(path)?.into_iter().rfind(|part| is_address(part))
    }
}

/// Whether a name is a PCI address, `0000:c1:00.0`; domains can have more than four digits.
pub(super) fn is_address(name: &str) -> bool {
    let mut parts = name.split(':');
    let (Some(domain), Some(bus), Some(rest), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let hex = |text: &str| text.bytes().all(|c| c.is_ascii_hexdigit());
    let slot = rest.split_once('.').is_some_and(|(device, function)| {
        device.len() == 2 && hex(device) && function.len() == 1 && hex(function)
    });
    (4..=8).contains(&domain.len()) && hex(domain) && bus.len() == 2 && hex(bus) && slot
}

/// Compares names with numbers in them by the numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let split = |name: &str| {
        let word = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = name[word.len()..].parse::<u64>().ok();
        (word.to_owned(), number, name.to_owned())
    };
    split(a).cmp(&split(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["0000:c1:00.0", "10000:01:00.7", "0001:00:1f.3"] {
            assert!(is_address(good), "{good}");
        }
        for bad in
            ["pci0000:00", "0000:00", "c1:00.0", "0000:c1:00", "0000:c1:00.0:pcie", "virtio2", ""]
        {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn numbers_count() {
        let mut names = ["mem10", "mem2", "0000:0a:00.0", "mem", "0000:09:00.0"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["0000:09:00.0", "0000:0a:00.0", "mem", "mem2", "mem10"]);
    }
}
