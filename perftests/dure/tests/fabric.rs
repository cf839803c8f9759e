//! `dure fabric` as scripts use it, over the wires that every machine has.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::fs;
use std::process::{Command, Output, Stdio};

use dure_harness::free_port;
use serde_json::Value;
use tempfile::TempDir;

fn dure(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dure"));
    for name in ["DURE_RANK", "DURE_SIZE", "DURE_ROOT", "RANK", "WORLD_SIZE", "SLURM_PROCID"] {
        command.env_remove(name);
    }
    command.arg("fabric").args(line.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a server and a client, each with flags of its own besides the common ones. Gives the client's answer, then the server's.
fn pair(test: &str, common: &str, client: &str, server: &str) -> [Output; 2] {
    let common = format!("{common} -p {} --timeout 60s", free_port());
    let server = dure(&format!("{test} {common} {server}")).spawn().unwrap();
    let client = dure(&format!("{test} 127.0.0.1 {common} {client}")).output().unwrap();
    [client, server.wait_with_output().unwrap()]
}

/// The client's JSON of a run that went well on both sides.
fn measured(test: &str, common: &str, client: &str) -> Value {
    let [client, server] = pair(test, common, &format!("{client} --json -"), "");
    for (side, output) in [("client", &client), ("server", &server)] {
        assert!(output.status.success(), "{test} {common}, {side}: {}", text(&output.stderr));
    }
    serde_json::from_slice(&client.stdout)
        .unwrap_or_else(|error| panic!("{test}: {error}: {}", text(&client.stdout)))
}

/// A pool of a file that goes with the folder, as the flags name it. This host's memory stands for the pool's.
fn pool() -> (TempDir, String) {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = folder.path().join("pool").display().to_string();
    let mut create = Command::new(env!("CARGO_BIN_EXE_dure"));
    create.args(["pool", "create", &file, "--size", "96M", "--members", "3"]);
    create.args(["--partitions", "2"]);
    let output = create.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    (folder, format!("--transport cxl --pool {file}"))
}

fn rows(table: &str) -> Vec<Vec<String>> {
    let lines = table.lines().filter(|line| line.starts_with(' '));
    let words = lines.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    words.filter(|words| words[0].parse::<u64>().is_ok()).collect()
}

#[test]
fn bandwidth_over_every_wire() {
    for wire in ["tcp", "pool"] {
        for flags in [
            "-s 64 -n 500",
            "-s 64K -n 50",
            "-s 4096 -n 100 -q 3",
            "-s 4K -n 60 -b -q 2",
            "-s 2 -n 40 -I 64 -t 4",
        ] {
            let json = measured("write-bw", &format!("--transport {wire}"), flags);
            let row = &json["results"];
            assert!(
                row["BW_average"].as_f64().unwrap() > 0.0 && row["wrong_bytes"] == 0,
                "{wire} {flags}: {json}"
            );
            assert_eq!(json["test_info"]["Transport"], wire);
        }
    }
}

#[test]
fn latency_over_every_wire() {
    for wire in ["tcp", "pool"] {
        for flags in ["", "-s 4K -n 100", "-s 1M -n 20"] {
            let json = measured("write-lat", &format!("--transport {wire}"), flags);
            let row = &json["results"];
            let time = |name: &str| row[name].as_f64().unwrap();
            assert!(
                time("t_min") > 0.0
                    && time("t_min") <= time("t_typical")
                    && row["wrong_bytes"] == 0,
                "{wire} {flags}: {json}"
            );
            assert!(
                time("percentile_99") <= time("percentile_99.9")
                    && time("percentile_99.9") <= time("t_max")
            );
        }
    }
}

#[test]
fn memory_that_hosts_share_is_a_wire() {
    let (_folder, wire) = pool();
    for (test, flags) in [
        ("write-bw", "-s 64 -n 500"),
        ("write-bw", "-s 64K -n 50 -q 3 --pool-coherence hardware"),
        ("write-bw", "-s 4K -n 60 -b -q 2 --pool-partition 1"),
        ("write-bw", "-s 2 -n 40 -I 64 -t 4"),
        ("write-lat", "-s 4K -n 50"),
        ("write-lat", "-s 1M -n 10 --pool-coherence hardware"),
        ("write-lat", "-n 20 --load"),
    ] {
        let json = measured(test, &wire, flags);
        let rows = match &json["results"] {
            Value::Array(rows) => rows.clone(),
            row => vec![row.clone()],
        };
        for row in rows {
            let name = if test == "write-bw" { "BW_average" } else { "t_typical" };
            assert!(
                row[name].as_f64().unwrap() > 0.0 && row["wrong_bytes"] == 0,
                "{flags}: {json}"
            );
        }
        let (info, hardware) = (&json["test_info"], flags.contains("hardware"));
        assert_eq!(
            (&info["Transport"], &info["Pool_coherence"]),
            (&"cxl".into(), &if hardware { "hardware" } else { "software" }.into())
        );
        assert_eq!(info["Pool_instructions"].is_null(), hardware, "{info}");
        assert_eq!(info["Pool_partition"] == 1, flags.contains("partition"), "{info}");
    }
}

#[test]
fn a_pool_that_is_none_is_told_to_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blank");
    fs::write(&file, [0; 16]).unwrap();
    let wire = |path: &str| format!("--transport cxl --pool {path}");
    for (path, says) in [
        (file.to_str().unwrap(), "a pool's device has"),
        ("/nonexistent/dax0.0", "/nonexistent/dax0.0"),
        ("/dev/null", "neither a file nor a /dev/dax device"),
    ] {
        for output in pair("write-bw", &wire(path), "", "") {
            let said = text(&output.stderr);
            assert!(output.status.code() == Some(1) && said.contains(says), "{path}: {said}");
        }
    }
    let (_folder, wire) = pool();
    let [client, server] = pair("write-lat", &wire, "--pool-partition 7", "");
    for output in [&client, &server] {
        let said = text(&output.stderr);
        assert!(said.contains("partition 7: the pool has 2, from 0"), "{said}");
    }
    for (line, says) in [
        ("write-bw --transport cxl", "--pool"),
        ("matrix --transport cxl --local 2", "--pool"),
        ("matrix --pool /dev/dax0.0 --local 2", "are for --transport cxl"),
        ("write-bw --transport pool --pool /dev/dax0.0", "is for --transport cxl"),
        ("write-bw --transport cxl --pool /dev/dax0.0 --pool-coherence none", "software, hardware"),
    ] {
        let output = dure(line).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(says), "{line}: {said}");
    }
}

