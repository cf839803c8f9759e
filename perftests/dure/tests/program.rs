//! The program as a whole, as scripts use it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn dure(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dure"));
    for name in ["DURE_RANK", "DURE_SIZE", "DURE_ROOT", "RANK", "WORLD_SIZE", "SLURM_PROCID"] {
        command.env_remove(name);
    }
    command.args(line.split_whitespace());
    command
}

fn run(line: &str) -> Output {
    dure(line).output().unwrap()
}

fn status(line: &str) -> i32 {
    run(line).status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs `dure perf` with `--json -` and a deadline, and returns its answer.
fn perf(line: &str) -> Value {
    let output = run(&format!("perf {line} --timeout 60s --json -"));
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{line}: {e}: {}", text(&output.stdout)))
}

/// Processes whose command line names `marker`.
fn running(marker: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap();
    let lines = entries.filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    lines.map(|line| text(&line)).filter(|line| line.contains(marker)).collect()
}

#[test]
fn every_collective_is_right_and_measured() {
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
        let json = perf(&format!("{test} --local 3 -b 8 -e 64K -f 16 -n 3 -w 1 -r all"));
        assert_eq!(
            (&json["version"], &json["out_of_bounds"]["count"]),
            (&3.into(), &0.into()),
            "{test}"
        );
        assert_eq!(json["ranks"].as_array().unwrap().len(), 3);
        for row in json["results"].as_array().unwrap() {
            assert_eq!(row["out_of_place"]["nwrong"], 0, "{test}: {row}");
            assert!(row["out_of_place"]["time"].as_f64().unwrap() > 0.0);
            assert!(row["p50"].as_f64().unwrap() <= row["p999"].as_f64().unwrap());
            assert_eq!(row["ranks"].as_array().unwrap().len(), 3);
            assert!(
                !row["algorithm"].as_str().unwrap().is_empty()
                    && row["lanes"].as_u64().unwrap() > 0
            );
        }
    }
}

#[test]
fn every_type_and_operation_is_right() {
    let json = perf("all-reduce --local 2 -b 4K -e 4K -n 1 -w 0 -d all -o all");
    assert_eq!(json["results"].as_array().unwrap().len(), 90);
    assert_eq!(json["out_of_bounds"]["okay"], true);
}

#[test]
fn registered_buffers_and_single_ranks() {
    let json = perf("reduce-scatter --local 2 -b 1M -e 1M -n 2 -w 1 --alloc dure --transport tcp");
    assert_eq!(
        (&json["out_of_bounds"]["count"], &json["results"][0]["transport"]),
        (&0.into(), &"tcp".into())
    );
    let json = perf("all-gather -b 8 -e 1K -n 2");
    assert_eq!(
        (&json["out_of_bounds"]["count"], &json["results"][0]["transport"]),
        (&0.into(), &"self".into())
    );
}

#[test]
fn the_table_has_nccl_tests_lines() {
    let output = run("perf all-reduce --local 2 -b 8 -e 16 -n 2 -w 1");
    let table = text(&output.stdout);
    assert!(table.contains("#  Rank  1 Pid"), "{table}");
    assert!(
        table.contains("# Out of bounds values : 0 OK") && table.contains("# Avg bus bandwidth"),
        "{table}"
    );
    assert_eq!(table.lines().filter(|line| !line.starts_with('#')).count(), 2);
}

