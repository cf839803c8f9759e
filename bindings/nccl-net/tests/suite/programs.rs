//! The C programs of `tests/c` and `examples`, compiled and run. Over TCP where the host has no RDMA; `tests/guest/rdma` runs
//! them where it has.

use crate::library::{C11, compile, folder, package, run};

fn test(name: &str, runs: &[&[&str]]) -> Vec<String> {
    let folder = folder(name);
    let program = compile(&folder, &format!("tests/c/{name}.c"), C11);
    runs.iter().map(|arguments| run(&program, arguments, &[])).collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(package().join(path)).unwrap()
}

#[test]
fn sizes_places_and_numbers_are_those_that_are_pinned() {
    assert_eq!(test("layout", &[&[]]), [read("layout.txt")]);
}

#[test]
fn two_processes_move_messages_through_the_table_of_each_version() {
    let versions: [&[&str]; 6] = [&["0"], &["8"], &["9"], &["10"], &["11"], &["12"]];
    for said in test("transfer", &versions) {
        assert_eq!(said, "all right\n");
    }
}

#[test]
fn wrong_arguments_have_results_and_sentences() {
    assert_eq!(test("arguments", &[&[]]), ["all right\n"]);
}

#[test]
fn a_killed_peer_is_an_error_that_names_it() {
    for said in test("killed", &[&["sender"], &["receiver"]]) {
        assert!(said.contains("connection from ") && said.contains(" is lost"), "{said}");
    }
}

#[test]
fn settings_are_heeded() {
    let said = test(
        "settings",
        &[
            &["init", "DURE_TRANSPORT", "pool"],
            &["init", "DURE_TRANSPROT", "tcp"],
            &["init", "DURE_IFNAME", "nothing"],
            &["differ"],
            &["accept"],
            &["connect"],
        ],
    );
    for (said, wanted) in said.iter().zip([
        "4 init: DURE_TRANSPORT=pool leaves nothing",
        "4 init: unknown setting DURE_TRANSPROT; did you mean DURE_TRANSPORT?",
        "4 init: DURE_IFNAME=\"nothing\" matches none",
        "5 accept: DURE_TRANSPORT is tcp at ",
    ]) {
        assert!(said.starts_with(wanted), "{said}");
    }
    for (said, wanted) in
        said[4..].iter().zip(["no sender has come", "the receiver does not answer"])
    {
        assert!(said.contains(&format!("{wanted} after 200ms (DURE_TIMEOUT)")), "{said}");
    }
}

#[test]
fn nothing_wrong_under_address_sanitizer() {
    let folder = folder("sanitized");
    let compiler = [C11, &["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]].concat();
    for (name, arguments) in [("arguments", &[][..]), ("transfer", &["0"])] {
        let program = compile(&folder, &format!("tests/c/{name}.c"), &compiler);
        // The sanitizer calls `dlopen` in the program's place, which then does not look where the program says.
        let path = ("LD_LIBRARY_PATH", folder.to_str().unwrap());
        run(&program, arguments, &[("ASAN_OPTIONS", "abort_on_error=0"), path]);
    }
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
    let program = compile(&folder, "examples/first.c", C11);
    assert_eq!(run(&program, &[], &[]), "16: bytes over Dure\n");
}