#[test]
fn load_is_a_second_row() {
    let json = measured("write-lat", "--transport tcp", "-s 8 -n 50 --load");
    let rows = json["results"].as_array().unwrap();
    assert_eq!((&rows[0]["loaded"], &rows[1]["loaded"]), (&false.into(), &true.into()));
}

#[test]
fn all_sizes_and_a_duration() {
    let json = measured("write-bw", "--transport pool", "-a -n 5");
    let rows = json["results"].as_array().unwrap();
    assert_eq!(
        (rows.len(), &rows[0]["MsgSize"], &rows[22]["MsgSize"]),
        (23, &2.into(), &(8 << 20).into())
    );
    let json = measured("write-lat", "--transport pool", "-D 1");
    assert!(json["results"]["n_iterations"].as_u64().unwrap() > 10);
}

#[test]
fn both_sides_print_perftests_table() {
    let outputs = pair("write-bw", "--transport tcp", "-s 1K -n 30", "--report_gbits");
    let [client, server] = outputs.map(|output| text(&output.stdout));
    assert!(
        client.contains("RDMA_Write BW Test") && client.contains("BW average[MiB/sec]"),
        "{client}"
    );
    assert!(server.contains("BW average[Gb/sec]"), "{server}");
    let [ours, theirs] = [&client, &server].map(|table| rows(table).pop().unwrap());
    assert_eq!((&ours[..2], ours.len()), (&["1024".to_owned(), "30".to_owned()][..], 5));
    assert_eq!((&ours[4], ours.len()), (&theirs[4], theirs.len()), "the same message rate");
    let [client, _] = pair("write-lat", "--transport pool", "-n 20 -H", "");
    let said = text(&client.stdout);
    assert!(
        said.contains("t_typical[usec]") && said.contains("Total count    =           20]"),
        "{said}"
    );
}

#[test]
fn limits_decide_the_status() {
    for (test, client, wanted) in [
        ("write-bw", "-n 20 -w 0.001 -y 0.0000001", 0),
        ("write-bw", "-n 20 -w 1e12", 1),
        ("write-bw", "-n 20 -y 1e9", 1),
        ("write-lat", "-n 20 --limit_lat 1e9", 0),
        ("write-lat", "-n 20 --limit_lat 0.0001", 1),
    ] {
        let [client_said, server] = pair(test, "--transport pool", client, "");
        assert_eq!(
            client_said.status.code(),
            Some(wanted),
            "{client}: {}",
            text(&client_said.stderr)
        );
        assert_eq!(
            server.status.code(),
            Some(0),
            "limits are the client's: {}",
            text(&server.stderr)
        );
    }
}

