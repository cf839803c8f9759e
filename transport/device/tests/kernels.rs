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
use dure_device::{Combine, Custom, Device, Dtype, Error, Memory, Scale, Stores, Work};
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

/// What the second destination is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Also {
    Absent,
    Fresh,
    /// The source before the last, which the destination is not.
    Source,
}

/// Where a reduction writes.
#[derive(Clone, Copy, Debug)]
struct Place {
    alias: Alias,
    also: Also,
    stores: Stores,
    /// Bytes off alignment.
    skew: usize,
}

impl Place {
    /// One destination, through the cache.
    const fn plain(alias: Alias, skew: usize) -> Self {
        Self { alias, also: Also::Absent, stores: Stores::Cached, skew }
    }
}

/// Bytes on both sides of a buffer, which nobody may write.
const GUARD: [u8; 9] = [0xa5; 9];

/// A buffer between guards, `skew` bytes off alignment.
struct Guarded {
    bytes: Vec<u8>,
    begin: usize,
}

impl Guarded {
    fn new(content: &[u8], skew: usize) -> Self {
        let mut bytes = vec![GUARD[0]; 64 + content.len() + 2 * GUARD.len() + skew];
        let aligned = (bytes.as_ptr().addr() + GUARD.len()).next_multiple_of(64);
        let begin = aligned + skew - bytes.as_ptr().addr();
        bytes[begin..][..content.len()].copy_from_slice(content);
        bytes.truncate(begin + content.len() + GUARD.len());
        Self { bytes, begin }
    }

    fn memory(&mut self) -> Memory {
        let len = self.bytes.len() - self.begin - GUARD.len();
        memory(&mut self.bytes[self.begin..][..len])
    }

    /// The bytes between the guards, which are checked.
    fn content(self) -> Vec<u8> {
        let (before, rest) = self.bytes.split_at(self.begin);
        let (content, behind) = rest.split_at(rest.len() - GUARD.len());
        assert!(before.iter().all(|&byte| byte == GUARD[0]), "written before a buffer");
        assert_eq!(behind, GUARD, "written behind a buffer");
        content.to_vec()
    }
}

/// Reduces copies of `srcs` on one width; returns what was written to each destination.
fn run_to(
    width: Width,
    srcs: &[Vec<u8>],
    (dtype, by): (Dtype, &Combine),
    place: Place,
) -> Vec<Vec<u8>> {
    let mut buffers: Vec<_> = srcs.iter().map(|src| Guarded::new(src, place.skew)).collect();
    let mut memories: Vec<_> = buffers.iter_mut().map(Guarded::memory).collect();
    let last = memories.len() - 1;
    buffers.push(Guarded::new(&srcs[0], place.skew));
    buffers.push(Guarded::new(&srcs[0], (3 * place.skew) % 64));
    let dst = match place.alias {
        Alias::Nothing => last + 1,
        Alias::First | Alias::All => 0,
        Alias::Last => last,
    };
    let also = match place.also {
        Also::Absent => None,
        Also::Fresh => Some(last + 2),
        Also::Source => Some(if place.alias == Alias::First { last } else { last - 1 }),
    };
    let (to, and) = (buffers[dst].memory(), also.map(|k| buffers[k].memory()));
    if place.alias == Alias::All {
        memories.fill(to);
    }
    let mut queue = Host::new(width).queue().unwrap();
    let stores = place.stores;
    let work = Work::Reduce { srcs: &memories, dst: to, also: and, dtype, by, stores };
    finish(&mut *queue, &work);
    let written: Vec<_> = buffers.into_iter().map(Guarded::content).collect();
    for (k, src) in srcs.iter().enumerate() {
        assert!(k == dst || Some(k) == also || written[k] == *src, "a source was written");
    }
    [dst].into_iter().chain(also).map(|k| written[k].clone()).collect()
}

