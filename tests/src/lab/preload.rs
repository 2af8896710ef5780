//! Small libraries that stand between a program and the C library.

use std::path::Path;
use std::process::Command;

use super::error::{Doing, Result, fail};

/// Compiles a source of this directory.
pub(super) fn build(source: &str, library: &Path) -> Result {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lab").join(source);
    let mut command = Command::new("gcc");
    command.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(library).arg(&source);
    let built = command.output().doing("running gcc")?;
    if built.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&built.stderr);
    fail(format!("building {}: {why}", source.display()))
}

/// What to put before a command, so that the library finds its file; it keeps its process number.
pub(super) fn words(library: &Path, variable: &str, file: &Path) -> Vec<String> {
    let (library, file) = (library.display(), file.display());
    vec!["env".into(), format!("LD_PRELOAD={library}"), format!("{variable}={file}")]
}
