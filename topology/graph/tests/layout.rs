//! Layouts as text, and what a cluster says of itself.

use dure_topology::{Cluster, LayoutError, Source};
use proptest::prelude::*;

fn cluster(layout: &str) -> Cluster {
    Cluster::synthetic(layout).unwrap_or_else(|error| panic!("{layout}: {error}"))
}

#[test]
fn a_line_each() {
    for (layout, expected) in [
        ("1 host * 2 cpu", "2 ranks on 1 host of 2 cpu"),
        ("1 host * 8 npu", "8 ranks on 1 host of 8 npu"),
        ("8 host * 2 cpu", "16 ranks on 8 hosts of 2 cpu; one ideal switch"),
        (
            "4 hosts * 2 numa * (4 npus + 2 nics)",
            "32 ranks on 4 hosts of 2 numa * (4 npu + 2 nic); one ideal switch",
        ),
        (
            "64 rack * 4 host * (8 npu + 8 nic)",
            "2048 ranks on 256 hosts of 8 npu + 8 nic; 64 rack, 1 switch",
        ),
        (
            "2 row * 3 rack[over=4] * 4 host * (1 npu + 1 nic)",
            "24 ranks on 24 hosts of 1 npu + 1 nic; 6 rack (4:1), 2 row, 1 switch",
        ),
        (
            "fattree levels=3 over=2 / 1280 host * (8 npu + 8 nic)",
            "10240 ranks on 1280 hosts of 8 npu + 8 nic; 256 leaf (2:1), 8 pod, 1 core",
        ),
        (
            "fattree rail=yes leaf=32 / 64 host * (8 npu + 8 nic)",
            "512 ranks on 64 hosts of 8 npu + 8 nic; 16 leaf, 1 spine",
        ),
        (
            "6 pool / 3 host * (1 npu + 1 nic)",
            "3 ranks on 3 hosts of 1 npu + 1 nic; one ideal switch; 6 pools",
        ),
        ("2 host * 4 npu + 1 host * 2 cpu", "10 ranks on 3 hosts of 2 kinds; one ideal switch"),
    ] {
        assert_eq!(cluster(layout).to_string(), expected, "{layout}");
    }
}

#[test]
fn the_nearest_port_of_each_rank() {
    let ports = |layout: &str| -> Vec<Option<u32>> {
        cluster(layout).ranks.iter().map(|site| site.port).collect()
    };
    let all = |ports: [u32; 8]| ports.map(Some).to_vec();
    assert_eq!(ports("1 host * (8 npu + 8 nic)"), all([0, 1, 2, 3, 4, 5, 6, 7]));
    assert_eq!(ports("1 host * (8 npu + 2 nic)"), all([0, 0, 0, 0, 1, 1, 1, 1]));
    assert_eq!(ports("2 host * 2 numa * (2 npu + 1 nic)"), all([0, 0, 1, 1, 2, 2, 3, 3]));
    // The second NUMA node has no port of its own.
    assert_eq!(ports("1 host * (1 numa * (4 npu + 1 nic) + 1 numa * 4 npu)"), all([0; 8]));
    assert_eq!(ports("1 host * (2 numa * 4 npu + 2 nic)"), all([0, 0, 0, 0, 1, 1, 1, 1]));
    assert_eq!(ports("2 pool / 2 host * 2 cpu"), [None; 4]);
}

