//! Collectives on memory of plug-ins' devices: of one vendor, of another, and mixed with host memory.

use std::path::{Path, PathBuf};

use dure_harness::plugins::{cuda_double, npu_a, npu_b};
use dure_harness::{Cluster, Place};

/// Counts of elements: none, one, some, enough for several passes.
pub(crate) const COUNTS: [&str; 4] = ["0", "1", "7", "3000"];

/// Ranks on these devices: `a` and `b` are the vendors', each rank has one of its own; `h` is the host; `c` is the one GPU that all
/// ranks of its sort share, on a double of NVIDIA's driver.
pub(crate) fn on(devices: &str) -> Cluster {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_dure-rank"));
    let ranks = u32::try_from(devices.len()).unwrap();
    let plugins: Vec<_> = [npu_a(), npu_b()].map(Path::display).map(|path| path.to_string()).into();
    let mut cluster = Cluster::new(program, Place::Processes, ranks)
        .set("DURE_DEVICE_PLUGINS", &plugins.join(","))
        .set("DURE_SLOT_BYTES", "16K");
    for (rank, device) in (0..).zip(devices.chars()) {
        let name = match device {
            'h' => continue,
            'c' => "cuda:0".to_owned(),
            vendor => format!("npu-{vendor}:{rank}"),
        };
        cluster = cluster.set_on(rank, "DURE_DEVICE", &name);
    }
    if devices.contains('c') {
        let folder = cuda_double().parent().unwrap();
        cluster = cluster.set("LD_LIBRARY_PATH", &folder.display().to_string());
    }
    cluster
}

#[test]
fn on_one_vendor_s_devices() {
    for devices in ["aa", "aaa", "aaaa", "aaaaaaaa"] {
        on(devices).run("collectives", &COUNTS).expect_well();
    }
    on("aaa").run("types", &[]).expect_well();
}

#[test]
fn nothing_passes_through_the_host_between_devices_of_one_family() {
    for devices in ["aa", "aaa", "aaaa", "aaaaaaaa"] {
        on(devices).run("on-devices-alone", &["1", "7", "3000", "40000"]).expect_well();
    }
    // Without the transport there are no counts of nothing.
    let report = on("aa").set("DURE_TRANSPORT", "^npu").run("on-devices-alone", &["7"]);
    assert!(report.to_string().contains("rank 0: Some("), "{report}");
}

#[test]
fn on_another_vendor_s_devices() {
    for devices in ["bb", "bbb", "bbbb", "bbbbbbbb"] {
        on(devices).run("collectives", &COUNTS).expect_well();
    }
    on("bbb").run("types", &[]).expect_well();
}

#[test]
fn on_devices_of_both_vendors_and_on_the_host() {
    for devices in ["ab", "ah", "bh", "abh", "aabh", "abhabhab"] {
        on(devices).run("collectives", &COUNTS).expect_well();
    }
    on("abh").run("types", &[]).expect_well();
    on("abh").set("DURE_TRANSPORT", "tcp").run("collectives", &COUNTS).expect_well();
}
