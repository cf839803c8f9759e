//! The C programs of `tests/c` and `examples`, compiled and run.

use dure_harness::plugins::{cuda_double, npu_a, npu_b};

use crate::library::{C11, compile, folder, library, run};

fn test(name: &str, sizes: &[&str]) {
    let folder = folder(name);
    let program = compile(&folder, &format!("tests/c/{name}.c"), C11);
    for size in sizes {
        run(&program, &[size], &[]);
    }
}

#[test]
fn wrong_arguments_are_refused_by_name() {
    test("arguments", &["1"]);
}

#[test]
fn collectives_of_every_type_and_operation() {
    test("collectives", &["1", "2", "4"]);
}

#[test]
fn collectives_over_tcp() {
    let folder = folder("tcp");
    let program = compile(&folder, "tests/c/collectives.c", C11);
    run(&program, &["3"], &[("DURE_TRANSPORT", "tcp")]);
}

#[test]
fn groups_and_children() {
    test("groups", &["1", "2", "4"]);
}

#[test]
fn reductions_streams_and_registered_memory() {
    test("reductions", &["1", "2", "4"]);
}

#[test]
fn memory_of_devices() {
    let folder = folder("devices");
    let program = compile(&folder, "tests/c/devices.c", C11);
    for (plugin, vendor) in [(npu_a(), "npu-a"), (npu_b(), "npu-b")] {
        let plugin = plugin.display().to_string();
        let environment =
            [("DURE_DEVICE_PLUGINS", &*plugin), ("DURE_DEVICE", &format!("{vendor}:5"))];
        for size in ["1", "2", "3"] {
            run(&program, &[size], &environment);
        }
    }
}

#[test]
fn memory_and_streams_of_a_gpu() {
    let folder = folder("gpu");
    let double = cuda_double().parent().unwrap().display().to_string();
    let environment = [("LD_LIBRARY_PATH", &*double), ("DURE_DEVICE", "cuda:0")];
    for program in ["devices", "join"] {
        let program = compile(&folder, &format!("tests/c/{program}.c"), C11);
        for size in ["1", "2", "4"] {
            run(&program, &[size], &environment);
        }
    }
}

#[test]
fn beginnings_and_endings_out_of_order() {
    test("endings", &[""]);
}

#[test]
fn examples_in_c_and_in_cpp() {
    let folder = folder("examples");
    for example in ["all_reduce", "group_send_recv", "streams"] {
        for compiler in [&["cc", "-std=c11"][..], &["c++", "-std=c++17", "-x", "c++"]] {
            let program = compile(&folder, &format!("examples/{example}.c"), compiler);
            for ranks in 1..4 {
                let output = run(&program, &[&ranks.to_string()], &[]);
                assert!(
                    output.starts_with(&format!("{ranks} ranks: ")) && output.contains("right"),
                    "{example}: {output}"
                );
            }
        }
    }
}

#[test]
fn the_readme_begins_with_the_first_example() {
    let read = |path: &str| std::fs::read_to_string(crate::library::package().join(path)).unwrap();
    let (readme, example) = (read("README.md"), read("examples/first.c"));
    let code = readme.split("```c\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(
        example.ends_with(code),
        "the first C code of README.md is not the end of examples/first.c:\n{code}"
    );

    let folder = folder("first");
    let program = compile(&folder, "examples/first.c", &["cc", "-std=c11"]);
    assert_eq!(run(&program, &[], &[("DURE_RANK", "0"), ("DURE_SIZE", "1")]), "1 2 3\n");
    // As the text below the program starts it.
    let line = readme
        .lines()
        .find(|line| line.contains("DURE_RANK=0") && line.contains("./first"))
        .unwrap();
    let port = dure_harness::free_port();
    let line =
        line.replace("./first", program.to_str().unwrap()).replace("29500", &port.to_string());
    let script = format!("{line}\nwait");
    assert_eq!(crate::library::tool("timeout", &["120", "sh", "-c", &script]), "2 4 6\n2 4 6\n");
}

#[test]
fn nothing_wrong_under_address_sanitizer() {
    let folder = folder("sanitized");
    let compiler = [C11, &["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]].concat();
    for (name, ranks) in [("arguments", "1"), ("groups", "2"), ("reductions", "2")] {
        let program = compile(&folder, &format!("tests/c/{name}.c"), &compiler);
        run(&program, &[ranks], &[("ASAN_OPTIONS", "abort_on_error=0")]);
    }
    assert!(library().exists());
}
