//! `dure pool` as scripts use it, on files that stand for devices.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

fn dure(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dure"));
    command.arg("pool").args(words).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A pool of a file that goes with the folder, and the file's name.
fn pool() -> (TempDir, String) {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = folder.path().join("pool").display().to_string();
    let made = dure(&["create", &file, "--size", "16M", "--members", "3"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    (folder, file)
}

#[test]
fn every_figure_of_a_pool_is_measured() {
    let (folder, file) = pool();
    let output = dure(&["measure", &file, "--size", "2M", "--rounds", "2", "--json", "-"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["member"], &json["bytes"]), (&2.into(), &(2 << 20).into()));
    for (kind, keys) in [
        (
            "ns_per_line",
            &[
                "load",
                "look",
                "store",
                "write_back_dirty",
                "write_back_clean",
                "drop_dirty",
                "drop_clean",
            ][..],
        ),
        (
            "gb_per_s",
            &["store_through", "store_past", "load_memory", "load_fresh", "load_cached", "copy"],
        ),
    ] {
        assert_eq!(json[kind].as_object().unwrap().len(), keys.len());
        for key in keys {
            let figure = |of: &str| json[kind][*key][of].as_f64().unwrap();
            assert!(0.0 < figure("least") && figure("least") <= figure("median"), "{key}: {json}");
            assert!(figure("median") <= figure("most"), "{key}: {json}");
        }
    }
    assert!(json["instructions"]["drop"].is_string(), "{json}");
    let out = folder.path().join("out.json");
    let output = dure(&["measure", &file, "--rounds", "1", "--json", out.to_str().unwrap()]);
    let table = text(&output.stdout);
    assert!(table.contains("1 rounds") && table.contains("copy inside the pool"), "{table}");
    assert!(fs::read_to_string(out).unwrap().contains("gb_per_s"));
    let shown = text(&dure(&["show", &file]).stdout);
    assert!(shown.contains("3 of 3 members free"), "{shown}");
}

#[test]
fn what_cannot_be_measured_is_said() {
    let (_folder, file) = pool();
    for (words, status, says) in [
        (&["measure", &file, "--size", "64M"][..], 1, "no room for 67108864 bytes"),
        (&["measure", &file, "--size", "4K"], 2, "allowed: 1M or more"),
        (&["measure", &file, "--rounds", "0"], 2, "--rounds"),
        (&["measure", "/dev/null"], 1, "neither a file nor a /dev/dax device"),
        (&["measure"], 2, "DEVICE"),
    ] {
        let output = dure(words);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(status) && said.contains(says), "{words:?}: {said}");
    }
}
