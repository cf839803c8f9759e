//! An installed copy, which NCCL finds by the loader's path.

use std::fs;

use crate::library::{C11, compile, folder, library, package, run, tool};
use crate::{LIBRARY, SONAME};

#[test]
fn the_example_finds_an_installed_copy() {
    let folder = folder("install");
    let prefix = folder.join("prefix");
    let program = compile(&folder, "examples/first.c", C11);
    // From here on only the installed copy is there to be found.
    for name in [SONAME, LIBRARY] {
        fs::remove_file(folder.join(name)).unwrap();
    }
    let script = package().join("install.sh");
    let from = library().parent().unwrap();
    tool(script.to_str().unwrap(), &[prefix.to_str().unwrap(), from.to_str().unwrap()]);
    for file in [
        "include/dure-nccl-net/dure_nccl_net.h",
        "share/doc/dure-nccl-net/README.md",
        "share/doc/dure-nccl-net/examples/first.c",
    ] {
        assert!(prefix.join(file).is_file(), "{file}");
    }
    let libraries = prefix.join("lib");
    assert!(libraries.join(SONAME).is_file());
    let path = [("LD_LIBRARY_PATH", libraries.to_str().unwrap())];
    assert_eq!(run(&program, &[], &path), "16: bytes over Dure\n");
}