/// Reduces copies of `srcs`, each `skew` bytes off alignment, on one width.
fn run(
    width: Width,
    srcs: &[Vec<u8>],
    what: (Dtype, &Combine),
    alias: Alias,
    skew: usize,
) -> Vec<u8> {
    run_to(width, srcs, what, Place::plain(alias, skew)).swap_remove(0)
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
                [(1, 33), (2, 0), (2, 1), (2, 17), (2, 1031), (3, 15), (3, 300), (5, 67), (9, 130)]
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
fn every_length_is_whole() {
    for dtype in Dtype::ALL {
        for elements in 0..=150 {
            for sources in [2, 3] {
                check((dtype, &Combine::Sum), sources, elements, Alias::First, elements as u64);
            }
        }
    }
}

/// Reduces on every width: as the reference says, and the same bits.
fn check_all(srcs: &[Vec<u8>], what: (Dtype, &Combine)) {
    let expected = reduce(srcs, what.0, what.1);
    let mut bits: Option<Vec<u8>> = None;
    for width in Width::available() {
        let result = run(width, srcs, what, Alias::Nothing, 0);
        let sources = srcs.len();
        assert!(agree(what.0, &result, &expected), "{what:?} of {sources}, width {width}");
        let bits = bits.get_or_insert_with(|| result.clone());
        assert!(*bits == result, "{what:?} of {sources}: not the bits of plain, width {width}");
    }
}

#[test]
fn every_pair_of_8_bit_numbers_is_reduced_right() {
    let all: Vec<u8> = (0..=u8::MAX).collect();
    let (a, b) = (all.iter().flat_map(|x| [*x; 256]).collect::<Vec<_>>(), all.repeat(256));
    for dtype in [Dtype::F8E4M3, Dtype::F8E5M2] {
        for by in &OPERATIONS[..4] {
            check_all(&[a.clone(), b.clone()], (dtype, by));
        }
        // And sums and products of three, which are rounded once.
        for c in [0x01, 0x81, 0x34, 0xfc, 0x7f] {
            for by in &OPERATIONS[..2] {
                check_all(&[a.clone(), b.clone(), vec![c; 1 << 16]], (dtype, by));
            }
        }
    }
}

#[test]
fn every_16_bit_number_is_reduced_right() {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_ne_bytes).collect();
    for dtype in [Dtype::F16, Dtype::Bf16] {
        let partners = data(dtype, 12, 3);
        for partner in partners.chunks_exact(2) {
            for by in &OPERATIONS[..4] {
                check_all(&[all.clone(), partner.repeat(1 << 16)], (dtype, by));
            }
            let third = data(dtype, 1 << 16, 9);
            for by in &OPERATIONS[..2] {
                check_all(&[all.clone(), partner.repeat(1 << 16), third.clone()], (dtype, by));
            }
        }
    }
}

