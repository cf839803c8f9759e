//! `dure explain` as a whole.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

fn explain(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dure"));
    command.arg("explain").args(args).output().unwrap()
}

fn json(args: &[&str]) -> Value {
    let output = explain(&[args, &["--json", "-"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn names(answer: &Value, list: &str) -> Vec<String> {
    let name = |one: &Value| one["algorithm"].as_str().unwrap().to_owned();
    answer[list].as_array().unwrap().iter().map(name).collect()
}

#[test]
fn candidates_are_ranked_below_the_bound_with_reasons() {
    let answer = json(&["all-reduce", "64MiB", "--layout", "4 host * (8 npu + 8 nic)"]);
    assert_eq!((&answer["ranks"], &answer["bytes"]), (&32.into(), &(64 << 20).into()));
    let rows = answer["candidates"].as_array().unwrap();
    assert!(rows.len() > 8, "{answer}");
    let number = |row: &Value, name: &str| row[name].as_f64().unwrap();
    for pair in rows.windows(2) {
        assert!(number(&pair[0], "seconds") <= number(&pair[1], "seconds"));
        assert!(!pair[1]["why"].as_str().unwrap().is_empty(), "{}", pair[1]);
    }
    assert!(
        rows.iter().all(|row| number(row, "of_bound") > 0.0 && number(row, "of_bound") <= 1.0),
        "{answer}"
    );
    assert_eq!(rows[0]["why"], "");
    let sources: Vec<_> =
        answer["constants"].as_array().unwrap().iter().map(|c| &c["source"]).collect();
    assert!(sources.iter().all(|source| **source == "default"), "{sources:?}");
}

#[test]
fn what_the_fastest_does_is_drawn_and_traced() {
    let folder = tempfile::tempdir().unwrap();
    let [svg, trace] = ["it.svg", "it.json"].map(|name| folder.path().join(name));
    let [to_svg, to_trace] = [&svg, &trace].map(|path| path.to_str().unwrap());
    let layout = "2 host * (2 npu + 2 nic)";
    let output =
        explain(&["all-reduce", "1M", "--layout", layout, "--svg", to_svg, "--trace", to_trace]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let svg = fs::read_to_string(svg).unwrap();
    assert!(svg.contains("all-reduce of 1048576 bytes by") && svg.ends_with("</svg>\n"), "{svg}");
    let trace: Value = serde_json::from_str(&fs::read_to_string(trace).unwrap()).unwrap();
    let ranks = |event: &Value| event["pid"].as_u64().unwrap();
    let ranks: std::collections::BTreeSet<u64> =
        trace.as_array().unwrap().iter().map(ranks).collect();
    assert_eq!(ranks, (0..4).collect());
}

/// Six devices that all reach: what the root writes once, both others read; and over the ports it goes round.
#[test]
fn pools_that_hosts_share_are_a_way_between_them() {
    let layout = ["broadcast", "64M", "--layout", "6 pool / 3 host * (2 npu + 1 nic[gbps=200])"];
    let [pools, ports] = [&["--transport", "pool,cxl,rdma"], &["--transport", "rdma"]]
        .map(|only| json(&[&layout[..], &only[..]].concat()));
    let best = |answer: &Value| answer["candidates"][0]["seconds"].as_f64().unwrap();
    assert!(best(&pools) < best(&ports), "{pools}\n{ports}");
    let classes = |answer: &Value| {
        let constants = answer["constants"].as_array().unwrap().iter();
        constants.filter(|constant| constant["class"] == "through pools").count()
    };
    assert_eq!([classes(&pools), classes(&ports)], [1, 0]);
}

#[test]
fn what_is_left_out_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("quarantine");
    fs::write(&rules, "all-reduce two-shot bytes=1K.. # flaky\n").unwrap();
    let rules = rules.to_str().unwrap();
    let answer = json(&[
        "all-reduce",
        "1M",
        "--local",
        "4",
        "--algo",
        "allreduce:^ring",
        "--quarantine",
        rules,
    ]);
    assert!(!names(&answer, "candidates").iter().any(|name| name == "ring" || name == "two-shot"));
    let why = |name: &str| {
        let all = answer["refused"].as_array().unwrap();
        all.iter().find(|one| one["algorithm"] == name).unwrap()["why"].as_str().unwrap().to_owned()
    };
    assert!(why("ring").contains("DURE_ALGO") && why("two-shot").contains("flaky"), "{answer}");
    let text = explain(&["all-reduce", "1M", "--local", "4"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("\n* ") && text.contains("constants:") && text.contains("order of ranks"),
        "{text}"
    );
}

#[test]
fn ranks_that_are_dealt_out_are_put_in_the_fabrics_order() {
    let layout = "fattree levels=2 over=2 leaf=2 / 8 host * (2 npu + 2 nic)";
    let answer = json(&["all-gather", "1M", "--layout", layout]);
    assert_eq!(answer["order"], Value::Null, "numbers follow the hosts, and these the leaves");
}

#[test]
fn wrong_calls_are_told() {
    for (args, expected) in [
        (&["all-reduce", "1M"][..], "where are the ranks"),
        (&["all-reduce", "1M", "--layout", "4 hots"], "hots"),
        (&["broadcast", "1M", "--local", "2", "--root", "2"], "root 2 of 2 ranks"),
        (&["all-reduce", "1M", "--local", "2", "--algo", "rign"], "rign"),
        (&["all-reduce", "1M", "--local", "2", "--profile", "/nowhere"], "/nowhere"),
    ] {
        let output = explain(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() > Some(0) && text.contains(expected), "{args:?}: {text}");
    }
    assert_eq!(
        explain(&["all-reduce", "1M", "--local", "2", "--algo", "allreduce:dissemination"])
            .status
            .code(),
        Some(1)
    );
}
