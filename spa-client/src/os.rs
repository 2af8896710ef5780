//! What depends on the operating system, beyond the private files that
//! `spa_keys` takes care of.

mod bounded;
pub(crate) mod desktop;
pub(crate) mod keyring;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use zeroize::Zeroizing;

/// Where settings of this user belong; `None` without a home.
pub(crate) fn default_config_dir() -> Option<PathBuf> {
    Some(settings_dir()?.join("spa"))
}

#[cfg(windows)]
fn settings_dir() -> Option<PathBuf> {
    absolute("APPDATA")
}

#[cfg(target_os = "macos")]
fn settings_dir() -> Option<PathBuf> {
    absolute("XDG_CONFIG_HOME").or_else(|| Some(home()?.join("Library/Application Support")))
}

#[cfg(not(any(windows, target_os = "macos")))]
fn settings_dir() -> Option<PathBuf> {
    absolute("XDG_CONFIG_HOME").or_else(|| Some(home()?.join(".config")))
}

/// Where programs of this user remember things; `None` without a home.
pub(crate) fn default_state_dir() -> Option<PathBuf> {
    Some(state_home()?.join("spa"))
}

#[cfg(windows)]
fn state_home() -> Option<PathBuf> {
    absolute("LOCALAPPDATA")
}

#[cfg(not(windows))]
fn state_home() -> Option<PathBuf> {
    absolute("XDG_STATE_HOME").or_else(|| Some(home()?.join(".local/state")))
}

/// Where this user's files are.
pub(crate) fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute())
}

/// Whether a program of this name is found where the user's shell looks.
pub(crate) fn in_path(program: &str) -> bool {
    let name = format!("{program}{}", std::env::consts::EXE_SUFFIX);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(&name).is_file())
}

/// Runs a program in the place of this one, with the same terminal and the same end. Comes back
/// only where that fails.
#[cfg(unix)]
pub(crate) fn become_program(command: &mut Command) -> io::Error {
    std::os::unix::process::CommandExt::exec(command)
}

/// Where no program takes the place of another, this one stays until the other ends.
#[cfg(not(unix))]
pub(crate) fn become_program(command: &mut Command) -> io::Error {
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(255)),
        Err(error) => error,
    }
}

/// Whether a file would change hands if we wrote it.
#[cfg(unix)]
pub(crate) fn belongs_to_somebody_else(file: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(file) != nix::unistd::geteuid().as_raw()
}

/// Whether a file would change hands if we wrote it: not known here.
#[cfg(not(unix))]
pub(crate) fn belongs_to_somebody_else(_: &std::fs::Metadata) -> bool {
    false
}

/// Whether an open file has lost its last name.
#[cfg(unix)]
pub(crate) fn is_nameless(file: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(file) == 0
}

/// Whether an open file has lost its last name: taken for granted here.
#[cfg(not(unix))]
pub(crate) fn is_nameless(_: &std::fs::Metadata) -> bool {
    true
}

/// The XDG base directory specification has relative paths ignored.
fn absolute(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(variable)?);
    path.is_absolute().then_some(path)
}

/// Whether somebody else on this machine may read the file.
#[cfg(unix)]
pub(crate) fn others_can_read(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o044 != 0)
}

/// Whether somebody else on this machine may read the file: not known here.
#[cfg(not(unix))]
pub(crate) fn others_can_read(_: &Path) -> bool {
    false
}

/// Whether this process has a terminal, whatever its standard input and output are.
#[cfg(unix)]
pub(crate) fn at_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Whether this process has a terminal: not known here.
#[cfg(not(unix))]
pub(crate) fn at_terminal() -> bool {
    false
}

/// Reads one line from the terminal at standard input, without showing it.
#[cfg(unix)]
pub(crate) fn read_hidden_line() -> io::Result<Zeroizing<String>> {
    let _hidden = unix::HiddenInput::start()?;
    let mut line = Zeroizing::new(String::with_capacity(4096));
    io::stdin().read_line(&mut line)?;
    Ok(line)
}

/// Reading without echo takes calls that are not safe Rust here; a pipe or a
/// file does as well.
#[cfg(not(unix))]
pub(crate) fn read_hidden_line() -> io::Result<Zeroizing<String>> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// Closes standard output, so that whoever reads it sees the end, while the
/// program goes on.
#[cfg(unix)]
pub(crate) fn close_stdout() -> io::Result<()> {
    let nowhere = std::fs::File::options().write(true).open("/dev/null")?;
    Ok(nix::unistd::dup2_stdout(nowhere)?)
}

/// Not possible in safe Rust here: readers see the end when the program ends.
#[cfg(not(unix))]
pub(crate) fn close_stdout() -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
mod unix {
    use std::io::{self, Stdin};

    use nix::sys::signal::{SigSet, SigmaskHow, Signal};
    use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

    /// No echo on the terminal while this lives; nor does this process stop meanwhile, since the
    /// shell that takes over shows again what is typed.
    pub(super) struct HiddenInput {
        terminal: Stdin,
        before: Termios,
        signals: SigSet,
    }

    impl HiddenInput {
        pub(super) fn start() -> io::Result<Self> {
            let terminal = io::stdin();
            let before = tcgetattr(&terminal)?;
            let mut hidden = before.clone();
            hidden.local_flags.remove(LocalFlags::ECHO);
            hidden.local_flags.insert(LocalFlags::ECHONL);
            let signals = SigSet::from(Signal::SIGTSTP).thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
            let hidden = tcsetattr(&terminal, SetArg::TCSAFLUSH, &hidden);
            let input = Self { terminal, before, signals };
            hidden.map(|()| input).map_err(io::Error::from)
        }
    }

    impl Drop for HiddenInput {
        fn drop(&mut self) {
            // Nothing is left to try where this fails; shells restore it too.
            let _ = tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
            let _ = self.signals.thread_set_mask();
        }
    }
}
