//! A program of MPI whose collectives are Dure's: `cargo build --features mpi --example mpi && mpirun -n 4 target/debug/examples/mpi`.

#![expect(clippy::print_stdout, reason = "a program")]

use dure::{Communicator, ReduceOp};
use mpi::collective::SystemOperation;
use mpi::traits::{Communicator as _, CommunicatorCollectives as _};

const COUNT: usize = 1 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let universe = mpi::initialize().ok_or("MPI is initialized already")?;
    let world = universe.world();
    let comm = Communicator::builder().over_mpi(&world)?.connect()?;

    let first = i32::try_from(comm.rank())? * 7;
    let mine: Vec<i32> = (first..).take(COUNT).collect();
    let mut by_dure = mine.clone();
    comm.all_reduce(&mut by_dure, ReduceOp::Sum)?;
    let mut by_mpi = vec![0; COUNT];
    world.all_reduce_into(&mine[..], &mut by_mpi[..], SystemOperation::sum());

    let right = by_dure.iter().zip(&by_mpi).filter(|(a, b)| a == b).count();
    if world.rank() == 0 {
        println!("{} ranks: {right} of {COUNT} sums are MPI's", world.size());
    }
    comm.finalize()?;
    if right == COUNT { Ok(()) } else { Err("sums differ".into()) }
}
