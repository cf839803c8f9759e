//! Ranks that do not find together, and strangers at the door.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use dure::ErrorKind;
use dure_harness::{Cluster, Ended, Report, free_port};

use crate::over;
use crate::recorder::{answer, connect, record, send};

/// How long ranks wait for one another here, and how much later they must have given up at the latest.
const TIMEOUT: &str = "3s";
const IN_TIME: Duration = Duration::from_secs(3 + 5);

/// `ranks` ranks that meet at an agreed place.
fn agreed(ranks: u32) -> (Cluster, SocketAddr) {
    let place = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let cluster = over("tcp", ranks).set("DURE_ROOT", &place.to_string());
    (cluster.set("DURE_SECRET", "a secret of this test"), place)
}

fn expect_all(report: &Report, kind: ErrorKind, texts: &[&str]) {
    for outcome in &report.outcomes {
        let Ended::Failed(failure) = &outcome.ended else { panic!("{report}") };
        assert_eq!(failure.kind, kind, "{report}");
        assert!(texts.iter().all(|text| failure.text.contains(text)), "{texts:?}:\n{report}");
    }
}

#[test]
fn a_rank_that_never_comes_is_named() {
    let cluster = over("pool", 4).set("DURE_TIMEOUT", TIMEOUT);
    let began = Instant::now();
    let report = cluster.start_only(&[0, 1, 3], "nothing", &[]).finish();
    assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
    expect_all(&report, ErrorKind::Timeout, &["rank 2 never came"]);
}

#[test]
fn a_root_that_never_comes_is_named() {
    let (cluster, place) = agreed(3);
    let began = Instant::now();
    let cluster = cluster.set("DURE_TIMEOUT", TIMEOUT);
    let report = cluster.start_only(&[1, 2], "nothing", &[]).finish();
    assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
    expect_all(&report, ErrorKind::Timeout, &["root", &place.to_string()]);
}

#[test]
fn a_rank_that_comes_twice_is_named() {
    let report = over("pool", 3).start_only(&[0, 1, 1], "nothing", &[]).finish();
    expect_all(&report, ErrorKind::InvalidUsage, &["rank 1 came twice"]);
}

#[test]
fn a_second_one_does_not_disturb_a_complete_job() {
    let cluster = over("tcp", 3);
    let mut job = cluster.start("until-told", &[]);
    job.wait_until_all_said("looping");
    cluster.start_one(&mut job, 1, "nothing", &[]);
    job.wait_until_last_ended();
    job.tell(0, "stop");
    let report = job.finish();
    let (second, first) = report.outcomes.split_last().expect("there are four");
    assert!(first.iter().all(|outcome| outcome.ended == Ended::Well), "{report}");
    let Ended::Failed(failure) = &second.ended else { panic!("{report}") };
    assert!(failure.text.contains("rank 1 came twice"), "{report}");
}

#[test]
fn another_size_is_named() {
    let report = over("pool", 3).set_on(2, "DURE_SIZE", "4").run("nothing", &[]);
    // Which of the two sizes is told first is that of whoever came first.
    expect_all(&report, ErrorKind::InvalidUsage, &["rank 2", " 3", " 4"]);
}

#[test]
fn another_setting_is_named() {
    let report = over("pool", 3).set_on(1, "DURE_SLOTS", "8").run("nothing", &[]);
    // Which of the two values is told first is that of whoever came first.
    expect_all(&report, ErrorKind::InvalidUsage, &["DURE_SLOTS is", "8 on rank 1 ", " 4 on rank"]);
}

#[test]
fn a_wrong_secret_is_named() {
    let (cluster, _) = agreed(3);
    let cluster = cluster.set_on(2, "DURE_SECRET", "wrong").set("DURE_TIMEOUT", TIMEOUT);
    let began = Instant::now();
    let report = cluster.run("nothing", &[]);
    assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
    for rank in [0, 1] {
        let failure = report.failure(rank);
        assert_eq!(failure.kind, ErrorKind::Timeout, "{report}");
        assert!(failure.text.contains("rank 2 never came"), "{report}");
        assert!(failure.text.contains("wrong secret"), "{report}");
    }
    let failure = report.failure(2);
    assert_eq!(failure.kind, ErrorKind::Remote, "{report}");
    assert!(failure.text.contains("wrong secret"), "{report}");
}

/// The beginning of every connection: magic, a name, kind, rank. Check-ins have one name in all jobs.
fn preamble(kind: u32) -> Vec<u8> {
    let mut bytes = b"DURE\0\0\0\x01dure check-in 1\0".to_vec();
    bytes.extend(kind.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    bytes
}

/// Bytes that mean nothing (a linear congruential generator, Knuth's constants).
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

/// Everything that strangers may try.
fn molest(door: SocketAddr) -> Vec<TcpStream> {
    // These say nothing, and stay.
    let mut strangers: Vec<_> = (0..20).map(|_| TcpStream::connect(door).unwrap()).collect();
    for seed in 0..30 {
        let garbage = noise(seed, usize::try_from(seed * 37).expect("a small number"));
        let kind = u32::try_from(seed % 6).expect("a small number");
        strangers.push(send(door, &garbage));
        strangers.push(send(door, &[preamble(kind), garbage].concat()));
    }
    strangers
}

#[test]
fn strangers_do_not_disturb_a_meeting_nor_a_job() {
    let (cluster, door) = agreed(3);
    let mut job = cluster.start_only(&[0, 1], "until-told", &[]);
    // Rank 0 listens as soon as it is there.
    let mut strangers = vec![connect(door)];
    strangers.extend(molest(door));
    cluster.start_one(&mut job, 2, "until-told", &[]);
    job.wait_until_all_said("looping");
    strangers.extend(molest(door));
    job.tell(0, "stop");
    job.finish().expect_well();
    assert!(strangers.into_iter().all(|stranger| answer(stranger).is_empty()));
}

#[test]
fn a_replayed_handshake_gets_nothing() {
    let (cluster, door) = agreed(2);
    let (way, recording) = record(door);
    let cluster = cluster.set_on(1, "DURE_ROOT", &way.to_string());
    let mut job = cluster.start("until-told", &[]);
    job.wait_until_all_said("looping");
    let recording = recording.join().unwrap();
    assert!(recording.asked.starts_with(&preamble(1)), "this is a check-in");
    let replay = |kind: u32| send(door, &[&preamble(kind), &recording.asked[32..]].concat());
    let replays: Vec<TcpStream> = (1..=4).map(replay).collect();
    job.tell(0, "stop");
    job.finish().expect_well();
    for (kind, replay) in (1..).zip(replays) {
        // The listener's part of the handshake may be there, and no message.
        let (got, first) = (answer(replay).len(), recording.answered.len());
        assert!(got < first, "kind {kind}: {got} bytes came back, {first} the first time");
    }
}
