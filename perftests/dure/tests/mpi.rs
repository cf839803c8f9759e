//! `dure perf --vs mpi`, in a build with the feature `mpi`, under the installed MPI's launcher.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

/// The program as ranks of `mpirun`, which MPI has alone told what they are.
fn mpirun(ranks: u32, line: &str) -> Output {
    let mut command = Command::new("mpirun");
    command.arg("-n").arg(ranks.to_string()).arg(env!("CARGO_BIN_EXE_dure"));
    // What Open MPI refuses otherwise: root, and more ranks than cores.
    for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
        command.env(name, "1");
    }
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1");
    command.args(line.split_whitespace()).args(["--timeout", "60s"]).output().unwrap()
}

/// The program, which starts its ranks itself.
fn dure(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dure")).args(line.split_whitespace()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(line: &str, output: &Output) -> Value {
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{line}: {error}: {}", text(&output.stdout)))
}

/// `dure perf` with `--local` and `--json -`.
fn perf(line: &str) -> Value {
    let line = format!("perf {line} --vs mpi --timeout 60s --json -");
    json(&line, &dure(&line))
}

#[test]
fn the_ranks_of_mpirun_meet_and_the_table_has_both() {
    let output = mpirun(2, "perf all-reduce -b 8 -e 64 -n 5 -w 1 --vs mpi");
    let table = text(&output.stdout);
    assert!(output.status.success(), "{table}{}", text(&output.stderr));
    assert!(
        table.contains("#  Rank  1 Pid") && table.contains("# Out of bounds values : 0 OK"),
        "{table}"
    );
    assert!(table.contains("# MPI: ") && table.contains("# Mean of MPI's ratios  : "), "{table}");
    let rows: Vec<_> = table.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rows.len(), 4, "{table}");
    for row in rows {
        let cells: Vec<_> = row.split_whitespace().collect();
        assert_eq!(cells.len(), 18, "{row}");
        assert!(cells[13..].iter().all(|cell| cell.parse::<f64>().is_ok()), "{row}");
    }
}

#[test]
fn every_collective_has_its_call() {
    for test in [
        "all-reduce",
        "all-gather",
        "all-gather-v",
        "reduce-scatter",
        "reduce-scatter-v",
        "all-to-all",
        "all-to-all-v",
        "broadcast",
        "reduce",
        "gather",
        "gather-v",
        "scatter",
        "scatter-v",
        "sendrecv",
        "barrier",
    ] {
        // An aborting call of MPI's, or one that writes beside its buffer, ends the job or is counted as wrong.
        let json = perf(&format!("{test} --local 3 -b 1K -e 64K -f 64 -n 2 -w 1 -r all"));
        assert_eq!(json["out_of_bounds"]["count"], 0, "{test}");
        for row in json["results"].as_array().unwrap() {
            let mpi = &row["mpi"];
            let to = &row[mpi["to"].as_str().unwrap()];
            let (time, ratio) = (mpi["time"].as_f64().unwrap(), mpi["ratio"].as_f64().unwrap());
            assert!(
                (ratio - time / to["time"].as_f64().unwrap()).abs() < 1e-6 * ratio,
                "{test}: {row}"
            );
            assert!(
                mpi["ratio_p50"].is_number() && mpi["percentiles"]["p99"].is_number(),
                "{test}: {row}"
            );
            assert_eq!(mpi["to"] == "in_place", test == "broadcast");
        }
        assert!(json["mpi"]["library"].as_str().unwrap().contains("MPI"));
        assert!(json["mpi"]["mean_ratio"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn types_and_operations_that_mpi_lacks_have_empty_cells() {
    let json = perf("all-reduce --local 2 -b 1K -e 1K -n 1 -w 0 -d all -o all");
    let results = json["results"].as_array().unwrap();
    assert_eq!((results.len(), &json["out_of_bounds"]["count"]), (90, &0.into()));
    for row in results {
        let (dtype, op) = (row["type"].as_str().unwrap(), row["redop"].as_str().unwrap());
        let lacks = ["half", "bfloat16", "f8e4m3", "f8e5m2"].contains(&dtype)
            || ["avg", "mulsum"].contains(&op);
        assert_eq!(
            (row["mpi"]["time"].is_null(), row["mpi"]["ratio"].is_null()),
            (lacks, lacks),
            "{row}"
        );
    }
}

#[test]
fn results_are_compared_as_others_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.json").display().to_string();
    let line =
        format!("perf reduce --local 2 -b 8 -e 64 -n 2 -w 1 --vs mpi --timeout 60s --json {file}");
    let table = dure(&line);
    assert!(table.status.success(), "{}", text(&table.stderr));
    assert!(fs::read_to_string(&file).unwrap().contains("\"mpi\""));
    let compared = dure(&format!("compare {file} {file} --limit 0"));
    assert!(compared.status.success(), "{}", text(&compared.stderr));
}

#[test]
fn a_single_rank_needs_no_launcher() {
    let line = "perf all-gather -b 8 -e 8 -n 2 --vs mpi --json -";
    assert_eq!(json(line, &dure(line))["results"][0]["mpi"]["to"], "out_of_place");
}

/// Started by hand, each process would be alone in a job of MPI's.
#[test]
fn ranks_that_mpi_does_not_know_are_refused() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dure"));
    command.args(["perf", "all-reduce", "-e", "8", "--vs", "mpi", "--timeout", "60s"]);
    command.envs([("DURE_RANK", "0"), ("DURE_SIZE", "2")]);
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("2 ranks according to DURE_SIZE, 1 according to MPI"), "{said}");
}
