//! Communicators: made, asked, and ended.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dure::{Communicator, Error, Launch, Result, UniqueId};

use super::config::ConfigPtr;
use super::pointer::{Array, CommPtr, Out};
use crate::boundary::{Done, boundary, boundary_on};
use crate::comm::Comm;
use crate::config::{Fields, Settings};
use crate::group::{self, Job};
use crate::{Interface, code, environment, number, thread};

/// `...UniqueId`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RawUniqueId {
    pub internal: [u8; 128],
}

/// `..._SPLIT_NOCOLOR`.
pub const NO_COLOR: c_int = -1;
/// The flags of `...CommShrink`.
pub const SHRINK_DEFAULT: c_int = 0;
pub const SHRINK_ABORT: c_int = 1;
/// The number of the host among the devices.
pub const HOST: c_int = -1;

pub fn get_unique_id<I: Interface>(unique_id: Out<RawUniqueId>) -> c_int {
    boundary(|| {
        let place = unique_id.place("uniqueId")?;
        place.set(RawUniqueId { internal: UniqueId::new(&environment::config::<I>()?)?.0 });
        Ok(())
    })
}

pub fn comm_init_rank<I: Interface>(
    comm: Out<CommPtr>,
    nranks: c_int,
    comm_id: RawUniqueId,
    rank: c_int,
) -> c_int {
    boundary(|| init_rank(comm, nranks, comm_id, ("rank", rank), ConfigPtr::<I>::NONE))
}

pub fn comm_init_rank_config<I: Interface>(
    comm: Out<CommPtr>,
    nranks: c_int,
    comm_id: RawUniqueId,
    rank: c_int,
    config: ConfigPtr<I>,
) -> c_int {
    boundary(|| init_rank(comm, nranks, comm_id, ("rank", rank), config))
}

pub fn comm_init_rank_scalable<I: Interface>(
    newcomm: Out<CommPtr>,
    nranks: c_int,
    myrank: c_int,
    n_id: c_int,
    comm_ids: Array<RawUniqueId>,
    config: ConfigPtr<I>,
) -> c_int {
    boundary(|| {
        let size = number::size("nranks", nranks)?;
        let ids = u32::try_from(n_id).ok().filter(|ids| (1..=size).contains(ids));
        ids.ok_or_else(|| {
            Error::invalid_argument(format!("nId is {n_id} (allowed: 1 to {nranks})"))
        })?;
        // The ranks meet in a tree below the first id's process, which several ids would not make flatter.
        let first = comm_ids.read("commIds", 1)?[0];
        init_rank(newcomm, nranks, first, ("myrank", myrank), config)
    })
}

fn init_rank<I: Interface>(
    comm: Out<CommPtr>,
    nranks: c_int,
    id: RawUniqueId,
    (argument, rank): (&str, c_int),
    config: ConfigPtr<I>,
) -> Result<Done> {
    let place = comm.place("comm")?;
    let size = number::size("nranks", nranks)?;
    let rank = number::rank(argument, rank, size)?;
    let id = UniqueId(id.internal);
    id.validate()?;
    let settings = config.over(environment::config::<I>()?)?;
    let builder =
        Communicator::builder().rank(rank, size).meet_at(id).config(settings.config.clone());
    let comm = Comm::new::<I>(settings, id.0.to_vec());
    group::make(Job {
        place: place.into(),
        comm: Some(comm),
        meeting: Box::new(move || builder.connect().map(Some)),
    })
}

pub fn comm_init_env<I: Interface>(comm: Out<CommPtr>, config: ConfigPtr<I>) -> c_int {
    boundary(|| {
        let place = comm.place("comm")?;
        let settings = config.over(environment::config::<I>()?)?;
        let launch = Launch::from_env(&settings.config)?.ok_or_else(|| {
            Error::invalid_usage(
                "the environment does not say which rank this is: start the program with a launcher (torchrun, mpirun, \
                 srun), or set DURE_ROOT, DURE_RANK and DURE_SIZE",
            )
        })?;
        let mut builder =
            Communicator::builder().rank(launch.rank, launch.size).config(settings.config.clone());
        let mut key = unique_key("launch");
        if let Some(id) = launch.unique_id()? {
            builder = builder.meet_at(id);
            key = id.0.to_vec();
        }
        group::make(Job {
            place: place.into(),
            comm: Some(Comm::new::<I>(settings, key)),
            meeting: Box::new(move || builder.connect().map(Some)),
        })
    })
}

/// A key that no other communicator of this process has.
fn unique_key(what: &str) -> Vec<u8> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("{what} {}", NUMBER.fetch_add(1, Ordering::Relaxed)).into_bytes()
}

