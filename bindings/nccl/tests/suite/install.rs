//! An installed copy, found by pkg-config, also after it was moved; and by nobody who does not look for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::SONAME;
use crate::library::{expect_success, folder, library, package, run, tool};

/// Installs, and moves what was installed.
fn installed(test: &str) -> PathBuf {
    let folder = folder(test);
    let (first, moved) = (folder.join("first"), folder.join("moved"));
    let script = package().join("install.sh");
    let from = library().parent().unwrap();
    tool(script.to_str().unwrap(), &[first.to_str().unwrap(), from.to_str().unwrap()]);
    fs::rename(&first, &moved).unwrap();
    moved
}

#[test]
fn the_example_is_built_by_pkg_config() {
    let prefix = installed("pkg-config");
    let program = prefix.join("first");
    let example = prefix.join("share/doc/dure-nccl/examples/first.c");
    let flags = "$(pkg-config --cflags --libs dure-nccl)";
    let line = format!("cc {} {flags} -o {}", example.display(), program.display());
    let config = prefix.join("lib/pkgconfig");
    let output =
        Command::new("sh").args(["-c", &line]).env("PKG_CONFIG_PATH", &config).output().unwrap();
    expect_success(&output, &line);
    let libraries = prefix.join("lib/dure-nccl");
    let path = [("LD_LIBRARY_PATH", libraries.to_str().unwrap())];
    assert_eq!(run(&program, &[], &path), "11 22 33\n");
}

#[test]
fn nothing_lies_where_others_look_for_nccl() {
    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path, found) } else { found.push(path) }
        }
    }
    let prefix = installed("files");
    let mut found = Vec::new();
    files(&prefix, &mut found);
    let mut found: Vec<_> = found
        .iter()
        .map(|path| path.strip_prefix(&prefix).unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "include/dure-nccl/nccl.h",
            "lib/dure-nccl/libnccl.so",
            &format!("lib/dure-nccl/{SONAME}"),
            "lib/pkgconfig/dure-nccl.pc",
            "share/doc/dure-nccl/LICENSE-APACHE",
            "share/doc/dure-nccl/LICENSE-MIT",
            "share/doc/dure-nccl/README.md",
            "share/doc/dure-nccl/examples/first.c",
        ]
    );
    let config = fs::read_to_string(prefix.join("lib/pkgconfig/dure-nccl.pc")).unwrap();
    assert!(!config.contains("@VERSION@"), "{config}");
}

/// A program that was linked to another library of the name, which its DT_RPATH finds whatever LD_LIBRARY_PATH says.
#[test]
fn it_takes_the_place_of_another_library_when_it_is_loaded_first() {
    let folder = folder("preload");
    let other = folder.join("other");
    fs::create_dir(&other).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("other.c", "int ncclGetVersion(int *version) { *version = 7; return 0; }\n");
    write(
        "ask.c",
        "#include <stdio.h>\nint ncclGetVersion(int *);\n\
         int main(void) { int version; ncclGetVersion(&version); printf(\"%d\", version); }\n",
    );
    let line = format!(
        "cd {} && cc -shared -fPIC -Wl,-soname,{SONAME} other.c -o other/{SONAME} && \
         cc ask.c other/{SONAME} -Wl,--disable-new-dtags,-rpath,{} -o ask",
        folder.display(),
        other.display()
    );
    tool("sh", &["-c", &line]);
    let program = folder.join("ask");
    assert_eq!(run(&program, &[], &[]), "7");
    assert_eq!(run(&program, &[], &[("LD_PRELOAD", library().to_str().unwrap())]), "22907");
}
