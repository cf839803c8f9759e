//! The C programs of `tests/c` and `examples`, compiled and run.

use std::fs;

use crate::library::{C11, library, output, package};
use crate::oneccl::{Bench, shared};

fn test(name: &str, sizes: &[&str]) {
    let bench = Bench::new(name);
    let program = bench.compile(&format!("tests/c/{name}.c"), C11);
    for size in sizes {
        bench.run(&program, &[size], library());
    }
}

/// Most of this test is what the compiler checks.
#[test]
fn sizes_offsets_and_numbers_are_onecclss() {
    test("layout", &[""]);
}

#[test]
fn wrong_arguments_are_refused_by_name() {
    test("arguments", &["1"]);
}

#[test]
fn collectives_and_messages() {
    test("collectives", &["2", "4"]);
}

#[test]
fn communicators_of_every_origin() {
    test("communicators", &["2", "4"]);
}

#[test]
fn endings_out_of_order() {
    test("endings", &[""]);
}

#[test]
fn nothing_wrong_under_address_sanitizer() {
    let bench = Bench::imitated("sanitized");
    let compiler = [C11, &["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]].concat();
    for (name, ranks) in [("arguments", "1"), ("collectives", "2"), ("communicators", "2")] {
        let program = bench.compile(&format!("tests/c/{name}.c"), &compiler);
        bench.run(&program, &[ranks], library());
    }
}

#[test]
fn a_version_that_is_not_known_is_refused() {
    let bench = Bench::imitated("refused");
    let program = bench.compile("tests/c/refused.c", C11);
    let settings = [("CCL_PLUGIN", library().to_str().unwrap()), ("IMITATED_VERSION", "20310401")];
    let told = String::from_utf8(output(&program, &[], &settings).stderr).unwrap();
    assert!(told.contains("take another version of one of them, or unset CCL_PLUGIN"), "{told}");
}

#[test]
fn the_readme_begins_with_the_first_example() {
    let read = |path: &str| fs::read_to_string(package().join(path)).unwrap();
    let (readme, example) = (read("README.md"), read("examples/first.c"));
    let code = readme.split("```c\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(
        example.ends_with(code),
        "the first C code of README.md is not the end of examples/first.c:\n{code}"
    );
    let bench = Bench::new("first");
    for compiler in [C11, &["c++", "-std=c++17", "-x", "c++"]] {
        let program = bench.compile("examples/first.c", compiler);
        assert_eq!(bench.run(&program, &[], library()), "11 22 33\n");
    }
}

#[test]
fn the_readme_has_a_row_for_every_function() {
    let read = |path: &str| fs::read_to_string(package().join(path)).unwrap();
    let readme = read("README.md");
    let mut rows = 0;
    for header in ["tests/imitation/oneapi/ccl.h", "include/dure_oneccl.h"] {
        for before in read(header).split('(') {
            let name = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap();
            let ours = name.starts_with("dureOneccl") && name != "dureOnecclFind";
            if ours || (name.starts_with("oneccl") && header.starts_with("tests")) {
                assert!(readme.contains(&format!("| `{name}` |")), "{name}");
                rows += 1;
            }
        }
    }
    assert!(rows > 30, "{rows}");
}

/// The offsets that the library writes functions to are asked of oneCCL itself, with a plug-in that finds them out.
#[test]
fn functions_are_where_layouts_has_them() {
    let bench = Bench::new("layouts");
    let probe = shared(bench.folder(), "tests/c/probe.c", "libprobe.so");
    let program = bench.compile("tests/c/layouts.c", &["cc", "-std=gnu11"]);
    let found = bench.run(&program, &[], &probe);
    let listed = fs::read_to_string(package().join("layouts.txt")).unwrap();
    assert!(found.lines().count() > 20, "{found}");
    for line in found.lines() {
        assert!(listed.lines().any(|listed| listed == line), "layouts.txt has no {line:?}");
    }
}
