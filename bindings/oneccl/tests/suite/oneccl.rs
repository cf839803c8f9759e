//! The oneCCL that programs call.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::library::{compile, expect_success, folder, package, run};

/// A folder for a test, and in it programs that are compiled for a oneCCL.
pub(crate) struct Bench {
    folder: PathBuf,
    /// Where it is installed; none for the imitation.
    root: Option<PathBuf>,
}

/// Where oneCCL is installed, with `include/oneapi/ccl.h` and `lib/libccl.so.2`.
#[allow(clippy::disallowed_methods, reason = "a test has no configuration to read it from")]
fn installed() -> Option<PathBuf> {
    std::env::var_os("DURE_ONECCL_ROOT").map(PathBuf::from)
}

impl Bench {
    pub(crate) fn new(test: &str) -> Self {
        Self::with(test, installed())
    }

    /// With the imitation, whatever is installed.
    pub(crate) fn imitated(test: &str) -> Self {
        Self::with(test, None)
    }

    fn with(test: &str, root: Option<PathBuf>) -> Self {
        let folder = folder(test);
        if root.is_none() {
            shared(&folder, "tests/imitation/ccl.c", "libccl.so.2");
        }
        Self { folder, root }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Compiles a program of this package.
    pub(crate) fn compile(&self, source: &str, compiler: &[&str]) -> PathBuf {
        let (include, link) = match &self.root {
            None => (package().join("tests/imitation"), String::new()),
            Some(root) => {
                let lib = root.join("lib");
                (root.join("include"), format!("-L{0} -Wl,-rpath,{0}", lib.display()))
            }
        };
        let include = include.display().to_string();
        // oneCCL's header is for C++ as far as it includes <cstddef>, and for C otherwise.
        let standard = package().join("tests/c++").display().to_string();
        let standard = if compiler[0] == "cc" { &["-isystem", &*standard][..] } else { &[] };
        let link: Vec<&str> = link.split_whitespace().collect();
        let flags =
            [compiler, standard, &["-isystem", &include, "-Wl,--no-as-needed"], &link].concat();
        compile(&self.folder, source, &flags)
    }

    /// Runs a program with a plug-in.
    pub(crate) fn run(&self, program: &Path, arguments: &[&str], plugin: &Path) -> String {
        run(program, arguments, &[("CCL_PLUGIN", plugin.to_str().unwrap())])
    }
}

/// Builds a shared library of this package into a folder.
pub(crate) fn shared(folder: &Path, source: &str, name: &str) -> PathBuf {
    let library = folder.join(name);
    let built = Command::new("cc")
        .args(["-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I"])
        .arg(package().join("tests/imitation"))
        .arg(package().join(source))
        .arg("-o")
        .arg(&library)
        .arg(format!("-Wl,-soname,{name}"))
        .output()
        .unwrap();
    expect_success(&built, source);
    library
}
