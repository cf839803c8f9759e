//! The C programs of `tests/c` and `examples`, compiled and run.

use dure_harness::plugins::cuda_double;

use crate::dynamic::exported;
use crate::library::{C11, compile, folder, output, package, run};

fn test(name: &str, sizes: &[&str]) {
    let folder = folder(name);
    let program = compile(&folder, &format!("tests/c/{name}.c"), C11);
    for size in sizes {
        run(&program, &[size], &[]);
    }
}

/// Most of this test is what the compiler checks.
#[test]
fn sizes_offsets_and_numbers_are_nccls() {
    test("layout", &[""]);
}

#[test]
fn wrong_arguments_have_nccls_results() {
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
fn streams_of_a_gpu() {
    let folder = folder("streams");
    let double = cuda_double().parent().unwrap().display().to_string();
    let program = compile(&folder, "tests/c/streams.c", C11);
    for size in ["1", "2"] {
        run(&program, &[size], &[("LD_LIBRARY_PATH", &double), ("DURE_DEVICE", "cuda:0")]);
    }
}

#[test]
fn endings_out_of_order() {
    test("endings", &[""]);
}

#[test]
fn nothing_wrong_under_address_sanitizer() {
    let folder = folder("sanitized");
    let compiler = [C11, &["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]].concat();
    for (name, ranks) in [("arguments", "1"), ("collectives", "2"), ("communicators", "2")] {
        let program = compile(&folder, &format!("tests/c/{name}.c"), &compiler);
        run(&program, &[ranks], &[("ASAN_OPTIONS", "abort_on_error=0")]);
    }
}

#[test]
fn the_log_says_what_variables_of_nccl_are_taken_as() {
    let folder = folder("log");
    let program = compile(&folder, "examples/first.c", C11);
    let settings = [("NCCL_DEBUG", "INFO"), ("NCCL_ALGO", "Ring"), ("NCCL_PROTO", "LL")];
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let told = output(&program, &[], &settings);
    assert_eq!(text(told.stdout), "11 22 33\n");
    let log = text(told.stderr);
    for line in ["NCCL_DEBUG=INFO is taken as DURE_LOG=info", "of no effect: NCCL_PROTO"] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert_eq!(text(output(&program, &[], &[]).stderr), "");
}

fn read(path: &str) -> String {
    std::fs::read_to_string(package().join(path)).unwrap()
}

#[test]
fn the_readme_begins_with_the_first_example() {
    let (readme, example) = (read("README.md"), read("examples/first.c"));
    let code = readme.split("```c\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(
        example.ends_with(code),
        "the first C code of README.md is not the end of examples/first.c:\n{code}"
    );
    let folder = folder("first");
    for compiler in [&["cc", "-std=c11"][..], &["c++", "-std=c++17", "-x", "c++"]] {
        let program = compile(&folder, "examples/first.c", compiler);
        assert_eq!(run(&program, &[], &[]), "11 22 33\n");
    }
}

#[test]
fn the_readme_has_a_row_for_every_function() {
    let readme = read("README.md");
    for name in exported().iter().filter(|name| name.starts_with("nccl")) {
        assert!(readme.contains(&format!("| `{name}` |")), "{name}");
    }
}
