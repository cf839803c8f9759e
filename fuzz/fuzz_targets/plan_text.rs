//! Plan files: any text is a plan or an error with its place, and any plan has a flaw or is proved.
#![no_main]

use dure_plan::{Algorithm, FilePlan, draw, to_text, verify};
use libfuzzer_sys::fuzz_target;

/// Larger plans are read, but not run: a proof takes time.
const MOST: u32 = 64;

fuzz_target!(|text: &str| {
    let plan = match FilePlan::parse(text) {
        Ok(plan) => plan,
        Err(error) => return assert!(error.line > 0 && error.column > 0),
    };
    let (what, world) = (plan.collective(), plan.world());
    let shape = plan.shape(what, &world);
    let large = [world.ranks * 4, world.lanes.into(), shape.parts, shape.scratch, shape.run];
    if large.into_iter().any(|number| number > MOST) {
        return;
    }
    let written = to_text(what, &world, &plan).expect("a plan serves its own world");
    let again = FilePlan::parse(&written).expect("what is written can be read");
    assert_eq!(to_text(what, &world, &again).as_ref(), Ok(&written));
    let proof = verify(what, &world, &plan, 2);
    assert_eq!(proof, verify(what, &world, &again, 2));
    for lane in 0..world.lanes {
        let drawing = draw(what, &world, &plan, lane, 2);
        assert!(drawing.is_ok() || proof.is_err());
    }
});
