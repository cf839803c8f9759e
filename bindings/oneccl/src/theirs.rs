//! The structures of oneCCL that cross the plug-in's entry, as far as they are the same in all known versions.

use std::cell::Cell;
use std::ffi::{c_int, c_void};

use dure_c::ffi::comm::RawUniqueId;
use dure_c::ffi::pointer::{CommPtr, Out};

/// `onecclUniqueId`: 4096 bytes, of which plug-ins make what they need. Dure's id is at the begin.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct UniqueId {
    dure: RawUniqueId,
    _rest: [u8; 4096 - size_of::<RawUniqueId>()],
}

impl UniqueId {
    /// Dure's id.
    pub(crate) fn dure(&self) -> RawUniqueId {
        self.dure
    }
}

/// How `struct onecclComm` begins. Behind that are the unique id, settings, and functions at places that the version says
/// (`layout.rs`).
#[repr(C)]
pub(crate) struct Head {
    /// Its size, a magic number and its version, none of which oneCCL sets.
    _unset: [u64; 2],
    /// For the plug-in's own.
    extension: CommPtr,
}

/// `onecclComm_t`: a structure that oneCCL makes, and a plug-in fills in.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Comm(*mut Head);

impl Comm {
    /// The handle that `dure-c` knows.
    #[inline(always)]
    pub(crate) fn ours(self) -> CommPtr {
        if self.0.is_null() {
            return CommPtr::NULL;
        }
        // SAFETY: oneCCL promised that it is a communicator of its own, which begins so in all known versions, and that it
        // is made and ended by nobody else meanwhile.
        unsafe { (*self.0).extension }
    }

    /// Where that handle goes.
    pub(crate) fn place_of_ours(self) -> Out<CommPtr> {
        let place = if self.0.is_null() {
            std::ptr::null_mut()
        } else {
            // SAFETY: as for `ours`.
            unsafe { &raw mut (*self.0).extension }
        };
        // SAFETY: oneCCL keeps the structure until the plug-in has agreed to its end, which `dure-c` refuses while a group
        // that makes the communicator is open; before that nobody else knows it.
        unsafe { Out::from_address(place) }
    }

    /// Writes a function, or its absence, at an offset in bytes that the version has for one.
    pub(crate) fn set(self, offset: usize, function: *const c_void) {
        let place = self.0.wrapping_byte_add(offset).cast::<*const c_void>();
        // SAFETY: the structure is of a known version, so it has room for a pointer there; oneCCL gave it to be filled in,
        // and nobody else knows it yet.
        unsafe { place.write(function) }
    }

    /// Frees the structure.
    fn free(self) {
        // SAFETY: oneCCL allocates it with `calloc`, and its own plug-ins free it so where they make no communicator.
        unsafe { libc::free(self.0.cast()) }
    }
}

/// `onecclComm_t *`: where oneCCL keeps a structure that it made.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct CommAt(*mut Comm);

impl CommAt {
    /// The structure.
    pub(crate) fn get(self) -> Comm {
        if self.0.is_null() {
            return Comm(std::ptr::null_mut());
        }
        // SAFETY: oneCCL promised a place that holds a communicator, or null.
        unsafe { *self.0 }
    }

    /// Frees the structure, and writes that there is none.
    pub(crate) fn abandon(self) {
        self.get().free();
        // SAFETY: as for `get`, and that the place may be written until the call ends.
        unsafe { *self.0 = Comm(std::ptr::null_mut()) }
    }
}

/// Writes a number where C asks for one; whether there was a place.
pub(crate) fn write(place: *mut c_int, number: c_int) -> bool {
    if place.is_null() {
        return false;
    }
    // SAFETY: the caller in C promised that a place that is not null may be written until the call ends.
    unsafe { place.write(number) }
    true
}

/// A place of this side that a function of `dure-c` writes to, which does not keep it.
pub(crate) fn place<T: Copy>(of: &mut T) -> Out<T> {
    // SAFETY: it is borrowed by the caller, who passes it to one call.
    unsafe { Out::from_address(of) }
}

/// Where the handle goes of a communicator that a rank does not get: the group of this thread may write there until it ends.
pub(crate) fn nowhere() -> Out<CommPtr> {
    thread_local! {
        static NOWHERE: Cell<CommPtr> = const { Cell::new(CommPtr::NULL) };
    }
    // SAFETY: it stays as long as the thread and its groups, and no other thread knows it.
    NOWHERE.with(|place| unsafe { Out::from_address(place.as_ptr()) })
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn structures_are_laid_out_as_onecclss() {
        assert_eq!((size_of::<UniqueId>(), align_of::<UniqueId>()), (4096, 1));
        assert_eq!(offset_of!(UniqueId, dure), 0);
        assert_eq!(offset_of!(Head, extension), 16);
        assert_eq!(size_of::<CommPtr>(), size_of::<*mut c_void>());
    }

    #[test]
    fn what_is_null_is_nowhere() {
        let none = CommAt(std::ptr::null_mut()).get();
        assert!(none.ours().is_null());
        assert!(!write(std::ptr::null_mut(), 7));
        let mut number = 0;
        assert!(write(&raw mut number, 7));
        assert_eq!(number, 7);
    }
}
