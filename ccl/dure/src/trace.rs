//! The flight record as a Chrome trace (the JSON array format of the Trace Event Format), which Perfetto reads too.

use std::fmt::Write as _;

use dure_exec::{Event, Recorder};

/// The last events of each lane. A step is drawn from the event before it to its own.
pub(crate) fn chrome(rank: u32, recorders: &[Recorder]) -> String {
    let mut text = String::from("[");
    for (lane, recorder) in recorders.iter().enumerate() {
        let mut before = None;
        for event in recorder.events() {
            let start = before.unwrap_or(event.nanos);
            before = Some(event.nanos);
            let name = if event.step == Event::BEGIN {
                "call".to_owned()
            } else {
                format!("step {}", event.step)
            };
            #[expect(
                clippy::cast_precision_loss,
                reason = "microseconds with fraction, for a picture"
            )]
            let (at, took) = (start as f64 / 1e3, (event.nanos - start) as f64 / 1e3);
            let comma = if text.len() > 1 { "," } else { "" };
            let peer =
                if event.peer == u32::MAX { "null".to_owned() } else { event.peer.to_string() };
            write!(
                text,
                "{comma}\n{{\"name\":\"{name}\",\"ph\":\"X\",\"ts\":{at:.3},\"dur\":{took:.3},\"pid\":{rank},\"tid\":{lane},\
                 \"args\":{{\"call\":{},\"pass\":{},\"peer\":{peer},\"bytes\":{}}}}}",
                event.call, event.pass, event.bytes
            )
            .expect("strings take all text");
        }
    }
    text.push_str("\n]\n");
    text
}
