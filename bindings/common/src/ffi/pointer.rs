//! Pointers from C: each type is one thing that a header lets a caller pass, and is checked once, when it is used.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use dure::{Bf16, Dtype, Error, F8E4M3, F8E5M2, F16, Result, Scalar, Stream};

use crate::comm::Comm;
use crate::handle::{Handle, Kind};

fn null(argument: &str) -> Error {
    Error::invalid_argument(format!("{argument} is NULL"))
}

/// A place that the call writes to.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Out<T>(*mut T);

/// A place that was checked.
#[derive(Debug)]
pub struct Place<T>(NonNull<T>);

impl<T: Copy> Out<T> {
    /// A place inside of something that C passed, for interfaces whose handles are structures of their own.
    ///
    /// # Safety
    /// It is null, or may be written until the call (for the handles of a group: the group) ends, and nobody else uses it
    /// meanwhile.
    pub const unsafe fn from_address(address: *mut T) -> Self {
        Self(address)
    }

    /// The place.
    ///
    /// # Errors
    /// `InvalidArgument` when it is null.
    pub(super) fn place(self, argument: &str) -> Result<Place<T>> {
        NonNull::new(self.0).map(Place).ok_or_else(|| null(argument))
    }

    /// Whether the caller gave no place.
    pub(super) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The place `index` places on.
    pub(super) fn at(self, index: usize) -> Self {
        Self(self.0.wrapping_add(index))
    }
}

impl<T: Copy> Place<T> {
    /// Writes a value.
    pub(super) fn set(&self, value: T) {
        // SAFETY: the caller in C promised that a place that is not null may be written until the call (for the handles
        // of a group: the group) ends, and nobody else uses it meanwhile. Unaligned, as packed structures have it.
        unsafe { self.0.write_unaligned(value) }
    }

    /// Reads the value.
    pub(super) fn get(&self) -> T {
        // SAFETY: as for `set`; only used where the header says that the place must have been initialized.
        unsafe { self.0.read_unaligned() }
    }
}

/// An array of values that the call reads.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Array<T>(*const T);

impl<T: Copy> Array<T> {
    /// No array.
    pub const NONE: Self = Self(std::ptr::null());

    /// Whether the caller gave none.
    pub(super) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// A copy of its `len` values.
    ///
    /// # Errors
    /// `InvalidArgument` when it is null and should have values.
    pub(super) fn read(self, argument: &str, len: usize) -> Result<Vec<T>> {
        if len == 0 {
            return Ok(Vec::new());
        }
        if self.0.is_null() {
            return Err(null(argument));
        }
        let one = |index: usize| {
            // SAFETY: the caller in C promised `len` values at this address.
            unsafe { self.0.wrapping_add(index).read_unaligned() }
        };
        Ok((0..len).map(one).collect())
    }
}

/// A text, or none.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// No text.
    pub(super) const NONE: Self = Self(std::ptr::null());

    /// A copy of the text.
    pub fn read(self) -> Option<String> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: the caller in C promised that a text that is not null ends with a NUL.
        let text = unsafe { CStr::from_ptr(self.0) };
        Some(text.to_string_lossy().into_owned())
    }
}

/// A handle, as C passes it.
#[derive(Debug)]
#[repr(transparent)]
pub struct HandlePtr<T> {
    address: *const c_void,
    kind: PhantomData<*const Handle<T>>,
}

pub type CommPtr = HandlePtr<Comm>;
pub type StreamPtr = HandlePtr<Stream>;

impl<T> Clone for HandlePtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for HandlePtr<T> {}

#[allow(private_bounds, reason = "interfaces name handles and do not look into them")]
impl<T: Kind> HandlePtr<T> {
    /// No handle at all.
    pub const NULL: Self = Self { address: std::ptr::null(), kind: PhantomData };

    /// A new handle of an object.
    pub(super) fn new(object: Arc<T>) -> Self {
        Self { address: std::ptr::from_ref(Handle::new(object)).cast(), kind: PhantomData }
    }

    /// The address of the handle.
    pub(crate) fn address(self) -> usize {
        self.address.addr()
    }

    /// Whether it is no handle at all.
    pub fn is_null(self) -> bool {
        self.address.is_null()
    }

    /// Whether it may be looked at: another library's handle may not.
    pub(crate) fn may_follow(self) -> bool {
        T::may_follow(self.address())
    }

    /// The pointer as it came.
    pub(crate) fn native(self) -> *mut c_void {
        self.address.cast_mut()
    }

