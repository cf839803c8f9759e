//! Deterministic mode: the same bits whatever the lanes, the slots and the transport, and on all ranks.

use dure::config::Transports;
use dure::{Communicator, Config, ReduceOp, Result};

use crate::data::hash;
use crate::seat::Seat;

/// Elements of the whole vector: enough for all lanes to be used, and not a multiple of anything.
const LEN: usize = 300_007;

/// Numbers whose sum depends on the order of the additions: any sign, exponents from 2^-20 to 2^20.
fn values(rank: u32) -> Vec<f32> {
    let value = |i: u64| {
        let bits = hash(u64::from(rank) + 77, i);
        let fraction = f32::from(u16::try_from(bits & 0xffff).expect("sixteen bits")) / 65536.0;
        let exponent = i32::try_from((bits >> 16) % 41).expect("a small number") - 20;
        let sign = if bits >> 63 == 1 { -1.0 } else { 1.0 };
        sign * (1.0 + fraction) * 2f32.powi(exponent)
    };
    (0..LEN as u64).map(value).collect()
}

/// The bits of everything that a rank got.
#[derive(PartialEq)]
struct Results {
    all: Vec<u32>,
    block: Vec<u32>,
    reduced: [Vec<u32>; 2],
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn results(on: &Communicator, input: &[f32]) -> Result<Results> {
    let mut all = vec![0.0; LEN];
    on.all_reduce_into(input, &mut all, ReduceOp::Sum)?;
    let block = LEN / on.size() as usize;
    let mut mine = vec![0.0; block];
    on.reduce_scatter(&input[..block * on.size() as usize], &mut mine, ReduceOp::Sum)?;
    let to = |root: u32| -> Result<Vec<u32>> {
        let mut output = vec![0.0; LEN];
        on.reduce(input, (on.rank() == root).then_some(&mut output[..]), root, ReduceOp::Sum)?;
        Ok(bits(&output))
    };
    let reduced = [to(0)?, to(on.size() - 1)?];
    let sum = bits(&all).iter().fold(0, |sum, bits| hash(sum, u64::from(*bits)));
    let mut sums = vec![0; on.size() as usize];
    on.all_gather(&[sum], &mut sums)?;
    assert!(sums.iter().all(|other| *other == sum), "ranks got different bits from an all-reduce");
    Ok(Results { all: bits(&all), block: bits(&mine), reduced })
}

/// One communicator after the other, each with other settings; the results of all are those of the first.
pub(super) fn bits_agree(seat: &Seat) -> Result<()> {
    let input = values(seat.communicator.rank());
    let mut first: Option<Results> = None;
    let same = |transport: &str, lanes: u32, slot_bytes: usize| -> Config {
        let transport = Transports::parse(transport).expect("the name is known");
        let config = seat.config.clone().deterministic(true).transport(transport);
        config.lanes(Some(lanes)).slot_bytes(slot_bytes)
    };
    for transport in ["pool", "tcp"] {
        for (lanes, slot_bytes) in [(1, 256 << 10), (2, 4 << 10), (4, 64 << 10), (1, 4 << 10)] {
            let config = same(transport, lanes, slot_bytes);
            let on = seat.communicator.split_with(Some(0), 0, config)?.expect("a color was given");
            let results = results(&on, &input)?;
            on.finalize()?;
            match &first {
                None => first = Some(results),
                Some(first) => assert!(
                    *first == results,
                    "other bits over {transport} with {lanes} lanes and slots of {slot_bytes} bytes"
                ),
            }
        }
    }
    seat.communicator.finalize()
}
