//! The receiving half of a flow: what the bytes of a connection mean. It does no I/O; drivers bring the bytes.
//!
//! The payload of a frame that is known can be received where it belongs ([`Receiving::landing`]); all other bytes pass
//! through a buffer of the driver's ([`Receiving::feed`]). Nothing is written before region, nonce, bounds and counter
//! of its frame are checked.

use dure_transport::{Error, Peer};

use crate::frame::{Header, NO_SIGNAL};
use crate::memory::Bytes;
use crate::region::{Landing, Regions, index};

/// Payloads from this length on are large, in bytes: worth a system call of their own that receives them where they
/// belong. Below, the second call costs more than the copy (0.4 us of 8 at 8 KiB, nothing either way at 32 KiB).
const LARGE: u32 = 16 << 10;

/// A counter, and who may bump it.
#[derive(Debug)]
pub(crate) struct Counter {
    pub(crate) from: Peer,
    pub(crate) value: u64,
}

/// What frames of one peer land in.
#[derive(Debug)]
pub(crate) struct Ground<'a> {
    pub(crate) regions: &'a Regions,
    pub(crate) counters: &'a mut [Counter],
    pub(crate) peer: Peer,
}

/// The receiving half of a flow.
#[derive(Debug, Default)]
pub(crate) struct Receiving {
    /// The beginning of a header, and its length.
    header: [u8; Header::LEN],
    held: usize,
    /// What is missing of the current frame.
    payload: Option<Payload>,
    /// Whether the last payload was large.
    bulk: bool,
}

#[derive(Clone, Copy, Debug)]
struct Payload {
    landing: Landing,
    /// The counter to bump afterwards.
    signal: u32,
}

impl Receiving {
    /// Whether the flow carries large payloads: then no more than the next header should pass through a buffer.
    pub(crate) fn is_bulk(&self) -> bool {
        self.bulk
    }

    /// Where the next bytes belong; empty when they begin a frame.
    ///
    /// # Errors
    /// [`Error::Protocol`] when the region was released meanwhile.
    pub(crate) fn landing(&self, regions: &Regions) -> Result<Bytes, Error> {
        let bytes = |payload: &Payload| regions.bytes(&payload.landing).map_err(protocol);
        self.payload.as_ref().map_or(Ok(Bytes::EMPTY), bytes)
    }

    /// The next `count` bytes were received where they belong.
    pub(crate) fn landed(&mut self, count: usize, ground: &mut Ground<'_>) {
        let Some(Payload { landing, signal }) = self.payload else { return };
        let landing = landing.skip(count);
        self.payload = (landing.len() > 0).then_some(Payload { landing, signal });
        if self.payload.is_none() {
            ground.bump(signal);
        }
    }

    /// Takes the next bytes, wherever in a frame they begin and end.
    ///
    /// # Errors
    /// [`Error::Protocol`].
    pub(crate) fn feed(&mut self, mut bytes: &[u8], ground: &mut Ground<'_>) -> Result<(), Error> {
        while !bytes.is_empty() {
            if let Some(payload) = &self.payload {
                let to = ground.regions.bytes(&payload.landing).map_err(protocol)?;
                let (payload, rest) = bytes.split_at(to.len().min(bytes.len()));
                to.write(payload);
                self.landed(payload.len(), ground);
                bytes = rest;
            } else if let (0, Some((header, rest))) = (self.held, bytes.split_first_chunk()) {
                self.admit(header, ground)?;
                bytes = rest;
            } else {
                let (part, rest) = bytes.split_at((Header::LEN - self.held).min(bytes.len()));
                self.header[self.held..][..part.len()].copy_from_slice(part);
                self.held += part.len();
                bytes = rest;
                if self.held == Header::LEN {
                    self.held = 0;
                    self.admit(&self.header.clone(), ground)?;
                }
            }
        }
        Ok(())
    }

    /// Checks a new frame before a byte of it is written.
    fn admit(&mut self, header: &[u8; Header::LEN], ground: &mut Ground<'_>) -> Result<(), Error> {
        let header =
            Header::decode(header).map_err(|_| protocol("a frame header that cannot be"))?;
        if header.signal != NO_SIGNAL {
            let counter = ground
                .counters
                .get(index(header.signal))
                .ok_or_else(|| protocol("a frame for a counter that does not exist"))?;
            if counter.from != ground.peer {
                return Err(protocol("a frame for a counter of another peer"));
            }
        }
        if header.len == 0 {
            ground.bump(header.signal);
            return Ok(());
        }
        let landing = ground.regions.landing(&header, ground.peer).map_err(protocol)?;
        self.bulk = header.len >= LARGE;
        self.payload = Some(Payload { landing, signal: header.signal });
        Ok(())
    }
}

impl Ground<'_> {
    fn bump(&mut self, signal: u32) {
        if signal != NO_SIGNAL {
            self.counters[index(signal)].value += 1;
        }
    }
}

