//! Huge pages for memory that peers read through the kernel. `process_vm_readv` looks up, pins and releases each page of
//! its source: with pages of 4 KiB that takes longer than copying them (docs/performance.md).

use std::fs;

use dure_device::Memory;
use dure_device::host::HUGE_PAGE;
use dure_transport::Result;
use nix::errno::Errno;
use nix::libc;

use crate::system;

/// Whether neither the system nor the process is set to never use huge pages: gathering would not ask.
pub(crate) fn are_allowed() -> bool {
    let modes = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    // SAFETY: the call reads and writes no memory.
    let disabled = unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) };
    modes.is_ok_and(|modes| !modes.contains("[never]")) && disabled == 0
}

/// Has the kernel copy the pages of some memory, and of what shares huge pages with it, to huge ones, where they are
/// private memory of this process and nobody has pinned them. Where huge pages are larger than [`HUGE_PAGE`], nothing is
/// gathered.
///
/// # Errors
/// [`dure_transport::Error::System`] when some were left as they are.
pub(crate) fn gather(memory: Memory) -> Result<()> {
    let start = memory.address() / HUGE_PAGE * HUGE_PAGE;
    let end = (memory.address() + memory.len).next_multiple_of(HUGE_PAGE);
    let address = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: the advice changes where bytes are behind their addresses, and neither bytes nor addresses; what is not
    // mapped, or cannot be gathered, is left as it is.
    let done = unsafe { libc::madvise(address, end - start, libc::MADV_COLLAPSE) };
    Errno::result(done).map(drop).map_err(system("madvise"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kilobytes of the process's private memory that are on huge pages.
    fn on_huge_pages() -> u64 {
        let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let line = rollup.lines().find_map(|line| line.strip_prefix("AnonHugePages:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn gathered_memory_is_on_huge_pages_and_as_it_was() {
        if !are_allowed() {
            eprintln!("SKIPPED: this system does not use huge pages");
            return;
        }
        let before = on_huge_pages();
        let mut bytes: Vec<u8> = (0..=250).cycle().take(4 * HUGE_PAGE).collect();
        let done = gather(Memory::host(bytes.as_mut_ptr(), bytes.len()));
        if done.is_err() && on_huge_pages() == before {
            eprintln!("SKIPPED: Linux before 6.1, or no memory for huge pages: {done:?}");
            return;
        }
        assert!(bytes.iter().copied().eq((0..=250).cycle().take(4 * HUGE_PAGE)));
        let gathered = on_huge_pages().saturating_sub(before);
        assert!(gathered >= 3 * 2048, "{gathered} KiB of {} are on huge pages", bytes.len() >> 10);
    }

    #[test]
    fn memory_that_is_not_there_is_left_alone() {
        gather(Memory::host(std::ptr::without_provenance_mut(HUGE_PAGE), HUGE_PAGE)).unwrap_err();
    }
}
