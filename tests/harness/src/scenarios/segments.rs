//! Shared memory without named segments.

use std::path::Path;

use dure::Result;

use crate::seat::Seat;

use super::collectives;

/// Every collective, and then a look at `/dev/shm`: this process has nothing there, open or mapped. With the argument
/// `private`, `/dev/shm` is this process's own, and must be empty.
pub(super) fn segments(seat: &Seat) -> Result<()> {
    let on = &seat.communicator;
    collectives::of_count(seat, 40_000)?;
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has it");
    let mapped: Vec<&str> = maps.lines().filter(|line| line.contains("/dev/shm")).collect();
    assert!(mapped.is_empty(), "mapped from /dev/shm: {mapped:?}");
    let open = std::fs::read_dir("/proc/self/fd").expect("Linux has it").filter_map(|entry| {
        std::fs::read_link(entry.ok()?.path()).ok().filter(|to| to.starts_with("/dev/shm"))
    });
    assert_eq!(open.count(), 0, "files of /dev/shm are open");
    if seat.arg(0) == "private" {
        assert_eq!(names(Path::new("/dev/shm")), Vec::<String>::new());
    }
    on.finalize()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    entries.filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned())).collect()
}
