//! Short messages to and from peers that do not share memory: header and bytes are one head, which the transport copies, so
//! that no memory of the user need be known to it.

use dure_device::{Memory, Work};
use dure_transport::{Peer, Put};

use super::{LANE, Outcome, Piece, ShortRun};
use crate::Error;
use crate::machine::Machine;
use crate::slot::{Header, Kind, LINE, PAYLOAD};

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
        let Some(link) = machine.links[to as usize].as_deref_mut().filter(|link| link.is_up())
        else {
            return Ok(Outcome::General);
        };
        // A header that is a line by itself is not in one put with the payload.
        let lined = link.is_lined();
        let front = if lined { 0 } else { Header::BYTES };
        let len = front + src.len;
        let fits = len <= machine.net.caps(Peer(to)).head;
        let target = if fits { link.slot(&mut *machine.net, LANE) } else { None };
        let Some(target) = target.filter(|target| target.window.is_none()) else {
            return Ok(Outcome::General);
        };
        let bytes = u32::try_from(src.len).expect("a short message is short");
        let kind = if lined && src.len <= LINE { Kind::Line } else { Kind::Slot };
        let header = link.header(LANE, self.digest, bytes, kind);
        let (flow, signal) = (link.flow(LANE), link.data_signal(LANE));
        head.resize(len, 0);
        let room = Memory::host(head.as_mut_ptr(), len).part(front, src.len);
        self.submit(machine, &Work::copy(self.piece(machine, src), room))?;
        let token = machine.next_token();
        let (link, net) = machine.link_and_net(to);
        if lined {
            let (front, payload) =
                if kind == Kind::Line { (&head[..], &[][..]) } else { (&[][..], &head[..]) };
            let message = (header.line(front), payload, &[][..]);
            let posted = link.put_lined(net, (LANE, token), target, message);
            return Ok(if posted.is_some() { Outcome::Done } else { Outcome::General });
        }
        head[..Header::BYTES].copy_from_slice(&header.encode());
        let at = target.at - Header::BYTES as u64;
        let into = Some(target.into);
        let put = Put { to: Peer(to), flow, head, body: &[], into, at, signal, token };
        if net.put(&put).is_err() {
            return Ok(Outcome::General);
        }
        link.sent(LANE, true);
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
        if !link.arrived(&mut *machine.net, LANE) {
            return Ok(Outcome::Ask);
        }
        let slot = link.next_slot(&mut *machine.net, LANE);
        let header = Machine::header(slot).filter(|header| {
            header.digest == self.digest
                && header.stamp == link.next_stamp(LANE)
                && header.bytes as usize == dst.len
                && (header.kind == Kind::Slot || header.kind == Kind::Line && dst.len <= LINE)
        });
        // What is wrong, the general way finds and says.
        let Some(header) = header.filter(|_| !holds) else { return Ok(Outcome::General) };
        link.hear_of_freed(LANE, header.freed);
        let at = if header.kind == Kind::Line {
            0
        } else {
            link.acquire_payload(&mut *machine.net, LANE, dst.len);
            PAYLOAD
        };
        self.consume(machine, slot.part(at, dst.len), with, dst)?;
        machine.take(from, LANE, true, false);
        Ok(Outcome::Done)
    }
}
