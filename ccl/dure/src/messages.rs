//! Messages: a send meets a receive, outside the sequence of collectives.

use std::collections::VecDeque;
use std::sync::Arc;

use dure_exec::{Call, Plan, Track};
use dure_plan::{Rank, Step, input, output};

use crate::call::{Request, Signature};
use crate::engine::{Active, Engine};
use crate::error::{Error, Result};
use crate::stall::executor_error;

/// Messages begun so far, to and from each peer.
#[derive(Debug, Default)]
pub(crate) struct MessageCounts {
    to: Vec<u64>,
    from: Vec<u64>,
}

impl MessageCounts {
    /// The number of the next message.
    fn next(&mut self, peer: u32, is_send: bool) -> u64 {
        let (counts, peer) = (if is_send { &mut self.to } else { &mut self.from }, peer as usize);
        if counts.len() <= peer {
            counts.resize(peer + 1, 0);
        }
        counts[peer] += 1;
        counts[peer]
    }
}

/// The only step of a message.
pub(crate) fn step(peer: u32, is_send: bool) -> Step {
    if is_send {
        Step::Send { to: Rank(peer), src: input(0, 1) }
    } else {
        Step::Recv { from: Rank(peer), dst: output(0, 1) }
    }
}

impl Engine {
    /// Gives a message the next number of its direction; the digest of both ends.
    #[expect(clippy::cast_possible_truncation, reason = "a digest of 32 of the 64 bits")]
    pub(crate) fn count_message(&mut self, signature: Signature, peer: u32, is_send: bool) -> u32 {
        signature.chained(0, self.messages.next(peer, is_send)) as u32
    }

    pub(crate) fn begin_message(
        &mut self,
        active: &mut Active,
        request: &Request,
        peer: u32,
        is_send: bool,
    ) -> Result<()> {
        let known = self.know(request)?;
        let digest = self.count_message(request.signature(), peer, is_send);
        let (input, output) =
            known.buffers(request.input, request.output).expect("the buffers were checked");
        let call = Call { prepared: known.prepared, input, output, digest };
        let track = if is_send { Track::To(Rank(peer)) } else { Track::From(Rank(peer)) };
        active.calls.push((call, track));
        Ok(())
    }

    /// Messages of a rank to itself: the k-th send meets the k-th receive of the same group.
    pub(crate) fn begin_self(
        &self,
        active: &mut Active,
        (mut sends, mut recvs): (VecDeque<Request>, VecDeque<Request>),
    ) -> Result<()> {
        while let (Some(send), Some(recv)) = (sends.pop_front(), recvs.pop_front()) {
            if send.input.len != recv.output.len || send.dtype != recv.dtype {
                let text = format!(
                    "a message of {} bytes of {} to itself meets a receive of {} bytes of {}",
                    send.input.len, send.dtype, recv.output.len, recv.dtype
                );
                return Err(Error::invalid_usage(text).on(self.me.0));
            }
            let mut layouts = send.layouts(self.ranks, self.me);
            layouts.output = layouts.input.clone();
            let prepared = self
                .prepare(Arc::new(Plan::copy()), &layouts, (send.dtype, send.op.combine()))
                .map_err(|e| executor_error(&e, self.me.0))?;
            let call = Call { prepared, input: send.input, output: recv.output, digest: 0 };
            active.calls.push((call, Track::Collective));
        }
        if sends.is_empty() && recvs.is_empty() {
            return Ok(());
        }
        let text = "a send to itself needs a receive from itself in the same group, and the other way round";
        Err(Error::invalid_usage(text).on(self.me.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_by_peer_and_direction() {
        let mut counts = MessageCounts::default();
        let numbers = [(3, true), (3, false), (0, true), (3, true), (3, false)]
            .map(|(peer, is_send)| counts.next(peer, is_send));
        assert_eq!(numbers, [1, 1, 1, 2, 2]);
    }
}
