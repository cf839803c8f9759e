//! The plug-in for FuriosaAI's NPUs, on a double of their driver and of furiosa-smi.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod driver;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dure_harness::plugins::{compiled, rngd};
use dure_harness::tell_people;
use serde_json::Value;

use crate::driver::Driver;

/// Bytes of each NPU.
const WINDOW: u64 = 64 << 20;

/// Two NPUs; `None`, said aloud, where a process may not answer another's system calls.
fn driver() -> Option<Driver> {
    if !driver::can_answer() {
        tell_people(
            "SKIPPED: this kernel has no seccomp user notification, so there is no double of rngd's driver",
        );
        return None;
    }
    Some(Driver::new(2, WINDOW).unwrap())
}

fn dure(driver: &Driver, words: &[&str], smi: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dure"));
    command.args(words).env("DURE_DEVICE_PLUGINS", rngd()).env_remove("LD_LIBRARY_PATH");
    if let Some(library) = smi {
        command.env("LD_LIBRARY_PATH", library.parent().unwrap());
    }
    driver.output(&mut command).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `libfuriosa_smi.so`, in a folder of its own.
fn smi() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rngd/furiosa_smi.c");
    compiled(&source, "double-of-furiosa/libfuriosa_smi.so")
}

#[test]
fn every_property_holds() {
    let Some(driver) = driver() else { return };
    let output = dure(&driver, &["device", "check", rngd().to_str().unwrap()], None);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}{}", text(&output.stderr));
    assert!(shown.contains("holds   a dma-buf shows the memory that was exported"), "{shown}");
    assert_eq!(driver.exported(), 1);
}

#[test]
fn a_driver_that_exports_other_memory_is_found_out() {
    let Some(mut driver) = driver() else { return };
    driver.off = 4096;
    let output = dure(&driver, &["device", "check", rngd().to_str().unwrap()], None);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("fails   a dma-buf shows the memory that was exported"), "{shown}");
}

#[test]
fn devices_and_links_are_listed() {
    let Some(driver) = driver() else { return };
    let smi = smi();
    let rows = |smi| -> Value {
        let output = dure(&driver, &["device", "list", "--json", "-"], smi);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let with = rows(Some(&*smi));
    let place = |row: &Value| {
        [&row["device"], &row["pci"], &row["name"]].map(|value| value.as_str().unwrap().to_owned())
    };
    assert_eq!(place(&with[0]), ["rngd:0", "0000:00:00.0", "FuriosaAI RNGD"]);
    assert_eq!(place(&with[1]), ["rngd:1", "0000:01:00.0", "FuriosaAI RNGD"]);
    let link = &with[0]["links"][0];
    assert_eq!(
        (&link["to"], &link["by"], &link["reaches"]),
        (&"rngd:1".into(), &"switch".into(), &true.into()),
        "{with}"
    );
    let shown = text(&dure(&driver, &["device", "list"], Some(&smi)).stdout);
    assert!(shown.contains("rngd:0 to rngd:1: by one PCIe switch, reaches its memory"), "{shown}");
    // Without furiosa-smi nothing is known of links.
    assert_eq!(rows(None)[0]["links"], Value::Array(Vec::new()));
}

#[test]
fn collectives_are_right() {
    let Some(driver) = driver() else { return };
    let words = [
        "perf",
        "all-reduce",
        "--local",
        "2",
        "-b",
        "8",
        "-e",
        "1M",
        "-f",
        "64",
        "--device",
        "rngd",
    ];
    let output = dure(&driver, &words, None);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let rows = text(&output.stdout);
    assert!(rows.contains("# Out of bounds values : 0 OK"), "{rows}");
}

#[test]
fn what_is_wrong_is_said() {
    let Some(driver) = driver() else { return };
    std::fs::remove_file(driver.path("dev/rngd/npu1bar4")).unwrap();
    let output = dure(&driver, &["perf", "all-reduce", "--local", "2", "--device", "rngd"], None);
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("dev/rngd/npu1bar4: No such file"), "{said}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dure"));
    command.args(["device", "list"]).env("DURE_DEVICE_PLUGINS", rngd());
    let none = command.output().unwrap();
    assert!(
        text(&none.stdout).lines().all(|line| !line.starts_with("rngd:")),
        "a device without a window"
    );
    let none = command.env("RNGD_WINDOW", "4097").output().unwrap();
    assert!(
        text(&none.stderr)
            .contains("RNGD_WINDOW=4097 is no size (allowed: bytes, a multiple of 4096)"),
        "{}",
        text(&none.stderr)
    );
}
