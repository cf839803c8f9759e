//! `dure simulate --bootstrap`, as scripts use it. The run of 10,240 ranks is a rung of `.ci/run`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::process::{Command, Output};

use serde_json::Value;

fn simulate(line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dure"));
    command.arg("simulate").args(line.split_whitespace()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn memory_of_all_ranks_grows_with_their_number() {
    let output = simulate("--bootstrap 512 --max-memory 1G --max-growth 20 --json -");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let runs = answer["runs"].as_array().unwrap();
    let ranks: Vec<_> = runs.iter().map(|run| run["ranks"].as_u64().unwrap()).collect();
    assert_eq!(ranks, [64, 128, 256, 512]);
    for run in runs {
        let bytes = |name: &str| run[name].as_u64().unwrap();
        let per_rank = bytes("retained_bytes") / bytes("ranks");
        assert!(
            (1000..32 << 10).contains(&per_rank) && bytes("peak_bytes") >= bytes("retained_bytes"),
            "{run}"
        );
        assert!(
            bytes("carried_bytes") > 500 * bytes("ranks") && run["seconds"].as_f64().unwrap() > 0.0
        );
    }
    assert!(answer["process_peak_bytes"].as_u64().unwrap() > 1 << 20);
}

#[test]
fn limits_that_are_missed_are_said_and_change_the_status() {
    let output = simulate("--bootstrap 64 --max-memory 1K --max-seconds 0");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("(allowed: 1 KiB)") && said.contains("s (allowed: 0)"), "{said}");
    assert!(text(&output.stdout).contains("memory of a rank, 64 ranks over 8"));
}

#[test]
fn wrong_calls_are_refused() {
    for line in ["--bootstrap 7", "--bootstrap 64 --per-process 0", "--max-memory 1G", ""] {
        assert_eq!(simulate(line).status.code(), Some(2), "{line}");
    }
}
