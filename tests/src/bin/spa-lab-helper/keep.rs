//! The first process of a lab: it holds the namespaces, and tidies up however the test ends.

use std::fs;
use std::io::{Read, stdin};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use spa_tests::Result;
use spa_tests::lab::{Doing, fail};

/// Waits for the end of standard input, that is of the test, however that dies. Then kills all
/// that runs in the lab and removes its files.
pub(crate) fn until_end_of_input(dir: &Path) -> Result {
    if getpid().as_raw() != 1 {
        return fail("must be the first process of its own PID namespace");
    }
    stdin().read_to_end(&mut Vec::new())?;
    // Error: there is nobody left to kill.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    fs::remove_dir_all(dir).doing(format!("removing {}", dir.display()))
}
