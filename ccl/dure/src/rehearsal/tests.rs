//! Whole jobs, over the real handshakes.

use super::*;
use crate::bootstrap::shape;
use crate::error::ErrorKind;

fn with(trouble: Trouble) -> Job {
    Rehearsal { per_process: 4, trouble: Some(trouble), ..Rehearsal::of(64) }.run()
}

/// What all ranks but some were told, the same to all.
fn told(job: &Job, except: &[u32]) -> (usize, String) {
    let texts: Vec<String> = job
        .errors()
        .filter(|(rank, _)| !except.contains(rank))
        .map(|(rank, error)| {
            assert_eq!(error.rank, Some(rank));
            error.what.clone()
        })
        .collect();
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    (texts.len(), texts[0].clone())
}

#[test]
fn all_ranks_get_one_table_and_the_links_of_the_tree() {
    for (ranks, per_process) in [(1, 1), (2, 1), (9, 9), (64, 1), (100, 7), (512, 8)] {
        let job = Rehearsal { per_process, ..Rehearsal::of(ranks) }.run();
        assert_eq!((job.joined(), job.errors().count()), (ranks as usize, 0));
        assert_eq!(job.digests().len(), 1, "{ranks} ranks");
        let tables: Vec<_> = job.results().map(|(_, table)| table.unwrap()).collect();
        for table in &tables {
            let members = table.members(ranks).unwrap();
            assert!(std::ptr::eq(&*members, &*tables[0].members(ranks).unwrap()));
        }
        for (rank, expected) in (0..).zip(&*tables[0].members(ranks).unwrap()) {
            assert_eq!(*expected, member(rank, rank / per_process));
        }
        for (rank, links) in job.links() {
            let children = shape::children(rank, ranks);
            let neighbours: BTreeSet<u32> = children.chain(shape::parent(rank)).collect();
            assert_eq!(links, neighbours, "rank {rank} of {ranks}");
        }
    }
}

/// The table is most of what is carried.
#[test]
fn a_process_gets_the_table_once() {
    let tables = |per_process| {
        let job = Rehearsal { per_process, ..Rehearsal::of(256) }.run();
        let (_, table) = job.results().next().unwrap();
        job.carried() / table.unwrap().packed().0.len() as u64
    };
    // From the root to rank 0, and to each other process. The rest is handshakes.
    let (alone, together) = (tables(1), tables(8));
    assert!(alone >= 256 && (32..80).contains(&together), "{alone} {together}");
}

#[test]
fn a_wrong_secret_is_told_to_it_and_named_to_all_others() {
    let job = with(Trouble::WrongSecret(37));
    assert_eq!(job.joined(), 0);
    let expected = "rank 37 never came (63 of 64 did); a connection from 10.0.0.9 that called itself rank 37 was \
                    refused: wrong secret";
    assert_eq!(told(&job, &[37]), (63, expected.to_owned()));
    let (_, error) = job.errors().find(|(rank, _)| *rank == 37).unwrap();
    assert_eq!(error.what, "the root refused the handshake: wrong secret?");
}

#[test]
fn a_missing_rank_is_named_to_all() {
    let job = with(Trouble::Missing(5));
    assert_eq!(told(&job, &[]), (63, "rank 5 never came (63 of 64 did)".to_owned()));
    let mut errors = job.errors();
    assert!(errors.all(|(_, error)| (error.kind, error.peer) == (ErrorKind::Timeout, Some(5))));
}

#[test]
fn a_rank_that_comes_twice_is_named_to_all() {
    let job = with(Trouble::Twice(21));
    let (count, text) = told(&job, &[]);
    assert!(text.starts_with("rank 21 came twice: from 10.0.0."), "{text}");
    assert_eq!((count, job.joined()), (65, 0));
}
