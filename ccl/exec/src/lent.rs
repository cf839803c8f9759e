//! Buffers that peers read where they are, by the system's help: where that happens again and again, the transport is
//! asked to make it cheaper.

use std::collections::{HashMap, VecDeque};

use dure_device::Memory;
use dure_device::host::HUGE_PAGE;

/// Memory is counted in pieces of this size.
const FRAME: usize = HUGE_PAGE;
/// Readings of a frame after which it is handed to the transport. On a virtual machine (EPYC 9004, Linux 6.18) that takes
/// 0.8 ms, or 6 ms where its host has to find the memory first, and each later reading of the frame takes 0.14 ms less: it
/// pays after 6 to 43 more.
const READINGS: usize = 16;
/// The same in bytes.
const WORTH: u64 = (READINGS * FRAME) as u64;
/// A frame may have been freed, and be other memory now: it is handed over again after so many times as many bytes.
const AGAIN: u64 = 8;
/// Frames that are remembered: of 128 GiB. Beyond, counting begins anew.
const MOST_FRAMES: usize = 1 << 16;
/// Bytes that are handed over before one call: 3 to 24 ms.
const AT_ONCE: usize = 4 * FRAME;

/// How much of a frame was read, and when it is handed over next.
#[derive(Debug)]
struct Frame {
    read: u64,
    due: u64,
}

/// What peers have read.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    frames: HashMap<usize, Frame>,
    /// What is to be handed over.
    due: VecDeque<Memory>,
}

impl Lent {
    /// Peers read `part` of the buffer `whole`.
    pub(crate) fn note(&mut self, whole: Memory, part: Memory) {
        if self.frames.len() >= MOST_FRAMES {
            self.frames.clear();
        }
        let frame =
            self.frames.entry(part.address() / FRAME).or_insert(Frame { read: 0, due: WORTH });
        frame.read += part.len as u64;
        if frame.read < frame.due {
            return;
        }
        // The rest of the buffer is read as often, and it is cheaper together.
        for index in whole.address() / FRAME..=(whole.address() + whole.len - 1) / FRAME {
            let frame = self.frames.entry(index).or_insert(Frame { read: 0, due: WORTH });
            frame.due = frame.due.max(frame.read + 1) * AGAIN;
        }
        self.due.push_back(whole);
    }

    /// Memory to hand to the transport now that no peer reads any.
    #[inline]
    pub(crate) fn take_due(&mut self) -> Option<Memory> {
        let due = self.due.pop_front()?;
        let now = due.len.min(AT_ONCE);
        if now < due.len {
            self.due.push_front(due.part(now, due.len - now));
        }
        Some(due.part(0, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Never dereferenced.
    fn memory(frame: usize, len: usize) -> Memory {
        Memory::host(std::ptr::without_provenance_mut(frame * FRAME), len)
    }

    fn read(lent: &mut Lent, whole: Memory, times: usize) {
        for _ in 0..times {
            (0..whole.len).step_by(FRAME).for_each(|at| lent.note(whole, whole.part(at, FRAME)));
        }
    }

    #[test]
    fn a_buffer_is_handed_over_after_some_readings_and_again_much_later() {
        let (mut lent, whole) = (Lent::default(), memory(5, 2 * FRAME));
        read(&mut lent, whole, READINGS - 1);
        assert_eq!(lent.take_due(), None);
        read(&mut lent, whole, 1);
        assert_eq!(lent.take_due(), Some(whole));
        read(&mut lent, whole, 7 * READINGS - 1);
        assert_eq!(lent.take_due(), None);
        read(&mut lent, whole, 1);
        assert_eq!(lent.take_due(), Some(whole));
        read(&mut lent, whole, 55 * READINGS);
        assert_eq!(lent.take_due(), None);
    }

    #[test]
    fn buffers_that_become_due_in_one_call_are_all_handed_over() {
        let (mut lent, first, second) = (Lent::default(), memory(5, FRAME), memory(9, FRAME));
        read(&mut lent, first, READINGS);
        read(&mut lent, second, READINGS);
        assert_eq!([(); 3].map(|()| lent.take_due()), [Some(first), Some(second), None]);
    }

    #[test]
    fn long_buffers_are_handed_over_in_pieces() {
        let (mut lent, whole) = (Lent::default(), memory(3, 2 * AT_ONCE + FRAME));
        read(&mut lent, whole, READINGS);
        let pieces: Vec<_> = std::iter::from_fn(|| lent.take_due()).map(|m| m.len).collect();
        assert_eq!(pieces, [AT_ONCE, AT_ONCE, FRAME]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut lent = Lent::default();
        for frame in 1..2 * MOST_FRAMES {
            let whole = memory(frame, FRAME);
            lent.note(whole, whole);
        }
        assert!(lent.frames.len() <= MOST_FRAMES);
    }
}
