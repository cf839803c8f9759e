//! `--local N`: ranks as child processes of this one.
//!
//! The parent measures nothing: it makes the job's id, starts the ranks with their place in the environment, hands on
//! signals, and waits. When one rank fails the others get a short time to say what they saw of it; then they are killed.
//! No rank outlives the parent, however it ends: the kernel kills children whose parent is gone.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dure::{Config, UniqueId};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getppid};

use crate::output::{Failure, Verdict, complain};

/// How long the other ranks may go on after one has failed.
const GRACE: Duration = Duration::from_secs(5);

/// Signals that end a program, which are handed on to the ranks.
const HANDED_ON: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Runs this program as `size` ranks, and answers with the worst of their answers.
pub(crate) fn run(size: u32, config: &Config) -> Result<Verdict, Failure> {
    // Before anything starts a thread: a signal goes to any thread that does not block it.
    let signals = watch().map_err(|source| Failure::system("signalfd", source))?;
    let id = UniqueId::new(config)?;
    let mut ranks = Ranks { children: Vec::new() };
    for rank in 0..size {
        let child = start(rank, size, &id)
            .map_err(|source| Failure::system(format!("rank {rank}"), source))?;
        ranks.children.push((rank, Some(child)));
    }
    let worst =
        ranks.wait(&signals).map_err(|source| Failure::system("the local ranks", source))?;
    match worst {
        0 => Ok(Verdict::Holds),
        Failure::USAGE => Ok(Verdict::Refused),
        _ => Ok(Verdict::Fails),
    }
}

/// Starts one rank. Only rank 0 answers on standard output; all may complain on standard error.
fn start(rank: u32, size: u32, id: &UniqueId) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).arg("--child-of").arg(std::process::id().to_string());
    command.env("DURE_RANK", rank.to_string()).env("DURE_SIZE", size.to_string());
    command.env("DURE_ROOT", id.to_string()).env_remove("DURE_SECRET");
    command.stdin(Stdio::null()).stdout(if rank == 0 { Stdio::inherit() } else { Stdio::null() });
    command.spawn()
}

/// Takes the signals that end programs, and those of children that end, from a file instead.
fn watch() -> nix::Result<SignalFd> {
    let mut watched: SigSet = HANDED_ON.into_iter().collect();
    watched.add(Signal::SIGCHLD);
    watched.thread_block()?;
    SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Binds a local rank's life to its parent's, and gives it back the signals that the parent blocked. Called first thing
/// in the child.
pub(crate) fn follow(parent: u32) -> Result<(), Failure> {
    let failed = |source: Errno| Failure::system("the local rank's tie to its parent", source);
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed)?;
    SigSet::empty().thread_set_mask().map_err(failed)?;
    if u32::try_from(getppid().as_raw()) != Ok(parent) {
        return Err(Failure::Failed("the process that started this rank is gone".to_owned()));
    }
    Ok(())
}

/// The ranks that were started; `None` in place of those that have ended.
struct Ranks {
    children: Vec<(u32, Option<Child>)>,
}

impl Ranks {
    /// Waits for all of them. Answers with the worst exit status.
    fn wait(&mut self, signals: &SignalFd) -> io::Result<u8> {
        let mut worst = 0;
        let mut deadline = None;
        loop {
            let before = worst;
            worst = worst.max(self.reap()?);
            if self.is_done() {
                return Ok(worst);
            }
            if worst > before && deadline.is_none() {
                deadline = Some(Instant::now() + GRACE);
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.signal(Signal::SIGKILL);
                deadline = None;
            }
            sleep_until(signals, deadline)?;
            while let Some(info) = signals.read_signal()? {
                let signal = i32::try_from(info.ssi_signo)
                    .ok()
                    .and_then(|number| Signal::try_from(number).ok());
                if let Some(signal) = signal.filter(|signal| HANDED_ON.contains(signal)) {
                    self.signal(signal);
                    worst = worst.max(Failure::FAILED);
                    deadline = deadline.or_else(|| Some(Instant::now() + GRACE));
                }
            }
        }
    }

    /// Collects those that have ended. Answers with the worst exit status of these.
    fn reap(&mut self) -> io::Result<u8> {
        let mut worst = 0;
        for (rank, child) in &mut self.children {
            let Some(running) = child else { continue };
            if let Some(status) = running.try_wait()? {
                *child = None;
                worst = worst.max(judge(*rank, status));
            }
        }
        Ok(worst)
    }

    fn is_done(&self) -> bool {
        self.children.iter().all(|(_, child)| child.is_none())
    }

    fn signal(&self, signal: Signal) {
        for child in self.children.iter().filter_map(|(_, child)| child.as_ref()) {
            let pid = i32::try_from(child.id()).expect("process ids are positive and fit");
            // Not reaped yet, so the id is still the child's; it may have ended, and then needs no signal.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Ranks {
    /// Leaves nobody behind when waiting, or starting, failed.
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        for child in self.children.iter_mut().filter_map(|(_, child)| child.as_mut()) {
            let _ = child.wait();
        }
    }
}

/// The exit status that an end stands for. A rank that was killed said nothing itself.
fn judge(rank: u32, status: ExitStatus) -> u8 {
    if let Some(signal) = status.signal() {
        let name = Signal::try_from(signal)
            .map_or_else(|_| signal.to_string(), |signal| signal.to_string());
        complain(&format!("rank {rank} was ended by {name}"));
    }
    match status.code() {
        Some(0) => 0,
        Some(2) => Failure::USAGE,
        _ => Failure::FAILED,
    }
}

fn sleep_until(signals: &SignalFd, deadline: Option<Instant>) -> io::Result<()> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    // One millisecond more, so as not to wake up just before the deadline.
    let timeout = left.map_or(PollTimeout::NONE, |left| {
        PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Option<Child> {
        Some(Command::new("/bin/sh").args(["-c", script]).spawn().unwrap())
    }

    #[test]
    fn ends_are_judged() {
        let end = |script| judge(0, shell(script).unwrap().wait().unwrap());
        assert_eq!(
            ["exit 0", "exit 1", "exit 2", "exit 101", "kill -9 $$"].map(end),
            [0, 1, 2, 1, 1]
        );
    }

    #[test]
    fn those_that_have_ended_are_collected() {
        let mut ranks = Ranks { children: vec![(0, shell("exit 1")), (1, shell("exit 0"))] };
        let mut worst = 0;
        while !ranks.is_done() {
            worst = worst.max(ranks.reap().unwrap());
            std::thread::yield_now();
        }
        assert_eq!(worst, 1);
    }

    #[test]
    fn dropping_kills() {
        let ranks = Ranks { children: vec![(0, shell("exec sleep 600"))] };
        let pid = i32::try_from(ranks.children[0].1.as_ref().unwrap().id()).unwrap();
        drop(ranks);
        assert_eq!(kill(Pid::from_raw(pid), None), Err(Errno::ESRCH));
    }
}
