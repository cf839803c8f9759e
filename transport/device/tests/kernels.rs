//! The kernels of the host: right by the reference, and the same bits on every width.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "helpers of tests, outside a test function"
)]

mod reference;

use std::sync::Arc;

use dure_device::host::{Host, Width};
use dure_device::{Combine, Custom, Device, Dtype, Error, Memory, Scale, Work};
use proptest::prelude::{any, proptest};

use self::reference::{OPERATIONS, Value, agree, data, decode, encode, finish, memory, reduce};

/// Which source the destination is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Alias {
    Nothing,
    First,
    Last,
    All,
}

/// Reduces copies of `srcs`, each `skew` bytes off alignment, on one width.
fn run(
    width: Width,
    srcs: &[Vec<u8>],
    (dtype, by): (Dtype, &Combine),
    alias: Alias,
    skew: usize,
) -> Vec<u8> {
    let skewed = |src: &[u8]| [&vec![0xa5; skew], src, &[0xa5; 9]].concat();
    let len = srcs[0].len();
    let mut buffers: Vec<_> = srcs.iter().map(|src| skewed(src)).collect();
    let mut fresh = skewed(&vec![0; len]);
    let mut memories: Vec<_> =
        buffers.iter_mut().map(|buffer| memory(&mut buffer[skew..][..len])).collect();
    let dst = match alias {
        Alias::Nothing => memory(&mut fresh[skew..][..len]),
        Alias::First | Alias::All => memories[0],
        Alias::Last => *memories.last().unwrap(),
    };
    if alias == Alias::All {
        memories.fill(dst);
    }
    let mut queue = Host::new(width).queue().unwrap();
    finish(&mut *queue, &Work::reduce(&memories, dst, dtype, by));
    let written = match alias {
        Alias::Nothing => &fresh,
        Alias::First | Alias::All => &buffers[0],
        Alias::Last => buffers.last().unwrap(),
    };
    assert_eq!(&written[..skew], &vec![0xa5; skew], "written before the destination");
    assert_eq!(&written[skew + len..], [0xa5; 9], "written behind the destination");
    written[skew..][..len].to_vec()
}

/// Reduces on every width and compares with the reference and with one another.
fn check(what: (Dtype, &Combine), sources: usize, elements: usize, alias: Alias, seed: u64) {
    let mut srcs: Vec<_> =
        (0..sources as u64).map(|k| data(what.0, elements, seed ^ (k << 32))).collect();
    if alias == Alias::All {
        let first = srcs[0].clone();
        srcs.fill(first);
    }
    let expected = reduce(&srcs, what.0, what.1);
    let results: Vec<_> =
        Width::available().map(|width| run(width, &srcs, what, alias, seed as usize % 8)).collect();
    for (width, result) in Width::available().zip(&results) {
        let context =
            format!("{what:?} of {sources} x {elements}, {alias:?}, seed {seed}, width {width}");
        assert!(agree(what.0, result, &expected), "{context}");
        assert!(result == &results[0], "not the bits of the plain width: {context}");
    }
}

#[test]
fn every_type_and_operation_agrees_with_the_reference_on_every_width() {
    let mut seed = 0;
    for dtype in Dtype::ALL {
        for by in OPERATIONS.iter().filter(|by| by.serves(dtype)) {
            for (sources, elements) in
                [(1, 33), (2, 0), (2, 1), (2, 17), (2, 1031), (3, 15), (3, 300), (5, 67)]
            {
                for alias in [Alias::Nothing, Alias::First, Alias::Last, Alias::All] {
                    check((dtype, by), sources, elements, alias, seed);
                    seed += 1;
                }
            }
        }
    }
}

#[test]
fn more_than_a_tile_is_reduced_too() {
    for dtype in Dtype::ALL {
        check((dtype, &Combine::Sum), 3, 20_011 / dtype.size(), Alias::Last, 7);
    }
}

#[test]
fn operations_are_commutative_to_the_bit() {
    for dtype in Dtype::ALL {
        for by in OPERATIONS.iter().filter(|by| by.serves(dtype)) {
            let (a, b) = (data(dtype, 500, 1), data(dtype, 500, 2));
            let one = run(Width::best(), &[a.clone(), b.clone()], (dtype, by), Alias::Nothing, 0);
            let other = run(Width::best(), &[b, a], (dtype, by), Alias::Nothing, 0);
            assert!(one == other, "{by:?} on {dtype}");
        }
    }
}

