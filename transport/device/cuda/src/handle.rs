//! Memory as another process names it: what the driver exports, and what is needed to tell whose it is.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

use dure_device_abi as abi;

use crate::driver::IpcHandle;

/// What a handle holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exported {
    /// Of the whole allocation.
    pub(crate) ipc: IpcHandle,
    /// Where in the allocation the memory begins.
    pub(crate) offset: u64,
    pub(crate) whose: Whose,
}

/// Which allocation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whose {
    /// The process that has it: a process cannot open what it has exported itself.
    pub(crate) process: u64,
    /// Where it is in that process.
    pub(crate) base: u64,
    /// Its number in that process, which no later allocation at the same address has.
    pub(crate) number: u64,
}

impl Exported {
    pub(crate) fn encode(&self) -> abi::Handle {
        let mut bytes = [0; abi::HANDLE];
        let (ipc, words) = bytes.split_at_mut(self.ipc.0.len());
        ipc.copy_from_slice(&self.ipc.0);
        let values = [self.offset, self.whose.process, self.whose.base, self.whose.number];
        for (place, value) in words.as_chunks_mut::<8>().0.iter_mut().zip(values) {
            *place = value.to_le_bytes();
        }
        abi::Handle { bytes }
    }

    pub(crate) fn decode(handle: &abi::Handle) -> Self {
        let (ipc, words) = handle.bytes.split_first_chunk().expect("a handle is longer");
        let word = |at: usize| u64::from_le_bytes(words.as_chunks().0[at]);
        let whose = Whose { process: word(1), base: word(2), number: word(3) };
        Self { ipc: IpcHandle(*ipc), offset: word(0), whose }
    }
}

/// A number that no other process has: process ids are not enough, as containers count for themselves.
pub(crate) fn this_process() -> u64 {
    static NUMBER: OnceLock<u64> = OnceLock::new();
    // The keys of a hasher come from the system's random numbers.
    *NUMBER.get_or_init(|| RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_come_back() {
        let whose = Whose { process: this_process(), base: 1 << 40, number: 77 };
        let exported = Exported { ipc: IpcHandle([9; 64]), offset: 4096, whose };
        let handle = exported.encode();
        assert!(Exported::decode(&handle) == exported);
        assert_ne!(handle.bytes[64..], [9; abi::HANDLE - 64]);
    }
}
