//! Processes under way.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::report::{Ended, Failure, Outcome, Report, Said};

/// What a process wrote to standard output: a line, or nothing any more.
type Event = (usize, Option<String>);

#[derive(Debug)]
struct Process {
    rank: u32,
    child: Child,
    said: Vec<Said>,
    ended: Option<(Instant, Ended)>,
    /// Standard output is at its end.
    closed: bool,
    stderr: Option<JoinHandle<String>>,
}

/// Ranks that are processes, each with a process group of its own. Dropping it kills them.
#[derive(Debug)]
pub struct Job {
    processes: Vec<Process>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    deadline: Instant,
}

impl Process {
    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are positive"))
    }

    fn hear(&mut self, line: Option<String>) {
        let at = Instant::now();
        let Some(line) = line else {
            self.closed = true;
            return;
        };
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match word {
            "ok" => self.ended = Some((at, Ended::Well)),
            "error" => {
                let failure = Failure::from_line(rest).expect("dure-rank writes errors like this");
                self.ended = Some((at, Ended::Failed(failure)));
            }
            "say" => self.said.push(Said { at, text: rest.to_owned() }),
            _ => self.said.push(Said { at, text: line }),
        }
    }

    /// Waits for its end, or kills it when it is late, and takes its outcome. A process that leaves others behind did not
    /// end well.
    fn reap(&mut self) -> Outcome {
        let late = !self.closed;
        if late {
            // It may end just now.
            let _ = killpg(self.group(), Signal::SIGKILL);
        }
        let status = self.child.wait();
        let left = killpg(self.group(), Signal::SIGKILL) != Err(Errno::ESRCH);
        let stderr = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let died = match (status, &self.ended) {
            _ if late => Some("it was still there at the deadline".to_owned()),
            _ if left => Some("it left processes behind".to_owned()),
            (Err(error), _) => Some(error.to_string()),
            (Ok(status), None) => Some(describe(status)),
            (Ok(_), Some(_)) => None,
        };
        let (at, reported) = self.ended.clone().unzip();
        let ended = match (died, reported) {
            (Some(how), Some(reported)) => Ended::Died(format!("{how}, after {reported:?}")),
            (Some(how), None) => Ended::Died(how),
            (None, reported) => reported.expect("an end without a report is a death"),
        };
        let (rank, said) = (self.rank, std::mem::take(&mut self.said));
        Outcome { rank, ended, at: at.unwrap_or_else(Instant::now), said, stderr }
    }
}

fn describe(status: ExitStatus) -> String {
    status
        .signal()
        .map_or_else(|| status.to_string(), |signal| format!("killed by signal {signal}"))
}

impl Job {
    pub(crate) fn new(deadline: Duration) -> Self {
        let (sender, events) = mpsc::channel();
        Self { processes: Vec::new(), events, sender, deadline: Instant::now() + deadline }
    }

    /// Starts a process of a rank.
    pub(crate) fn spawn(&mut self, rank: u32, mut command: Command) {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.process_group(0).spawn().expect("the rank's process can be started");
        let stdout = child.stdout.take().expect("it was asked to be piped");
        let mut errors = child.stderr.take().expect("it was asked to be piped");
        let (index, sender) = (self.processes.len(), self.sender.clone());
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(std::io::Result::ok);
            // Nobody hears it when the test has failed already.
            for event in lines.map(Some).chain([None]) {
                let _ = sender.send((index, event));
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is what there is to show.
            let _ = errors.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let (said, ended, closed) = (Vec::new(), None, false);
        let stderr = Some(stderr);
        self.processes.push(Process { rank, child, said, ended, closed, stderr });
    }

    /// Hears what processes say until `enough`, or until the deadline: then it is false.
    fn hear_until(&mut self, enough: impl Fn(&[Process]) -> bool) -> bool {
        while !enough(&self.processes) {
            if !self.hear_one() {
                return false;
            }
        }
        true
    }

    /// Hears one line; false at the deadline.
    fn hear_one(&mut self) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let Ok((index, line)) = self.events.recv_timeout(left) else { return false };
        self.processes[index].hear(line);
        true
    }

    /// The id that the first process made, if it did already.
    pub(crate) fn id(&self) -> Option<String> {
        let said = &self.processes.first()?.said;
        said.iter().find_map(|said| Some(said.text.strip_prefix("id ")?.to_owned()))
    }

    /// Waits for the id that the first process makes.
    pub(crate) fn wait_for_id(&mut self) {
        while self.id().is_none() {
            let heard = self.hear_one();
            if !heard || self.processes[0].closed {
                self.give_up("rank 0 made no id");
            }
        }
    }

    /// Waits until every rank has said `text`.
    ///
    /// # Panics
    /// When one has not by the deadline, or ended without.
    pub fn wait_until_all_said(&mut self, text: &str) {
        let said = |process: &Process| process.said.iter().any(|said| said.text == text);
        let all = |processes: &[Process]| processes.iter().all(said);
        let over = |processes: &[Process]| processes.iter().any(|p| p.closed && !said(p));
        self.hear_until(|processes| all(processes) || over(processes));
        if !all(&self.processes) {
            self.give_up(&format!("not every rank said \"{text}\""));
        }
    }

    /// Waits until these ranks have reported their end.
    ///
    /// # Panics
    /// When one has not by the deadline.
    pub fn wait_until_ended(&mut self, ranks: &[u32]) {
        let ended = |p: &Process| !ranks.contains(&p.rank) || p.ended.is_some() || p.closed;
        if !self.hear_until(|processes| processes.iter().all(ended)) {
            self.give_up(&format!("ranks {ranks:?} did not end"));
        }
    }

    /// Waits until the process that was started last has reported its end.
    ///
    /// # Panics
    /// When it has not by the deadline.
    pub fn wait_until_last_ended(&mut self) {
        let ended = |p: &Process| p.ended.is_some() || p.closed;
        if !self.hear_until(|processes| processes.last().is_none_or(ended)) {
            self.give_up("the last process did not end");
        }
    }

    /// Sends a line to a rank: see [`crate::Seat::was_told`].
    ///
    /// # Panics
    /// When it does not listen any more.
    pub fn tell(&mut self, rank: u32, text: &str) {
        let stdin = self.process(rank).child.stdin.as_mut().expect("it was asked to be piped");
        writeln!(stdin, "{text}").expect("the rank listens");
    }

    /// Sends a signal to a rank.
    ///
    /// # Panics
    /// When it is not there.
    pub fn signal(&mut self, rank: u32, signal: Signal) {
        killpg(self.process(rank).group(), signal).expect("the rank is there");
    }

    /// The process id of a rank.
    ///
    /// # Panics
    /// When there is no such rank.
    pub fn process_id(&mut self, rank: u32) -> u32 {
        self.process(rank).child.id()
    }

    fn process(&mut self, rank: u32) -> &mut Process {
        self.processes.iter_mut().find(|p| p.rank == rank).expect("the rank was started")
    }

    fn give_up(&mut self, why: &str) -> ! {
        panic!("{why}:\n{}", self.reap());
    }

    fn reap(&mut self) -> Report {
        Report { outcomes: self.processes.iter_mut().map(Process::reap).collect() }
    }

    /// Waits until every process has ended; kills those that are there at the deadline.
    pub fn finish(mut self) -> Report {
        self.hear_until(|processes| processes.iter().all(|process| process.closed));
        let report = self.reap();
        self.processes.clear();
        report
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.reap();
    }
}
