//! Groups: what a thread asks for between `...GroupStart` and `...GroupEnd`.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread::JoinHandle;

use dure::{Communicator, Error, Operation, Request, Result, Stream};

use crate::Interface;
use crate::boundary::{Done, guard};
use crate::comm::Comm;
use crate::ffi::{CommPlace, enqueue, enqueue_on};
use crate::thread;

/// How the ranks of a communicator meet. The outcome is `None` for a rank that gets no communicator.
pub(crate) type Meeting = Box<dyn FnOnce() -> Result<Option<Communicator>> + Send>;

/// A communicator that is being made.
pub(crate) struct Job {
    /// Where its handle is written to.
    pub(crate) place: CommPlace,
    /// `None` for a rank that gets no communicator, but takes part in the choice.
    pub(crate) comm: Option<Arc<Comm>>,
    pub(crate) meeting: Meeting,
}

/// The calls of a group on one communicator.
struct Batch {
    comm: Arc<Comm>,
    stream: Option<Arc<Stream>>,
    requests: Vec<Request>,
}

#[derive(Default)]
struct Group {
    jobs: Vec<Job>,
    batches: Vec<Batch>,
    /// The first error since the group began: it fails as a whole.
    failed: Option<Error>,
}

thread_local! {
    static GROUP: RefCell<Group> = RefCell::default();
}

/// Begins a group, or one inside a group.
pub(crate) fn start() {
    thread::set_depth(thread::depth() + 1);
}

/// Ends a group. The end of the outermost one runs all that was asked for.
///
/// # Errors
/// The first error inside the group (then nothing of it was done), or of what was asked for.
pub(crate) fn end<I: Interface>() -> Result<Done> {
    let Some(group) = close::<I>()? else { return Ok(Done::Finished) };
    if let Some(error) = group.failed {
        discard(group.jobs);
        return Err(error);
    }
    let made = make_all(group.jobs)?;
    run(group.batches)?;
    Ok(made)
}

/// Ends a group without running it.
///
/// # Errors
/// `InvalidUsage` outside of a group.
pub(crate) fn cancel<I: Interface>() -> Result<()> {
    if let Some(group) = close::<I>()? {
        discard(group.jobs);
    }
    Ok(())
}

/// Steps out of a group; what it holds, when it was the outermost one.
fn close<I: Interface>() -> Result<Option<Group>> {
    let Some(left) = thread::depth().checked_sub(1) else {
        let (end, start) = (I::function("GroupEnd"), I::function("GroupStart"));
        return Err(Error::invalid_usage(format!("{end} without {start}")));
    };
    thread::set_depth(left);
    Ok((left == 0).then(|| GROUP.take()))
}

/// An error came up: if that was inside a group, the group fails.
pub(crate) fn fail(error: &Error) {
    if is_open() {
        GROUP.with_borrow_mut(|group| _ = group.failed.get_or_insert_with(|| error.clone()));
    }
}

/// Whether calls of this thread wait for the end of a group.
pub(crate) fn is_open() -> bool {
    thread::depth() > 0
}

/// Adds a call on a communicator to the group; outside of one, starts it on its stream.
///
/// # Errors
/// The call's.
pub(crate) fn submit(
    comm: &Arc<Comm>,
    stream: Option<Arc<Stream>>,
    request: Request,
) -> Result<()> {
    match stream {
        Some(stream) if !is_open() => enqueue_on(&stream, comm.open()?, vec![request]),
        stream => GROUP.with_borrow_mut(|group| group.add(comm, stream, request)),
    }
}

impl Group {
    fn add(
        &mut self,
        comm: &Arc<Comm>,
        stream: Option<Arc<Stream>>,
        request: Request,
    ) -> Result<()> {
        let Some(batch) = self.batches.iter_mut().find(|batch| Arc::ptr_eq(&batch.comm, comm))
        else {
            self.batches.push(Batch { comm: Arc::clone(comm), stream, requests: vec![request] });
            return Ok(());
        };
        // All calls of a batch begin together, and a stream says when that may be: one batch cannot wait for two.
        if batch.stream.as_ref().map(Arc::as_ptr) != stream.as_ref().map(Arc::as_ptr) {
            return Err(Error::invalid_usage(
                "the calls of a group on one communicator must name the same stream",
            ));
        }
        batch.requests.push(request);
        Ok(())
    }
}

/// Makes a communicator now, in the background, or when the group ends.
///
/// # Errors
/// The meeting's.
pub(crate) fn make(job: Job) -> Result<Done> {
    if is_open() {
        if let Some(comm) = &job.comm {
            comm.defer();
        }
        job.announce();
        GROUP.with_borrow_mut(|group| group.jobs.push(job));
        return Ok(Done::Finished);
    }
    if !job.is_blocking() {
        job.announce();
        spawn(job.comm, job.meeting)?;
        return Ok(Done::InProgress);
    }
    job.place.clear();
    meet(job.comm.as_ref(), job.meeting)?;
    if let Some(comm) = job.comm {
        job.place.set(comm);
    }
    Ok(Done::Finished)
}