#[test]
fn both_destinations_get_the_same_however_they_are_written() {
    for dtype in [Dtype::Uint8, Dtype::F32, Dtype::Bf16, Dtype::F8E4M3] {
        for (sources, len) in [(1, 200), (2, 8), (2, 64), (2, 2120), (2, 20_008), (3, 20_008)] {
            let srcs: Vec<_> = (0..sources).map(|k| data(dtype, len / dtype.size(), k)).collect();
            let expected = reduce(&srcs, dtype, &Combine::Sum);
            for stores in [Stores::Cached, Stores::Streaming] {
                for alias in [Alias::Nothing, Alias::First, Alias::Last] {
                    for also in [Also::Absent, Also::Fresh, Also::Source] {
                        if also == Also::Source && sources == 1 {
                            continue;
                        }
                        for skew in [0, 8, 16, 21] {
                            let place = Place { alias, also, stores, skew };
                            let what = (dtype, &Combine::Sum);
                            let written = run_to(Width::best(), &srcs, what, place);
                            let right = written.iter().all(|w| agree(dtype, w, &expected));
                            assert!(right, "{dtype}, {sources} x {len} bytes, {place:?}");
                        }
                    }
                }
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
            for (also, stores) in [(Also::Absent, Stores::Cached), (Also::Fresh, Stores::Streaming)]
            {
                let place = Place { alias, also, stores, skew: 3 };
                let what = (Dtype::Uint8, &ordered());
                let written = run_to(Width::best(), &srcs, what, place);
                assert!(written.iter().all(|w| *w == expected), "{sources} sources, {place:?}");
            }
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
fn copies_reach_both_destinations_however_they_are_written() {
    let mut queue = Host::new(Width::best()).queue().unwrap();
    for len in [0, 1, 8, 63, 64, 65, 200, 1000, 4096, 30_001] {
        for stores in [Stores::Cached, Stores::Streaming] {
            for (dst_skew, also_skew) in [(0, 0), (0, 16), (1, 1), (16, 48), (40, 3)] {
                let mut src = Guarded::new(&data(Dtype::Uint8, len, 1), 5);
                let mut dst = Guarded::new(&vec![0; len], dst_skew);
                let mut also = Guarded::new(&vec![0; len], also_skew);
                let (from, to, and) = (src.memory(), dst.memory(), also.memory());
                finish(&mut *queue, &Work::Copy { src: from, dst: to, also: None, stores });
                // Onto itself, and on to the other.
                let work = Work::Copy { src: to, dst: to, also: Some(and), stores };
                finish(&mut *queue, &work);
                let src = src.content();
                assert!(dst.content() == src && also.content() == src, "{len} bytes, {stores:?}");
            }
        }
    }
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

/// Submits a copy of a part of 32 bytes to one or two others.
fn copy_parts(src: (usize, usize), dst: (usize, usize), also: Option<(usize, usize)>) {
    let mut buffer = vec![0; 32];
    let all = memory(&mut buffer);
    let part = |(offset, len)| all.part(offset, len);
    let (src, dst, also) = (part(src), part(dst), also.map(part));
    let work = Work::Copy { src, dst, also, stores: Stores::Cached };
    finish(&mut *Host::new(Width::best()).queue().unwrap(), &work);
}

#[test]
#[should_panic(expected = "a source is the destination or disjoint")]
fn a_source_that_overlaps_the_destination_is_a_broken_invariant() {
    copy_parts((0, 8), (4, 8), None);
}

#[test]
#[should_panic(expected = "a source is the destination or disjoint")]
fn a_destination_that_overlaps_a_source_is_a_broken_invariant() {
    copy_parts((4, 8), (0, 8), None);
}

#[test]
#[should_panic(expected = "a source is the destination or disjoint")]
fn a_source_that_overlaps_the_second_destination_is_a_broken_invariant() {
    copy_parts((0, 8), (16, 8), Some((7, 8)));
}

#[test]
#[should_panic(expected = "destinations are disjoint")]
fn destinations_that_overlap_are_a_broken_invariant() {
    copy_parts((0, 8), (8, 8), Some((15, 8)));
}

#[test]
#[should_panic(expected = "as long as the destination")]
fn lengths_that_differ_are_a_broken_invariant() {
    copy_parts((0, 8), (8, 16), None);
}

#[test]
#[should_panic(expected = "no whole number")]
fn half_an_element_is_a_broken_invariant() {
    let mut buffer = vec![0; 18];
    let all = memory(&mut buffer);
    let srcs = [all.part(0, 6), all.part(6, 6)];
    let work = Work::reduce(&srcs, all.part(12, 6), Dtype::F32, &Combine::Sum);
    finish(&mut *Host::new(Width::best()).queue().unwrap(), &work);
}

#[test]
fn neighbours_do_not_overlap() {
    copy_parts((0, 8), (8, 8), Some((16, 8)));
    copy_parts((8, 8), (0, 8), Some((16, 8)));
    copy_parts((0, 0), (0, 0), Some((0, 0)));
    copy_parts((3, 0), (1, 0), None);
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