#[test]
fn every_pair_of_8_bit_numbers_is_added_right() {
    let all: Vec<u8> = (0..=u8::MAX).collect();
    for dtype in [Dtype::F8E4M3, Dtype::F8E5M2] {
        for by in &OPERATIONS[..4] {
            let (a, b) = (all.iter().flat_map(|x| [*x; 256]).collect::<Vec<_>>(), all.repeat(256));
            let expected = reduce(&[a.clone(), b.clone()], dtype, by);
            for width in Width::available() {
                let result = run(width, &[a.clone(), b.clone()], (dtype, by), Alias::Nothing, 0);
                assert!(agree(dtype, &result, &expected), "{by:?} on {dtype}, width {width}");
            }
        }
    }
}

#[test]
fn low_precision_sums_of_many_round_once() {
    // 256 + 0.5 + 0.5 is 257 in f32; rounded after each addition it would stay 256 in bfloat16 with 8 bits.
    let elements: [f32; 3] = [256.0, 1.0, 1.0];
    let srcs: Vec<_> = elements.map(|x| encode(Dtype::Bf16, Value::Single(x))).to_vec();
    let result = run(Width::best(), &srcs, (Dtype::Bf16, &Combine::Sum), Alias::Nothing, 0);
    assert_eq!(result, encode(Dtype::Bf16, Value::Single(258.0)));
}

proptest! {
    #[test]
    fn any_reduction_agrees_with_the_reference(
        dtype in 0..12u32, operation in 0..7usize, sources in 1..6usize, elements in 0..400usize, alias in 0..4usize,
        seed in any::<u64>(),
    ) {
        let dtype = Dtype::from_number(dtype).unwrap();
        let alias = [Alias::Nothing, Alias::First, Alias::Last, Alias::All][alias];
        let by = &OPERATIONS[operation];
        if by.serves(dtype) {
            check((dtype, by), sources, elements, alias, seed);
        }
    }
}

/// What scaling one element gives.
fn scaled(dtype: Dtype, value: Value, by: Scale) -> Value {
    match (value, by) {
        (Value::Single(x), Scale::By(factor)) => Value::Single(x * factor as f32),
        (Value::Double(x), Scale::By(factor)) => Value::Double(x * factor),
        (Value::Single(x), Scale::Over(count)) => Value::Single(x / count as f32),
        (Value::Double(x), Scale::Over(count)) => Value::Double(x / f64::from(count)),
        (Value::Integer(x), Scale::Over(count)) => Value::Integer(x / i128::from(count)),
        (Value::Integer(x), Scale::ByInteger(factor)) => {
            Value::Integer(x.wrapping_mul(i128::from(factor)))
        }
        (Value::Integer(x), Scale::By(factor)) => {
            let factor = match dtype {
                Dtype::Int8 => i128::from(factor as i8),
                Dtype::Uint8 => i128::from(factor as u8),
                Dtype::Int32 => i128::from(factor as i32),
                Dtype::Uint32 => i128::from(factor as u32),
                Dtype::Int64 => i128::from(factor as i64),
                _ => i128::from(factor as u64),
            };
            Value::Integer(x.wrapping_mul(factor))
        }
        _ => unreachable!("no such scaling"),
    }
}

#[test]
fn scaling_agrees_with_the_reference_on_every_width() {
    let scales = [
        Scale::By(0.3),
        Scale::By(-2.0),
        Scale::By(1e300),
        Scale::ByInteger(-3),
        Scale::ByInteger(i64::MIN + 5),
        Scale::Over(3),
        Scale::Over(128),
        Scale::Over(u32::MAX),
    ];
    for dtype in Dtype::ALL {
        for by in scales {
            if dtype.is_float() && matches!(by, Scale::ByInteger(_)) {
                continue;
            }
            let mut src = data(dtype, 3001, 11);
            let expected: Vec<u8> = (src.chunks_exact(dtype.size()))
                .flat_map(|element| encode(dtype, scaled(dtype, decode(dtype, element), by)))
                .collect();
            let mut bits: Option<Vec<u8>> = None;
            for width in Width::available() {
                let mut queue = Host::new(width).queue().unwrap();
                let mut fresh = vec![0; src.len() + 1];
                let dst = memory(&mut fresh[1..]);
                finish(&mut *queue, &Work::Scale { src: memory(&mut src), dst, dtype, by });
                assert!(agree(dtype, &fresh[1..], &expected), "{by:?} on {dtype}, width {width}");
                assert_eq!(bits.get_or_insert_with(|| fresh[1..].to_vec()), &fresh[1..]);
                let mut same = src.clone();
                let dst = memory(&mut same);
                finish(&mut *queue, &Work::Scale { src: dst, dst, dtype, by });
                assert!(same == fresh[1..], "in place: {by:?} on {dtype}, width {width}");
            }
        }
    }
}

