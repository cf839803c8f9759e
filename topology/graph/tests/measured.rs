//! What was measured against what is declared.

use dure_topology::{Cluster, Measured, Sort, contradictions};

fn cluster(layout: &str) -> Cluster {
    Cluster::synthetic(layout).expect("a layout of these tests is right")
}

/// All pairs of ranks, with what `figures` says of them: GB/s and ns.
fn all(cluster: &Cluster, figures: impl Fn(u32, u32) -> (f64, f64)) -> Vec<Measured> {
    let pairs = (0..cluster.size()).flat_map(|a| (0..a).map(move |b| [b, a]));
    pairs
        .map(|ranks| {
            let (gb_per_s, latency_ns) = figures(ranks[0], ranks[1]);
            Measured { ranks, ports: None, gb_per_s, latency_ns }
        })
        .collect()
}

fn found(cluster: &Cluster, measured: &[Measured]) -> Vec<(Sort, String)> {
    contradictions(cluster, measured)
        .into_iter()
        .map(|found| (found.sort, found.to_string()))
        .collect()
}

#[test]
fn what_fits_is_no_contradiction() {
    let cluster = cluster("4 host * (1 npu + 1 nic[gbps=400])");
    assert_eq!(found(&cluster, &all(&cluster, |_, _| (46.0, 2_000.0))), []);
    assert_eq!(found(&cluster, &[]), []);
}

#[test]
fn a_link_at_half_width() {
    let declared = cluster("4 host * (1 npu + 1 nic[gbps=400])");
    let slow = |a, b| if a == 2 || b == 2 { (24.0, 2_000.0) } else { (46.0, 2_000.0) };
    assert_eq!(
        found(&declared, &all(&declared, slow)),
        [(
            Sort::HalfWidth,
            "port 0 of host 2 carries 24 of the 50 GB/s that are declared: as a link does that trained at half of its width \
             or speed"
                .to_owned()
        )]
    );
    // What nobody declared cannot be contradicted.
    let usual = cluster("4 host * (1 npu + 1 nic)");
    assert_eq!(found(&usual, &all(&usual, slow)), []);
    // A port is not slow because its only partner is narrow.
    let mixed = cluster("1 host * (1 npu + 1 nic[gbps=400]) + 1 host * (1 npu + 1 nic[gbps=100])");
    assert_eq!(found(&mixed, &all(&mixed, |_, _| (12.0, 2_000.0))), []);
}

#[test]
fn slow_and_fast_ports() {
    let cluster = cluster("3 host * (1 npu + 1 nic[gbps=400])");
    let sorts = |figures: fn(u32, u32) -> (f64, f64)| -> Vec<Sort> {
        found(&cluster, &all(&cluster, figures)).into_iter().map(|(sort, _)| sort).collect()
    };
    assert_eq!(sorts(|a, _| if a == 0 { (5.0, 0.0) } else { (46.0, 0.0) }), [Sort::Slow]);
    assert_eq!(sorts(|_, _| (95.0, 0.0)), [Sort::Fast; 3]);
}

#[test]
fn a_slow_way_between_good_ports() {
    let cluster = cluster("2 rack * 2 host * (1 npu + 1 nic[gbps=400])");
    let slow = |a, b| if (a, b) == (0, 3) { (10.0, 2_000.0) } else { (46.0, 2_000.0) };
    let [(sort, text)] = &*found(&cluster, &all(&cluster, slow)) else { panic!() };
    assert_eq!(*sort, Sort::Way);
    assert!(text.starts_with("between port 0 of host 0 and port 0 of host 3 go 10 GB/s"), "{text}");
    assert!(text.ends_with("from rack 0 to rack 1"), "{text}");
}

#[test]
fn an_adapter_on_the_wrong_socket() {
    let cluster = cluster("2 host * 2 numa * (1 npu + 1 nic[gbps=200])");
    // Rank 0 is declared nearest to port 0, and gets more through port 1.
    let one = |ports, gb_per_s, latency_ns| Measured {
        ranks: [0, 2],
        ports: Some(ports),
        gb_per_s,
        latency_ns,
    };
    let [(sort, text)] =
        &*found(&cluster, &[one([0, 2], 18.0, 2_600.0), one([1, 2], 24.0, 1_900.0)])
    else {
        panic!()
    };
    assert_eq!(*sort, Sort::WrongSocket);
    assert!(
        text.starts_with(
            "device 0 of host 0 is better served by port 1 of host 0 (24 GB/s, 1.9 us) than by port 0 of host 0 (18 GB/s, 2.6 us)"
        ),
        "{text}"
    );
    assert_eq!(found(&cluster, &[one([0, 2], 24.0, 1_900.0), one([1, 2], 23.0, 1_950.0)]), []);
}

#[test]
fn a_machine_that_hides_its_tree() {
    let flat = cluster("1 host * 8 npu");
    let near = |a, b| if a / 4 == b / 4 { (24.0, 900.0) } else { (9.0, 1_400.0) };
    let [(sort, text)] = &*found(&flat, &all(&flat, near)) else { panic!() };
    assert_eq!(*sort, Sort::HiddenTree);
    assert!(text.starts_with("host 0 describes its devices as equally near (PHB)"), "{text}");
    assert!(text.contains("groups: 0 1 2 3, 4 5 6 7;"), "{text}");
    // One that says so hides nothing.
    let open = cluster("1 host * 2 numa * 4 npu");
    assert_eq!(found(&open, &all(&open, near)), []);
}

#[test]
fn a_slow_pair_of_devices() {
    let cluster = cluster("1 host * 3 npu[gb_per_s=300]");
    let [(sort, text)] = &*found(
        &cluster,
        &all(&cluster, |a, _| if a == 0 { (40.0, 0.0) } else { (280.0, 0.0) })[..1],
    ) else {
        panic!()
    };
    assert_eq!(*sort, Sort::Slow);
    assert_eq!(text, "between devices 0 and 1 of host 0 go 40 GB/s where 300 are declared (NVL)");
}

#[test]
fn what_the_cluster_has_not_is_passed_over() {
    let cluster = cluster("2 host * 1 cpu");
    let strange = |ranks, ports| Measured { ranks, ports, gb_per_s: 1.0, latency_ns: 1.0 };
    assert_eq!(found(&cluster, &[strange([0, 9], None), strange([0, 1], Some([0, 77]))]), []);
}
