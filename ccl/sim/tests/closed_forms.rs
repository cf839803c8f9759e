//! The simulator against what is known: LogGOPSim's published example, and closed forms.

mod common;

use common::{bare, cluster, predict};
use dure_plan::{Collective, Rank};
use dure_sim::{Call, Compute, Constants, Network, Options, Wire, cost, ends};
use dure_topology::Source;

const WIRE: Wire = Wire {
    latency: 2500.0,
    overhead: 1500.0,
    gap: 1000.0,
    per_byte: 6.0,
    cpu_per_byte: 0.0,
    eager: 65535,
    shared: false,
    source: Source::Measured,
};

/// Hoefler et al., LogGOPSim, 2010: the example of its documentation, a binomial reduce of 1,024 bytes on 8 hosts. Times
/// are nanoseconds, here as in seconds, so that all of them are whole numbers.
#[test]
fn loggopsim_s_example_ends_when_it_says() {
    let hosts = cluster(8, 1, "LOC", [1.0, 1.0], Vec::new());
    let network = Network::of(&hosts, &bare(WIRE)).unwrap();
    let world = common::world(&hosts, 1);
    let what = Collective::Reduce { root: Rank(0) };
    let by = dure_plan::find(what, "binomial").unwrap();
    let call = Call { what, world: &world, by, bytes: 1024, elem: 1 };
    let ends = ends(&call, &network, &Options::default()).unwrap();
    assert_eq!(ends, [34914.0, 1500.0, 13138.0, 1500.0, 24776.0, 1500.0, 13138.0, 1500.0]);
    let whole = cost(&call, &network, &Options::default()).unwrap();
    assert_eq!((whole.seconds, whole.parts.sum()), (34914.0, 34914.0));
    // Three messages on the way to the root, and four processors' work at each: what is sent, and what is taken.
    assert_eq!((whole.counts.messages(), whole.counts.between.overheads), (3.0, 6.0));
    assert_eq!(whole.counts.wire_bytes(), 3.0 * 1023.0);
}

/// A wire in seconds, and work that costs.
fn constants() -> Constants {
    let wire = Wire { latency: 2e-6, overhead: 0.5e-6, gap: 0.0, per_byte: 1e-9, eager: 0, ..WIRE };
    let compute = Compute { reduce_per_byte: 0.25e-9, ..bare(wire).processor };
    Constants { processor: compute, ..bare(wire) }
}

fn assert_near(got: f64, want: f64, what: &str) {
    assert!((got / want - 1.0).abs() < 1e-9, "{what}: {got} instead of {want}");
}

#[test]
fn a_ring_takes_what_its_closed_form_says() {
    let constants = constants();
    for n in [2_u32, 3, 8, 64] {
        let hosts = cluster(n, 1, "LOC", [1.0, 1.0], Vec::new());
        for chunk in [64_u64, 4096, 262_144] {
            let bytes = chunk * u64::from(n);
            let message = 2.0 * 0.5e-6 + 2e-6 + (chunk - 1) as f64 * 1e-9;
            let (rounds, reduce) = (f64::from(n - 1), chunk as f64 * 0.25e-9);
            for (what, want) in [
                (Collective::AllReduce, rounds * (2.0 * message + reduce)),
                (Collective::ReduceScatter, rounds * (message + reduce)),
                (Collective::AllGather, rounds * message),
            ] {
                let got = predict((what, "ring"), (&hosts, &constants), bytes, &Options::default());
                assert_near(got.unwrap().seconds, want, &format!("{what} of {bytes} on {n}"));
            }
        }
    }
}

