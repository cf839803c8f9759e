//! `dure simulate --judge`: choices against measured times.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn judge(judged: &Path, fit: &Path, rest: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dure"));
    command.args(["simulate", "--judge"]).arg(judged).arg("--fit").arg(fit).args(rest);
    command.output().unwrap()
}

fn systems(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["systems"].as_array().unwrap().clone()
}

/// Measured times where recursive doubling always takes `doubling` us and the ring `ring`.
fn table(folder: &TempDir, name: &str, (doubling, ring): (f64, f64)) -> PathBuf {
    let mut text = "# made up\nsystem,nodes,ranks,tasks_per_node,collective,mpi,memory,algorithm,bytes,median_us\n".to_owned();
    for log in 8..16 {
        for (algorithm, us) in
            [("recursive_doubling_over", doubling), ("ring_over", ring), ("default_ompi", 30.0)]
        {
            writeln!(text, "here,8,8,1,ALLREDUCE,OMPI,host,{algorithm},{},{us}", 1 << log).unwrap();
        }
    }
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn what_was_learned_is_chosen() {
    let folder = TempDir::new().unwrap();
    let same = table(&folder, "same.csv", (10.0, 40.0));
    let learned = table(&folder, "learned.csv", (10.0, 41.0));
    let other = table(&folder, "other.csv", (20.0, 10.0));
    let right = &systems(&judge(&same, &learned, &["--json", "-"]))[0];
    assert_eq!((right["system"].as_str(), right["cells"].as_u64()), (Some("here"), Some(8)));
    assert_eq!(
        (right["geomean_regret"].as_f64(), right["worst_regret"].as_f64()),
        (Some(1.0), Some(1.0))
    );
    assert!((right["default_geomean_regret"].as_f64().unwrap() - 3.0).abs() < 1e-9);
    let wrong = &systems(&judge(&other, &learned, &["--json", "-"]))[0];
    assert!((wrong["geomean_regret"].as_f64().unwrap() - 2.0).abs() < 1e-9);
    assert_eq!(wrong["p95_regret"].as_f64(), Some(2.0));
    let json = folder.path().join("answer.json");
    let asked = ["--json", json.to_str().unwrap(), "--max-geomean", "1.15", "--max-p95", "2.5"];
    assert_eq!(judge(&same, &learned, &asked).status.code(), Some(0));
    assert_eq!(judge(&other, &learned, &asked).status.code(), Some(1));
    let written: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(written["systems"][0]["geomean_regret"], wrong["geomean_regret"]);
}

#[test]
fn of_one_file_half_is_judged() {
    let folder = TempDir::new().unwrap();
    let one = table(&folder, "one.csv", (10.0, 40.0));
    let copy = table(&folder, "copy.csv", (10.0, 40.0));
    for fit in [&one, &copy] {
        let cells = systems(&judge(&one, fit, &["--json", "-"]))[0]["cells"].as_u64().unwrap();
        assert!((1..8).contains(&cells), "{cells} of 8 cells");
    }
}

#[test]
fn wrong_calls_are_refused() {
    let folder = TempDir::new().unwrap();
    let good = table(&folder, "good.csv", (10.0, 40.0));
    let bad = folder.path().join("bad.csv");
    fs::write(&bad, fs::read_to_string(&good).unwrap().replace("OMPI,host", "OMPI,")).unwrap();
    let output = judge(&bad, &good, &["--json", "-"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{text}");
    assert!(text.contains("bad.csv") && text.contains("line 3, column memory"), "{text}");
    let absent = judge(&good, &folder.path().join("absent.csv"), &[]);
    assert_eq!(absent.status.code(), Some(2));
    assert_eq!(judge(&good, &good, &["--max-geomean", "0.9"]).status.code(), Some(2));
    let dure =
        |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_dure")).args(args).output().unwrap();
    let alone = dure(&["simulate", "--judge", good.to_str().unwrap()]);
    assert_eq!(alone.status.code(), Some(2));
}

/// The bounds that choices on four supercomputers must keep to: a geometric mean of 1.15, and 95 % of the cells under 2.5.
#[test]
fn choices_on_supercomputers_are_near_the_best() {
    let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/scale/measured_upto64.csv");
    let measured = Path::new(shared);
    if !measured.exists() {
        eprintln!("skipped: {shared} is not there");
        return;
    }
    let systems = systems(&judge(
        measured,
        measured,
        &["--json", "-", "--max-geomean", "1.15", "--max-p95", "2.499"],
    ));
    assert_eq!(systems.len(), 4);
    for system in &systems {
        let of = |name: &str| system[name].as_f64().unwrap();
        assert!(of("cells") >= 20.0, "{system}");
        assert!(of("geomean_regret") <= 1.15 && of("p95_regret") < 2.5, "{system}");
        assert!(of("worst_regret") >= of("p95_regret") && of("median_abs_error") < 0.3, "{system}");
        assert!(of("default_geomean_regret") > 0.5, "{system}");
    }
}
