//! The program `dure`: perf tests of collectives and of wires, tools for plans, comparison of results, diagnosis of a host.
//!
//! Exit status: 0 when everything asked for holds, 1 when something measured or checked does not, 2 when the call itself
//! was wrong.

#![deny(unsafe_code)]

mod allocator;
mod compare;
mod device;
mod doctor;
mod explain;
mod fabric;
mod layout;
mod markup;
mod median;
mod output;
mod perf;
mod plan;
mod pool;
mod profile;
mod simulate;
mod size;
mod topo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::output::Failure;

/// Collective communication: measure it, prove its plans, diagnose its host.
#[derive(Debug, Parser)]
#[command(name = "dure", version, arg_required_else_help = true, infer_subcommands = false)]
#[command(
    after_help = "Exit status: 0 when everything asked for holds, 1 when something measured or checked does not,\n\
                        2 when the call itself was wrong."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure a collective over a range of sizes, and check its results.
    Perf(perf::Args),
    /// Measure a path between two processes, or all paths of a job, over any wire.
    Fabric(Box<fabric::Args>),
    /// Show, prove and draw plans.
    Plan(plan::Args),
    /// Say which algorithm would serve a call, what each would take, and why the others lose.
    Explain(explain::Args),
    /// Make profiles, which the cost model rests on.
    Profile(profile::Args),
    /// Say what plans and jobs would cost where they were not run, and judge that by measured times.
    Simulate(simulate::Args),
    /// Compare two results of `dure perf`.
    Compare(compare::Args),
    /// Show what a host or a fabric consists of, and compare two of them.
    Topo(topo::Args),
    /// Make pools of memory that hosts share, and show who uses them.
    Pool(pool::Args),
    /// List devices of plug-ins, and check what a plug-in must hold to.
    Device(device::Args),
    /// Say what this host offers, what is missing, and what to do about it.
    Doctor(doctor::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers (status 0); a closed pipe is no reason to fail after them.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Failure::USAGE } else { 0 });
        }
    };
    let verdict = match cli.command {
        Command::Perf(args) => perf::run(&args),
        Command::Fabric(args) => fabric::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Topo(args) => topo::run(&args),
        Command::Pool(args) => pool::run(&args),
        Command::Device(args) => device::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    match verdict {
        Ok(verdict) => ExitCode::from(verdict.status()),
        Err(failure) => {
            failure.tell();
            ExitCode::from(failure.status())
        }
    }
}
