//! `spad`: the daemon of spa. See `spad::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    spad::cli::main()
}
