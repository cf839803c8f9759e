//! `dure device` and `dure perf --device` as scripts use them, on the reference plug-ins, and on a double of NVIDIA's driver.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::process::{Command, Output, Stdio};

use dure_harness::plugins::{cuda_double, npu_a, npu_b};
use serde_json::Value;

fn dure(words: &[&str]) -> Output {
    with(words, &[])
}

fn with(words: &[&str], environment: &[(&str, &str)]) -> Output {
    let plugins = format!("{},{}", npu_a().display(), npu_b().display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_dure"));
    command.args(words).env("DURE_DEVICE_PLUGINS", plugins).stdin(Stdio::null());
    command.envs(environment.iter().copied()).output().unwrap()
}

/// On the double of NVIDIA's driver.
fn on_double(words: &[&str], environment: &[(&str, &str)]) -> Output {
    let folder = cuda_double().parent().unwrap().display().to_string();
    with(words, &[environment, &[("LD_LIBRARY_PATH", &*folder)]].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn devices_are_listed() {
    let output = dure(&["device", "list", "--json", "-"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| row["device"].as_str().unwrap()).collect();
    assert_eq!((names[0], names[16]), ("npu-a:0", "npu-b:0"));
    assert!(names[32..].iter().all(|name| name.starts_with("cuda:")), "{names:?}");
    let shown = text(&dure(&["device", "list"]).stdout);
    assert!(
        shown.contains("streams, peers, reductions") && shown.contains("opaque layout"),
        "{shown}"
    );
    assert!(
        shown.contains("each npu-a to each other: by a link of the maker's, reaches"),
        "{shown}"
    );
}

#[test]
fn a_plug_in_is_checked() {
    let good = dure(&["device", "check", &npu_b().display().to_string()]);
    let shown = text(&good.stdout);
    assert!(good.status.success(), "{shown}");
    assert_eq!(shown.matches("holds   ").count(), 12, "{shown}");
    assert_eq!(shown.matches("absent  ").count(), 4, "{shown}");
    let none = dure(&["device", "check", "/nowhere.so"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none.stderr).contains("/nowhere.so cannot be loaded"), "{}", text(&none.stderr));
}

#[test]
fn collectives_are_measured_on_devices() {
    for devices in ["npu-a", "npu-a,npu-b,host"] {
        let output = dure(&[
            "perf",
            "all-reduce",
            "--local",
            "3",
            "-b",
            "8",
            "-e",
            "64K",
            "-f",
            "64",
            "-n",
            "2",
            "-w",
            "1",
            "--device",
            devices,
            "--json",
            "-",
        ]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        for row in report["results"].as_array().unwrap() {
            assert_eq!(row["out_of_place"]["nwrong"], 0, "{row}");
        }
    }
    let few = dure(&["perf", "all-reduce", "--local", "3", "--device", "npu-a,host"]);
    assert_eq!(few.status.code(), Some(2), "{}", text(&few.stderr));
    let unknown = dure(&["perf", "all-reduce", "--local", "2", "--device", "npu-c"]);
    assert!(text(&unknown.stderr).contains("npu-a:N, npu-b:N"), "{}", text(&unknown.stderr));
}

#[test]
fn ways_between_devices_are_explained() {
    let words =
        ["explain", "all-reduce", "1M", "--local", "4", "--device", "npu-a,npu-a,npu-b,host"];
    let output = dure(&[&words[..], &["--json", "-"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let pairs = report["ways"].as_array().unwrap();
    // Three ranks have a device, and three peers each.
    assert_eq!(pairs.len(), 9, "{report}");
    for pair in pairs {
        let (device, to) = (pair["device"].as_str().unwrap(), pair["to_device"].as_str().unwrap());
        let (family, why) = (&device[..5], pair["why"].as_str().unwrap());
        let both = family == "npu-a" && to.starts_with("npu-a");
        assert_eq!(pair["direct"], both, "{pair}");
        let reason = match family {
            "npu-a" if both => "has read a page of it",
            "npu-a" => "the peer has no device of",
            _ => "lets no other device reach it",
        };
        assert!(why.contains(reason), "{pair}");
    }
    let shown = text(&dure(&words).stdout);
    assert!(
        shown.contains("rank 0 (npu-a:0) to rank 1 (npu-a:1): directly; the peer's")
            && shown.contains("rank 2 (npu-b:2) to rank 3 (host): through the host; its plug-in"),
        "{shown}"
    );
}

#[test]
fn ways_over_a_network_are_through_the_host() {
    let words =
        ["explain", "all-reduce", "1M", "--local", "2", "--transport", "tcp", "--device", "npu-a"];
    let shown = text(&dure(&words).stdout);
    assert!(
        shown.contains("through the host; the tcp transport moves memory of the host"),
        "{shown}"
    );
}

#[test]
fn ways_need_ranks_and_a_device_for_each() {
    let output = dure(&["explain", "all-reduce", "1M", "--local", "3", "--device", "npu-a,host"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("--device names 2 devices, and none for rank 2"), "{said}");
    let output =
        dure(&["explain", "all-reduce", "1M", "--layout", "2 host * 1 cpu", "--device", "npu-a"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("give --local N"), "{}", text(&output.stderr));
}

#[test]
fn gpus_are_listed_and_checked() {
    let shown = text(&on_double(&["device", "list"], &[]).stdout);
    let line = shown.lines().find(|line| line.starts_with("cuda:1 ")).unwrap();
    for part in
        ["double of a GPU", "ffff:01:1f.0", "1 GiB", "peers, dma-buf, joins streams, reductions"]
    {
        assert!(line.contains(part), "{line}");
    }
    // One device: its peer is itself, opened twice.
    for devices in ["1", "2"] {
        let checked = on_double(&["device", "check", "cuda"], &[("CUDA_DOUBLE_DEVICES", devices)]);
        let shown = text(&checked.stdout);
        assert!(checked.status.success(), "{shown}{}", text(&checked.stderr));
        assert_eq!(shown.matches("holds   ").count(), 16, "{shown}");
    }
}

#[test]
fn why_there_are_no_gpus_is_said() {
    for (environment, why) in [
        (("CUDA_DOUBLE_DEVICES", "0"), "the driver finds no GPU that this process may use"),
        (
            ("CUDA_DOUBLE_VERSION", "11040"),
            "the driver is of CUDA 11.4, and 12.0 or later is needed",
        ),
    ] {
        let list = text(&on_double(&["device", "list"], &[environment]).stdout);
        assert!(list.contains(&format!("cuda: none: {why}")), "{list}");
        let doctor = text(&on_double(&["doctor"], &[environment]).stdout);
        assert!(doctor.contains(&format!("CUDA                idle: {why}")), "{doctor}");
        let perf = ["perf", "all-reduce", "--local", "2", "--device", "cuda:0"];
        let perf = on_double(&perf, &[environment]);
        assert!(!perf.status.success());
        let said = text(&perf.stderr);
        assert!(said.contains("cuda:0 cannot be opened") && said.contains(why), "{said}");
    }
    if !std::path::Path::new("/dev/nvidiactl").exists() {
        let list = text(&dure(&["device", "list"]).stdout);
        assert!(list.contains("cuda: none: libcuda.so.1 is not to be found"), "{list}");
    }
}

#[test]
fn collectives_are_measured_on_one_gpu() {
    let words =
        ["perf", "all-reduce", "--local", "2", "-b", "8", "-e", "64K", "-f", "64", "-n", "2"];
    let more = ["-w", "1", "--device", "cuda:0", "--json", "-"];
    let output = on_double(&[&words[..], &more].concat(), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for row in report["results"].as_array().unwrap() {
        assert_eq!(row["out_of_place"]["nwrong"], 0, "{row}");
    }
}
