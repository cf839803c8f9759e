//! The kernels: their text for the driver, and the jobs that they take. `kernels/kernels.cu` is their source.

use std::ffi::{CString, c_uint, c_void};
use std::ptr;

use dure_device_abi as abi;
use dure_device_abi::maker::{Failure, Result};

use crate::driver::{CuStream, Driver, Function};

/// What `kernels/make_ptx.py` has made of `kernels/kernels.cu`. Its first line has the SHA-256 of that.
pub(crate) const PTX: &str = include_str!("../kernels/kernels.ptx");

/// The oldest architecture that the text serves: 7.x, Volta.
pub(crate) const OLDEST_MAJOR: i32 = 7;

/// Most sources of a reduction: SOURCES in `kernels.cu`.
pub(crate) const SOURCES: u32 = 16;

/// Threads of a block.
const THREADS: u64 = 256;
/// Blocks for each multiprocessor at most: enough threads to keep memory busy, and each has a few words at least.
const BLOCKS_EACH: u64 = 8;

/// The types, by their number: how kernels are named after them, and the size of an element.
const TYPES: [(&str, u64); 12] = [
    ("int8", 1),
    ("uint8", 1),
    ("int32", 4),
    ("uint32", 4),
    ("int64", 8),
    ("uint64", 8),
    ("half", 2),
    ("float", 4),
    ("double", 8),
    ("bfloat16", 2),
    ("f8e4m3", 1),
    ("f8e5m2", 1),
];

/// The numbers below are of integers.
const FIRST_FLOAT: u32 = 6;

/// Bit t for each type.
pub(crate) const ALL_TYPES: u32 = (1 << TYPES.len()) - 1;

/// `Reduce` in `kernels.cu`.
#[repr(C)]
pub(crate) struct ReduceJob {
    pub(crate) srcs: [u64; SOURCES as usize],
    pub(crate) dst: u64,
    pub(crate) count: u64,
    pub(crate) sources: u32,
    pub(crate) op: u32,
}

/// `Scale` in `kernels.cu`.
#[repr(C)]
pub(crate) struct ScaleJob {
    pub(crate) src: u64,
    pub(crate) dst: u64,
    pub(crate) count: u64,
    pub(crate) by: u64,
    pub(crate) over: u32,
    pub(crate) reserved: u32,
}

/// Bytes of `count` elements of a type.
///
/// # Errors
/// `UNSUPPORTED` for a number that is no type, `INVALID` for more than memory holds.
pub(crate) fn bytes(dtype: u32, count: u64) -> Result<u64> {
    let known = TYPES.get(dtype as usize);
    let (_, size) =
        known.ok_or_else(|| Failure(abi::UNSUPPORTED, format!("type {dtype} is none")))?;
    count.checked_mul(*size).ok_or_else(|| Failure::invalid("more bytes than there can be"))
}