#[test]
fn how_devices_reach_each_other() {
    let path = |layout: &str, a, b| {
        let reach = *cluster(layout).kinds[0].reach(a, b);
        (reach.path, reach.gb_per_s, reach.source)
    };
    assert_eq!(path("1 host * 8 npu[gb_per_s=300]", 0, 7), ("NVL", 300.0, Source::Declared));
    assert_eq!(path("1 host * 8 npu", 0, 7), ("PHB", 48.0, Source::Default));
    assert_eq!(path("1 host * 2 numa * 4 npu", 0, 3), ("PHB", 48.0, Source::Default));
    assert_eq!(path("1 host * 2 numa[gb_per_s=40] * 4 npu", 0, 4), ("SYS", 40.0, Source::Declared));
    assert_eq!(path("1 host * 2 cpu[gb_per_s=7]", 0, 1), ("SHM", 7.0, Source::Declared));
    assert_eq!(path("1 host * 2 cpu", 1, 1).0, "SHM");
    assert_eq!(path("1 host * 2 npu", 1, 1).0, "LOC");
    assert_eq!(cluster("1 host[cores=3 gb_per_s=50] * 2 cpu").kinds[0].cores, 3);
    assert_eq!(*cluster("1 host * 2 npu[gb_per_s=300]").kinds[0].device_gb_per_s, [300.0; 2]);
}

#[test]
fn a_fat_tree_of_three_levels() {
    let cluster =
        cluster("fattree levels=3 over=2 gbps=200 / 1280 host * (8 npu + 8 nic[gbps=200])");
    // A switch of 64 ports with twice as many down as up has 42 down: room for 5 hosts of 8 ports.
    let leaves = &cluster.levels[0].groups;
    assert_eq!(leaves.len(), 256);
    assert_eq!(leaves[255].up_gb_per_s, 5.0 * 8.0 * 25.0 / 2.0);
    assert!(cluster.oversubscription(0).iter().all(|ratio| *ratio == 2.0));
    // 32 leaves to a pod, from where all goes up.
    assert_eq!(cluster.levels[1].groups.len(), 8);
    assert!(cluster.oversubscription(1).iter().all(|ratio| *ratio == 1.0));
    assert_eq!(cluster.levels[2].groups[0].up_gb_per_s, f64::INFINITY);
    let port = |rank: usize| cluster.ranks[rank].port.unwrap();
    for (rank, level, crossing) in
        [(39, 0, 300.0), (40, 1, 900.0), (1279, 1, 900.0), (1280, 2, 1500.0)]
    {
        assert_eq!(cluster.common_level(port(0), port(rank)), level, "rank {rank}");
        assert_eq!(cluster.crossing_ns(port(0), port(rank)), crossing, "rank {rank}");
    }
}

#[test]
fn each_rail_has_leaves_of_its_own() {
    let cluster = cluster("fattree levels=3 rail=yes / 128 host * (8 npu + 8 nic)");
    // 32 ports of a leaf look down: 32 hosts, 8 leaves for their rails, 4 such sets to a pod.
    assert_eq!(cluster.levels[0].groups.len(), 4 * 8);
    assert_eq!(cluster.levels[1].groups.len(), 1);
    for port in &cluster.ports {
        assert_eq!(port.group, port.host / 32 * 8 + port.rail);
    }
    assert!(cluster.oversubscription(0).iter().all(|ratio| *ratio == 1.0));
}

#[test]
fn hosts_of_a_group_share_a_leaf() {
    let cluster = cluster("fattree over=2 / 3 rack * 10 host * (2 npu + 2 nic)");
    assert_eq!(cluster.levels[0].groups.len(), 3);
    assert!(cluster.ports.iter().all(|port| port.group == port.host / 10));
}

#[test]
fn who_reaches_a_pool() {
    let hosts = |layout: &str| -> Vec<Vec<u32>> {
        cluster(layout).pools.iter().map(|pool| pool.hosts.to_vec()).collect()
    };
    assert_eq!(hosts("2 pool / 3 host * 2 cpu"), [[0, 1, 2]; 2]);
    assert_eq!(hosts("2 rack * (1 pool + 2 host * 2 cpu)"), [[0, 1], [2, 3]]);
    assert_eq!(hosts("4 pool[hosts=2] / 4 host * 2 cpu"), [[0, 1], [1, 2], [2, 3], [0, 3]]);
    let pool = &cluster("1 pool[gb_per_s=30 ns=250 gib=64] / 2 host * 1 cpu").pools[0];
    assert_eq!((pool.gb_per_s, pool.latency_ns, pool.bytes), (30.0, 250.0, 64 << 30));
}