    /// What it points to.
    ///
    /// # Errors
    /// `InvalidArgument` when it is null, or something else.
    pub(super) fn find(self) -> Result<&'static Handle<T>> {
        if self.is_null() {
            return Err(null(T::ARGUMENT));
        }
        let handle: *const Handle<T> = self.address.cast();
        let wrong = || Error::invalid_argument(T::NO_HANDLE);
        if !handle.is_aligned() || !T::may_follow(self.address()) {
            return Err(wrong());
        }
        // SAFETY: the caller in C promised that the handle came from this library, and objects behind handles stay for
        // ever. The first word of what is no handle after all is most likely readable, and says so.
        let handle = unsafe { &*handle };
        if handle.is_genuine() { Ok(handle) } else { Err(wrong()) }
    }

    /// The object that it stands for.
    ///
    /// # Errors
    /// `InvalidArgument` when it is null, something else, or was destroyed.
    pub(crate) fn get(self) -> Result<Arc<T>> {
        self.find()?.get()
    }
}

/// Where a communicator's handle goes.
#[derive(Debug)]
pub struct CommPlace(Place<CommPtr>);

impl From<Place<CommPtr>> for CommPlace {
    fn from(place: Place<CommPtr>) -> Self {
        Self(place)
    }
}

impl CommPlace {
    /// Writes a handle of a communicator.
    pub(crate) fn set(&self, comm: Arc<Comm>) {
        self.0.set(CommPtr::new(comm));
    }

    /// Writes that there is none.
    pub(crate) fn clear(&self) {
        self.0.set(CommPtr::NULL);
    }

    /// Destroys the communicator whose handle was written, and writes that there is none.
    pub(crate) fn abandon(self) {
        if let Ok(comm) = self.0.get().find().and_then(Handle::take) {
            comm.abort();
        }
        self.clear();
    }
}

/// Where the factor of a pre-multiplied sum is. It stays there while the operation is used: the caller promised.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct ScalarAt(*const c_void);

// SAFETY: it is only read, and the caller promised that it may be, on any thread that makes a call with it.
unsafe impl Send for ScalarAt {}
// SAFETY: as for `Send`.
unsafe impl Sync for ScalarAt {}

impl ScalarAt {
    /// The address.
    ///
    /// # Errors
    /// `InvalidArgument` when it is null.
    pub(super) fn address(self, argument: &str) -> Result<*mut u8> {
        if self.0.is_null() { Err(null(argument)) } else { Ok(self.0.cast_mut().cast()) }
    }

    /// The factor, which has the type of the elements.
    pub(crate) fn read(self, dtype: Dtype) -> Scalar {
        let integer = |value: i64| Scalar::Integer(value);
        let float = |value: f32| Scalar::Float(f64::from(value));
        match dtype {
            Dtype::Int8 => integer(self.value::<i8>().into()),
            Dtype::Uint8 => integer(self.value::<u8>().into()),
            Dtype::Int32 => integer(self.value::<i32>().into()),
            Dtype::Uint32 => integer(self.value::<u32>().into()),
            // The same bits: products wrap, so the sign does not matter.
            Dtype::Int64 | Dtype::Uint64 => integer(self.value()),
            Dtype::F16 => float(self.value::<F16>().to_f32()),
            Dtype::Bf16 => float(self.value::<Bf16>().to_f32()),
            Dtype::F8E4M3 => float(self.value::<F8E4M3>().to_f32()),
            Dtype::F8E5M2 => float(self.value::<F8E5M2>().to_f32()),
            Dtype::F32 => float(self.value()),
            Dtype::F64 => Scalar::Float(self.value()),
        }
    }

    fn value<T: Copy>(self) -> T {
        // SAFETY: the caller in C promised an element of the data type here, host memory, and every bit pattern is one.
        unsafe { self.0.cast::<T>().read_unaligned() }
    }
}

/// A reduction written in C: `inout[i] = in[i] op inout[i]`.
pub type Function = unsafe extern "C" fn(
    input: *const c_void,
    inout: *mut c_void,
    count: usize,
    dtype: c_int,
    user: *mut c_void,
);

/// The pointer that a C function gets back. It may go to any thread: the caller promised.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct User(*mut c_void);

// SAFETY: this side only hands it back, and the caller promised that the function may be called on any thread.
unsafe impl Send for User {}
// SAFETY: as for `Send`.
unsafe impl Sync for User {}

/// Elements are handed to C functions in pieces of this many bytes when they must be aligned first.
const PIECE: usize = 4096;

/// Room for a piece, aligned for every type.
#[repr(align(64))]
struct Piece([u8; PIECE]);

