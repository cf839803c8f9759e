//! An installed copy, found by pkg-config and by CMake, also after it was moved.

use std::fs;
use std::process::Command;

use crate::SONAME;
use crate::library::{expect_success, folder, library, package, run, tool};

/// Installs, and moves what was installed.
fn installed(test: &str) -> std::path::PathBuf {
    let folder = folder(test);
    let (first, moved) = (folder.join("first"), folder.join("moved"));
    let script = package().join("install.sh");
    tool(
        script.to_str().unwrap(),
        &[first.to_str().unwrap(), library().parent().unwrap().to_str().unwrap()],
    );
    fs::rename(&first, &moved).unwrap();
    moved
}

#[test]
fn an_example_is_built_by_pkg_config() {
    let prefix = installed("pkg-config");
    let example = prefix.join("share/doc/dure/examples/all_reduce.c");
    let program = prefix.join("all_reduce");
    let line = format!(
        "cc {} $(pkg-config --cflags --libs dure) -o {}",
        example.to_str().unwrap(),
        program.to_str().unwrap()
    );
    let config = prefix.join("lib/pkgconfig");
    let output =
        Command::new("sh").args(["-c", &line]).env("PKG_CONFIG_PATH", &config).output().unwrap();
    expect_success(&output, &line);
    let libraries = prefix.join("lib");
    let text = run(&program, &["2"], &[("LD_LIBRARY_PATH", libraries.to_str().unwrap())]);
    assert!(text.starts_with("2 ranks: "), "{text}");
    let version = Command::new("pkg-config")
        .args(["--modversion", "dure"])
        .env("PKG_CONFIG_PATH", &config)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(version.stdout).unwrap().trim(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_file_is_there_and_no_placeholder_is_left() {
    let prefix = installed("files");
    let version = env!("CARGO_PKG_VERSION");
    for link in ["libdure.so", SONAME] {
        assert_eq!(fs::canonicalize(prefix.join("lib").join(link)).unwrap(), {
            fs::canonicalize(prefix.join(format!("lib/libdure.so.{version}"))).unwrap()
        });
    }
    for file in [
        "include/dure.h",
        "lib/pkgconfig/dure.pc",
        "lib/cmake/Dure/DureConfig.cmake",
        "lib/cmake/Dure/DureConfigVersion.cmake",
        "share/doc/dure/LICENSE-APACHE",
        "share/doc/dure/LICENSE-MIT",
        "share/doc/dure/README.md",
        "share/doc/dure/examples/first.c",
        "share/doc/dure/examples/local.h",
    ] {
        let text =
            fs::read_to_string(prefix.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(!text.contains("@VERSION@") && !text.contains("@ABI@"), "{file}");
    }
}

/// Where there is no CMake, this has nothing to say.
#[test]
fn an_example_is_built_by_cmake() {
    if Command::new("cmake").arg("--version").output().is_err() {
        return;
    }
    let prefix = installed("cmake");
    let source = prefix.join("project");
    fs::create_dir(&source).unwrap();
    fs::copy(package().join("examples/first.c"), source.join("first.c")).unwrap();
    fs::write(
        source.join("CMakeLists.txt"),
        "cmake_minimum_required(VERSION 3.10)\nproject(first C)\nfind_package(Dure 0.1 REQUIRED)\n\
         add_executable(first first.c)\ntarget_link_libraries(first Dure::dure)\n",
    )
    .unwrap();
    let (source, build) = (source.to_str().unwrap(), prefix.join("build"));
    let build = build.to_str().unwrap();
    tool(
        "cmake",
        &["-S", source, "-B", build, &format!("-DCMAKE_PREFIX_PATH={}", prefix.display())],
    );
    tool("cmake", &["--build", build]);
    let text = run(&prefix.join("build/first"), &[], &[("DURE_RANK", "0"), ("DURE_SIZE", "1")]);
    assert_eq!(text, "1 2 3\n");
}