#[test]
fn results_go_to_perftests_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.json");
    let flags = format!("-n 20 --out_json --out_json_file {}", file.display());
    let [client, _] = pair("write-bw", "--transport pool", &flags, "");
    assert!(client.status.success() && !client.stdout.is_empty());
    let json: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(
        (&json["test_info"]["test"], &json["results"]["n_iterations"]),
        (&"RDMA_Write_BW_Test".into(), &20.into())
    );
}

/// Each side says what is wrong, so that it is seen wherever one looks.
#[test]
fn sides_that_differ_are_told() {
    let [client, server] = pair("write-bw", "--transport tcp", "-s 64", "-s 128");
    for output in [&client, &server] {
        let said = text(&output.stderr);
        assert!(said.contains("-s or -a is [128] here, [64] at the client"), "{said}");
        assert!(matches!(output.status.code(), Some(1 | 2)), "{said}");
    }
    let port = free_port();
    let server =
        dure(&format!("write-lat --transport tcp -p {port} --timeout 60s")).spawn().unwrap();
    let client = dure(&format!("write-bw 127.0.0.1 --transport tcp -p {port} --timeout 60s"))
        .output()
        .unwrap();
    let said = text(&server.wait_with_output().unwrap().stderr) + &text(&client.stderr);
    assert!(said.contains("write-lat over tcp") && said.contains("write-bw over tcp"), "{said}");
}

#[test]
fn nobody_waits_for_ever() {
    let port = free_port();
    let server =
        dure(&format!("write-bw --transport tcp -p {port} --timeout 100ms")).output().unwrap();
    assert_eq!(server.status.code(), Some(1));
    assert!(text(&server.stderr).contains("no client came"), "{}", text(&server.stderr));
    let client = dure(&format!("write-bw 127.0.0.1 --transport tcp -p {port} --timeout 100ms"))
        .output()
        .unwrap();
    assert_eq!(client.status.code(), Some(1));
    assert!(text(&client.stderr).contains("no server at 127.0.0.1"), "{}", text(&client.stderr));
    // A client that comes and says nothing.
    let server =
        dure(&format!("write-bw --transport tcp -p {port} --timeout 300ms")).spawn().unwrap();
    let silent = loop {
        match std::net::TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(_) => std::thread::yield_now(),
        }
    };
    let output = server.wait_with_output().unwrap();
    drop(silent);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("said nothing"), "{}", text(&output.stderr));
}

#[test]
fn what_is_not_offered_has_status_two() {
    for line in [
        "read-bw --transport tcp",
        "send-lat localhost --transport pool",
        "atomic-lat --transport tcp",
        "write-bw --transport npu",
        "read-bw --transport cxl --pool /dev/dax0.0",
        "matrix --local 2 --transport npu",
    ] {
        let output = dure(line).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("not offered"), "{line}: {}", text(&output.stderr));
    }
    for line in [
        "",
        "write",
        "write-bw -s 0",
        "write-bw -n 4",
        "write-bw -m 1500",
        "matrix -b --local 2",
        "matrix",
    ] {
        assert_eq!(dure(line).output().unwrap().status.code(), Some(2), "dure fabric {line}");
    }
}

#[test]
fn the_matrix_has_every_path() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("m.svg");
    let (_pool, cxl) = pool();
    for wire in ["", "--transport tcp", &cxl] {
        let line =
            format!("matrix --local 3 -n 20 -s 4K --load {wire} --svg {} --json -", svg.display());
        let output = dure(&line).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((json["ranks"].as_array().unwrap().len(), &json["wrong_bytes"]), (3, &0.into()));
        for (number, row) in json["rows"].as_array().unwrap().iter().enumerate() {
            let cells = row["cells"].as_array().unwrap();
            assert_eq!((row["rank"].as_u64().unwrap(), cells.len()), (number as u64, 2));
            for cell in cells {
                assert!(
                    cell["bandwidth"].as_f64().unwrap() > 0.0
                        && cell["latency"]["t_typical"].as_f64().unwrap() > 0.0
                );
                assert!(cell["latency_under_load"]["t_typical"].as_f64().unwrap() > 0.0);
                let named = wire.split_whitespace().nth(1).unwrap_or("pool");
                assert_eq!(cell["transport"], named);
            }
        }
        assert_eq!(fs::read_to_string(&svg).unwrap().matches("<title>").count(), 3 * 6);
    }
    let output = dure("matrix --local 2 -n 20 -s 4K").output().unwrap();
    let table = text(&output.stdout);
    assert!(
        table.contains("# Bandwidth of 4096 B messages, MiB/sec")
            && table.contains("# Outliers: 0"),
        "{table}"
    );
}
