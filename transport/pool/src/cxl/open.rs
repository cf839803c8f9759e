//! The devices of a pool: files that several processes, or hosts, can map.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use dure_transport::proof::random_bytes;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::{major, minor};
use std::sync::atomic::{AtomicU64, Ordering};

use super::isa::Isa;
use super::layout::{Flaw, HEADER_WORDS, Layout, META, Shape};

/// What is wrong with a device, or with several as one pool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// The system refuses something.
    #[error("{path}: {call}")]
    System {
        /// The device.
        path: PathBuf,
        /// What was asked.
        call: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Neither a file nor a device whose memory can be mapped.
    #[error("{path} is neither a file nor a /dev/dax device")]
    Kind {
        /// It.
        path: PathBuf,
    },
    /// What is on a device.
    #[error("{path} {flaw}")]
    Flaw {
        /// The device.
        path: PathBuf,
        /// What is wrong there.
        flaw: Flaw,
    },
    /// The devices are not, or not all, of one pool.
    #[error("{0}")]
    Set(String),
    /// This processor cannot flush a line from a program.
    #[error(
        "this processor has no way to flush its caches from a program: a pool can only be used where caches are coherent"
    )]
    NoFlush,
}

/// Result of what is done to devices.
pub(super) type Outcome<T> = Result<T, Trouble>;

/// A device that is open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

impl Opened {
    /// Opens a file or a /dev/dax device for reading and writing.
    pub(super) fn open(path: &Path) -> Outcome<Self> {
        let failed = |call| move |source| Trouble::System { path: path.to_owned(), call, source };
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed("open"))?;
        let status = file.metadata().map_err(failed("fstat"))?;
        let bytes = if status.file_type().is_char_device() {
            dax_size(status.rdev()).ok_or_else(|| Trouble::Kind { path: path.to_owned() })?
        } else if status.is_file() {
            status.len()
        } else {
            return Err(Trouble::Kind { path: path.to_owned() });
        };
        Ok(Self { file, path: path.to_owned(), bytes })
    }

    /// Calls `use_words` with the first words of the device, mapped.
    fn with_header<T>(
        &self,
        use_words: impl FnOnce(&[AtomicU64; HEADER_WORDS]) -> T,
    ) -> Outcome<T> {
        let failed = |call| {
            move |errno: nix::Error| Trouble::System {
                path: self.path.clone(),
                call,
                source: errno.into(),
            }
        };
        if self.bytes < META {
            let flaw = Flaw::Impossible(format!(
                "{} bytes (a pool's device has {META} at least)",
                self.bytes
            ));
            return Err(Trouble::Flaw { path: self.path.clone(), flaw });
        }
        let len =
            usize::try_from(META).expect("an address space has it").try_into().expect("not zero");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses an address range that is free.
        let at = unsafe { mmap(None, len, access, MapFlags::MAP_SHARED, self.file.as_fd(), 0) }
            .map_err(failed("mmap"))?;
        // SAFETY: the mapping is longer than the header, aligned, and lives until after the call; other hosts' accesses cannot
        // be worse than races of atomics.
        let words = unsafe { at.cast::<[AtomicU64; HEADER_WORDS]>().as_ref() };
        let result = use_words(words);
        // SAFETY: mapped above; nothing borrows it any more.
        unsafe { munmap(at, len.get()) }.map_err(failed("munmap"))?;
        Ok(result)
    }

    /// Reads the header.
    fn read(&self, isa: Option<Isa>) -> Outcome<(Shape, usize)> {
        let words = self.with_header(|words| {
            if let Some(isa) = isa {
                // SAFETY: the words are mapped.
                unsafe { isa.drop_lines(words.as_ptr().cast(), size_of_val(words)) };
            }
            // Each word is read once: whoever damages them may do so between two reads.
            std::array::from_fn(|at| words[at].load(Ordering::Acquire))
        })?;
        Shape::parse(&words).map_err(|flaw| Trouble::Flaw { path: self.path.clone(), flaw })
    }

    /// Writes a header, behind zeros where claims are.
    fn write(&self, header: [u64; HEADER_WORDS], isa: Option<Isa>) -> Outcome<()> {
        self.with_header(|words| {
            let at = words.as_ptr().cast_mut().cast::<u8>();
            let len = usize::try_from(META).expect("an address space has it");
            // SAFETY: so much is mapped, and whoever makes a pool is its only user.
            unsafe { at.write_bytes(0, len) };
            for (place, word) in words.iter().zip(header) {
                place.store(word, Ordering::Release);
            }
            if let Some(isa) = isa {
                // SAFETY: mapped, as above.
                unsafe { isa.write_back(at, len) };
                isa.fence();
            }
        })
    }
}

