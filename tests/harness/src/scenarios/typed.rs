//! The typed calls that take more than one count, groups, messages, tickets, and communicators of communicators.

use dure::{Communicator, ReduceOp, Result};

use crate::data::hash;
use crate::seat::Seat;

/// The elements that `rank` sends under a number.
fn values(rank: usize, number: usize, len: usize) -> Vec<u64> {
    let seed = (rank * 1000 + number) as u64;
    (0..len as u64).map(|i| hash(seed, i)).collect()
}

/// Length of the block of `rank`: some are empty, one is longer than a slot.
fn len(rank: usize) -> usize {
    [3, 0, 70_000, 5, 1][rank % 5]
}

/// All of it.
pub(super) fn typed(seat: &Seat) -> Result<()> {
    let on = &seat.communicator;
    long_blocks(on)?;
    every_pair(on)?;
    groups(on)?;
    messages(on)?;
    tickets(on)?;
    parts(on)?;
    on.finalize()
}

/// All-gather, reduce-scatter, gather and scatter of blocks that differ.
fn long_blocks(on: &Communicator) -> Result<()> {
    let (me, n) = (on.rank() as usize, on.size() as usize);
    let counts: Vec<usize> = (0..n).map(len).collect();
    let gathered: Vec<u64> = (0..n).flat_map(|rank| values(rank, 0, len(rank))).collect();
    let mine = values(me, 0, len(me));

    let mut all = vec![0; gathered.len()];
    on.all_gather_v(&mine, &mut all, &counts)?;
    assert!(all == gathered, "all-gather-v");

    let before: usize = counts[..me].iter().sum();
    let mut block = vec![0; len(me)];
    on.reduce_scatter_v(&values(me, 1, all.len()), &counts, &mut block, ReduceOp::BitXor)?;
    let inputs: Vec<_> = (0..n).map(|rank| values(rank, 1, all.len())).collect();
    let combined = |i: usize| inputs.iter().fold(0, |sum, input| sum ^ input[before + i]);
    assert!(block.iter().enumerate().all(|(i, got)| *got == combined(i)), "reduce-scatter-v");

    for root in [0, on.size() - 1] {
        let is_root = on.rank() == root;
        all.fill(0);
        on.gather_v(&mine, is_root.then_some((&mut all[..], &counts[..])), root)?;
        assert!(!is_root || all == gathered, "gather-v to {root}");
        block.fill(0);
        on.scatter_v(is_root.then_some((&gathered[..], &counts[..])), &mut block, root)?;
        assert!(block == mine, "scatter-v from {root}");
    }
    Ok(())
}

/// All-to-all where each pair has a length of its own.
fn every_pair(on: &Communicator) -> Result<()> {
    let (me, n) = (on.rank() as usize, on.size() as usize);
    let len = |from: usize, to: usize| (from + 1) * (to % 3) * if to == 1 { 9000 } else { 1 };
    let to: Vec<usize> = (0..n).map(|rank| len(me, rank)).collect();
    let from: Vec<usize> = (0..n).map(|rank| len(rank, me)).collect();
    let outgoing: Vec<u64> = (0..n).flat_map(|rank| values(me, rank, to[rank])).collect();
    let mut incoming = vec![0; from.iter().sum()];
    on.all_to_all_v((&outgoing, &to), (&mut incoming, &from))?;
    let want: Vec<u64> = (0..n).flat_map(|rank| values(rank, me, from[rank])).collect();
    assert!(incoming == want, "all-to-all-v");
    Ok(())
}