/// What a scaling computes with: see `Scale` in `kernels.cu`.
///
/// # Errors
/// `INVALID` for a division by less than 1, `UNSUPPORTED` for what is not defined on the type.
#[expect(
    clippy::cast_possible_truncation,
    reason = "factors are rounded and wrap, as the header says"
)]
#[expect(clippy::cast_sign_loss, reason = "the bits are what counts")]
#[expect(clippy::cast_precision_loss, reason = "a divisor is rounded to the type of the elements")]
pub(crate) fn factor(job: &abi::Scale) -> Result<(u64, bool)> {
    let over = match job.kind {
        abi::scale_kind::BY | abi::scale_kind::BY_INTEGER => false,
        abi::scale_kind::OVER if job.integer >= 1 => true,
        abi::scale_kind::OVER => {
            return Err(Failure::invalid(format!("{} is nothing to divide by", job.integer)));
        }
        other => return Err(Failure(abi::UNSUPPORTED, format!("there is no scaling {other}"))),
    };
    let (name, _) = TYPES[job.dtype as usize];
    let is_float = job.dtype >= FIRST_FLOAT;
    if is_float && job.kind == abi::scale_kind::BY_INTEGER {
        return Err(Failure(abi::UNSUPPORTED, format!("{name} is not multiplied by an integer")));
    }
    let by = match (name, job.kind) {
        ("double", abi::scale_kind::BY) => job.factor.to_bits(),
        ("double", _) => (job.integer as f64).to_bits(),
        (_, abi::scale_kind::BY) if is_float => u64::from((job.factor as f32).to_bits()),
        _ if is_float => u64::from((job.integer as f32).to_bits()),
        ("int8", abi::scale_kind::BY) => job.factor as i8 as u64,
        ("uint8", abi::scale_kind::BY) => u64::from(job.factor as u8),
        ("int32", abi::scale_kind::BY) => job.factor as i32 as u64,
        ("uint32", abi::scale_kind::BY) => u64::from(job.factor as u32),
        ("int64", abi::scale_kind::BY) => job.factor as i64 as u64,
        (_, abi::scale_kind::BY) => job.factor as u64,
        _ => job.integer as u64,
    };
    Ok((by, over))
}

/// The kernels, loaded into a context.
#[derive(Debug)]
pub(crate) struct Kernels {
    module: *mut c_void,
    reduce: [Function; TYPES.len()],
    scale: [Function; TYPES.len()],
    /// Most blocks of a launch.
    most_blocks: u64,
}

impl Kernels {
    /// Loads them into the current context, of a device with so many multiprocessors.
    pub(crate) fn load(driver: &Driver, multiprocessors: i32) -> Result<Self> {
        let text = CString::new(PTX).map_err(|_| Failure::invalid("the kernels have a 0"))?;
        let mut module = ptr::null_mut();
        // SAFETY: the text ends with a 0, and the argument is alive.
        let loaded = unsafe { (driver.module_load)(&raw mut module, text.as_ptr().cast()) };
        driver.check("cuModuleLoadData", loaded)?;
        let none = [ptr::null_mut(); TYPES.len()];
        let most_blocks = u64::from(multiprocessors.unsigned_abs()).max(1) * BLOCKS_EACH;
        let mut kernels = Self { module, reduce: none, scale: none, most_blocks };
        for (at, (name, _)) in TYPES.iter().enumerate() {
            kernels.reduce[at] = find(driver, module, &format!("dure_reduce_{name}"))?;
            kernels.scale[at] = find(driver, module, &format!("dure_scale_{name}"))?;
        }
        Ok(kernels)
    }

    /// Unloads them from the current context. No work of theirs is under way.
    pub(crate) fn unload(&self, driver: &Driver) {
        // SAFETY: it was loaded, and nothing uses it any more.
        let _ = unsafe { (driver.module_unload)(self.module) };
    }

    pub(crate) fn reduce(
        &self,
        driver: &Driver,
        stream: CuStream,
        (dtype, job): (u32, &ReduceJob),
    ) -> Result<()> {
        let function = self.reduce[dtype as usize];
        let job = (ptr::from_ref(job).cast(), bytes(dtype, job.count)?);
        self.launch(driver, stream, function, job)
    }

    pub(crate) fn scale(
        &self,
        driver: &Driver,
        stream: CuStream,
        (dtype, job): (u32, &ScaleJob),
    ) -> Result<()> {
        let function = self.scale[dtype as usize];
        let job = (ptr::from_ref(job).cast(), bytes(dtype, job.count)?);
        self.launch(driver, stream, function, job)
    }