/// Bytes of a /dev/dax device; `None` when the device is none.
fn dax_size(number: u64) -> Option<u64> {
    let folder = PathBuf::from(format!("/sys/dev/char/{}:{}", major(number), minor(number)));
    let subsystem = fs::read_link(folder.join("subsystem")).ok()?;
    if subsystem.file_name()? != "dax" {
        return None;
    }
    fs::read_to_string(folder.join("size")).ok()?.trim().parse().ok()
}

/// What to make a pool of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Most processes that use a partition at a time.
    pub members: u32,
    /// Parts for jobs that run at the same time.
    pub partitions: u32,
    /// Bytes that follow each other on one device.
    pub granule: u64,
}

/// Makes a pool of devices, in this order, whatever was there. No other process may use them meanwhile.
///
/// # Errors
/// [`Trouble`], also when `plan` does not fit the devices.
pub fn create(paths: &[PathBuf], plan: Plan) -> Result<Shape, Trouble> {
    let devices = paths.iter().map(|path| Opened::open(path)).collect::<Outcome<Vec<_>>>()?;
    let id = random_bytes().map_err(|error| Trouble::Set(error.to_string()))?;
    let shape = Shape {
        id: u64::from_le_bytes(id),
        devices: devices.len(),
        bytes: devices.iter().map(|device| device.bytes).min().unwrap_or(0),
        granule: plan.granule,
        members: plan.members,
        partitions: plan.partitions,
    };
    if let Err(flaw) = Layout::new(shape) {
        let path = paths.first().cloned().unwrap_or_default();
        return Err(Trouble::Flaw { path, flaw });
    }
    for (index, device) in devices.iter().enumerate() {
        device.write(shape.header(index), Isa::detect())?;
    }
    Ok(shape)
}

/// Opens the devices of a pool, named in any order, and puts them in theirs.
pub(super) fn open(paths: &[PathBuf]) -> Outcome<(Vec<Opened>, Layout)> {
    let mut found: Vec<Option<Opened>> = Vec::new();
    let mut first: Option<(PathBuf, Shape)> = None;
    for path in paths {
        let device = Opened::open(path)?;
        let (shape, index) = device.read(Isa::detect())?;
        let (first_path, of_first) = first.get_or_insert_with(|| (path.clone(), shape));
        if *of_first != shape {
            let text =
                format!("{} and {} are of different pools", first_path.display(), path.display());
            return Err(Trouble::Set(text));
        }
        if device.bytes < shape.bytes {
            let flaw = Flaw::Impossible(format!(
                "{} bytes a device, and it has {}",
                shape.bytes, device.bytes
            ));
            return Err(Trouble::Flaw { path: path.clone(), flaw });
        }
        found.resize_with(shape.devices, || None);
        if let Some(twin) = found[index].replace(device) {
            let text = format!(
                "{} and {} are the same device of the pool",
                twin.path.display(),
                path.display()
            );
            return Err(Trouble::Set(text));
        }
    }
    let Some((path, shape)) = first else {
        return Err(Trouble::Set("a pool of no devices".to_owned()));
    };
    let devices: Option<Vec<_>> = found.into_iter().collect();
    let devices = devices.ok_or_else(|| {
        Trouble::Set(format!(
            "the pool of {} has {} devices, and {} are named",
            path.display(),
            shape.devices,
            paths.len()
        ))
    })?;
    let layout = Layout::new(shape).map_err(|flaw| Trouble::Flaw { path, flaw })?;
    Ok((devices, layout))
}
