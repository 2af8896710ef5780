//! The demo's story, as a test: over IPv4, over IPv6 alone, and with programs that do not work.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use spa_tests::Result;
use spa_tests::lab::{Doing, program};

/// Runs the demo with the programs of a directory.
fn demo(programs: &Path, options: &[&str]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.args(options).env("SPA_BIN_DIR", programs).output().doing("running the demo")
}

fn assert_plays_well(options: &[&str]) -> Result {
    let spad = program("spad")?;
    let played = demo(spad.parent().unwrap_or(Path::new("/")), options)?;
    let told = String::from_utf8_lossy(&played.stdout);
    assert!(played.status.success(), "{told}");
    assert!(told.contains("All 12 steps came out as they should"), "{told}");
    assert!(!told.contains("FAILED") && !told.contains('\x1b'), "{told}");
    let longest = told.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(80), "{longest:?} columns:\n{told}");
    Ok(())
}

#[test]
fn the_story_over_ipv4() -> Result {
    assert_plays_well(&[])
}

#[test]
fn the_story_over_ipv6_alone() -> Result {
    assert_plays_well(&["--ipv6"])
}

#[test]
fn the_story_fails_with_a_client_that_sends_nothing() -> Result {
    let dir = tempfile::tempdir()?;
    for name in ["spad", "spa-keys", "spa-lab-helper"] {
        symlink(program(name)?, dir.path().join(name))?;
    }
    let spa =
        format!("#!/bin/sh\n[ \"$1\" = knock ] || exec {} \"$@\"\n", program("spa")?.display());
    fs::write(dir.path().join("spa"), spa)?;
    Command::new("chmod").arg("+x").arg(dir.path().join("spa")).status()?;
    let played = demo(dir.path(), &[])?;
    let told = String::from_utf8_lossy(&played.stdout);
    assert!(!played.status.success() && told.contains("FAILED"), "{told}");
    Ok(())
}