#[test]
fn trees_take_what_their_closed_forms_say() {
    let constants = constants();
    for rounds in [1_u32, 3, 6, 10] {
        let hosts = cluster(1 << rounds, 1, "LOC", [1.0, 1.0], Vec::new());
        for bytes in [4_u64, 4096, 1 << 20] {
            let message = 2.0 * 0.5e-6 + 2e-6 + (bytes - 1) as f64 * 1e-9;
            let reduce = bytes as f64 * 0.25e-9;
            let root = Rank(0);
            for (what, name, want) in [
                (Collective::Broadcast { root }, "binomial", message),
                (Collective::AllReduce, "recursive-doubling", message + reduce),
            ] {
                let got = predict((what, name), (&hosts, &constants), bytes, &Options::default());
                let want = f64::from(rounds) * want;
                assert_near(
                    got.unwrap().seconds,
                    want,
                    &format!("{what} of {bytes}, {rounds} rounds"),
                );
            }
        }
    }
}

/// Passes follow one another as in a pipe, and those that are not simulated take as long as those that are.
#[test]
fn a_chain_of_many_passes_takes_what_its_closed_form_says() {
    let constants = constants();
    let hosts = cluster(5, 1, "LOC", [1.0, 1.0], Vec::new());
    let what = Collective::Broadcast { root: Rank(0) };
    let slot = 1_u64 << 16;
    let options = Options { slot_bytes: 1 << 16, ..Options::default() };
    for passes in [1_u64, 4, 24, 25, 64, 1000] {
        let got = predict((what, "chain"), (&hosts, &constants), passes * slot, &options).unwrap();
        let message = 2.0 * 0.5e-6 + 2e-6 + (slot - 1) as f64 * 1e-9;
        let want = 4.0 * message + (passes - 1) as f64 * (slot - 1) as f64 * 1e-9;
        assert_near(got.seconds, want, &format!("{passes} passes"));
        assert_eq!((u64::from(got.passes), got.simulated_passes <= 24), (passes, true));
        assert_eq!(got.wire_bytes, 4 * passes * slot);
        assert!((got.parts.sum() / got.seconds - 1.0).abs() < 1e-9, "{:?}", got.parts);
    }
}

/// With one slot the sender waits for each message's slot to come back.
#[test]
fn credits_hold_a_sender_up() {
    let constants = constants();
    let hosts = cluster(2, 1, "LOC", [1.0, 1.0], Vec::new());
    let what = Collective::Broadcast { root: Rank(0) };
    let options = Options { slots: 1, slot_bytes: 1 << 16, ..Options::default() };
    let got = predict((what, "chain"), (&hosts, &constants), 4 << 16, &options).unwrap();
    let message = 2.0 * 0.5e-6 + 2e-6 + 65_535e-9;
    assert_near(got.seconds, 4.0 * message + 3.0 * 2e-6, "four messages and three credits");
}

/// Two cores for eight ranks: all eight have to run in turn, and each turn costs a switch.
#[test]
fn ranks_that_share_cores_take_turns() {
    let took = |cores: u32| {
        let mut host = cluster(1, 8, "SHM", [10.0, 10.0], Vec::new());
        host.kinds[0].cores = cores;
        let all = (&host, &Constants::default());
        let by =
            |name| predict((Collective::AllReduce, name), all, 8, &Options::default()).unwrap();
        (by("recursive-doubling"), by("linear"))
    };
    let ((wide, _), (shared, few)) = (took(8), took(2));
    assert!(shared.seconds > 5.0 * wide.seconds, "{} and {}", shared.seconds, wide.seconds);
    assert!(shared.counts.switches > 0.0 && wide.counts.switches == 0.0);
    assert!(few.seconds < shared.seconds, "fewer messages, fewer switches");
}

/// Four senders to one receiver: its port carries their messages one after the other.
#[test]
fn a_port_is_shared() {
    let constants = constants();
    let hosts = cluster(5, 1, "LOC", [1.0, 1.0], Vec::new());
    let what = Collective::Gather { root: Rank(0) };
    let bytes = 5 << 18;
    let got = predict((what, "linear"), (&hosts, &constants), bytes, &Options::default()).unwrap();
    let bytes = f64::from((1 << 18) - 1);
    assert_near(got.seconds, 2.0 * 0.5e-6 + 2e-6 + 4.0 * bytes * 1e-9, "four messages in a row");
    assert!(got.parts.wait > 0.0, "{:?}", got.parts);
}