impl Job {
    /// A rank that gets no communicator has no handle by which it could ask how far things are: it waits.
    fn is_blocking(&self) -> bool {
        self.comm.as_ref().is_none_or(|comm| comm.settings.blocking)
    }

    /// Writes the handle, before the ranks have met.
    fn announce(&self) {
        match &self.comm {
            Some(comm) => self.place.set(Arc::clone(comm)),
            None => self.place.clear(),
        }
    }
}

/// Has the ranks of a communicator meet. The outcome is kept in `comm`.
fn meet(comm: Option<&Arc<Comm>>, meeting: Meeting) -> Result<()> {
    let outcome = guard(meeting);
    let Some(comm) = comm else { return outcome.map(drop) };
    let none = || Error::internal("a rank that was to get a communicator got none");
    comm.met(outcome.and_then(|communicator| communicator.ok_or_else(none)))
}

fn spawn(comm: Option<Arc<Comm>>, meeting: Meeting) -> Result<JoinHandle<Result<()>>> {
    let theirs = comm.clone();
    let thread = std::thread::Builder::new().name("dure-init".to_owned());
    thread.spawn(move || meet(theirs.as_ref(), meeting)).map_err(|source| {
        let error = Error::system("a thread to make a communicator").because(source);
        if let Some(comm) = comm {
            // Whoever waits for it must hear of it; the answer is the same error.
            let _ = comm.met(Err(error.clone()));
        }
        error
    })
}

/// Makes the communicators of a group side by side: ranks of one communicator in one process wait for one another.
fn make_all(jobs: Vec<Job>) -> Result<Done> {
    let start = |job: Job| {
        let waits = job.is_blocking();
        if let Some(comm) = &job.comm {
            comm.begin();
        }
        (job.place, waits, spawn(job.comm, job.meeting))
    };
    let started: Vec<_> = jobs.into_iter().map(start).collect();
    let all_wait = started.iter().all(|(_, waits, _)| *waits);
    let mut result = Ok(if all_wait { Done::Finished } else { Done::InProgress });
    let mut places = Vec::new();
    for (place, waits, thread) in started {
        let panicked = |_| Err(Error::internal("a thread that made a rank panicked"));
        let made = thread
            .and_then(|thread| if waits { thread.join().unwrap_or_else(panicked) } else { Ok(()) });
        result = made.and(result);
        places.push(place);
    }
    if result.is_err() {
        places.into_iter().for_each(CommPlace::abandon);
    }
    result
}

/// Gives up communicators of a group that is not run.
fn discard(jobs: Vec<Job>) {
    for Job { place, comm, .. } in jobs {
        if let Some(comm) = comm {
            // The group's error says why; this only tells whoever holds the object.
            let _ =
                comm.met(Err(Error::invalid_usage("the group that was to make comm was not run")));
        }
        place.abandon();
    }
}

/// Starts the batches of a group, and waits for those without a stream.
fn run(batches: Vec<Batch>) -> Result<()> {
    let alone = batches.len() == 1;
    let mut started: Vec<(Arc<Comm>, Option<Arc<Operation>>)> = Vec::new();
    for Batch { comm, stream, requests } in batches {
        match begin(&comm, stream, requests, alone) {
            Ok(operation) => started.push((comm, operation)),
            Err(error) => {
                // Other ranks of this process may wait for this one: they must not do so in vain.
                for (comm, _) in started {
                    comm.communicator()?.abort();
                }
                comm.note(&error);
                return Err(error);
            }
        }
    }
    let mut result = Ok(());
    for (comm, operation) in &started {
        if let Some(operation) = operation {
            let done =
                comm.communicator()?.wait(operation).inspect_err(|error| drop(comm.note(error)));
            result = result.and(done);
        }
    }
    result
}

/// Starts a batch; what is to be waited for.
fn begin(
    comm: &Comm,
    stream: Option<Arc<Stream>>,
    requests: Vec<Request>,
    alone: bool,
) -> Result<Option<Arc<Operation>>> {
    let communicator = comm.open()?;
    if let Some(stream) = stream {
        return enqueue_on(&stream, communicator, requests).map(|()| None);
    }
    let operation = enqueue(communicator, requests)?;
    // This thread turns one communicator at a time; the progress thread turns the others meanwhile.
    if !alone {
        communicator.progress_in_background()?;
    }
    Ok(Some(operation))
}
