//! Many communicators in the same processes.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use dure::{Communicator, ReduceOp, Result, UniqueId};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::seat::Seat;

/// Unit in which the memory of a file is told (stat(2)).
const BLOCK: u64 = 512;

/// Makes as many communicators of all ranks as the first argument says, in all ways there are; each adds up 8 bytes and
/// 64 KiB. Says what this process holds with the first communicator alone (`one`), with all of them (`many`), and when all
/// but the first have ended (`few`).
pub(super) fn many(seat: &Seat) -> Result<()> {
    let count: u32 = seat.arg(0).parse().expect("a number of communicators");
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit can be asked for");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("a limit can be raised to its limit");
    let first = &seat.communicator;
    call(first)?;
    seat.say(&format!("one {}", holdings()));
    let mut all = Vec::new();
    for number in 0..count {
        let next = match number % 3 {
            0 => first.duplicate()?,
            1 => first.split(Some(0), 0)?.expect("every rank has the color"),
            _ => anew(seat)?,
        };
        call(&next)?;
        all.push(next);
    }
    first.barrier()?;
    seat.say(&format!("many {}", holdings()));
    first.barrier()?;
    for communicator in all {
        communicator.finalize()?;
    }
    first.barrier()?;
    // Everybody has left by now; what was kept for their sake is free when the next one needs memory.
    call(&first.duplicate()?)?;
    seat.say(&format!("few {}", holdings()));
    first.finalize()
}

/// By an id of its own, which rank 0 makes.
fn anew(seat: &Seat) -> Result<Communicator> {
    let first = &seat.communicator;
    let id = if first.rank() == 0 { Some(UniqueId::new(&seat.config)?) } else { None };
    let mut bytes = id.map_or([0; 128], |id| id.0);
    first.broadcast(&mut bytes, 0)?;
    let (rank, size) = (first.rank(), first.size());
    let builder = Communicator::builder().rank(rank, size).config(seat.config.clone());
    builder.meet_at(UniqueId(bytes)).connect()
}

fn call(communicator: &Communicator) -> Result<()> {
    for count in [1, 8 << 10] {
        let mut data = vec![1_u64; count];
        communicator.all_reduce(&mut data, ReduceOp::Sum)?;
        assert!(data.iter().all(|sum| *sum == u64::from(communicator.size())));
    }
    Ok(())
}

/// Descriptors; segments of which this process has the descriptor, and their bytes; mappings of segments.
fn holdings() -> String {
    let entries = std::fs::read_dir("/proc/self/fd").expect("/proc is there");
    let entries: Vec<_> = entries.map(|entry| entry.expect("an entry is read").path()).collect();
    let is_segment = |path: &&PathBuf| {
        std::fs::read_link(path).is_ok_and(|name| name.to_string_lossy().starts_with("/memfd:dure"))
    };
    let segments: Vec<_> = entries.iter().filter(is_segment).collect();
    let memory = |path: &&PathBuf| std::fs::metadata(path).expect("it is open").blocks() * BLOCK;
    let bytes: u64 = segments.iter().map(memory).sum();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is there");
    let mappings = maps.lines().filter(|line| line.contains("/memfd:dure")).count();
    format!("{} {} {bytes} {mappings}", entries.len(), segments.len())
}
