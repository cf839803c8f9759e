//! Short messages to and from peers that do not share memory: header and bytes are one head, which the transport copies, so
//! that no memory of the user need be known to it.

use dure_device::{Memory, Work};
use dure_transport::{Peer, Put};

use super::{LANE, Outcome, Piece, ShortRun};
use crate::Error;
use crate::machine::Machine;
use crate::slot::{Header, Kind, PAYLOAD};

impl ShortRun {
    /// Sends to a peer that is up, in one put. (Out of line, as is what follows, so that calls between coherent peers have
    /// their few instructions together.)
    #[inline(never)]
    pub(super) fn send_wired(
        &self,
        machine: &mut Machine,
        to: u32,
        src: Piece,
    ) -> Result<Outcome, Error> {
        let mut head = std::mem::take(&mut machine.head);
        let outcome = self.put(machine, to, src, &mut head);
        machine.head = head;
        outcome
    }

    fn put(
        &self,
        machine: &mut Machine,
        to: u32,
        src: Piece,
        head: &mut Vec<u8>,
    ) -> Result<Outcome, Error> {
        let len = Header::BYTES + src.len;
        let Some(link) = machine.links[to as usize].as_deref_mut().filter(|link| link.is_up())
        else {
            return Ok(Outcome::General);
        };
        let fits = len <= machine.net.caps(Peer(to)).head;
        let target = if fits { link.slot(&mut *machine.net, LANE) } else { None };
        let Some(target) = target.filter(|target| target.window.is_none()) else {
            return Ok(Outcome::General);
        };
        let bytes = u32::try_from(src.len).expect("a short message is short");
        let (header, flow) = (link.header(LANE, self.digest, bytes, Kind::Slot), link.flow(LANE));
        let signal = link.data_signal(LANE);
        head.resize(len, 0);
        head[..Header::BYTES].copy_from_slice(&header.encode());
        let room = Memory::host(head.as_mut_ptr(), len).part(Header::BYTES, src.len);
        self.submit(machine, &Work::copy(self.piece(machine, src), room))?;
        let put = Put {
            to: Peer(to),
            flow,
            head,
            body: &[],
            into: Some(target.into),
            at: target.at - Header::BYTES as u64,
            signal,
            token: machine.next_token(),
        };
        if machine.net.put(&put).is_err() {
            return Ok(Outcome::General);
        }
        machine.link(to).sent(LANE, true);
        Ok(Outcome::Done)
    }

    /// Takes the next message of a peer.
    #[inline(never)]
    pub(super) fn recv_wired(
        &self,
        machine: &mut Machine,
        from: u32,
        with: Option<&Piece>,
        dst: Piece,
    ) -> Result<Outcome, Error> {
        let holds = machine.holds_any();
        let Some(link) = machine.links[from as usize].as_deref_mut().filter(|link| link.is_up())
        else {
            return Ok(Outcome::General);
        };
        if !link.arrived(&*machine.net, LANE) {
            return Ok(Outcome::Ask);
        }
        let slot = link.next_slot(&mut *machine.net, LANE);
        let header = Machine::header(slot).filter(|header| {
            header.digest == self.digest
                && header.stamp == link.next_stamp(LANE)
                && header.bytes as usize == dst.len
                && header.kind == Kind::Slot
        });
        // What is wrong, the general way finds and says.
        let Some(header) = header.filter(|_| !holds) else { return Ok(Outcome::General) };
        link.hear_of_freed(LANE, header.freed);
        self.consume(machine, slot.part(PAYLOAD, dst.len), with, dst)?;
        machine.take(from, LANE, true, false);
        Ok(Outcome::Done)
    }
}
