//! Who moves bytes between the sockets and the frames: by readiness, or by a ring.

use std::fmt::Debug;

use dure_transport::{Event, Full, Posted, Put, Result};
use nix::sys::epoll::Epoll;

use crate::frame::Header;
use crate::traffic::{FlowId, Traffic};

/// How bytes are moved between sockets and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Driver {
    /// `Poll`, and `IoUring` once there are several peers: what was faster where it was measured.
    #[default]
    Auto,
    /// System calls on sockets that have something, or are expected to.
    Poll,
    /// io_uring: the kernel receives small frames by itself; where it has none, `Poll`.
    IoUring,
}

/// Moves bytes between sockets and frames.
pub(crate) trait Drive: Debug + Send {
    /// A flow begins to carry frames. Its socket is in `bell` already, with whatever mark.
    fn open(&mut self, bell: &Epoll, traffic: &Traffic, id: FlowId) -> Result<()>;

    /// Sends a put on a flow that is up, or takes it over.
    fn post(
        &mut self,
        traffic: &mut Traffic,
        id: FlowId,
        header: Header,
        put: &Put<'_>,
    ) -> std::result::Result<Posted, Full>;

    /// Moves on as far as possible without waiting. Flows that ended are noted in `traffic`.
    fn turn(&mut self, bell: &Epoll, traffic: &mut Traffic, events: &mut Vec<Event>);

    /// Whether what was posted gets no further without a turn.
    fn is_behind(&self) -> bool;

    /// Nothing is sent any more on a flow: from here on, what arrived is in `traffic` or in the socket, and the kernel
    /// touches nothing on its behalf. Events of what was to be sent do not come.
    fn close(&mut self, bell: &Epoll, traffic: &mut Traffic, id: FlowId);

    /// Lets `bell` ring when there is something to do; false when there is already.
    fn arm(&mut self, bell: &Epoll, traffic: &mut Traffic) -> bool;
}