pub fn comm_init_all<I: Interface>(
    comm: Out<CommPtr>,
    ndev: c_int,
    devlist: Array<c_int>,
) -> c_int {
    boundary(|| {
        comm.place("comm")?;
        let size = number::size("ndev", ndev)?;
        let count = usize::try_from(size).expect("addresses have 32 bits at least");
        if !devlist.is_null()
            && let Some(device) =
                devlist.read("devlist", count)?.iter().find(|device| **device != HOST)
        {
            let text =
                format!("devlist names device {device}, which is none (allowed: {HOST}, the host)");
            return Err(Error::invalid_argument(text));
        }
        let settings = Settings::new(environment::config::<I>()?, Fields::default())?;
        let communicators = Communicator::init_all(size, &settings.config)?;
        let key = unique_key("all");
        let comms: Vec<_> =
            communicators.iter().map(|_| Comm::new::<I>(settings.clone(), key.clone())).collect();
        for ((index, communicator), its) in communicators.into_iter().enumerate().zip(comms) {
            its.met(Ok(communicator))?;
            comm.at(index).place("comm")?.set(CommPtr::new(its));
        }
        Ok(())
    })
}

pub fn comm_split<I: Interface>(
    comm: CommPtr,
    color: c_int,
    key: c_int,
    newcomm: Out<CommPtr>,
    config: ConfigPtr<I>,
) -> c_int {
    boundary_on(
        || comm.get(),
        |parent| {
            let place = newcomm.place("newcomm")?;
            let color = match color {
                NO_COLOR => None,
                _ => Some(u32::try_from(color).map_err(|_| {
                    let text = format!(
                        "color {color} (allowed: 0 and up, or {}, which is -1)",
                        I::constant("SPLIT_NOCOLOR")
                    );
                    Error::invalid_argument(text)
                })?),
            };
            let communicator = Arc::clone(parent.open()?);
            let settings = child_settings(parent, config)?;
            let theirs = settings.config.clone();
            let child = parent.child_key("split");
            let child = color.map(|color| {
                Comm::new::<I>(settings, [child, format!(" {color}").into_bytes()].concat())
            });
            group::make(Job {
                place: place.into(),
                comm: child,
                meeting: Box::new(move || communicator.split_with(color, key, theirs)),
            })
        },
    )
}

/// The settings of a communicator made from another: what is not said anew stays.
fn child_settings<I: Interface>(parent: &Comm, config: ConfigPtr<I>) -> Result<Settings> {
    let settings = config.over(parent.settings.config.clone())?;
    let blocking = if config.is_null() { parent.settings.blocking } else { settings.blocking };
    Ok(Settings { blocking, ..settings })
}

pub fn comm_dup<I: Interface>(comm: CommPtr, newcomm: Out<CommPtr>) -> c_int {
    boundary_on(
        || comm.get(),
        |parent| {
            let place = newcomm.place("newcomm")?;
            let communicator = Arc::clone(parent.open()?);
            let child = Comm::new::<I>(
                child_settings(parent, ConfigPtr::<I>::NONE)?,
                parent.child_key("dup"),
            );
            group::make(Job {
                place: place.into(),
                comm: Some(child),
                meeting: Box::new(move || communicator.duplicate().map(Some)),
            })
        },
    )
}

pub fn comm_shrink<I: Interface>(
    comm: CommPtr,
    exclude_ranks_list: Array<c_int>,
    exclude_ranks_count: c_int,
    newcomm: Out<CommPtr>,
    config: ConfigPtr<I>,
    shrink_flags: c_int,
) -> c_int {
    boundary_on(
        || comm.get(),
        |parent| {
            let place = newcomm.place("newcomm")?;
            if !(SHRINK_DEFAULT..=SHRINK_ABORT).contains(&shrink_flags) {
                let text = format!(
                    "shrinkFlags {shrink_flags} (allowed: 0, {}, which is 1)",
                    I::constant("SHRINK_ABORT")
                );
                return Err(Error::invalid_argument(text));
            }
            let communicator = Arc::clone(parent.communicator()?);
            let size = communicator.size();
            let count = usize::try_from(exclude_ranks_count)
                .ok()
                .filter(|_| number::rank("", exclude_ranks_count, size).is_ok());
            let count = count.filter(|count| *count > 0).ok_or_else(|| {
                let text = format!(
                    "excludeRanksCount is {exclude_ranks_count} (allowed: 1 to {})",
                    size - 1
                );
                Error::invalid_argument(text)
            })?;
            let excluded = exclude_ranks_list.read("excludeRanksList", count)?;
            let excluded: Vec<u32> = excluded
                .into_iter()
                .map(|rank| number::rank("excluded rank", rank, size))
                .collect::<Result<_>>()?;
            let settings = child_settings(parent, config)?;
            if settings.config != parent.settings.config {
                return Err(Error::invalid_usage(
                    "a communicator made by shrinking keeps the settings of the old one",
                ));
            }
            if shrink_flags == SHRINK_ABORT {
                communicator.abort();
            }
            let child = Comm::new::<I>(settings, parent.child_key("shrink"));
            group::make(Job {
                place: place.into(),
                comm: Some(child),
                meeting: Box::new(move || communicator.shrink(&excluded).map(Some)),
            })
        },
    )
}