/// More messages in a group, and longer ones, than there are slots; the receives come last.
fn groups(on: &Communicator) -> Result<()> {
    const EACH: usize = 6;
    let (me, n) = (on.rank() as usize, on.size() as usize);
    let len = |number: usize| if number == 0 { 40_000 } else { number };
    let messages = |rank: usize| -> Vec<Vec<u64>> {
        (0..EACH).map(|number| values(rank, number, len(number))).collect()
    };
    let outgoing = messages(me);
    let mut incoming: Vec<_> = (0..n * EACH).map(|i| vec![0; len(i % EACH)]).collect();
    let mut sum = vec![me as u64; 10];
    on.group(|group| {
        for to in 0..on.size() {
            outgoing.iter().try_for_each(|data| group.send(data, to))?;
        }
        group.all_reduce(&mut sum, ReduceOp::Sum)?;
        for (from, data) in (0..).zip(incoming.chunks_exact_mut(EACH)) {
            data.iter_mut().try_for_each(|data| group.recv(data, from))?;
        }
        Ok(())
    })?;
    for (from, data) in incoming.chunks_exact(EACH).enumerate() {
        assert!(*data == messages(from), "messages from {from} in a group");
    }
    assert_eq!(sum, vec![(n * (n - 1) / 2) as u64; 10]);
    Ok(())
}

/// Around the ring, one message at a time.
fn messages(on: &Communicator) -> Result<()> {
    let (me, n) = (on.rank(), on.size());
    if n == 1 {
        return Ok(());
    }
    let mut token = values(0, 0, 1000);
    if me == 0 {
        on.send(&token, 1)?;
    }
    token.fill(0);
    on.recv(&mut token, (me + n - 1) % n)?;
    assert!(token == values(0, 0, 1000), "the token on its way to rank {me}");
    if me != 0 { on.send(&token, (me + 1) % n) } else { Ok(()) }
}

/// Calls that nobody waits for until both are under way.
fn tickets(on: &Communicator) -> Result<()> {
    let n = on.size() as usize;
    let mut data = on.buffer::<u64>(50_000)?;
    data.copy_from_slice(&values(on.rank() as usize, 0, 50_000));
    let mut block = on.buffer::<u64>(10)?;
    block.copy_from_slice(&values(on.rank() as usize, 1, 10));
    let first = on.start_all_reduce(data, ReduceOp::Sum)?;
    let second = on.start_all_gather(block, on.buffer(10 * n)?)?;
    let (data, (_, all)) = (first.wait()?, second.wait()?);
    let inputs: Vec<_> = (0..n).map(|rank| values(rank, 0, 50_000)).collect();
    let sum = |i: usize| inputs.iter().fold(0u64, |sum, input| sum.wrapping_add(input[i]));
    assert!(data.iter().enumerate().all(|(i, got)| *got == sum(i)), "the all-reduce's ticket");
    let want: Vec<u64> = (0..n).flat_map(|rank| values(rank, 1, 10)).collect();
    assert!(all[..] == want, "the all-gather's ticket");
    Ok(())
}

/// Split by parity in reverse order, duplicated, and shrunk to all but rank 0; the first communicator goes on.
fn parts(on: &Communicator) -> Result<()> {
    let (me, n) = (on.rank(), on.size());
    let add = |on: &Communicator| -> Result<u32> {
        let mut data = [me + 1];
        on.all_reduce(&mut data, ReduceOp::Sum)?;
        Ok(data[0])
    };
    let whole = n * (n + 1) / 2;
    let key = -i32::try_from(me).expect("there are few ranks");
    let part = on.split(Some(me % 2), key)?.expect("every rank gave a color");
    let members: Vec<u32> = (0..n).rev().filter(|rank| rank % 2 == me % 2).collect();
    assert_eq!(members[part.rank() as usize], me);
    assert_eq!(add(&part)?, members.iter().map(|rank| rank + 1).sum::<u32>());

    let copy = on.duplicate()?;
    assert_eq!(add(&copy)?, whole);
    copy.finalize()?;

    if n > 1 && me != 0 {
        let rest = on.shrink(&[0])?;
        assert_eq!((rest.rank(), add(&rest)?), (me - 1, whole - 1));
    }
    assert_eq!(add(on)?, whole);
    Ok(())
}
