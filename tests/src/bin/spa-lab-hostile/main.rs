//! `spad` with a gatekeeper that was taken over.
//!
//! The warden is the real one: it executes its own program again to have a gatekeeper, and this is
//! that program. What the gatekeeper then does, `SPA_LAB_ATTACK` says; see [`attack::Attack`].

mod attack;
mod gatekeeper;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() != Some("gatekeeper") {
        return spad::cli::main();
    }
    match gatekeeper::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spa-lab-hostile: {error}");
            ExitCode::FAILURE
        }
    }
}
