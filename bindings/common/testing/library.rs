//! A library as C programs find it, and C programs that use it. For the tests of each interface, as a module of theirs:
//! `crate::PACKAGE` builds `crate::LIBRARY`, which is `crate::SONAME` to programs that were linked to `crate::LINKED`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::{LIBRARY, LINKED, PACKAGE, SONAME};

/// Seconds that a program may take. They take one or two; a loaded machine may take much longer.
const PATIENCE: &str = "120";

/// The folder of this package.
pub(crate) fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The library of the profile that the tests were built with. Cargo builds no cdylib for tests, so this does.
pub(crate) fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).expect("tests lie in PROFILE/deps");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--quiet", "--package", PACKAGE, "--lib", "--target-dir"])
            .arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        expect_success(&cargo.current_dir(package()).output().unwrap(), "cargo build");
        profile.join(LIBRARY)
    })
}

/// An empty folder for one test, with the library under the names by which programs link and load it.
pub(crate) fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{PACKAGE}-{test}"));
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    for name in BTreeSet::from([LIBRARY, SONAME]) {
        symlink(library(), folder.join(name)).unwrap();
    }
    folder
}

/// Compiles a program of this package into a folder, with all warnings, as errors.
pub(crate) fn compile(folder: &Path, source: &str, compiler: &[&str]) -> PathBuf {
    let program = folder.join(Path::new(source).file_stem().unwrap());
    let output = Command::new(compiler[0])
        .args(&compiler[1..])
        .args(["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(package().join("include"))
        .arg(package().join(source))
        .args(["-x", "none", LINKED, "-lpthread", "-lm", "-L"])
        .arg(folder)
        .arg(format!("-Wl,-rpath,{}", folder.display()))
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    expect_success(&output, source);
    program
}

/// A C11 compiler for tests, which use more of the system than C11 has.
pub(crate) const C11: &[&str] = &["cc", "-std=c11", "-D_DEFAULT_SOURCE"];

/// The output of a program without the settings of whoever runs the tests.
pub(crate) fn run(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    String::from_utf8(output(program, arguments, environment).stdout).unwrap()
}

/// As [`run`], with all that it prints.
pub(crate) fn output(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new("timeout");
    command.arg(PATIENCE).arg(program).args(arguments);
    let ours = |name: &str| {
        ["CCL_", "DURE_", "NCCL_", "OMPI_", "PMI", "SLURM_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| ours(name) || name == "RANK" || name == "WORLD_SIZE") {
            command.env_remove(name);
        }
    }
    let output = command.envs(environment.iter().copied()).output().unwrap();
    expect_success(&output, &program.display().to_string());
    output
}

/// The output of a tool that must be there.
pub(crate) fn tool(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    expect_success(&output, name);
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn expect_success(output: &Output, what: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{what}: {}\n{}{text}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
}
