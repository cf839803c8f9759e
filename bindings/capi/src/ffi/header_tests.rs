//! `dure.h` says the same as the Rust side: sizes, offsets and numbers, asked of the C compiler.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::fmt::Write as _;
use std::mem::offset_of;
use std::process::Command;

use dure::Dtype;

use super::comm::{HOST, NO_COLOR, RawUniqueId, SHRINK_ABORT, SHRINK_DEFAULT};
use super::config::{MAGIC, RawConfig, UNSET};
use super::group::{RawSimInfo, SIM_INFO_MAGIC};
use super::library::VERSION_CODE;
use super::memory::{ALIGNMENT, WIN_COLL_SYMMETRIC, WIN_DEFAULT};
use super::operation::{SCALAR_DEVICE, SCALAR_HOST_IMMEDIATE};
use crate::code;
use crate::operation::{BIT_AND, BIT_OR, BIT_XOR};

/// Values of C expressions, as the compiler sees them after `#include <dure.h>`.
fn in_c(expressions: &[String]) -> BTreeMap<String, i64> {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::from("#include <dure.h>\n#include <stdio.h>\nint main(void) {\n");
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

fn expect(values: &[(String, i64)]) {
    let names: Vec<String> = values.iter().map(|(name, _)| name.clone()).collect();
    let found = in_c(&names);
    for (name, value) in values {
        assert_eq!(found[name], *value, "{name}");
    }
}

fn int(value: impl TryInto<i64, Error: std::fmt::Debug>) -> i64 {
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
    let mut values = vec![
        ("sizeof(dureUniqueId)".to_owned(), int(size_of::<RawUniqueId>())),
        ("sizeof(dureConfig_t)".to_owned(), int(size_of::<RawConfig>())),
        ("offsetof(dureConfig_t, size)".to_owned(), int(offset_of!(RawConfig, size))),
        ("offsetof(dureConfig_t, magic)".to_owned(), int(offset_of!(RawConfig, magic))),
        ("offsetof(dureConfig_t, version)".to_owned(), int(offset_of!(RawConfig, version))),
        ("sizeof(dureSimInfo_t)".to_owned(), int(size_of::<RawSimInfo>())),
        ("offsetof(dureSimInfo_t, magic)".to_owned(), int(offset_of!(RawSimInfo, magic))),
        ("offsetof(dureSimInfo_t, version)".to_owned(), int(offset_of!(RawSimInfo, version))),
        (
            "offsetof(dureSimInfo_t, estimatedTime)".to_owned(),
            int(offset_of!(RawSimInfo, estimated_time)),
        ),
    ];
    for enumeration in ["dureResult_t", "dureDataType_t", "dureRedOp_t", "dureScalarResidence_t"] {
        values.push((format!("sizeof({enumeration})"), int(size_of::<c_int>())));
    }
    for (field, offset) in RawConfig::OFFSETS {
        values.push((format!("offsetof(dureConfig_t, {})", camel(field)), int(*offset)));
    }
    expect(&values);
}

#[test]
fn numbers_are_the_same() {
    let mut values = vec![
        ("DURE_VERSION_CODE", int(VERSION_CODE)),
        ("DURE_API_MAGIC", int(MAGIC)),
        ("DURE_CONFIG_UNDEF_INT", int(UNSET)),
        ("((dureSimInfo_t)DURE_SIM_INFO_INITIALIZER).magic", int(SIM_INFO_MAGIC)),
        ("DURE_DEVICE_HOST", int(HOST)),
        ("DURE_SPLIT_NOCOLOR", int(NO_COLOR)),
        ("DURE_SHRINK_DEFAULT", int(SHRINK_DEFAULT)),
        ("DURE_SHRINK_ABORT", int(SHRINK_ABORT)),
        ("DURE_WIN_DEFAULT", int(WIN_DEFAULT)),
        ("DURE_WIN_COLL_SYMMETRIC", int(WIN_COLL_SYMMETRIC)),
        ("DURE_WIN_REQUIRED_ALIGNMENT", int(ALIGNMENT)),
        ("dureScalarDevice", int(SCALAR_DEVICE)),
        ("dureScalarHostImmediate", int(SCALAR_HOST_IMMEDIATE)),
        ("dureBitAnd", int(BIT_AND)),
        ("dureBitOr", int(BIT_OR)),
        ("dureBitXor", int(BIT_XOR)),
        ("dureSuccess", int(code::SUCCESS)),
        ("dureUnhandledDeviceError", int(code::UNHANDLED_DEVICE_ERROR)),
        ("dureSystemError", int(code::SYSTEM_ERROR)),
        ("dureInternalError", int(code::INTERNAL_ERROR)),
        ("dureInvalidArgument", int(code::INVALID_ARGUMENT)),
        ("dureInvalidUsage", int(code::INVALID_USAGE)),
        ("dureRemoteError", int(code::REMOTE_ERROR)),
        ("dureInProgress", int(code::IN_PROGRESS)),
        ("dureTimeout", int(code::TIMEOUT)),
        ("dureNumTypes", int(Dtype::ALL.len())),
    ];
    // The built-in reductions by NCCL's numbers; `operation.rs` tests that these numbers mean them.
    values.extend(
        ["dureSum", "dureProd", "dureMax", "dureMin", "dureAvg", "dureNumOps"].into_iter().zip(0..),
    );
    let types = [
        ("dureInt8", Dtype::Int8),
        ("dureUint8", Dtype::Uint8),
        ("dureInt32", Dtype::Int32),
        ("dureUint32", Dtype::Uint32),
        ("dureInt64", Dtype::Int64),
        ("dureUint64", Dtype::Uint64),
        ("dureFloat16", Dtype::F16),
        ("dureFloat32", Dtype::F32),
        ("dureFloat64", Dtype::F64),
        ("dureBfloat16", Dtype::Bf16),
        ("dureFloat8e4m3", Dtype::F8E4M3),
        ("dureFloat8e5m2", Dtype::F8E5M2),
    ];
    values.extend(types.map(|(name, dtype)| (name, int(dtype as c_int))));
    let values: Vec<(String, i64)> =
        values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    expect(&values);
}
