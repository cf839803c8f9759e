//! Ranks as threads of this process, over real sockets on loopback.

#![allow(clippy::cast_possible_truncation, reason = "ranks of these tests are small")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::thread;

use super::*;
use crate::addresses::Purpose;
use crate::config::Config;
use crate::error::ErrorKind;
use crate::record::Waiting;
use crate::unique_id::UniqueId;

/// Far enough: nothing that these tests wait for depends on it.
const LONG: Duration = Duration::from_secs(60);
/// Where the deadline itself is tested.
const SHORT: Duration = Duration::from_secs(2);

fn new_id() -> UniqueId {
    new_unique_id(&Config::default()).unwrap()
}

fn enter(id: &UniqueId, rank: u32, size: u32, within: Duration) -> Result<Joined> {
    join(id, (rank, size), &Config::default(), rank.to_le_bytes().to_vec(), Instant::now() + within)
}

/// Runs `body` on a thread for each of `ranks`, and returns what they return.
fn on_ranks<T: Send>(ranks: &[u32], body: impl Fn(u32) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let threads: Vec<_> = ranks
            .iter()
            .map(|&rank| {
                scope.spawn({
                    let body = &body;
                    move || body(rank)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A job of `size` ranks in this process.
fn job(size: u32) -> Vec<Joined> {
    let id = new_id();
    let ranks: Vec<u32> = (0..size).collect();
    on_ranks(&ranks, |rank| enter(&id, rank, size, LONG)).into_iter().map(Result::unwrap).collect()
}

/// Blocks until a fault comes.
fn await_fault(control: &Control) -> Error {
    let fault = || control.shared.fault.check().err();
    control
        .shared
        .wait(Instant::now() + LONG, |_| fault(), || "no fault came".to_owned())
        .unwrap_or_else(|error| error)
}

#[test]
fn jobs_of_many_sizes_form_and_gather() {
    for size in [1, 2, 3, 5, 8, 12] {
        let id = new_id();
        let ranks: Vec<u32> = (0..size).collect();
        on_ranks(&ranks, |rank| {
            let joined = enter(&id, rank, size, LONG).unwrap();
            for (peer, member) in (0..size).zip(&*joined.members) {
                assert_eq!((member.rank, &member.offer[..]), (peer, &peer.to_le_bytes()[..]));
            }
            for round in 0..3_u32 {
                let all = joined
                    .control
                    .all_gather(&vec![rank as u8; round as usize], Instant::now() + LONG)
                    .unwrap();
                let expected: Vec<Vec<u8>> =
                    (0..size).map(|peer| vec![peer as u8; round as usize]).collect();
                assert_eq!(all, expected);
            }
            joined.control.leave();
            joined.control.shared.fault.check().unwrap();
        });
    }
}

#[test]
fn gathers_carry_more_than_one_frame() {
    let jobs = job(3);
    let all = on_ranks(&[0, 1, 2], |rank| {
        jobs[rank as usize]
            .control
            .all_gather(&vec![rank as u8; 300_000], Instant::now() + LONG)
            .unwrap()
    });
    assert!(all.iter().all(|parts| parts[2] == vec![2; 300_000]));
}

#[test]
fn a_rank_that_never_comes_is_named_on_all_others() {
    let id = new_id();
    let errors = on_ranks(&[0, 1, 3], |rank| enter(&id, rank, 4, SHORT).unwrap_err());
    for (error, rank) in errors.iter().zip([0, 1, 3]) {
        assert_eq!((error.kind, error.rank, error.peer), (ErrorKind::Timeout, Some(rank), Some(2)));
        assert_eq!(error.what, "rank 2 never came (3 of 4 did)");
    }
}

#[test]
fn a_rank_that_comes_twice_is_named_on_all() {
    let id = new_id();
    for error in on_ranks(&[0, 1, 1], |rank| enter(&id, rank, 3, LONG).unwrap_err()) {
        assert!(error.what.starts_with("rank 1 came twice: from "), "{error}");
    }
}

#[test]
fn another_size_is_named_on_all() {
    let id = new_id();
    for error in on_ranks(&[0, 1], |rank| enter(&id, rank, 3 + rank, LONG).unwrap_err()) {
        assert_eq!(error.kind, ErrorKind::InvalidUsage);
        assert!(
            error.what.contains("says that the job has") && error.what.contains("4"),
            "{error}"
        );
    }
}

#[test]
fn another_setting_is_named_on_all() {
    let id = new_id();
    let errors = on_ranks(&[0, 1, 2], |rank| {
        let config = Config::default().slots(if rank == 1 { 8 } else { 4 });
        join(&id, (rank, 3), &config, Vec::new(), Instant::now() + LONG).unwrap_err()
    });
    for error in errors {
        assert!(
            error.what.contains("DURE_SLOTS is ") && error.what.contains("rank 1 (host"),
            "{error}"
        );
    }
}

#[test]
fn a_wrong_secret_is_told_at_once_to_it_and_at_the_deadline_to_the_others() {
    let id = new_id();
    let mut wrong = id;
    wrong.0[10] ^= 1;
    let errors = on_ranks(&[0, 1], |rank| {
        let began = Instant::now();
        let result = if rank == 1 { enter(&wrong, 1, 2, LONG) } else { enter(&id, 0, 2, SHORT) };
        assert!(began.elapsed() < LONG / 2);
        result.unwrap_err().what.clone()
    });
    assert!(
        errors[0].starts_with("rank 1 never came (1 of 2 did); a connection from "),
        "{}",
        errors[0]
    );
    assert!(
        errors[0].ends_with("that called itself rank 1 was refused: wrong secret"),
        "{}",
        errors[0]
    );
    assert!(errors[1].ends_with("refused the handshake: wrong secret?"), "{}", errors[1]);
}

#[test]
fn an_agreed_place_serves_as_root_whenever_it_comes_up() {
    // A port that was free a moment ago, and that the system gives to nobody who asks for any.
    let first = 20_000 + u16::try_from(std::process::id() % 8_000).unwrap();
    let is_free = |port: &u16| std::net::TcpListener::bind(("0.0.0.0", *port)).is_ok();
    let port = (first..first + 1_000).find(is_free).unwrap();
    let id = UniqueId::from_root(&format!("127.0.0.1:{port}"), "a job of two").unwrap();
    // Twice: an agreed place may serve one job after the other, and rank 1 may be ahead.
    on_ranks(&[0, 1], |rank| {
        for _ in 0..2 {
            if rank == 0 {
                serve_root(&id, &Config::default()).unwrap();
            }
            enter(&id, rank, 2, LONG).unwrap();
        }
    });
}

#[test]
fn a_part_of_a_job_has_a_job_of_its_own() {
    let jobs = job(3);
    let here = Here::find(&Config::default(), Purpose::Control).unwrap();
    let id = new_id().derive("split 1 color 0", here.port.number(), &here.addresses);
    on_ranks(&[0, 1], |rank| {
        if rank == 0 {
            serve_root(&id, &Config::default()).unwrap();
        }
        enter(&id, rank, 2, LONG).unwrap()
    });
    jobs.iter().for_each(|joined| joined.control.shared.fault.check().unwrap());
}

#[test]
fn garbage_and_replays_on_the_port_disturb_nobody() {
    let id = new_id();
    let address = ("127.0.0.1", id.port());
    let preamble = |kind, name| Preamble { id: name, kind, rank: 0 }.encode();
    let mut streams = Vec::new();
    for (kind, name) in
        [(Kind::CheckIn, CHECK_IN), (Kind::Tree, id.name()), (Kind::Query, id.name())]
    {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&preamble(kind, name)).unwrap();
        stream.write_all(&[0x5a; 999]).unwrap();
        streams.push(stream);
    }
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&[0xa5; 4096]).unwrap();
    streams.push(stream);
    let jobs: Vec<Joined> = on_ranks(&[0, 1], |rank| enter(&id, rank, 2, LONG))
        .into_iter()
        .map(Result::unwrap)
        .collect();

    // The first message of a handshake can be recorded and sent again: it is answered, and nothing comes of it.
    let mut caller = Noise::caller(id.control_key().bytes(), purpose(Kind::Query), 1000);
    caller.send(&wire::encode(&Question { rank: 0, sequence: 0 }));
    let first = caller.output().to_vec();
    let mut replay = TcpStream::connect(address).unwrap();
    replay.set_read_timeout(Some(LONG)).unwrap();
    replay.write_all(&preamble(Kind::Query, id.name())).unwrap();
    replay.write_all(&first).unwrap();
    let mut reply = [0; 50];
    replay.read_exact(&mut reply).unwrap();
    replay.write_all(&[20, 0]).unwrap();
    replay.write_all(&[7; 20]).unwrap();
    let mut rest = Vec::new();
    // Closed, or reset because bytes were left unread.
    let _ = replay.read_to_end(&mut rest);
    assert!(rest.is_empty());

    on_ranks(&[0, 1], |rank| {
        jobs[rank as usize].control.all_gather(&[1], Instant::now() + LONG).unwrap()
    });
    drop(streams);
    jobs.iter().for_each(|joined| joined.control.shared.fault.check().unwrap());
}

#[test]
fn a_rank_that_dies_is_named_on_all_others() {
    // 12 ranks: some under rank 1, whose links to both sides break.
    let jobs = job(12);
    let victim = Arc::clone(&jobs[1].control.shared);
    jobs[1].control.thread.carry_out(Command::Forget { shared: victim }).unwrap();
    for (rank, joined) in (0..).zip(&jobs).filter(|&(rank, _)| rank != 1) {
        let error = await_fault(&joined.control);
        assert_eq!((error.kind, error.rank, error.peer), (ErrorKind::Remote, Some(rank), Some(1)));
        assert!(
            error.what.starts_with("rank 1 (host ") && error.what.contains("died or lost"),
            "{error}"
        );
    }
}

#[test]
fn abort_wakes_everybody() {
    let jobs = job(10);
    let barrier = Barrier::new(10);
    let ranks: Vec<u32> = (0..10).collect();
    on_ranks(&ranks, |rank| {
        let control = &jobs[rank as usize].control;
        barrier.wait();
        if rank == 9 {
            control.abort();
        } else {
            let error = control.all_gather(&[], Instant::now() + LONG).unwrap_err();
            assert_eq!((error.kind, error.peer), (ErrorKind::Aborted, Some(9)));
            assert_eq!(error.what, "rank 9 aborted the communicator (told by rank 9)");
        }
        assert!(control.shared.fault.is_raised());
    });
}

#[test]
fn goodbyes_are_known_and_are_no_faults() {
    let jobs = job(4);
    jobs[2].control.leave();
    for (rank, joined) in (0..).zip(&jobs).filter(|&(rank, _)| rank != 2) {
        let look = |state: &mut State| state.left.contains(&2).then_some(());
        joined
            .control
            .shared
            .wait(Instant::now() + LONG, look, || format!("rank {rank} never heard"))
            .unwrap();
        assert!(joined.control.has_left(2) && !joined.control.has_left(1));
        joined.control.shared.fault.check().unwrap();
    }
}

#[test]
fn a_rank_answers_what_it_is_doing() {
    let jobs = job(3);
    let record = &jobs[2].control.shared.record;
    record.begin(1, [11, 12]);
    record.end(1);
    record.begin(2, [21, 22]);
    let waiting =
        Waiting { pass: 3, step: 4, text: "receive from rank 0".to_owned(), peer: Some(0) };
    record.set_waiting(vec![waiting.clone()]);
    let answer = jobs[0].control.ask(2, 1, LONG).unwrap();
    let expected = Answer {
        current: 2,
        in_call: true,
        waiting: vec![waiting],
        signature: Some([11, 12]),
        left: false,
        failed: None,
    };
    assert_eq!(answer, expected);
    jobs[2].control.shared.fault.record(Error::timeout("rank 1 is stopped").about(1));
    let failed = jobs[0].control.ask(2, 1, LONG).unwrap().failed.unwrap();
    assert_eq!((failed.kind, failed.peer), (ErrorKind::Timeout, Some(1)));
    assert_eq!(jobs[1].control.ask(1, 5, LONG).unwrap().signature, None);
    assert_eq!(jobs[0].control.ask(3, 1, LONG).unwrap_err().kind, ErrorKind::InvalidArgument);
}

#[test]
fn a_rank_that_does_not_answer_is_an_error() {
    // A listener whose backlog takes the connection, as a stopped process does.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut jobs = job(2);
    let members: Vec<Member> = jobs[0].members.to_vec();
    let port = silent.local_addr().unwrap().port();
    let control = Arc::get_mut(&mut jobs[0].control).unwrap();
    control.members = members.into_iter().map(|member| Member { port, ..member }).collect();
    let error = control.ask(1, 1, Duration::from_millis(300)).unwrap_err();
    assert_eq!((error.kind, error.rank, error.peer), (ErrorKind::Timeout, Some(0), Some(1)));
}
