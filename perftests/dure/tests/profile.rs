//! Profiles, as scripts make and use them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs the program in a folder, which is the user's too.
fn run(folder: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dure"));
    for name in ["DURE_RANK", "DURE_SIZE", "DURE_ROOT", "RANK", "WORLD_SIZE", "SLURM_PROCID"] {
        command.env_remove(name);
    }
    command.env("XDG_CACHE_HOME", folder.join("cache")).current_dir(folder);
    command.args(line.split_whitespace()).output().unwrap()
}

fn answer(folder: &Path, line: &str) -> String {
    let output = run(folder, line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(folder: &Path, line: &str) -> Value {
    serde_json::from_str(&answer(folder, line)).unwrap()
}

#[test]
fn what_was_measured_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let table = answer(folder.path(), "profile measure --local 2 --seconds 1 -o made.json");
    assert!(table.contains("inside a host") && table.contains("profile: made.json"), "{table}");
    let said = answer(folder.path(), "explain all-reduce 1M --local 2 --profile made.json");
    let line = |class: &str| said.lines().find(|line| line.trim().starts_with(class)).unwrap();
    assert!(line("inside a host").ends_with("(measured)"), "{said}");
    assert!(line("between hosts").ends_with("(default)"), "{said}");
    assert!(!folder.path().join("cache").exists());
}

#[test]
fn a_profile_is_kept_for_the_transports() {
    let folder = tempfile::tempdir().unwrap();
    let measure =
        |flags: &str| json(folder.path(), &format!("profile measure --seconds 1 --json - {flags}"));
    let first = measure("--local 2");
    assert_eq!((&first["kept"], &first["classes"][0]["pairs"]), (&false.into(), &1.into()));
    assert_eq!(first["ranks"][1]["rank"], 1);
    let second = measure("--local 2");
    assert_eq!((&second["kept"], &second["profile"]), (&true.into(), &first["profile"]));
    let again = measure("--local 2 --again");
    assert_eq!((&again["kept"], &again["profile"]), (&false.into(), &first["profile"]));
    // Three ranks: one rests in each round.
    let other = measure("--local 3 --transport tcp");
    assert_eq!((&other["kept"], &other["classes"][0]["pairs"]), (&false.into(), &2.into()));
    assert_ne!(other["profile"], first["profile"]);
}

#[test]
fn standard_output_is_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let profile = json(folder.path(), "profile measure --local 2 --seconds 1 -o -");
    assert_eq!(profile["constants"]["inside"]["source"], "measured");
    for line in ["--local 2 -o - --json -", "--local 1", "-o made.json", "--local 2 -o none/x.json"]
    {
        let output = run(folder.path(), &format!("profile measure {line}"));
        assert_eq!(output.status.code(), Some(2), "{line}");
    }
}

#[test]
fn fits_are_of_one_kind_of_place() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let perf = "perf all-reduce --local 2 -b 8 -e 64 -f 8 -n 2 -w 1 --regret";
    answer(folder, &format!("{perf} --transport pool --json pool.json"));
    answer(folder, &format!("{perf} --transport tcp --json tcp.json"));
    answer(folder, "profile fit pool.json --cores 2 -o made.json");
    let explained = json(folder, "explain all-reduce 64 --local 2 --profile made.json --json -");
    assert!(!explained["candidates"].as_array().unwrap().is_empty(), "{explained}");
    let mixed = run(folder, "profile fit pool.json tcp.json --cores 2 -o made.json");
    let said = String::from_utf8(mixed.stderr).unwrap();
    assert_eq!(mixed.status.code(), Some(2), "{said}");
    assert!(said.contains("tcp.json is of another transport than pool.json"), "{said}");
}
