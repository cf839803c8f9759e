//! The structures lie in memory as the header's do.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use dure_device_abi as abi;

/// Structure in C, field in C, offset in Rust; and the size of each structure.
macro_rules! layout {
    ($($rust:ident = $c:literal { $($field:ident $(as $name:literal)?),* })*) => {
        [$((
            $c,
            size_of::<abi::$rust>(),
            vec![$((
                *[$($name,)? stringify!($field)].first().unwrap(),
                std::mem::offset_of!(abi::$rust, $field),
            )),*],
        )),*]
    };
}

#[test]
fn structures_are_those_of_the_header() {
    let all = layout! {
        Info = "dureDeviceInfo_t" {
            size, capabilities, name, serial, pci, numa, partition, memory, most_sources, most_peers, reduces,
            scales
        }
        Link = "dureDeviceLink_t" { size, kind as "type", peer_access, latency, bandwidth }
        Range = "dureDeviceRange_t" { size, base, bytes }
        Handle = "dureDeviceHandle_t" { bytes }
        Copy = "dureDeviceCopy_t" {
            size, src_is_host, dst_is_host, rows, src, dst, bytes, src_pitch, dst_pitch
        }
        Reduce = "dureDeviceReduce_t" { size, sources, dtype as "type", op, srcs, dst, count }
        Scale = "dureDeviceScale_t" { size, dtype as "type", kind, src, dst, count, factor, integer }
        Counters = "dureDeviceCounters_t" { size, from_host, to_host, inside, peer, reduced }
        Plugin = "dureDevicePlugin_t" {
            size, abi, vendor, version, error, count, describe, link, open, close, health, counters, alloc, free, query,
            stream_open, stream_close, copy, reduce, scale, record, completed, wait, export_handle, import_handle, forget,
            export_dmabuf, map, unmap, flush, stream_join, hold, release
        }
    };
    let mut program = "#include \"dure_device.h\"\n".to_owned();
    let mut demand = |what: String| writeln!(program, "_Static_assert({what}, \"\");").unwrap();
    for (name, size, fields) in all {
        demand(format!("sizeof({name}) == {size}"));
        for (field, offset) in fields {
            demand(format!("offsetof({name}, {field}) == {offset}"));
        }
    }
    demand(format!("DURE_DEVICE_ABI == {} && dureDeviceFailed == {}", abi::ABI, abi::FAILED));
    demand(format!("DURE_DEVICE_HANDLE == {}", abi::HANDLE));
    demand(format!("DURE_DEVICE_JOIN == {} && DURE_DEVICE_OPS == {}", abi::JOIN, abi::OPS));
    compile(&program, &["cc", "-std=c11", "-xc"]);
}

#[test]
fn the_header_is_cpp_as_well() {
    compile("#include \"dure_device.h\"\n", &["c++", "-xc++"]);
}

fn compile(program: &str, compiler: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("layout.c");
    std::fs::write(&source, program).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let output = Command::new(compiler[0])
        .args(&compiler[1..])
        .args(["-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I"])
        .arg(include)
        .arg(source)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
