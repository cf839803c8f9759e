//! The loops, one for each shape of work: every type, operation and width is an instance of one of these bodies.
//!
//! The bodies work on slices, not on pointers: that the destination is no source is what lets the compiler make vector
//! code of them without looking at the addresses. Hence [`update`] beside [`join`].

use super::element::Element;
use super::ops::Op;
use super::width::{Width, per_width};

/// `dst[i] = a[i] op b[i]`.
pub(super) fn join<E: Element, O: Op<E::Value>>(width: Width, a: &[u8], b: &[u8], dst: &mut [u8]) {
    join_elements::<E, O>(width, E::cut(a), E::cut(b), E::cut_mut(dst));
}

/// `dst[i] = dst[i] op src[i]`.
pub(super) fn update<E: Element, O: Op<E::Value>>(width: Width, dst: &mut [u8], src: &[u8]) {
    update_elements::<E, O>(width, E::cut_mut(dst), E::cut(src));
}

/// `dst[i] = f(dst[i])`.
pub(super) fn map<E: Element, F: Fn(E::Value) -> E::Value>(width: Width, dst: &mut [u8], f: F) {
    map_elements::<E, F>(width, E::cut_mut(dst), f);
}

/// `dst[i] = src[i]`, rounded to the type of `dst`.
pub(super) fn convert<D: Element, S: Element<Value = D::Value>>(
    width: Width,
    dst: &mut [u8],
    src: &[u8],
) {
    convert_elements::<D, S>(width, D::cut_mut(dst), S::cut(src));
}

per_width! {
    fn join_elements<E: Element, O: Op<E::Value>>(
        a: &[E::Bytes], b: &[E::Bytes], dst: &mut [E::Bytes]
    ) = join_body::<E, O>;
}

#[inline(always)]
fn join_body<E: Element, O: Op<E::Value>>(a: &[E::Bytes], b: &[E::Bytes], dst: &mut [E::Bytes]) {
    for ((dst, a), b) in dst.iter_mut().zip(a).zip(b) {
        *dst = E::write(O::apply(E::read(*a), E::read(*b)));
    }
}

per_width! {
    fn update_elements<E: Element, O: Op<E::Value>>(
        dst: &mut [E::Bytes], src: &[E::Bytes]
    ) = update_body::<E, O>;
}

#[inline(always)]
fn update_body<E: Element, O: Op<E::Value>>(dst: &mut [E::Bytes], src: &[E::Bytes]) {
    for (dst, src) in dst.iter_mut().zip(src) {
        *dst = E::write(O::apply(E::read(*dst), E::read(*src)));
    }
}

per_width! {
    fn map_elements<E: Element, F: Fn(E::Value) -> E::Value>(
        dst: &mut [E::Bytes], f: F
    ) = map_body::<E, F>;
}

#[inline(always)]
fn map_body<E: Element, F: Fn(E::Value) -> E::Value>(dst: &mut [E::Bytes], f: F) {
    for dst in dst {
        *dst = E::write(f(E::read(*dst)));
    }
}

per_width! {
    fn convert_elements<D: Element, S: Element<Value = D::Value>>(
        dst: &mut [D::Bytes], src: &[S::Bytes]
    ) = convert_body::<D, S>;
}

#[inline(always)]
fn convert_body<D: Element, S: Element<Value = D::Value>>(dst: &mut [D::Bytes], src: &[S::Bytes]) {
    for (dst, src) in dst.iter_mut().zip(src) {
        *dst = D::write(S::read(*src));
    }
}