impl User {
    /// Calls a C function on elements, which it gets aligned.
    pub(super) fn combine(self, function: Function, input: &[u8], inout: &mut [u8], dtype: Dtype) {
        let size = dtype.size();
        let aligned = |bytes: &[u8]| bytes.as_ptr().addr().is_multiple_of(size);
        if aligned(input) && aligned(inout) {
            return self.call(function, input, inout, dtype);
        }
        let (mut left, mut right) = (Piece([0; PIECE]), Piece([0; PIECE]));
        for (input, inout) in input.chunks(PIECE).zip(inout.chunks_mut(PIECE)) {
            let (left, right) = (&mut left.0[..input.len()], &mut right.0[..inout.len()]);
            left.copy_from_slice(input);
            right.copy_from_slice(inout);
            self.call(function, left, right, dtype);
            inout.copy_from_slice(right);
        }
    }

    fn call(self, function: Function, input: &[u8], inout: &mut [u8], dtype: Dtype) {
        let count = input.len() / dtype.size();
        // SAFETY: both runs hold `count` aligned elements, and the caller in C promised a function that stays within
        // them and may be called on any thread.
        unsafe {
            function(
                input.as_ptr().cast(),
                inout.as_mut_ptr().cast(),
                count,
                dtype as c_int,
                self.0,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn add(
        input: *const c_void,
        inout: *mut c_void,
        count: usize,
        dtype: c_int,
        user: *mut c_void,
    ) {
        assert_eq!(dtype, 2);
        let (input, inout) = (input.cast::<i32>(), inout.cast::<i32>());
        assert!(input.is_aligned() && inout.is_aligned());
        // SAFETY: `combine` gives `count` aligned elements to read.
        let input = unsafe { std::slice::from_raw_parts(input, count) };
        // SAFETY: and as many to write.
        let inout = unsafe { std::slice::from_raw_parts_mut(inout, count) };
        for (inout, input) in inout.iter_mut().zip(input) {
            *inout += input;
        }
        // SAFETY: the test passes a counter.
        unsafe { *user.cast::<usize>() += count };
    }

    #[test]
    fn c_functions_get_aligned_elements() {
        let values = 0..2500_i32;
        let bytes: Vec<u8> = values.clone().flat_map(i32::to_ne_bytes).collect();
        let doubled: Vec<u8> = values.clone().flat_map(|value| (2 * value).to_ne_bytes()).collect();
        for shift in 0..4 {
            // The same values at another alignment.
            let input = [vec![0; shift], bytes.clone()].concat();
            let mut inout = bytes.clone();
            let mut called = 0_usize;
            let user = User((&raw mut called).cast());
            user.combine(add, &input[shift..], &mut inout, Dtype::Int32);
            assert!(inout == doubled, "shift {shift}");
            assert_eq!(called, values.len());
        }
    }

    #[test]
    fn scalars_are_read_in_the_type_of_the_elements() {
        let at = |bytes: &[u8], dtype| ScalarAt(bytes.as_ptr().cast()).read(dtype);
        assert_eq!(at(&[0xfe], Dtype::Int8), Scalar::Integer(-2));
        assert_eq!(at(&[0xfe], Dtype::Uint8), Scalar::Integer(254));
        assert_eq!(at(&u32::MAX.to_ne_bytes(), Dtype::Uint32), Scalar::Integer(0xffff_ffff));
        assert_eq!(at(&u64::MAX.to_ne_bytes(), Dtype::Uint64), Scalar::Integer(-1));
        assert_eq!(at(&1.5_f32.to_ne_bytes(), Dtype::F32), Scalar::Float(1.5));
        assert_eq!(at(&0.1_f64.to_ne_bytes(), Dtype::F64), Scalar::Float(0.1));
        assert_eq!(at(&0x3e00_u16.to_ne_bytes(), Dtype::F16), Scalar::Float(1.5));
        assert_eq!(at(&0x3fc0_u16.to_ne_bytes(), Dtype::Bf16), Scalar::Float(1.5));
    }

    #[test]
    fn what_is_no_handle_is_refused() {
        let of = |address: *const c_void| {
            CommPtr { address, kind: PhantomData }.get().unwrap_err().what.clone()
        };
        assert_eq!(of(std::ptr::null()), "comm is NULL");
        assert_eq!(of(std::ptr::without_provenance(1)), "comm is not a handle of its kind");
        let words = [0_u64; 16];
        assert_eq!(of(words.as_ptr().cast()), "comm is not a handle of its kind");
    }
}
