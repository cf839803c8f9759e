//! The shape of the control tree: ranks in order, eight below each.
//!
//! Eight keeps it flat (10,240 ranks are five links deep) while nobody passes a message on more than eight times.

const ARITY: u32 = 8;

/// Whom a rank dials; `None` for rank 0, the top.
pub(crate) fn parent(rank: u32) -> Option<u32> {
    rank.checked_sub(1).map(|before| before / ARITY)
}

/// Who dials a rank.
pub(crate) fn children(rank: u32, size: u32) -> impl Iterator<Item = u32> {
    let first = u64::from(rank) * u64::from(ARITY) + 1;
    (first..first + u64::from(ARITY))
        .map_while(move |child| u32::try_from(child).ok().filter(|&child| child < size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_and_children_agree() {
        for size in [1, 2, 8, 9, 10, 73, 1000] {
            let mut seen = 0;
            for rank in 0..size {
                for child in children(rank, size) {
                    assert_eq!(parent(child), Some(rank));
                    seen += 1;
                }
            }
            assert_eq!(seen, size - 1);
        }
        assert_eq!(children(u32::MAX - 1, u32::MAX).count(), 0);
    }
}
