//! The `countersign` binary: arguments in, exit code out. Everything else is the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    countersign::cli::run()
}
