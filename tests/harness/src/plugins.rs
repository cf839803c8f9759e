//! The reference plug-ins for devices, built.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder of the profile that this program was built with.
fn profile() -> PathBuf {
    let program = std::env::current_exe().expect("a program knows its file");
    let folder =
        program.ancestors().find(|folder| folder.ends_with("debug") || folder.ends_with("release"));
    folder.expect("programs are built in PROFILE or in PROFILE/deps").to_owned()
}

fn package(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn expect_success(command: &mut Command, what: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `libdure_npu_a.so`. Cargo builds no cdylib for tests, so this does.
///
/// # Panics
/// When it cannot be built.
pub fn npu_a() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let profile = profile();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "dure-npu-a", "--target-dir"]);
        cargo.arg(profile.parent().expect("a profile lies in the target folder"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        expect_success(cargo.current_dir(package("transport/device")), "cargo build");
        profile.join("libdure_npu_a.so")
    })
}

/// `libnpu_b.so`, compiled from its one file.
///
/// # Panics
/// When it cannot be compiled.
pub fn npu_b() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let library = profile().join("libnpu_b.so");
        // Several programs may do this at once: each puts a whole file in place.
        let own = library.with_extension(std::process::id().to_string());
        let mut cc = Command::new("cc");
        cc.args([
            "-std=c11",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-shared",
            "-fPIC",
            "-fvisibility=hidden",
            "-I",
        ]);
        cc.arg(package("transport/device/abi/include"));
        cc.arg(package("transport/device/plugins/npu-b/npu_b.c")).arg("-o").arg(&own);
        expect_success(&mut cc, "cc");
        std::fs::rename(&own, &library).expect("a file of ours can be renamed");
        library
    })
}
