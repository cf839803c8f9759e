//! The reference plug-ins for devices, and a double of NVIDIA's driver, built.

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
    BUILT
        .get_or_init(|| compiled(&package("transport/device/plugins/npu-b/npu_b.c"), "libnpu_b.so"))
}

/// `librngd.so`, compiled from its one file.
///
/// # Panics
/// When it cannot be compiled.
pub fn rngd() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| compiled(&package("transport/device/plugins/rngd/rngd.c"), "librngd.so"))
}

/// A shared library of one file in C; `library` is its path below the folder of the profile.
///
/// # Panics
/// When it cannot be compiled.
pub fn compiled(source: &Path, library: &str) -> PathBuf {
    let library = profile().join(library);
    let folder = library.parent().expect("it lies in a folder");
    std::fs::create_dir_all(folder).expect("the folder of the profile is ours");
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
    ]);
    cc.arg("-I")
        .arg(package("transport/device/abi/include"))
        .arg(source)
        .arg("-ldl")
        .arg("-o")
        .arg(&own);
    expect_success(&mut cc, "cc");
    std::fs::rename(&own, &library).expect("a file of ours can be renamed");
    library
}

/// `libcuda.so.1`, a double of NVIDIA's driver, in a folder of its own: programs that are started with that as `LD_LIBRARY_PATH` find
/// it in place of a driver's. It is no GPU.
///
/// # Panics
/// When it cannot be compiled.
pub fn cuda_double() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = profile().join("double-of-cuda");
        std::fs::create_dir_all(&folder).expect("the folder of the profile is ours");
        let library = folder.join("libcuda.so.1");
        // Several programs may do this at once: each puts a whole file in place.
        let own = folder.join(format!("{}.so", std::process::id()));
        let mut cpp = Command::new("c++");
        // Sums and products are rounded one by one, as on a GPU.
        cpp.args(["-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]);
        cpp.args(["-Wno-unknown-pragmas", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread"]);
        cpp.arg("-Wl,-soname,libcuda.so.1");
        cpp.arg("-I").arg(package("transport/device/cuda/kernels"));
        cpp.arg(package("transport/device/cuda/double/libcuda.cpp")).arg("-o").arg(&own);
        expect_success(&mut cpp, "c++");
        std::fs::rename(&own, &library).expect("a file of ours can be renamed");
        library
    })
}
