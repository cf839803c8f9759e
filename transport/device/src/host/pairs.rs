//! Sums and products of 8-bit floating-point numbers, looked up in tables of all pairs.
//!
//! Two conversions and one rounding are some forty vector instructions for sixteen elements, and the three loads of a
//! look-up beat them on every width (`examples/kernels.rs`). A table takes 64 KiB and is made at its first use.

use std::sync::OnceLock;

use super::element::Element;
use super::kernel;
use super::ops::{Op, Prod, Sum};
use super::width::Width;
use crate::{F8E4M3, F8E5M2};

/// The results for all pairs; those of `a` begin at `256 * a`.
type Table = [u8; 1 << 16];

/// Elements whose indices are made at a time.
const BLOCK: usize = 256;

/// An 8-bit type.
pub(super) trait Pairs<O>: Element {
    /// The table of the operation.
    fn table() -> &'static Table;
}

/// The tables of a type and an operation.
macro_rules! pairs {
    ($type:ty, $op:ty) => {
        impl Pairs<$op> for $type {
            fn table() -> &'static Table {
                static TABLE: OnceLock<Box<Table>> = OnceLock::new();
                TABLE.get_or_init(fill::<$type, $op>)
            }
        }
    };
}

pairs!(F8E4M3, Sum);
pairs!(F8E4M3, Prod);
pairs!(F8E5M2, Sum);
pairs!(F8E5M2, Prod);

/// `dst[i] = a[i] op b[i]`.
pub(super) fn join<E: Pairs<O>, O>(_: Width, a: &[u8], b: &[u8], dst: &mut [u8]) {
    let table = E::table();
    let blocks = dst.chunks_mut(BLOCK).zip(a.chunks(BLOCK)).zip(b.chunks(BLOCK));
    for ((dst, a), b) in blocks {
        let mut indices = [0; BLOCK];
        for ((index, &a), &b) in indices.iter_mut().zip(a).zip(b) {
            *index = u16::from_be_bytes([a, b]);
        }
        look_up(table, &indices, dst);
    }
}

/// `dst[i] = dst[i] op src[i]`.
pub(super) fn update<E: Pairs<O>, O>(_: Width, dst: &mut [u8], src: &[u8]) {
    let table = E::table();
    for (dst, src) in dst.chunks_mut(BLOCK).zip(src.chunks(BLOCK)) {
        let mut indices = [0; BLOCK];
        for ((index, &a), &b) in indices.iter_mut().zip(&*dst).zip(src) {
            *index = u16::from_be_bytes([a, b]);
        }
        look_up(table, &indices, dst);
    }
}

/// `dst[i] = table[indices[i]]`. The indices come in blocks, because pairing the bytes is vector code, and the look-ups
/// alone cannot be.
fn look_up(table: &Table, indices: &[u16; BLOCK], dst: &mut [u8]) {
    for (dst, &index) in dst.iter_mut().zip(indices) {
        *dst = table[usize::from(index)];
    }
}

/// Computes a table.
fn fill<E: Element, O: Op<E::Value>>() -> Box<Table> {
    let mut table = Box::new([0; 1 << 16]);
    let all: [u8; 256] = std::array::from_fn(|b| u8::try_from(b).expect("256 indices are bytes"));
    for (row, a) in table.as_chunks_mut::<256>().0.iter_mut().zip(all) {
        kernel::join::<E, O>(Width::PLAIN, &[a; 256], &all, row);
    }
    table
}
