//! Pointers of C, checked as far as that goes: what is null, and what is none of our objects.
//!
//! An object that C holds begins with a mark that says what it is, so that one in the place of another is told apart.

use std::ffi::{c_int, c_void};

use dure::{Error, Result};

/// What C may hold.
pub(crate) trait Object {
    /// The mark: no two kinds have the same.
    const MARK: u64;
    /// What it is called in messages.
    const NAME: &'static str;
}

/// An object behind its mark.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Marked<T> {
    mark: u64,
    object: T,
}

impl<T: Object> Marked<T> {
    pub(crate) fn new(object: T) -> Self {
        Self { mark: T::MARK, object }
    }

    /// What C gets, of an object that stays where it is.
    pub(crate) fn pointer(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

/// Hands an object to C.
pub(crate) fn give<T: Object>(object: T) -> *mut c_void {
    Box::into_raw(Box::new(Marked::new(object))).cast()
}

fn check<T: Object>(pointer: *mut c_void, argument: &str) -> Result<*mut Marked<T>> {
    let pointer: *mut Marked<T> = pointer.cast();
    let wrong =
        |what: &str| Error::invalid_argument(format!("{argument}: {what} (allowed: {})", T::NAME));
    if pointer.is_null() {
        return Err(wrong("null"));
    }
    // SAFETY: C gives what it got from this library; every object of ours begins with its mark.
    let mark = if pointer.is_aligned() { unsafe { (*pointer).mark } } else { 0 };
    if mark == T::MARK { Ok(pointer) } else { Err(wrong("something else")) }
}

/// An object that C holds.
///
/// # Errors
/// `InvalidArgument`, with the argument's name.
pub(crate) fn object<'a, T: Object>(pointer: *mut c_void, argument: &str) -> Result<&'a T> {
    let object = check::<T>(pointer, argument)?;
    // SAFETY: `check` found its mark; C ends no object that it uses in another thread.
    Ok(&unsafe { &*object }.object)
}

/// Takes an object back from C, which may not use it again.
///
/// # Errors
/// As [`object`].
pub(crate) fn take<T: Object>(pointer: *mut c_void, argument: &str) -> Result<T> {
    let object = check::<T>(pointer, argument)?;
    // SAFETY: `check` found its mark, and `give` made it.
    let object = unsafe { Box::from_raw(object) };
    Ok(object.object)
}

/// Writes a result of C's.
///
/// # Errors
/// `InvalidArgument` when there is no place for it.
pub(crate) fn write<T>(to: *mut T, value: T, argument: &str) -> Result<()> {
    if to.is_null() || !to.is_aligned() {
        return Err(Error::invalid_argument(format!(
            "{argument}: null (it is where a result goes)"
        )));
    }
    // SAFETY: C gives the address of a value of this type, or of room for one.
    unsafe { to.write(value) };
    Ok(())
}

/// An element of an array of C's.
///
/// # Errors
/// `InvalidArgument` when there is no array.
pub(crate) fn element<T: Copy>(of: *const T, index: usize, argument: &str) -> Result<T> {
    if of.is_null() || !of.is_aligned() {
        return Err(Error::invalid_argument(format!("{argument}: null (it is an array)")));
    }
    // SAFETY: C gives an array with an element for each of its requests, of which this is one.
    let element = unsafe { of.add(index) };
    // SAFETY: as above.
    Ok(unsafe { element.read() })
}

/// Writes an element of an array of C's, if there is one.
pub(crate) fn write_element(to: *mut c_int, index: usize, value: c_int) {
    if !to.is_null() {
        // SAFETY: C gives an array with an element for each receive of the request.
        let element = unsafe { to.add(index) };
        // SAFETY: as above.
        unsafe { element.write(value) };
    }
}

/// Bytes that C gives or takes.
///
/// # Errors
/// `InvalidArgument` when there are none.
pub(crate) fn bytes<const N: usize>(at: *mut c_void, argument: &str) -> Result<*mut [u8; N]> {
    if at.is_null() {
        return Err(Error::invalid_argument(format!("{argument}: null (allowed: {N} bytes)")));
    }
    Ok(at.cast())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(u32);
    struct Other;

    impl Object for Thing {
        const MARK: u64 = 0x11;
        const NAME: &'static str = "a thing";
    }

    impl Object for Other {
        const MARK: u64 = 0x22;
        const NAME: &'static str = "another";
    }

    #[test]
    fn objects_are_told_apart() {
        let thing = give(Thing(7));
        assert_eq!(object::<Thing>(thing, "x").unwrap().0, 7);
        let error = object::<Other>(thing, "comm").err().unwrap().what.clone();
        assert_eq!(error, "comm: something else (allowed: another)");
        assert!(object::<Thing>(std::ptr::null_mut(), "x").is_err());
        assert_eq!(take::<Thing>(thing, "x").unwrap().0, 7);
    }
}
