//! A header says the same as the Rust side: sizes, offsets and numbers, asked of the C compiler.
//!
//! For each interface, as a module of its tests. `crate::Tested` is the interface, and its header `include/PREFIX.h`. In
//! names `$` stands for how functions begin, and `@` for how macros do.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_uint};
use std::fmt::Write as _;
use std::mem::offset_of;
use std::process::Command;

use dure::Dtype;
use dure_c::Interface;
use dure_c::code;
use dure_c::ffi::comm::{NO_COLOR, RawUniqueId, SHRINK_ABORT, SHRINK_DEFAULT};
use dure_c::ffi::config::{MAGIC, RawConfig, UNSET};
use dure_c::ffi::group::{RawSimInfo, SIM_INFO_MAGIC};
use dure_c::ffi::memory::ALIGNMENT;
use dure_c::ffi::operation::{SCALAR_DEVICE, SCALAR_HOST_IMMEDIATE};

use crate::Tested;

/// Values of C expressions, as the compiler sees them after the header is included.
fn in_c(expressions: &[String]) -> BTreeMap<String, i64> {
    let dir = tempfile::tempdir().unwrap();
    let mut text =
        format!("#include <{}.h>\n#include <stdio.h>\nint main(void) {{\n", Tested::PREFIX);
    for expression in expressions {
        writeln!(text, "  printf(\"{expression}=%lld\\n\", (long long)({expression}));").unwrap();
    }
    text.push_str("  return 0;\n}\n");
    let (source, program) = (dir.path().join("ask.c"), dir.path().join("ask"));
    std::fs::write(&source, text).unwrap();
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/include");
    let compiler = Command::new("cc")
        .args(["-std=c11", "-Wall", "-I", include])
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .output();
    let compiler = compiler.unwrap();
    assert!(compiler.status.success(), "{}", String::from_utf8_lossy(&compiler.stderr));
    let answer = Command::new(&program).output().unwrap();
    let lines = String::from_utf8(answer.stdout).unwrap();
    lines
        .lines()
        .map(|line| {
            let (name, value) = line.rsplit_once('=').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// Expects values of C expressions, in which names are written with `$` and `@`.
pub(crate) fn expect(values: &[(&str, i64)]) {
    let capitals = Tested::PREFIX.to_ascii_uppercase() + "_";
    let named = |name: &str| name.replace('$', Tested::PREFIX).replace('@', &capitals);
    let names: Vec<String> = values.iter().map(|(name, _)| named(name)).collect();
    let found = in_c(&names);
    for (name, (_, value)) in names.iter().zip(values) {
        assert_eq!(found[name], *value, "{name}");
    }
}

pub(crate) fn int(value: impl TryInto<i64, Error: std::fmt::Debug>) -> i64 {
    value.try_into().unwrap()
}

/// As the header writes the field: `max_ctas` is `maxCTAs`.
fn camel(field: &str) -> String {
    let mut name = String::new();
    for (index, word) in field.split('_').enumerate() {
        match word {
            "ctas" => name.push_str("CTAs"),
            "cta" => name.push_str("CTA"),
            _ if index == 0 => name.push_str(word),
            _ => name.extend(word[..1].to_uppercase().chars().chain(word[1..].chars())),
        }
    }
    name
}

#[test]
fn structures_have_the_same_layout() {
    type Raw = RawConfig<<Tested as Interface>::Further>;
    let mut values = vec![
        ("sizeof($UniqueId)", int(size_of::<RawUniqueId>())),
        ("sizeof($Config_t)", int(size_of::<Raw>())),
        ("offsetof($Config_t, size)", 0),
        ("offsetof($Config_t, magic)", int(size_of::<usize>())),
        ("offsetof($Config_t, version)", int(size_of::<usize>() + size_of::<c_uint>())),
        ("sizeof($SimInfo_t)", int(size_of::<RawSimInfo>())),
        ("offsetof($SimInfo_t, magic)", int(offset_of!(RawSimInfo, magic))),
        ("offsetof($SimInfo_t, version)", int(offset_of!(RawSimInfo, version))),
        ("offsetof($SimInfo_t, estimatedTime)", int(offset_of!(RawSimInfo, estimated_time))),
        ("sizeof($Result_t)", int(size_of::<c_int>())),
        ("sizeof($DataType_t)", int(size_of::<c_int>())),
        ("sizeof($RedOp_t)", int(size_of::<c_int>())),
        ("sizeof($ScalarResidence_t)", int(size_of::<c_int>())),
    ];
    let fields: Vec<_> = Raw::layout()
        .map(|(field, run)| {
            (format!("offsetof($Config_t, {})", camel(field.name)), int(run + field.offset))
        })
        .collect();
    values.extend(fields.iter().map(|(name, offset)| (name.as_str(), *offset)));
    expect(&values);
}

#[test]
fn numbers_are_the_same() {
    let mut values = vec![
        ("@VERSION_CODE", int(Tested::VERSION)),
        ("@API_MAGIC", int(MAGIC)),
        ("@CONFIG_UNDEF_INT", int(UNSET)),
        ("(($SimInfo_t)@SIM_INFO_INITIALIZER).magic", int(SIM_INFO_MAGIC)),
        ("@SPLIT_NOCOLOR", int(NO_COLOR)),
        ("@SHRINK_DEFAULT", int(SHRINK_DEFAULT)),
        ("@SHRINK_ABORT", int(SHRINK_ABORT)),
        ("@WIN_DEFAULT", 0),
        ("@WIN_REQUIRED_ALIGNMENT", int(ALIGNMENT)),
        ("$ScalarDevice", int(SCALAR_DEVICE)),
        ("$ScalarHostImmediate", int(SCALAR_HOST_IMMEDIATE)),
        ("$Success", int(code::SUCCESS)),
        ("$SystemError", int(code::SYSTEM_ERROR)),
        ("$InternalError", int(code::INTERNAL_ERROR)),
        ("$InvalidArgument", int(code::INVALID_ARGUMENT)),
        ("$InvalidUsage", int(code::INVALID_USAGE)),
        ("$RemoteError", int(code::REMOTE_ERROR)),
        ("$InProgress", int(code::IN_PROGRESS)),
        ("$Timeout", int(code::TIMEOUT)),
        ("$NumTypes", int(Dtype::ALL.len())),
    ];
    // The built-in reductions by NCCL's numbers; `operation.rs` tests that these numbers mean them.
    values.extend(["$Sum", "$Prod", "$Max", "$Min", "$Avg", "$NumOps"].into_iter().zip(0..));
    let types = [
        ("$Int8", Dtype::Int8),
        ("$Uint8", Dtype::Uint8),
        ("$Int32", Dtype::Int32),
        ("$Uint32", Dtype::Uint32),
        ("$Int64", Dtype::Int64),
        ("$Uint64", Dtype::Uint64),
        ("$Float16", Dtype::F16),
        ("$Float32", Dtype::F32),
        ("$Float64", Dtype::F64),
        ("$Bfloat16", Dtype::Bf16),
        ("$Float8e4m3", Dtype::F8E4M3),
        ("$Float8e5m2", Dtype::F8E5M2),
    ];
    values.extend(types.map(|(name, dtype)| (name, int(dtype as c_int))));
    expect(&values);
    let flags: Vec<_> =
        Tested::WINDOW_FLAGS.iter().map(|(name, flag)| (format!("@{name}"), int(*flag))).collect();
    expect(&flags.iter().map(|(name, flag)| (name.as_str(), *flag)).collect::<Vec<_>>());
}