#[test]
fn regret_is_that_of_the_choice_among_all_candidates() {
    let json = perf("all-reduce --local 3 -b 1K -e 64K -f 8 -n 2 --regret");
    let rows = json["regret"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    for row in rows {
        let candidates = row["candidates"].as_array().unwrap();
        assert!(candidates.len() > 4 && candidates.contains(&row["chosen"]), "{row}");
        let time = |of: &Value| of["time"].as_f64().unwrap();
        let best = candidates.iter().map(time).fold(f64::INFINITY, f64::min);
        assert!((row["regret"].as_f64().unwrap() - time(&row["chosen"]) / best).abs() < 1e-9);
    }
    assert!(json["regret"]["geomean"].as_f64() <= json["regret"]["worst"].as_f64());
    for wrong in ["sendrecv", "all-to-all-v", "all-reduce --algo ring", "all-reduce --memory"] {
        assert_eq!(status(&format!("perf {wrong} --local 2 --regret")), 2, "{wrong}");
    }
}

#[test]
fn memory_is_told_by_communicator_and_by_peer() {
    for (transport, ranks) in [("pool", 3), ("tcp", 2)] {
        let line =
            format!("all-reduce --local {ranks} --transport {transport} -b 8 -e 8 -n 2 --memory");
        let memory = &perf(&line)["memory"];
        let all = memory["ranks"].as_array().unwrap();
        assert_eq!(all.len(), ranks);
        let number = |value: &Value| value.as_u64().unwrap();
        let sum: u64 = all.iter().map(|rank| number(&rank["total"])).sum();
        assert_eq!(number(&memory["communicator"]["sum"]), sum);
        for peer in all.iter().flat_map(|rank| rank["peers"].as_array().unwrap()) {
            assert!(number(&peer["slots"]) > 0 && peer["transport"] == transport, "{peer}");
        }
        assert!(number(&memory["connected_peer"][transport]["max"]) > 0);
        let output = run(&format!("perf {line} --timeout 60s"));
        let table = text(&output.stdout);
        assert!(table.contains(&format!("# A connected peer, by {transport}")), "{table}");
    }
    assert!(perf("all-reduce -b 8 -e 8 -n 2").get("memory").is_none());
    let alone = &perf("all-reduce -b 8 -e 8 -n 2 --memory")["memory"];
    assert_eq!(alone["ranks"][0]["peers"].as_array().unwrap().len(), 0);
}

/// The ranks find themselves in the environment, as a launcher leaves it.
#[test]
fn nobody_is_left_when_a_rank_dies() {
    let marker = format!("{}ms", 50_000 + std::process::id() % 9_000);
    let line =
        format!("perf all-reduce --local 3 -b 8 -e 8 -n 200000000 -w 1 -c 0 --timeout {marker}");
    let mut parent = dure(&line).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let pids =
        |of: u32| fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    let child = loop {
        assert!(parent.try_wait().unwrap().is_none(), "the parent ended by itself");
        let children = pids(parent.id());
        let ranks: Vec<_> = children.split_whitespace().map(str::to_owned).collect();
        // A rank that opened connections is in the loop, or about to.
        if ranks.len() == 3
            && fs::read_dir(format!("/proc/{}/task", ranks[1])).is_ok_and(|t| t.count() > 1)
        {
            break ranks[1].clone();
        }
        std::thread::yield_now();
    };
    assert!(Command::new("kill").args(["-9", &child]).status().unwrap().success());
    let output = parent.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("rank 1 was ended by SIGKILL"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(running(&marker), Vec::<String>::new());
}

#[test]
fn wrong_calls_have_status_two() {
    for line in [
        "",
        "perf",
        "perf all-reduces",
        "perf all-reduce --no-such-flag",
        "perf all-reduce -b 16 -e 8 --local 2",
        "perf all-reduce --algo no-such-algorithm --local 2",
        "perf broadcast -r 2 --local 2",
        "plan show no-such-plan",
        "plan verify",
        "compare /no/such/a.json /no/such/b.json",
        "frobnicate",
    ] {
        assert_eq!(status(line), 2, "dure {line}");
    }
    for line in ["help", "--version", "perf --help", "plan list"] {
        assert_eq!(status(line), 0, "dure {line}");
    }
    assert_eq!(text(&run("--version").stdout), format!("dure {}\n", env!("CARGO_PKG_VERSION")));
}

#[cfg(not(feature = "mpi"))]
#[test]
fn without_mpi_the_answer_is_how_to_get_it() {
    for line in ["perf all-reduce --vs mpi", "perf all-reduce --vs mpi --local 2"] {
        let output = run(line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("--features mpi") && said.contains("mpirun -n 2"), "{said}");
    }
    assert_eq!(status("perf all-reduce --vs nccl"), 2);
}

#[test]
fn plans_are_shown_proved_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let plan = run("plan show ring --collective all-reduce --ranks 3");
    assert!(plan.status.success());
    fs::write(path("ring.plan"), &plan.stdout).unwrap();
    assert_eq!(text(&run(&format!("plan show {}", path("ring.plan"))).stdout), text(&plan.stdout));
    let proof = run(&format!("plan verify {}", path("ring.plan")));
    assert_eq!(
        (proof.status.code(), text(&proof.stdout).lines().last()),
        (Some(0), Some("1 proofs"))
    );

    let wrong = text(&plan.stdout).replacen("recv-reduce", "recv", 1).replacen(
        " in[2] out[2]",
        " out[2]",
        1,
    );
    fs::write(path("wrong.plan"), wrong).unwrap();
    let flaw = run(&format!("plan verify {}", path("wrong.plan")));
    let last = text(&flaw.stdout).lines().last().unwrap_or_default().to_owned();
    assert_eq!(flaw.status.code(), Some(1), "{last}{}", text(&flaw.stderr));
    assert!(last.contains("rank") && last.contains("step"), "{last}");

    assert_eq!(status(&format!("plan draw ring --ranks 4 -o {}", path("ring.svg"))), 0);
    assert!(fs::read_to_string(path("ring.svg")).unwrap().contains("<svg"));
}

#[test]
fn all_algorithms_are_proved() {
    let output = run("plan verify --all --ranks 1..5");
    let answer = text(&output.stdout);
    assert!(output.status.success(), "{answer}");
    let (count, word) = answer.lines().last().unwrap().split_once(' ').unwrap();
    assert!(count.parse::<u32>().unwrap() > 100 && word == "proofs", "{answer}");
}

#[test]
fn results_are_compared_with_an_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, time: f64| {
        let json = serde_json::json!({"version": 3, "config": {"collective": "reduce"}, "results": [{
            "size": 8, "count": 2, "type": "float", "redop": "sum", "root": 0,
            "out_of_place": {"time": time, "alg_bw": 1.0, "bus_bw": 1.0, "nwrong": 0},
            "in_place": {"time": null, "alg_bw": null, "bus_bw": null, "nwrong": null}}]});
        let path = folder.path().join(name);
        fs::write(&path, json.to_string()).unwrap();
        path.display().to_string()
    };
    let (a, b) = (write("a.json", 10.0), write("b.json", 12.0));
    assert_eq!(status(&format!("compare {a} {b}")), 0);
    assert_eq!(status(&format!("compare {a} {b} --limit 25")), 0);
    assert_eq!(status(&format!("compare {a} {b} --limit 10")), 1);
    assert_eq!(status(&format!("compare {b} {a} --limit 10")), 0);
    let json: Value =
        serde_json::from_slice(&run(&format!("compare {a} {b} --json -")).stdout).unwrap();
    assert_eq!(json["worst_ratio"], 1.2);
}