/// A function that shows the order of its calls, and that its slices never overlap: `inout = 3 * inout + source`.
fn ordered() -> Combine {
    Combine::Custom(Custom(Arc::new(|source: &[u8], inout: &mut [u8], dtype: Dtype| {
        assert_eq!((source.len(), dtype), (inout.len(), Dtype::Uint8));
        let (source_range, inout_range) = (source.as_ptr_range(), inout.as_ptr_range());
        assert!(source_range.end <= inout_range.start || inout_range.end <= source_range.start);
        inout
            .iter_mut()
            .zip(source)
            .for_each(|(inout, source)| *inout = inout.wrapping_mul(3).wrapping_add(*source));
    })))
}

#[test]
fn a_custom_function_is_called_in_order_whatever_is_the_destination() {
    let len = 70_001;
    for alias in [Alias::Nothing, Alias::First, Alias::Last, Alias::All] {
        for sources in 1..5 {
            let mut srcs: Vec<_> = (0..sources).map(|k| data(Dtype::Uint8, len, k)).collect();
            if alias == Alias::All {
                let first = srcs[0].clone();
                srcs.fill(first);
            }
            let fold = |i: usize| {
                srcs.iter().map(|s| s[i]).reduce(|a, b| a.wrapping_mul(3).wrapping_add(b)).unwrap()
            };
            let expected: Vec<u8> = (0..len).map(fold).collect();
            let result = run(Width::best(), &srcs, (Dtype::Uint8, &ordered()), alias, 3);
            assert!(result == expected, "{sources} sources, {alias:?}");
        }
    }
}

#[test]
fn copies_are_exact_and_onto_themselves_are_nothing() {
    let mut queue = Host::new(Width::best()).queue().unwrap();
    let (mut src, mut dst) = (data(Dtype::Uint8, 1001, 5), vec![0; 1001]);
    let (from, to) = (memory(&mut src), memory(&mut dst));
    finish(&mut *queue, &Work::copy(from, to));
    finish(&mut *queue, &Work::copy(to, to));
    finish(&mut *queue, &Work::copy(Memory::EMPTY, Memory::EMPTY));
    assert_eq!(src, dst);
    assert_eq!(queue.completed().unwrap(), 3);
}

#[test]
fn what_is_not_defined_is_refused_by_name() {
    let mut buffer = vec![0; 16];
    let dst = memory(&mut buffer);
    let mut queue = Host::new(Width::best()).queue().unwrap();
    let srcs = [dst, dst];
    let refused = [
        Work::reduce(&srcs, dst, Dtype::F32, &Combine::BitXor),
        Work::Scale { src: dst, dst, dtype: Dtype::Bf16, by: Scale::ByInteger(2) },
        Work::Scale { src: dst, dst, dtype: Dtype::Int32, by: Scale::Over(0) },
    ];
    for work in refused {
        // SAFETY: the buffer outlives the call.
        let result = unsafe { queue.submit(&work) };
        assert!(matches!(result, Err(Error::Unsupported { .. })), "{work:?}");
    }
    assert_eq!(queue.completed().unwrap(), 0);
}

#[test]
#[should_panic(expected = "disjoint")]
fn overlapping_memory_is_a_broken_invariant() {
    let mut buffer = vec![0; 16];
    let all = memory(&mut buffer);
    finish(
        &mut *Host::new(Width::best()).queue().unwrap(),
        &Work::copy(all.part(0, 8), all.part(4, 8)),
    );
}

#[test]
fn host_memory_is_zeroed_aligned_and_freed_once() {
    let host = dure_device::host::host();
    let memory = host.alloc(100_000).unwrap();
    assert_eq!(memory.address() % 4096, 0);
    assert!(!host.owns(memory.ptr.as_ptr()), "what no other device owns is the host's");
    // SAFETY: the allocation is ours alone, and of this length.
    let bytes = unsafe { std::slice::from_raw_parts(memory.ptr.as_ptr(), memory.len) };
    assert!(bytes.iter().all(|&byte| byte == 0));
    // SAFETY: it is not freed, as it is a part only.
    let part = unsafe { host.free(memory.part(0, 64)) };
    assert!(matches!(part, Err(Error::NotMine { .. })));
    // SAFETY: nobody uses it any more.
    unsafe { host.free(memory) }.unwrap();
    // SAFETY: it is not freed again.
    assert!(matches!(unsafe { host.free(memory) }, Err(Error::NotMine { .. })));
}
