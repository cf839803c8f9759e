//! The harness itself: nobody stays.

use std::time::Duration;

use dure_harness::Ended;

use crate::over;

#[test]
fn who_is_there_at_the_deadline_is_killed() {
    let mut cluster = over("pool", 2);
    cluster.deadline = Duration::from_secs(1);
    let report = cluster.run("until-told", &[]);
    for outcome in &report.outcomes {
        let Ended::Died(how) = &outcome.ended else { panic!("{report}") };
        assert!(how.contains("deadline"), "{report}");
    }
}

#[test]
fn who_leaves_a_process_behind_did_not_end_well() {
    let script = "sleep 60 >/dev/null 2>&1 </dev/null & exec \"$0\" \"$@\"";
    let report = over("pool", 1).started_by(&["sh", "-c", script]).run("nothing", &[]);
    let Ended::Died(how) = &report.of(0).ended else { panic!("{report}") };
    assert!(how.contains("left processes behind"), "{report}");
}
