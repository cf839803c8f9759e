//! A communicator with no call under way costs no time: its threads sleep until they are needed. In a process of its own,
//! whose threads are all known.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "time must pass for nothing to happen in it")]

use std::time::Duration;

use dure::{Communicator, Config, ReduceOp};

/// How often the library's threads gave up their core so far: each time that one of them wakes up it does, too.
fn rests() -> Vec<(String, u64)> {
    let mut rests = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().to_owned()
        };
        if field("Name:").starts_with("dure-") {
            rests.push((field("Name:"), field("voluntary_ctxt_switches:").parse().unwrap()));
        }
    }
    rests.sort();
    rests
}

#[test]
fn threads_of_idle_communicators_sleep() {
    let communicators = Communicator::init_all(3, &Config::default()).unwrap();
    std::thread::scope(|scope| {
        for c in &communicators {
            scope.spawn(move || {
                let data = c.buffer::<f32>(1000).unwrap();
                c.start_all_reduce(data, ReduceOp::Sum).unwrap().wait().unwrap();
                c.barrier().unwrap();
            });
        }
    });
    // Whatever the calls left to do is done by then; if not, it is no more than a few rests.
    std::thread::sleep(Duration::from_millis(200));
    let before = rests();
    // What is looked at is that nothing happens: it takes time to see that.
    std::thread::sleep(Duration::from_secs(2));
    let after = rests();
    let names: Vec<_> = after.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["dure-control", "dure-progress"]);
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        // A thread that looks around every 20 ms would rest a hundred times.
        assert!(after - before < 10, "{name} woke up {} times in two seconds", after - before);
    }
}
