//! An installed copy, also after it was moved.

use std::fs;
use std::path::{Path, PathBuf};

use crate::library::{C11, library, package, tool};
use crate::oneccl::Bench;

#[test]
fn an_installed_plug_in_serves() {
    let bench = Bench::new("install");
    let (first, moved) = (bench.folder().join("first"), bench.folder().join("moved"));
    let script = package().join("install.sh");
    let from = library().parent().unwrap();
    tool(script.to_str().unwrap(), &[first.to_str().unwrap(), from.to_str().unwrap()]);
    fs::rename(&first, &moved).unwrap();
    let mut found = Vec::new();
    files(&moved, &mut found);
    let mut found: Vec<_> = found
        .iter()
        .map(|path| path.strip_prefix(&moved).unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "include/dure-oneccl/dure_oneccl.h",
            "lib/dure-oneccl/libdure_oneccl.so",
            "share/doc/dure-oneccl/LICENSE-APACHE",
            "share/doc/dure-oneccl/LICENSE-MIT",
            "share/doc/dure-oneccl/README.md",
            "share/doc/dure-oneccl/examples/first.c",
        ]
    );
    let program = bench.compile("examples/first.c", C11);
    let plugin = moved.join("lib/dure-oneccl/libdure_oneccl.so");
    assert_eq!(bench.run(&program, &[], &plugin), "11 22 33\n");
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}
