//! Counters of a port, as the kernel shows them below `/sys/class/infiniband`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Counters of one port at one time.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    folders: Vec<PathBuf>,
    values: BTreeMap<String, u64>,
}

/// A counter that moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its name in sysfs.
    pub name: String,
    /// By how much.
    pub by: u64,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} +{}", self.name, self.by)
    }
}

impl Moved {
    /// Whether it counts traffic, which always moves.
    pub fn is_traffic(&self) -> bool {
        let name = self.name.as_str();
        let plain = ["sent_pkts", "rcvd_pkts", "lifespan", "rdma_sends", "rdma_recvs"];
        let requests = ["rx_write_requests", "rx_read_requests", "rx_atomic_requests"];
        plain.contains(&name)
            || requests.contains(&name)
            || ["_data", "_packets", "_bytes"].iter().any(|end| name.ends_with(end))
    }

    /// Whether it counts packets that were damaged or dropped by the link.
    pub(crate) fn is_link_error(&self) -> bool {
        let parts = [
            "symbol_error",
            "discards",
            "link_downed",
            "integrity",
            "link_error",
            "rcv_errors",
            "icrc",
        ];
        parts.iter().any(|part| self.name.contains(part))
    }
}

impl Counters {
    /// Reads those of a port. Where there are none, there are none.
    pub fn read(device: &str, port: u8) -> Self {
        let port = Path::new("/sys/class/infiniband").join(device).join(format!("ports/{port}"));
        Self::of(vec![port.join("counters"), port.join("hw_counters")])
    }

    fn of(folders: Vec<PathBuf>) -> Self {
        let files =
            folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let value = |file: fs::DirEntry| {
            let number = fs::read_to_string(file.path()).ok()?.trim().parse().ok()?;
            Some((file.file_name().into_string().ok()?, number))
        };
        let values = files.filter_map(value).collect();
        Self { folders, values }
    }

    /// The counters by name; empty where there is nothing to read.
    pub fn values(&self) -> &BTreeMap<String, u64> {
        &self.values
    }

    /// What moved since; errors first, then traffic, each by name. `None` where there is nothing to read, as in a
    /// container without the device's files.
    pub fn moved(&self) -> Option<Vec<Moved>> {
        let now = Self::of(self.folders.clone());
        if now.values.is_empty() {
            return None;
        }
        let by = |(name, value): (String, u64)| {
            let by = value.saturating_sub(self.values.get(&name).copied().unwrap_or(0));
            (by > 0).then_some(Moved { name, by })
        };
        let mut moved: Vec<_> = now.values.into_iter().filter_map(by).collect();
        moved.sort_by_key(Moved::is_traffic);
        Some(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_is_told_with_errors_first() {
        let folder = std::env::temp_dir().join(format!("dure-counters-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, value: &str| fs::write(folder.join(name), value).unwrap();
        write("port_rcv_data", "100\n");
        write("symbol_error", "0\n");
        write("steady", "5\n");
        write("text", "N/A (no counter)\n");
        let before = Counters::of(vec![folder.clone(), folder.join("absent")]);
        write("port_rcv_data", "900\n");
        write("symbol_error", "3\n");
        let moved = before.moved().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let text: Vec<_> = moved.iter().map(Moved::to_string).collect();
        assert_eq!(text, ["symbol_error +3", "port_rcv_data +800"]);
        assert!(moved[0].is_link_error() && !moved[1].is_link_error());
        assert_eq!(Counters::of(vec![folder]).moved(), None);
    }
}