pub fn comm_get_unique_id<I: Interface>(comm: CommPtr, unique_id: Out<RawUniqueId>) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            let place = unique_id.place("uniqueId")?;
            comm.open()?;
            let id = UniqueId::new(&comm.settings.config)?;
            comm.family().give_id(id);
            place.set(RawUniqueId { internal: id.0 });
            Ok(())
        },
    )
}

pub fn comm_grow<I: Interface>(
    comm: CommPtr,
    n_ranks: c_int,
    unique_id: Array<RawUniqueId>,
    rank: c_int,
    newcomm: Out<CommPtr>,
    config: ConfigPtr<I>,
) -> c_int {
    if comm.is_null() {
        return boundary(|| {
            newcomm.place("newcomm")?;
            let id = unique_id.read("uniqueId", 1)?[0];
            init_rank(newcomm, n_ranks, id, ("rank", rank), config)
        });
    }
    boundary_on(
        || comm.get(),
        |parent| {
            let place = newcomm.place("newcomm")?;
            let communicator = Arc::clone(parent.open()?);
            let size = number::size("nRanks", n_ranks)?;
            if size <= communicator.size() {
                let text =
                    format!("nRanks {size} (allowed: more than comm has, {})", communicator.size());
                return Err(Error::invalid_argument(text));
            }
            if rank != -1 {
                let text =
                    format!("rank {rank} (allowed: -1 for a rank of comm, which keeps its own)");
                return Err(Error::invalid_argument(text));
            }
            let settings = child_settings(parent, config)?;
            let given =
                if unique_id.is_null() { None } else { Some(unique_id.read("uniqueId", 1)?[0]) };
            let kept = parent.family().take_id();
            let id = given.map(|id| UniqueId(id.internal)).or(kept);
            // New ranks of this process know the communicator by its id.
            let key = id.map_or_else(|| parent.child_key("grow"), |id| id.0.to_vec());
            let theirs = settings.config.clone();
            group::make(Job {
                place: place.into(),
                comm: Some(Comm::new::<I>(settings, key)),
                meeting: Box::new(move || communicator.grow(id, size, theirs).map(Some)),
            })
        },
    )
}

pub fn comm_finalize(comm: CommPtr) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            if comm.is_revoked() {
                return Err(Error::invalid_argument(
                    "comm was aborted or revoked: it cannot be finalized",
                ));
            }
            comm.leave()
        },
    )
}

pub fn comm_destroy(comm: CommPtr) -> c_int {
    if comm.is_null() {
        return code::SUCCESS;
    }
    boundary(|| {
        let handle = comm.find()?;
        let comm = handle.get()?;
        comm.check_not_deferred()?;
        thread::forget();
        handle.take()?;
        comm.end()
    })
}

pub fn comm_abort(comm: CommPtr) -> c_int {
    if comm.is_null() {
        return code::SUCCESS;
    }
    boundary(|| {
        thread::forget();
        comm.find()?.take()?.abort();
        Ok(())
    })
}

/// Ends a communicator on all ranks and keeps its handle, for a smaller one to be made from it.
pub fn comm_revoke(comm: CommPtr, revoke_flags: c_int) -> c_int {
    if comm.is_null() {
        return code::SUCCESS;
    }
    boundary_on(
        || comm.get(),
        |comm| {
            if revoke_flags != 0 {
                let text = format!("revokeFlags {revoke_flags} (allowed: 0)");
                return Err(Error::invalid_argument(text));
            }
            if comm.is_revoked() {
                return Err(Error::invalid_argument("comm was aborted or revoked before"));
            }
            comm.communicator()?;
            comm.abort();
            Ok(())
        },
    )
}

pub fn comm_get_async_error<I: Interface>(comm: CommPtr, async_error: Out<c_int>) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            let place = async_error.place("asyncError")?;
            place.set(match comm.health() {
                // Whoever revoked it knows, and asks whether that is done.
                _ if comm.is_revoked() => code::SUCCESS,
                None => code::IN_PROGRESS,
                Some(Ok(health)) if health.is_degraded() => I::DEGRADED,
                Some(Ok(_)) => code::SUCCESS,
                Some(Err(error)) => code::of(error.kind),
            });
            Ok(())
        },
    )
}

pub fn comm_count(comm: CommPtr, count: Out<c_int>) -> c_int {
    ask(comm, ("count", count), |communicator| int(communicator.size()))
}

pub fn comm_user_rank(comm: CommPtr, rank: Out<c_int>) -> c_int {
    ask(comm, ("rank", rank), |communicator| int(communicator.rank()))
}

pub fn comm_device(comm: CommPtr, device: Out<c_int>) -> c_int {
    ask(comm, ("device", device), |_| HOST)
}

fn ask(
    comm: CommPtr,
    (argument, out): (&str, Out<c_int>),
    answer: impl FnOnce(&Communicator) -> c_int,
) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            let place = out.place(argument)?;
            place.set(answer(comm.communicator()?));
            Ok(())
        },
    )
}

fn int(rank: u32) -> c_int {
    c_int::try_from(rank).expect("ranks came from, or fit, an int")
}