    /// Launches a kernel with its job, which writes so many bytes.
    fn launch(
        &self,
        driver: &Driver,
        stream: CuStream,
        function: Function,
        (job, bytes): (*const c_void, u64),
    ) -> Result<()> {
        let blocks = bytes.div_ceil(4).div_ceil(THREADS).clamp(1, self.most_blocks);
        let blocks = c_uint::try_from(blocks).unwrap_or(c_uint::MAX);
        let threads = c_uint::try_from(THREADS).expect("a few hundred");
        let mut arguments = [job.cast_mut()];
        let extra = ptr::null_mut();
        // SAFETY: the function takes one argument, which is copied before the call returns.
        let launched = unsafe {
            (driver.launch)(
                function,
                blocks,
                1,
                1,
                threads,
                1,
                1,
                0,
                stream,
                arguments.as_mut_ptr(),
                extra,
            )
        };
        driver.check("cuLaunchKernel", launched)
    }
}

fn find(driver: &Driver, module: *mut c_void, name: &str) -> Result<Function> {
    let text = CString::new(name).map_err(|_| Failure::invalid("a name has a 0"))?;
    let mut function = ptr::null_mut();
    // SAFETY: the module is loaded, the text ends with a 0, and the argument is alive.
    let found = unsafe { (driver.module_function)(&raw mut function, module, text.as_ptr()) };
    driver.check(&format!("cuModuleGetFunction of {name}"), found)?;
    Ok(function)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_text_was_made_of_the_source() {
        let source = include_bytes!("../kernels/kernels.cu");
        let mut line = "// kernels.cu ".to_owned();
        for byte in Sha256::digest(source) {
            write!(line, "{byte:02x}").unwrap();
        }
        let first = PTX.lines().next().unwrap();
        assert_eq!(first, line, "kernels.cu has changed: run kernels/make_ptx.py");
    }

    #[test]
    fn every_type_has_its_entries_and_jobs_are_as_long() {
        assert_eq!((size_of::<ReduceJob>(), size_of::<ScaleJob>()), (152, 40));
        assert_eq!(PTX.matches(".entry").count(), 2 * TYPES.len());
        for (name, _) in TYPES {
            for (what, job) in [("reduce", 152), ("scale", 40)] {
                assert!(PTX.contains(&format!(".entry dure_{what}_{name}(")), "{what} {name}");
                let argument = format!("dure_{what}_{name}_param_0[{job}]");
                assert!(PTX.contains(&argument), "{argument}");
            }
        }
        // An older driver, or an older device, could not read it.
        assert!(PTX.contains(".version 8.0\n") && PTX.contains(".target sm_70\n"));
    }

    fn scaled(dtype: u32, kind: u32, factor: f64, integer: i64) -> Result<(u64, bool)> {
        let size = abi::size::<abi::Scale>();
        let (src, dst) = (ptr::null(), ptr::null_mut());
        let (reserved, count) = (0, 0);
        super::factor(&abi::Scale { size, dtype, kind, reserved, src, dst, count, factor, integer })
    }

    #[test]
    fn factors_are_converted_as_the_header_says() {
        use abi::scale_kind::{BY, BY_INTEGER, OVER};
        assert_eq!(scaled(7, BY, 0.1, 0), Ok((u64::from(0.1_f32.to_bits()), false)));
        assert_eq!(scaled(8, BY, 0.1, 0), Ok((0.1_f64.to_bits(), false)));
        assert_eq!(scaled(6, OVER, 0.0, 3), Ok((u64::from(3_f32.to_bits()), true)));
        assert_eq!(scaled(0, BY, -3.7, 0), Ok(((-3_i64).cast_unsigned(), false)));
        assert_eq!(scaled(1, BY, 300.0, 0), Ok((255, false)));
        assert_eq!(scaled(4, BY_INTEGER, 0.0, -9), Ok(((-9_i64).cast_unsigned(), false)));
        assert_eq!(scaled(2, OVER, 0.0, 0).unwrap_err().0, abi::INVALID);
        assert_eq!(scaled(7, BY_INTEGER, 0.0, 2).unwrap_err().0, abi::UNSUPPORTED);
        assert_eq!(scaled(7, 9, 0.0, 2).unwrap_err().0, abi::UNSUPPORTED);
    }
}