#[test]
fn errors_say_where_and_what() {
    for (layout, expected) in [
        ("", "column 1: found the end, expected a number from 1"),
        ("0 host * 1 npu", "column 1: found `0`, expected a number from 1"),
        ("4 hsot * 1 npu", "column 3: found `hsot`, expected host, pool, or a group"),
        ("4 host", "column 7: found the end, expected `*`"),
        ("4 host * (8 npu + 8 nic", "column 24: found the end, expected `)`"),
        ("4 host * 8 rack", "column 12: found `rack`, expected package, numa, npu, nic or cpu"),
        ("4 host * 8 nic", "column 1: a host with neither npu nor cpu has no ranks"),
        ("4 host * 8 npu 3", "column 16: found `3`, expected `+` or the end"),
        ("4 host * 8 npu[gbps=3]", "column 16: found `gbps`, expected gb_per_s, ns"),
        ("4 host * 8 npu[ns=-3]", "column 16: found `ns=-3`, expected a number above 0"),
        ("4 host * 8 npu[ns=3, ns=3]", "column 22: found `ns`, expected each attribute once"),
        (
            "4 host[cores=1.5] * 8 npu",
            "column 8: found `cores=1.5`, expected a whole number from 1",
        ),
        (
            "fattree levels=9 / 4 host * 1 npu",
            "column 9: found `levels=9`, expected levels from 1 to 8",
        ),
        (
            "fattree over=2,3 / 4 host * 1 npu",
            "found `over=2,3`, expected a number for each level but",
        ),
        (
            "fattree rail=so / 4 host * 1 npu",
            "column 9: found `rail=so`, expected rail=yes or rail=no",
        ),
        ("fattree size=3 / 4 host * 1 npu", "column 9: found `size`, expected levels, over, radix"),
        ("fattree / 9000 host * (8 npu + 8 nic)", "join 64 of 2250 below them: take more levels"),
        ("fattree radix=8 / 9 host * (8 npu + 8 nic)", "has 8 ports, a leaf 4 for hosts"),
        ("fattree leaf=2 / 2 rack * 2 host * 1 npu", "column 9: leaf=, but the groups"),
        ("fattree / 2 row * 2 rack * 2 host * 1 npu", "at most one level of groups"),
        ("2 rack * 1 host * 1 npu + 1 host * 1 npu", "column 27: a host in 0 groups, others in 1"),
        ("2 pool", "layout: no host"),
        ("2000000 host * 1 npu", "column 1: 2000000 hosts, groups or pools, at most 1048576"),
        ("4000000000 rack * 4000000000 host * 1 npu", "at most 1048576"),
        ("9 host * 4000000000 npu", "column 10: 4000000000 devices of a host, at most 1024"),
        (
            "1 row * 1 row * 1 row * 1 row * 1 row * 1 row * 1 row * 1 row * 1 row * 1 host * 1 npu",
            "8 deep",
        ),
    ] {
        let error = Cluster::synthetic(layout).unwrap_err().to_string();
        assert!(error.contains(expected), "{layout}\n  says     {error}\n  expected {expected}");
    }
    let error = Cluster::synthetic("2 host * 2 gpu[").unwrap_err();
    assert!(matches!(error, LayoutError::Unexpected { column: 16, .. }));
}

