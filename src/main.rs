//! The `countersign` binary: arguments in, exit code out. Everything else is the library.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Idle connections take a quarter less memory than with the system's allocator, waiting requests an eighth.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    countersign::cli::run()
}
