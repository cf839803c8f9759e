//! Ranks through a pool of memory that hosts could share, a file here: results, deaths, and what those leave behind.

use dure_harness::Cluster;
use dure_pool::cxl::{self, Plan};
use tempfile::NamedTempFile;

use crate::failures::kill;
use crate::over;

/// A pool of eight members.
struct Pool(NamedTempFile);

impl Pool {
    fn new() -> Self {
        let file = NamedTempFile::with_prefix_in("dure-pool-", "/dev/shm").unwrap();
        file.as_file().set_len(1 << 30).unwrap();
        let plan = Plan { members: 8, partitions: 1, granule: 2 << 20 };
        cxl::create(&[file.path().to_owned()], plan).unwrap();
        Self(file)
    }

    /// Ranks that have no other way than the pool.
    fn over(&self, ranks: u32) -> Cluster {
        let path = self.0.path().to_str().unwrap();
        let cluster = over("cxl", ranks).set("DURE_POOL", path).set("DURE_SLOT_BYTES", "16K");
        // Where many tests run at once a process may stand still for seconds.
        cluster.set("DURE_POOL_PATIENCE", "30s")
    }
}

#[test]
fn every_collective_through_a_pool() {
    let pool = Pool::new();
    for ranks in [2, 4, 8] {
        pool.over(ranks).run("collectives", &["0", "1", "3", "5000"]).expect_well();
        pool.over(ranks).run("typed", &[]).expect_well();
    }
    pool.over(3).run("types", &[]).expect_well();
}

#[test]
fn every_algorithm_through_a_pool() {
    Pool::new().over(5).run("algorithms", &["1", "17", "40000"]).expect_well();
}

#[test]
fn every_collective_through_a_coherent_pool() {
    let pool = Pool::new();
    let cluster = pool.over(4).set("DURE_POOL_COHERENCE", "hardware");
    cluster.run("collectives", &["0", "1", "3", "5000"]).expect_well();
}

#[test]
fn a_killed_rank_is_named_through_a_pool_and_its_member_taken_over_when_told() {
    let pool = Pool::new();
    kill(&pool.over(4), 2, "through a pool");
    // Each of these waits once for a sign of life of the one that was killed.
    let next = || pool.over(4).set("DURE_POOL_PATIENCE", "5s");
    let report = next().set("DURE_TIMEOUT", "3s").run("typed", &[]);
    let text = report.to_string();
    assert!(
        text.contains("member 2 of the pool") && text.contains("DURE_POOL_TAKE_OVER"),
        "{text}"
    );
    next().set("DURE_POOL_TAKE_OVER", "on").run("typed", &[]).expect_well();
    next().run("typed", &[]).expect_well();
}
