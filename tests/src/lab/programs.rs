//! Where the programs under test are, and that they are those of the source at hand.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::error::{LabError, Result, fail};

/// A directory with `spad`, `spa`, `spa-keys` and the lab's helper, to be used as it is.
const PLACE: &str = "SPA_BIN_DIR";

/// Full path of a program of this workspace: from `$SPA_BIN_DIR`, else from the directory that
/// the running test was built into. Under cargo it is built first, so that a test never
/// runs an old one.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = directory()?.join(name);
    if path.is_file() {
        return Ok(path);
    }
    fail(format!("{} is missing: run `cargo build --workspace --bins`", path.display()))
}

fn directory() -> Result<&'static Path> {
    static DIRECTORY: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let found = DIRECTORY.get_or_init(|| find().map_err(|error| error.to_string()));
    found.as_deref().map_err(LabError::new)
}

fn find() -> Result<PathBuf> {
    if let Some(place) = env::var_os(PLACE) {
        return Ok(PathBuf::from(place).canonicalize()?);
    }
    let own = env::current_exe()?;
    let profile = own.ancestors().skip(1).find(|dir| !dir.ends_with("deps"));
    let Some(profile) = profile else { return fail("the running program is in no directory") };
    if let Some(cargo) = env::var_os("CARGO") {
        build(cargo, profile)?;
    }
    Ok(profile.to_owned())
}

/// Builds into `profile`, which is `<target directory>/<profile>`.
fn build(cargo: OsString, profile: &Path) -> Result {
    let name = match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--bins", "--profile", name]);
    command.args(["-p", "spad", "-p", "spa-client", "-p", "spa-keys", "-p", "spa-tests"]);
    if let Some(target) = profile.parent() {
        command.arg("--target-dir").arg(target);
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let done = command.output()?;
    if done.status.success() {
        return Ok(());
    }
    fail(format!("cannot build the programs:\n{}", String::from_utf8_lossy(&done.stderr)))
}