#[test]
fn the_doctor_has_a_line_for_every_facility() {
    let output = run("doctor --json -");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let facilities = json["facilities"].as_array().unwrap();
    assert!(facilities.len() >= 15);
    for facility in facilities {
        assert!(facility["state"].is_string() && facility["consequence"].is_string(), "{facility}");
    }
    let empty = tempfile::tempdir().unwrap();
    let folder: &Path = empty.path();
    let bare = run(&format!("doctor --root {}", folder.display()));
    assert_eq!(bare.status.code(), Some(1), "without any interface, ranks cannot meet");
}

#[test]
fn plans_with_planted_flaws_are_found_out() {
    let verify = |name: &str| {
        let file = format!("{}/tests/plans/{name}.plan", env!("CARGO_MANIFEST_DIR"));
        let output = run(&format!("plan verify {file}"));
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, said) = verify("ring");
    assert_eq!(code, 0, "{said}");
    for (name, flaw) in [
        ("deadlock", "deadlock of 3 ranks: rank 0, lane 0, step 0"),
        (
            "counted-twice",
            "rank 1, lane 0, step 5 (recv-reduce 0 in[1] out[1]): counts the contribution of rank 1 twice",
        ),
        ("lost-chunk", "rank 0, lane 0, step 7 (recv 2 out[2])"),
        ("left-out", "out[0] misses the contribution of rank 1; it was last written by step 7"),
    ] {
        let (code, said) = verify(name);
        assert!(code == 1 && said.contains(flaw), "{name}: status {code}: {said}");
    }
}
