//! Who measures with whom: in round k each rank with the one whose number differs in bit k.

/// Rounds until each rank has met all whose numbers differ from its own in one bit: the logarithm of the ranks to base 2,
/// rounded up.
pub(super) fn rounds(size: u32) -> u32 {
    u32::BITS - size.saturating_sub(1).leading_zeros()
}

/// The partner of a rank in a round; none where there is no such rank.
pub(super) fn partner(rank: u32, round: u32, size: u32) -> Option<u32> {
    Some(rank ^ 1 << round).filter(|partner| *partner < size)
}

/// The pairs of a round, the lower rank first.
pub(super) fn pairs(round: u32, size: u32) -> impl Iterator<Item = [u32; 2]> {
    (0..size).filter_map(move |rank| {
        let partner = partner(rank, round, size)?;
        (rank < partner).then_some([rank, partner])
    })
}

/// The first pair of each class: inside a host, and between hosts. `hosts` has the host of each rank.
pub(super) fn first_of_classes(hosts: &[u32]) -> Vec<[u32; 2]> {
    let size = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
    let first = |inside: bool| {
        (0..rounds(size))
            .flat_map(|round| pairs(round, size))
            .find(|pair| is_inside(hosts, *pair) == inside)
    };
    [true, false].into_iter().filter_map(first).collect()
}

/// Whether both ranks of a pair are on one host.
pub(super) fn is_inside(hosts: &[u32], [a, b]: [u32; 2]) -> bool {
    hosts[a as usize] == hosts[b as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_has_one_partner_a_round_at_most() {
        for size in 1..70 {
            let all = rounds(size);
            assert!(1_u64 << all >= u64::from(size), "{size}: {all}");
            assert!(all == 0 || 1_u64 << (all - 1) < u64::from(size), "{size}: {all}");
            for round in 0..all {
                let mut met: Vec<u32> = pairs(round, size).flatten().collect();
                assert!(!met.is_empty(), "{size}: nobody meets in round {round}");
                for rank in &met {
                    let partner = partner(*rank, round, size).unwrap();
                    assert_eq!(self::partner(partner, round, size), Some(*rank));
                }
                met.sort_unstable();
                let count = met.len();
                met.dedup();
                assert_eq!(met.len(), count, "{size}: twice in round {round}");
                assert!(!size.is_power_of_two() || count == size as usize);
            }
            for rank in 0..size.min(size * all) {
                let meets = (0..all).any(|round| partner(rank, round, size).is_some());
                assert!(meets, "rank {rank} of {size} never measures");
            }
        }
    }

    #[test]
    fn a_pair_of_each_class_is_measured_alone() {
        assert_eq!(first_of_classes(&[0, 0, 1, 1]), [[0, 1], [0, 2]]);
        assert_eq!(first_of_classes(&[0, 1, 0, 1]), [[0, 2], [0, 1]]);
        assert_eq!(first_of_classes(&[0, 0, 0]), [[0, 1]]);
        assert_eq!(first_of_classes(&[0]), [[0; 2]; 0]);
    }
}
