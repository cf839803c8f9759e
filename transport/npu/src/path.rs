//! Whether a device reads what another one has: a page is written by one side and compared by the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dure_device::{Device, Handle, Memory, Work};
use dure_transport::{Card, Error, Result, proof};

use crate::NAME;
use crate::card::Name;

/// Bytes of a page.
const PAGE: usize = 4096;
/// How long a device may take for a page before the path is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// A page of a device of ours, for peers to read.
#[derive(Debug)]
pub(crate) struct Page {
    device: Arc<dyn Device>,
    memory: Memory,
    pub(crate) handle: Handle,
    pub(crate) seed: u64,
}

/// The bytes of a page, by `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
fn bytes_of(seed: u64) -> [u8; PAGE] {
    let mut state = seed;
    let mut bytes = [0; PAGE];
    for word in bytes.as_chunks_mut::<8>().0 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        *word = (mixed ^ (mixed >> 31)).to_le_bytes();
    }
    bytes
}

fn failed(source: dure_device::Error) -> Error {
    Error::Failed { transport: NAME, source: Box::new(source) }
}

impl Page {
    pub(crate) fn new(device: &Arc<dyn Device>) -> Result<Self> {
        let seed = u64::from_le_bytes(proof::random_bytes()?);
        let memory = device.alloc(PAGE).map_err(failed)?;
        // From here on the page is freed whatever happens.
        let handle = Handle([0; size_of::<Handle>()]);
        let mut page = Self { device: Arc::clone(device), memory, handle, seed };
        copy(&**device, &mut bytes_of(seed), |host| Work::copy(host, memory)).map_err(failed)?;
        page.handle = device.export(memory).ok_or(Error::Unsupported {
            transport: NAME,
            what: "use a device that exports no memory, though it has a family",
        })?;
        Ok(page)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        free(&*self.device, self.memory);
    }
}

/// Gives memory of a device back.
pub(crate) fn free(device: &dyn Device, memory: Memory) {
    // SAFETY: it was allocated here, and no work on it is under way. Peers that still read it read what they may not use. A
    // device that is gone frees nothing.
    let _ = unsafe { device.free(memory) };
}

/// Ends an import.
pub(crate) fn forget(device: &dyn Device, memory: Memory) {
    // SAFETY: it was imported, and no region names it any more; its messages were consumed before.
    unsafe { device.forget(memory) };
}

/// Does one copy between a device and these bytes, and waits for it, as long as the patience lasts.
fn copy(
    device: &dyn Device,
    bytes: &mut [u8; PAGE],
    work: impl FnOnce(Memory) -> Work<'static>,
) -> dure_device::Result<()> {
    let gone = || dure_device::Error::Gone { device: device.name().to_owned() };
    let mut queue = device.queue()?;
    // A device that answers too late still finds memory.
    let mut host = Box::new(*bytes);
    let memory = Memory::host(host.as_mut_ptr(), PAGE);
    // SAFETY: the box is left to the device unless the work is done; the page is the caller's.
    let ticket = unsafe { queue.submit(&work(memory)) }?;
    let began = Instant::now();
    while queue.completed()? < ticket {
        if began.elapsed() > PATIENCE {
            std::mem::forget(host);
            return Err(gone());
        }
        std::thread::yield_now();
    }
    *bytes = *host;
    Ok(())
}

/// What became of a path. It travels as its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is no device of the family here.
    Foreign,
    /// The page did not come as it was written.
    Fails,
    /// It did.
    Reads,
}

/// Has a device read a peer's page.
pub(crate) fn read_page(device: &Arc<dyn Device>, name: &Name) -> Verdict {
    let Ok(page) = device.import(&name.handle, PAGE) else { return Verdict::Fails };
    let mut bytes = [0; PAGE];
    let read = copy(&**device, &mut bytes, |host| Work::copy(page, host));
    if read.is_err() {
        // The device may be at it yet.
        return Verdict::Fails;
    }
    forget(&**device, page);
    if bytes == bytes_of(name.seed) { Verdict::Reads } else { Verdict::Fails }
}

impl Verdict {
    /// A greeting behind what this side found: the number of devices in a byte, for each a byte.
    pub(crate) fn before(verdicts: &[Self], hello: &Card) -> Card {
        let mut bytes = vec![u8::try_from(verdicts.len()).expect("an address names a few devices")];
        bytes.extend(verdicts.iter().map(|verdict| *verdict as u8));
        bytes.extend(&hello.0);
        Card(bytes.into())
    }

    /// What a peer found, and its greeting; `None` when the peer did not say.
    pub(crate) fn split(hello: &Card) -> Option<(Vec<Self>, Card)> {
        let (count, rest) = hello.0.split_first()?;
        let (verdicts, rest) = rest.split_at_checked(usize::from(*count))?;
        let known = [Self::Foreign, Self::Fails, Self::Reads];
        let verdict = |byte: &u8| known.get(usize::from(*byte)).copied();
        Some((verdicts.iter().map(verdict).collect::<Option<_>>()?, Card(rest.into())))
    }
}
