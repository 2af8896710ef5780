//! What depends on the operating system, beyond the private files that
//! `spa_keys` takes care of.

use std::io;
use std::path::{Path, PathBuf};

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

#[cfg(not(windows))]
fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute())
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

    use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

    /// No echo on the terminal while this lives.
    pub(super) struct HiddenInput {
        terminal: Stdin,
        before: Termios,
    }

    impl HiddenInput {
        pub(super) fn start() -> io::Result<Self> {
            let terminal = io::stdin();
            let before = tcgetattr(&terminal)?;
            let mut hidden = before.clone();
            hidden.local_flags.remove(LocalFlags::ECHO);
            hidden.local_flags.insert(LocalFlags::ECHONL);
            tcsetattr(&terminal, SetArg::TCSAFLUSH, &hidden)?;
            Ok(Self { terminal, before })
        }
    }

    impl Drop for HiddenInput {
        fn drop(&mut self) {
            // Nothing is left to try where this fails; shells restore it too.
            let _ = tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
        }
    }
}
