//! Puts that go over the side channel, because no rail is left.

use dure_transport::{Full, Posted, Put, Span};

use crate::error::Error;
use crate::mailbox::CONTROL;
use crate::transport::Rdma;

impl Rdma {
    /// Hands a put to the side channel. Both sides number their counters as that does.
    pub(crate) fn send_aside(&mut self, put: &Put<'_>) -> Result<Posted, Full> {
        let regions = self.regions.get_mut();
        let spans = put.body.iter().filter(|span| span.len > 0);
        let spans: Option<Vec<_>> = spans
            .map(|span| Some(Span { region: regions.own(span.region.0).side?, ..*span }))
            .collect();
        let into = put.into.map(|into| self.remotes.get(into).side);
        let (Some(body), false) = (spans, into == Some(None)) else {
            self.give_up_outside(put.to, Error::NoDetour.into());
            return Ok(Posted::Done);
        };
        let put = Put { flow: dure_transport::Flow(0), body: &body, into: into.flatten(), ..*put };
        self.put_pieces(&put)
    }

    /// A put whose head may be longer than the side channel takes, which is one that was copied and is sent again: its bytes
    /// go in pieces, of which only the last counts.
    fn put_pieces(&mut self, put: &Put<'_>) -> Result<Posted, Full> {
        let most = self.side.caps(put.to).head;
        let (mut head, mut at) = (put.head, put.at);
        while let Some((piece, rest)) =
            head.split_at_checked(most).filter(|(_, rest)| !rest.is_empty())
        {
            let piece = Put { head: piece, body: &[], at, signal: None, token: CONTROL, ..*put };
            self.side.put(&piece)?;
            at += piece.head.len() as u64;
            head = rest;
        }
        self.side.put(&Put { head, at, ..*put })
    }
}
