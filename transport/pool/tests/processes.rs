//! Two processes: bytes in both directions, sleep and wake, and the death of one.
//!
//! The other process is this program again, told to run [`the_other_process`].
#![expect(clippy::unwrap_used, reason = "a test says that something is there by unwrapping it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::BorrowedFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use dure_pool::{Options, Pool};
use dure_transport::proof::Key;
use dure_transport::{
    Card, Error, Event, Flow, Peer, Posted, Put, RemoteRegion, Signal, Token, Transport,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::kill;
use nix::unistd::{ForkResult, Pid, alarm, fork, pause};

/// Far beyond what anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// One side: a region of 64 bytes that the other writes, and the other's.
struct Side {
    pool: Pool,
    peer: Peer,
    bytes: *const u64,
    signal: Signal,
    remote: RemoteRegion,
    remote_signal: Signal,
    seen: u64,
}

fn open(rank: u32) -> Pool {
    Pool::open(Options {
        rank: Peer(rank),
        key: Key::new([7; 32]),
        capacity: None,
        huge_pages: true,
    })
    .unwrap()
}

impl Side {
    /// Connects to the peer at `address`. The hello carries key and counter.
    fn meet(mut pool: Pool, peer: Peer, address: &Card) -> Self {
        let (region, memory) = pool.alloc(64).unwrap();
        let signal = pool.counter(peer).unwrap();
        let key = pool.key(region, peer).unwrap();
        let hello = [signal.0.to_le_bytes().as_slice(), &key.0].concat();
        pool.connect(peer, address, &Card(hello.into())).unwrap();
        let Event::Up { hello, .. } = next_event(&mut pool) else { panic!("not up") };
        let (remote_signal, key) = hello.0.split_first_chunk().unwrap();
        let remote = pool.import(peer, &Card(key.into())).unwrap();
        let remote_signal = Signal(u32::from_le_bytes(*remote_signal));
        let bytes = memory.ptr.as_ptr().cast_const().cast();
        Self { pool, peer, bytes, signal, remote, remote_signal, seen: 0 }
    }

    fn send(&mut self, value: u64) {
        let put = Put {
            to: self.peer,
            flow: Flow(0),
            head: &value.to_le_bytes(),
            body: &[],
            into: Some(self.remote),
            at: 0,
            signal: Some(self.remote_signal),
            token: Token(0),
        };
        assert_eq!(self.pool.put(&put), Ok(Posted::Done));
    }

    /// Sleeps until the next value comes; an error when the peer is lost.
    fn receive(&mut self) -> Result<u64, Error> {
        let mut events = Vec::new();
        loop {
            self.pool.poll(&mut events);
            if self.pool.arrived(self.signal) > self.seen {
                self.seen += 1;
                // SAFETY: inside the region, aligned, and the peer writes again only when it was answered.
                return Ok(unsafe { self.bytes.read() });
            }
            match events.pop() {
                Some(Event::Lost { error, .. }) => return Err(error),
                Some(other) => panic!("{other:?} while connected"),
                None => {}
            }
            sleep(&mut self.pool);
        }
    }
}

/// Parks on the doorbell, if there is nothing to do.
fn sleep(pool: &mut Pool) {
    if !pool.arm() {
        return;
    }
    // SAFETY: the pool, which owns the descriptor, outlives the borrow.
    let doorbell = unsafe { BorrowedFd::borrow_raw(pool.doorbell().unwrap()) };
    let mut fds = [PollFd::new(doorbell, PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(DEADLINE).unwrap();
    assert_ne!(poll(&mut fds, timeout), Ok(0), "the doorbell does not ring");
}

fn next_event(pool: &mut Pool) -> Event {
    let mut events = Vec::new();
    loop {
        pool.poll(&mut events);
        match events.pop() {
            Some(event) => return event,
            None => sleep(pool),
        }
    }
}

fn hex(card: &Card) -> String {
    card.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Card {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    Card((0..text.len()).step_by(2).map(byte).collect())
}

/// Rank 1: answers each value with the next, until rank 0 goes. With nobody at its standard input it does nothing.
#[test]
#[ignore = "run by the other tests"]
fn the_other_process() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let Some((heir, address)) = line.trim().split_once(' ') else { return };
    let pool = open(1);
    println!("\naddress {}", hex(&pool.address()));
    let mut side = Side::meet(pool, Peer(0), &unhex(address));
    if heir == "heir" {
        // SAFETY: the child calls nothing but alarm and pause, which are safe after a fork.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                alarm::set(30);
                pause();
            }
            ForkResult::Parent { child } => println!("heir {child}"),
        }
    }
    while let Ok(value) = side.receive() {
        side.send(value + 1);
    }
}

/// The other process; killed at the end, if it is still there.
struct Other(Child, BufReader<ChildStdout>);

impl Other {
    /// Starts it and meets it.
    fn start(heir: &str) -> (Side, Self) {
        let pool = open(0);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_other_process", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{heir} {}", hex(&pool.address())).unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut other = Self(child, stdout);
        let address = unhex(&other.says("address "));
        (Side::meet(pool, Peer(1), &address), other)
    }

    /// The rest of the next line that begins with `what`.
    fn says(&mut self, what: &str) -> String {
        let mut lines = self.1.by_ref().lines().map(Result::unwrap);
        lines.find_map(|line| line.strip_prefix(what).map(str::to_owned)).unwrap()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn two_processes_wake_each_other() {
    let (mut side, mut other) = Other::start("alone");
    for value in 0..2000 {
        side.send(value);
        assert_eq!(side.receive().unwrap(), value + 1);
    }
    // Rank 1 hears that rank 0 is gone, and ends.
    drop(side);
    assert!(other.0.wait().unwrap().success());
}

/// Needs limits of its own; see [`limits_make_a_smaller_segment`].
#[test]
#[ignore = "run by another test"]
fn under_limits() {
    setrlimit(Resource::RLIMIT_FSIZE, 64 << 20, 64 << 20).unwrap();
    setrlimit(Resource::RLIMIT_AS, 16 << 30, 16 << 30).unwrap();
    let mut pools = (0..8).map(open).collect::<Vec<_>>();
    assert!(pools.iter_mut().all(|pool| pool.alloc(2 << 20).is_ok()));
    assert!(pools[0].alloc(64 << 20).is_err());
}

/// Past the limit on file sizes the system would kill the process.
#[test]
fn limits_make_a_smaller_segment() {
    let program = std::env::current_exe().unwrap();
    let done =
        Command::new(program).args(["--exact", "under_limits", "--ignored"]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// The peer is reported while this side sleeps, and at once: the socket ends with the process, or, where a child that
/// it forked holds the socket too, the process itself is watched.
#[test]
fn a_killed_process_is_lost() {
    for heir in ["alone", "heir"] {
        let (mut side, mut other) = Other::start(heir);
        let heir_pid = (heir == "heir").then(|| other.says("heir ").parse().unwrap());
        side.send(1);
        assert_eq!(side.receive().unwrap(), 2);
        let begin = Instant::now();
        other.0.kill().unwrap();
        assert!(matches!(side.receive(), Err(Error::Closed)));
        assert!(begin.elapsed() < Duration::from_secs(10), "{heir}: {:?}", begin.elapsed());
        side.send(3);
        if let Some(pid) = heir_pid {
            kill(Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
        }
    }
}
