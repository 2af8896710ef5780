//! The daemon's own processes, and what they say to standard error.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use tracing_subscriber::filter::LevelFilter;

use super::{Failure, failed};
use crate::gatekeeper::sandbox;
use crate::ipc::Channel;
use crate::privileges::{self, Identity};
use crate::{gatekeeper, warden};

pub(super) fn run(config: PathBuf) -> Result<ExitCode, Failure> {
    tell();
    // Before anything else, and before there is a second thread.
    privileges::warden::narrow()
        .map_err(|error| failed(format!("privileges cannot be given up: {error}")))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(warden::run(config)).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// The unprivileged half: privileges go before the first message is read.
pub(super) fn keep_gate(identity: Option<(u32, u32)>) -> Result<ExitCode, Failure> {
    let identity = identity.map(|(uid, gid)| Identity { uid, gid });
    let stays = |error| failed(format!("privileges stay: {error}"));
    privileges::gatekeeper::close_inherited().map_err(stays)?;
    let channel = take_channel().map_err(failed)?;
    privileges::gatekeeper::drop_all(identity).map_err(stays)?;
    sandbox::enter(channel.as_fd()).map_err(|error| failed(format!("sandbox: {error}")))?;
    gatekeeper::run(Channel::from_fd(channel))
        .map_err(|error| failed(format!("gatekeeper: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

/// The channel comes as standard input. It leaves that place, so that nothing
/// that reads there by mistake meets it.
fn take_channel() -> std::io::Result<OwnedFd> {
    let channel = std::io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(std::io::stdout())?;
    Ok(channel)
}

/// One line an event, to standard error; in colour nowhere.
pub(super) fn tell() {
    tracing_subscriber::fmt()
        .with_writer(|| Log)
        .log_internal_errors(false)
        .with_ansi(false)
        .with_max_level(LevelFilter::INFO)
        .init();
}

/// Standard error. Whoever reads it may go away: the daemon goes on.
struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stderr().write_all(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