fn protocol(what: &'static str) -> Error {
    Error::Protocol { what }
}

#[cfg(test)]
mod tests {
    use dure_transport::Region;
    use proptest::prelude::*;

    use super::*;
    use crate::region::Remote;

    const PEER: Peer = Peer(1);
    const REGION: usize = 9000;

    /// A region that the peer may write, and two counters, one of them the peer's.
    fn ground(regions: &mut Regions) -> (Region, Remote, [Counter; 2]) {
        let (region, _) = regions.alloc(REGION).unwrap();
        let remote = Remote::from_key(Peer(0), &regions.key(region, PEER).unwrap()).unwrap();
        (region, remote, [PEER, Peer(2)].map(|from| Counter { from, value: 0 }))
    }

    fn header(remote: &Remote, offset: u64, len: u32) -> Header {
        Header { region: remote.number, nonce: remote.nonce, offset, len, signal: 0 }
    }

    /// Where a frame of a test lands, and whether it is a pure signal before that.
    fn frame() -> impl Strategy<Value = (usize, usize, bool)> {
        let len = prop_oneof![1..40_usize, 4000..5000_usize];
        (0..4000_usize, len, any::<bool>())
    }

    proptest! {
        /// However a stream is cut, and whichever of its payload bytes are received in place, the same bytes land and
        /// the same counters count.
        #[test]
        fn a_stream_means_the_same_however_it_is_cut(
            frames in proptest::collection::vec(frame(), 1..20),
            cuts in proptest::collection::vec((1..3000_usize, any::<bool>()), 1..20),
        ) {
            let mut regions = Regions::new();
            let (region, remote, mut counters) = ground(&mut regions);
            let (mut stream, mut expected, mut signals) = (Vec::new(), vec![0; REGION], 0);
            for ((at, len, signal), fill) in frames.into_iter().zip(1..) {
                if signal {
                    stream.extend(Header::signal(0).encode());
                    signals += 1;
                }
                let header = header(&remote, at.try_into().unwrap(), len.try_into().unwrap());
                stream.extend(header.encode());
                stream.extend(vec![fill; len]);
                expected[at..at + len].fill(fill);
                signals += 1;
            }
            let mut receiving = Receiving::default();
            let mut cuts = cuts.iter().cycle();
            let mut bytes = &stream[..];
            while !bytes.is_empty() {
                let (count, in_place) = cuts.next().unwrap();
                let (mut part, rest) = bytes.split_at(*count.min(&bytes.len()));
                bytes = rest;
                let mut ground = Ground { regions: &regions, counters: &mut counters, peer: PEER };
                let landing = receiving.landing(&regions).unwrap();
                if *in_place {
                    let (payload, rest) = part.split_at(landing.len().min(part.len()));
                    landing.part(0, payload.len()).write(payload);
                    receiving.landed(payload.len(), &mut ground);
                    part = rest;
                }
                receiving.feed(part, &mut ground).unwrap();
            }
            let mut arrived = vec![0; REGION];
            let span = dure_transport::Span { region, offset: 0, len: REGION.try_into().unwrap() };
            regions.span(span).read(&mut arrived);
            prop_assert!(arrived == expected);
            prop_assert_eq!([counters[0].value, counters[1].value], [signals, 0]);
        }
    }

    #[test]
    fn nothing_of_a_refused_frame_is_written() {
        let mut regions = Regions::new();
        let (region, remote, mut counters) = ground(&mut regions);
        let good = header(&remote, 0, 8);
        let refused = [
            Header { signal: 1, ..good },
            Header { signal: 2, ..good },
            Header { nonce: good.nonce ^ 1, ..good },
            Header { offset: 8993, ..good },
        ];
        for header in refused {
            let mut ground = Ground { regions: &regions, counters: &mut counters, peer: PEER };
            let bytes = [&header.encode()[..], &[7; 8]].concat();
            let error = Receiving::default().feed(&bytes, &mut ground).unwrap_err();
            assert!(matches!(error, Error::Protocol { .. }), "{error}");
        }
        let mut arrived = vec![7; REGION];
        let span = dure_transport::Span { region, offset: 0, len: REGION.try_into().unwrap() };
        regions.span(span).read(&mut arrived);
        assert_eq!(arrived, vec![0; REGION]);
        assert!(counters.iter().all(|counter| counter.value == 0));
    }

    #[test]
    fn the_rest_of_a_payload_for_a_released_region_is_refused() {
        let mut regions = Regions::new();
        let (region, remote, mut counters) = ground(&mut regions);
        let mut receiving = Receiving::default();
        let mut ground = Ground { regions: &regions, counters: &mut counters, peer: PEER };
        receiving.feed(&header(&remote, 0, 8).encode(), &mut ground).unwrap();
        regions.release(region);
        let mut ground = Ground { regions: &regions, counters: &mut counters, peer: PEER };
        assert!(receiving.landing(&regions).is_err());
        assert!(receiving.feed(&[7], &mut ground).is_err());
    }
}