#[test]
fn the_order_follows_the_fabric() {
    // Ranks stand by rack and host already.
    let straight = cluster("2 rack * 2 host * 2 cpu");
    assert_eq!(*straight.order(), [0, 1, 2, 3, 4, 5, 6, 7]);
    // Hosts dealt out to racks, ranks to hosts: the order brings them together again.
    let mut dealt = straight;
    for port in &mut dealt.ports {
        port.group = port.host % 2;
    }
    for (rank, site) in (0..).zip(&mut dealt.ranks) {
        site.host = rank % 4;
        site.device = rank / 4;
    }
    assert_eq!(*dealt.order(), [0, 4, 2, 6, 1, 5, 3, 7]);
    assert_eq!(dealt.host_of(), [0, 1, 2, 3, 0, 1, 2, 3]);
    assert_eq!(*dealt.ranks_by_host()[1], [1, 5]);
    // Devices of one NUMA node stand together, though every other one is on the other.
    let mixed = "1 host * (1 numa * 2 npu + 1 numa * 2 npu)";
    let mut mixed = cluster(mixed);
    for (site, device) in mixed.ranks.iter_mut().zip([0, 2, 1, 3]) {
        site.device = device;
    }
    assert_eq!(*mixed.order(), [0, 2, 1, 3]);
    // Hosts of one pool stand together.
    let mut pooled = cluster("2 rack * (1 pool + 2 host * 1 cpu)");
    pooled.levels = Box::default();
    pooled.ports = Box::default();
    pooled.pools[0].hosts = [0, 2].into();
    pooled.pools[1].hosts = [1, 3].into();
    assert_eq!(*pooled.order(), [0, 2, 1, 3]);
}

#[test]
fn hosts_are_numbered_as_they_appear() {
    let mut cluster = cluster("3 host * 1 cpu");
    cluster.ranks.reverse();
    assert_eq!(cluster.host_of(), [0, 1, 2]);
    assert_eq!(cluster.ranks[0].host, 2);
}

#[test]
fn one_host() {
    let local = Cluster::local(4, 2);
    assert_eq!(local.to_string(), "4 ranks on 1 host of 4 cpu");
    assert_eq!(local.kinds[0].cores, 2);
    assert_eq!(*local.order(), [0, 1, 2, 3]);
    // The table of devices does not grow with the square of any number that somebody types.
    assert_eq!(Cluster::local(100_000, 2).kinds[0].reach.len(), 1024 * 1024);
    assert_eq!(Cluster::local(0, 0).size(), 1);
}

/// A layout and how many hosts, ranks and ports it has.
fn layouts() -> impl Strategy<Value = (String, [usize; 4])> {
    let parts = (1..4_usize, 1..5_usize, 1..4_usize, 1..9_usize, 1..9_usize, 0..3_usize);
    parts.prop_map(|(racks, hosts, numas, npus, nics, pools)| {
        let front = if pools == 0 { String::new() } else { format!("{pools} pool / ") };
        let text =
            format!("{front}{racks} rack*{hosts} host * {numas} numa*( {npus} gpu+{nics} nic )");
        let all = racks * hosts;
        (text, [all, all * numas * npus, all * numas * nics, pools])
    })
}

proptest! {
    #[test]
    fn counts_are_right((layout, counts) in layouts()) {
        let cluster = cluster(&layout);
        prop_assert_eq!(
            [cluster.hosts.len(), cluster.ranks.len(), cluster.ports.len(), cluster.pools.len()],
            counts
        );
        prop_assert_eq!(cluster.levels.len(), 2);
        let mut order = cluster.order().to_vec();
        order.sort_unstable();
        prop_assert_eq!(order, (0..cluster.size()).collect::<Vec<_>>());
    }

    #[test]
    fn any_text_is_a_layout_or_not(layout in "\\PC{0,40}") {
        let _ = Cluster::synthetic(&layout);
    }

    #[test]
    fn anything_of_the_right_words_is_a_layout_or_not(
        words in proptest::collection::vec(
            prop::sample::select(vec![
                "1", "2", "999", "4000000000", "*", "+", "/", "(", ")", "[", "]", "=", ",", "host", "rack", "numa",
                "npu", "nic", "cpu", "pool", "fattree", "levels=3", "over=2", "radix=2", "rail=yes", "gbps=400", "leaf=1",
                "[gb_per_s=3]", "[hosts=2]", "* 2 npu", "1 host * 2 npu", "2 rack * 2 host",
            ]),
            0..12,
        )
    ) {
        if let Ok(cluster) = Cluster::synthetic(&words.join(" ")) {
            prop_assert!(cluster.size() > 0);
            prop_assert_eq!(cluster.order().len(), cluster.ranks.len());
            prop_assert!(!cluster.to_string().is_empty());
        }
    }
}
