//! What the algorithms share: short ways to write steps, and the arithmetic of ranks.

use crate::algorithm::{Algorithm, Collective, Refusal, Steps};
use crate::step::{Buf, Chunks, Rank, Step, input, output};

/// Send `src` to rank `to`.
pub(super) fn send(to: u32, src: Chunks) -> Step {
    Step::Send { to: Rank(to), src }
}

/// Receive from rank `from` into `dst`.
pub(super) fn recv(from: u32, dst: Chunks) -> Step {
    Step::Recv { from: Rank(from), dst }
}

/// `dst = with op message from rank from`.
pub(super) fn recv_reduce(from: u32, with: Chunks, dst: Chunks) -> Step {
    Step::RecvReduce { from: Rank(from), with, dst }
}

/// `dst = src`.
pub(super) fn copy(src: Chunks, dst: Chunks) -> Step {
    Step::Copy { src, dst }
}

/// Steps that are already written.
pub(super) fn written(steps: Vec<Step>) -> Steps<'static> {
    Box::new(steps.into_iter())
}

/// Every collective among one rank: its input is its result.
pub(super) fn alone(what: Collective, parts: u32) -> Steps<'static> {
    match what {
        Collective::Barrier => written(Vec::new()),
        _ => written(vec![copy(input(0, parts), output(0, parts))]),
    }
}

/// `Ok` if the algorithm `serves` the collective, and otherwise the refusal.
pub(super) fn only(by: &dyn Algorithm, what: Collective, serves: bool) -> Result<(), Refusal> {
    if serves { Ok(()) } else { Err(refuse(by, what, "it is no algorithm for that collective")) }
}

/// A refusal.
pub(super) fn refuse(by: &dyn Algorithm, what: Collective, why: &str) -> Refusal {
    Refusal { algorithm: by.name().to_owned(), what: what.to_string(), why: why.to_owned() }
}

/// Rounds in which something that doubles reaches `n`: the logarithm to base 2, rounded up.
pub(super) fn log2_up(n: u32) -> u32 {
    n.max(1).next_power_of_two().ilog2()
}

/// `chunks` in pieces of at most `run` chunks.
pub(super) fn pieces(chunks: Chunks, run: u32) -> impl Iterator<Item = Chunks> {
    let end = chunks.first + chunks.len;
    let step = usize::try_from(run.max(1)).expect("usize has 32 bits or more");
    (chunks.first..end).step_by(step).map(move |first| Chunks {
        first,
        len: run.min(end - first),
        ..chunks
    })
}

/// The `len` chunks of `buf` from `first` on, counted modulo `n`: one run, or two where they wrap. An empty run is none.
pub(super) fn wrapped(buf: Buf, first: u32, len: u32, n: u32) -> impl Iterator<Item = Chunks> {
    let first = first % n;
    let head = len.min(n - first);
    [(first, head), (0, len - head)]
        .into_iter()
        .filter(|&(_, len)| len > 0)
        .map(move |(first, len)| Chunks { buf, first, len })
}
