//! The `countersign` binary: arguments in, exit code out. Everything else is the library.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Thousands of waiting requests take a quarter less memory than with the system's allocator.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    countersign::cli::run()
}
