//! One rank of a test, as a process of its own.

fn main() -> std::process::ExitCode {
    dure_harness::serve()
}
