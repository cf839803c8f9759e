//! `dure doctor`: what this host offers, what follows from it, and what to do about it.
//!
//! Everything is read from files below one root folder, so that a tree of files can stand for any host.

mod accelerators;
mod cxl;
mod limits;
mod network;
mod system;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::output::{self, Failure, Verdict};

/// Say what this host offers.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "The exit status is 1 if something that every job needs is missing.")]
pub(crate) struct Args {
    /// Write the findings as JSON; with - to standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Folder that the files of the host are read from.
    #[arg(long, value_name = "FOLDER", default_value = "/", hide = true)]
    root: PathBuf,
}

/// One thing that a job may use.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    facility: &'static str,
    level: Level,
    /// What was found.
    state: String,
    /// What follows for jobs.
    consequence: String,
    /// What to do, if something should be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// There, and good.
    Ok,
    /// Not there; jobs do without.
    Absent,
    /// There, but jobs are slower or smaller than they could be.
    Limited,
    /// No job works without.
    Broken,
}

impl Finding {
    fn new(
        facility: &'static str,
        level: Level,
        state: impl Into<String>,
        consequence: impl Into<String>,
    ) -> Self {
        Self { facility, level, state: state.into(), consequence: consequence.into(), remedy: None }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

#[derive(Debug, Serialize)]
struct Report {
    dure_version: &'static str,
    facilities: Vec<Finding>,
}

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    let report = Report {
        dure_version: env!("CARGO_PKG_VERSION"),
        facilities: examine(&Host::new(&args.root)),
    };
    if let Some(to) = &args.json {
        output::write_json(to, &report)?;
    }
    if !output::claims_output(args.json.as_ref()) {
        io::stdout().lock().write_all(table(&report.facilities).as_bytes())?;
    }
    Ok(Verdict::holds_if(report.facilities.iter().all(|finding| finding.level != Level::Broken)))
}

/// Every finding, the general ones first.
fn examine(host: &Host) -> Vec<Finding> {
    let mut findings = vec![system::cpu(host), system::cores(host), system::memory(host)];
    findings.extend([limits::locked_memory(host), limits::open_files(host)]);
    findings.extend([system::shared_memory(host), system::anonymous_memory(host)]);
    findings.extend([system::io_uring(host), system::ptrace(host)]);
    findings.extend([
        network::interfaces(host),
        network::congestion_control(host),
        network::buffers(host),
    ]);
    findings.extend([network::rdma(host), network::verbs_library(host)]);
    findings.extend([cxl::cxl(host), accelerators::gpus(host)]);
    findings.extend([accelerators::cuda(host), accelerators::npus(host)]);
    findings.push(accelerators::plugins(host));
    findings
}

fn table(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { facility, level, state, consequence, remedy } in findings {
        let mark = match level {
            Level::Ok => "ok",
            Level::Absent => "--",
            Level::Limited => "!",
            Level::Broken => "!!",
        };
        let remedy =
            remedy.as_ref().map_or_else(String::new, |remedy| format!("; remedy: {remedy}"));
        text.push_str(&format!("{mark:<2}  {facility:<18}  {state}: {consequence}{remedy}\n"));
    }
    text
}

/// A host, as its files tell.
struct Host {
    root: PathBuf,
}

impl Host {
    fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Whether it is the host that this process runs on.
    fn is_this(&self) -> bool {
        self.root == Path::new("/")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Text of a file, without the space around it; none if there is no such file, or it may not be read.
    fn text(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.path(path)).ok()
    }

    fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// Whether this process may open a file to read and write.
    fn may_write(&self, path: &str) -> bool {
        fs::OpenOptions::new().read(true).write(true).open(self.path(path)).is_ok()
    }

    /// Names in a folder that begin with one of the prefixes, sorted; none if there is no such folder.
    fn names(&self, folder: &str, prefixes: &[&str]) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(folder)) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<_> =
            names.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))).collect();
        names.sort();
        names
    }

    /// The value of `key` in a file of lines `key: value`.
    fn field(&self, path: &str, key: &str) -> Option<String> {
        let text = self.text(path)?;
        text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A host made of files.
    pub(super) struct Tree(TempDir);

    impl Tree {
        pub(super) fn new(files: &[(&str, &str)]) -> Self {
            let tree = Self(TempDir::new().unwrap());
            for (path, text) in files {
                let path = tree.0.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            tree
        }

        pub(super) fn host(&self) -> Host {
            Host::new(self.0.path())
        }
    }

    #[test]
    fn an_empty_tree_has_every_line_and_no_panic() {
        let tree = Tree::new(&[]);
        let findings = examine(&tree.host());
        let names: std::collections::BTreeSet<_> =
            findings.iter().map(|finding| finding.facility).collect();
        assert_eq!(names.len(), findings.len(), "each facility has one line");
        assert_eq!(table(&findings).lines().count(), findings.len());
    }

    #[test]
    fn json_has_state_consequence_and_remedy() {
        let finding = Finding::new("rdma", Level::Absent, "none", "tcp is used").remedy("buy one");
        let json = serde_json::to_value(&finding).unwrap();
        assert_eq!((&json["facility"], &json["level"]), (&"rdma".into(), &"absent".into()));
        assert_eq!(
            (&json["consequence"], &json["remedy"]),
            (&"tcp is used".into(), &"buy one".into())
        );
        assert_eq!(
            table(&[finding]),
            "--  rdma                none: tcp is used; remedy: buy one\n"
        );
    }
}
