//! What the small floating-point formats need of a vector unit.

/// A vector unit. A value of the type is the proof that the CPU has it: whoever makes one answers for that.
///
/// Words are 16 bits here. Masks and constants are vectors too, so that one text serves all units.
pub(in crate::host) trait Unit: Copy {
    /// A vector as bits.
    type Bits: Copy;
    /// A vector of `f32`; two of them hold the words of one [`Unit::Bits`].
    type Floats: Copy;
    /// Bytes of a vector.
    const BYTES: usize;

    /// Reads a vector.
    ///
    /// # Safety
    /// The bytes may be read.
    unsafe fn load(self, from: *const u8) -> Self::Bits;
    /// Reads the first `len` bytes, more than none and not all; the others are zero.
    ///
    /// # Safety
    /// These bytes may be read.
    unsafe fn load_first(self, from: *const u8, len: usize) -> Self::Bits;
    /// Writes a vector.
    ///
    /// # Safety
    /// The bytes may be written.
    unsafe fn store(self, to: *mut u8, bits: Self::Bits);
    /// Writes the first `len` bytes, more than none and not all.
    ///
    /// # Safety
    /// These bytes may be written.
    unsafe fn store_first(self, to: *mut u8, len: usize, bits: Self::Bits);

    /// This value in every 32 bits.
    fn splat(self, value: u32) -> Self::Bits;
    /// The floats as bits.
    fn bits_of(self, floats: Self::Floats) -> Self::Bits;
    /// Bits as floats.
    fn floats_of(self, bits: Self::Bits) -> Self::Floats;
    fn and(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    fn or(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// `yes` where the bits of `mask` are set, `no` where they are not.
    fn select(self, mask: Self::Bits, yes: Self::Bits, no: Self::Bits) -> Self::Bits;
    /// Byte by byte, wrapping.
    fn add8(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// 32 bits by 32 bits, wrapping.
    fn add32(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// The larger, 32 bits by 32 bits, with a sign.
    fn max32(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// Words shifted left.
    fn left16(self, a: Self::Bits, by: i32) -> Self::Bits;
    /// Words shifted right, zeros coming in.
    fn right16(self, a: Self::Bits, by: i32) -> Self::Bits;
    /// Words shifted right, the sign coming in.
    fn signed_right16(self, a: Self::Bits, by: i32) -> Self::Bits;
    /// 32 bits shifted left.
    fn left32(self, a: Self::Bits, by: i32) -> Self::Bits;
    /// 32 bits shifted right, zeros coming in.
    fn right32(self, a: Self::Bits, by: i32) -> Self::Bits;
    /// `yes` in the bytes where `test` has its highest bit set, `no` elsewhere.
    fn where_negative8(self, test: Self::Bits, yes: Self::Bits, no: Self::Bits) -> Self::Bits;
    /// `yes` in the words where `a` is larger than `b`, with a sign; `no` elsewhere.
    fn where_above16(
        self,
        a: Self::Bits,
        b: Self::Bits,
        yes: Self::Bits,
        no: Self::Bits,
    ) -> Self::Bits;
    /// `yes` where a float of `test` is NaN, `no` elsewhere.
    fn where_nan(self, test: Self::Floats, yes: Self::Bits, no: Self::Bits) -> Self::Bits;

    /// This value in every place.
    fn splat_float(self, value: f32) -> Self::Floats;
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The smaller; `b` if either is NaN.
    fn min(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The larger; `b` if either is NaN.
    fn max(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Words that are binary16, the lower half of the vector first.
    fn widen_half(self, halves: Self::Bits) -> [Self::Floats; 2];
    /// The opposite: rounds to nearest, to even in a tie. A NaN stays one.
    fn narrow_half(self, floats: [Self::Floats; 2]) -> Self::Bits;
}

/// The methods of a [`Unit`] that touch no memory, each by an expression that may use the unit's instructions.
macro_rules! instructions {
    (
        $features:literal;
        $(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty $body:block)*
    ) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: $type),*) -> $result {
                #[inline]
                #[target_feature(enable = $features)]
                fn instructions($($arg: $type),*) -> $result $body
                // SAFETY: `self` proves that the CPU has the unit.
                unsafe { instructions($($arg),*) }
            }
        )*
    };
}

pub(super) use instructions;
