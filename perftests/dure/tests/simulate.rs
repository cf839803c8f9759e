//! `dure simulate --layout` and `--local`: sweeps as a table, as JSON and as a page.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn simulate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dure")).arg("simulate").args(args).output().unwrap()
}

fn standard_output(args: &[&str]) -> String {
    let output = simulate(args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_collective_and_size_has_a_line() {
    let text = standard_output(&["--local", "4", "--sweep", "1K..64K*8"]);
    for collective in ["all-reduce", "all-gather", "reduce-scatter", "all-to-all", "broadcast"] {
        let sizes = text.lines().skip_while(|line| !line.starts_with(collective)).skip(2).take(3);
        let sizes: Vec<_> = sizes.map(|line| line.trim().split("  ").next().unwrap()).collect();
        assert_eq!(sizes, ["1 KiB", "8 KiB", "64 KiB"], "{collective}:\n{text}");
    }
}

#[test]
fn json_has_the_best_first_and_nothing_below_the_bound() {
    let asked = ["all-gather", "--layout", "4 host * (2 cpu + 1 nic)", "--sweep", "1K..1M"];
    let text = standard_output(&[&asked[..], &["--json", "-"]].concat());
    let answer: Value = serde_json::from_str(&text).unwrap();
    let rows = answer["collectives"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let seconds = row["predictions"].as_array().unwrap().iter();
        let seconds: Vec<f64> = seconds.map(|of| of["seconds"].as_f64().unwrap()).collect();
        assert!(seconds.len() > 1 && seconds.is_sorted(), "{row}");
        assert!(row["bound"].as_f64().unwrap() <= seconds[0], "{row}");
    }
}

#[test]
fn the_page_has_a_plot_for_each_collective_and_needs_nothing_else() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("page.html");
    let (sweep, path) = (["--local", "4", "--sweep", "1K..64K*8"], path.to_str().unwrap());
    standard_output(&[&["all-reduce", "broadcast"], &sweep[..], &["--html", path]].concat());
    let page = fs::read_to_string(path).unwrap();
    assert_eq!(page.matches("<svg ").count(), 2);
    assert_eq!(page.matches("class=\"bound\"").count(), 2);
    assert!(!page.replace("\"http://www.w3.org/2000/svg\"", "").contains("http"));
}

#[test]
fn wrong_calls_are_said() {
    let wrong: [(&[&str], &str); 7] = [
        (&[], "--layout"),
        (&["all-reduce"], "--layout"),
        (&["no-such", "--local", "4"], "all-reduce"),
        (&["barrier", "--local", "4"], "dure explain barrier"),
        (&["--local", "4", "--sweep", "4K..1K"], "1 <= A <= B"),
        (&["--layout", "4 nonsense"], "--layout"),
        (&["--local", "4", "--bootstrap", "8"], "--bootstrap"),
    ];
    for (args, says) in wrong {
        let output = simulate(args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(says), "{args:?}: {text}");
    }
}
