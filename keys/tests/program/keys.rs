//! A directory of keys, and the program run on it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use spa_keys::{ClientRecord, Store, Token};
use tempfile::TempDir;

/// The program itself.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_spa-keys");

/// `spa-keys --dir DIR`, in a directory that goes when this is dropped.
pub(crate) struct Keys {
    temp: TempDir,
}

/// What one run came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Keys {
    /// Nothing made yet.
    pub(crate) fn none() -> Self {
        Self { temp: tempfile::tempdir().unwrap() }
    }

    /// With a server.
    pub(crate) fn new() -> Self {
        let keys = Self::none();
        keys.run(&["init", "--host", "fw.example.com"]).done();
        keys
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.temp.path().join("keys")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--dir").arg(self.dir()).args(args).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        self.command(args).output().unwrap().into()
    }

    /// Runs the program at the end of a shell script, as `"$@"`.
    pub(crate) fn run_in(&self, script: &str, args: &[&str]) -> Run {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", PROGRAM, "--dir"]).arg(self.dir()).args(args);
        command.stdin(Stdio::null()).output().unwrap().into()
    }

    pub(crate) fn add(&self, name: &str) -> Token {
        self.run(&["add", name, "--service", "ssh"]).done().token()
    }

    pub(crate) fn record(&self, name: &str) -> ClientRecord {
        Store::open(&self.dir()).client(&name.parse().unwrap()).ok().unwrap()
    }

    /// Every file below the directory with its mode, in order.
    pub(crate) fn modes(&self) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        visit(&self.dir(), &self.dir(), &mut found);
        found.sort();
        found
    }

    pub(crate) fn names(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(dir)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Run {
    pub(crate) fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// It failed, said so on standard error, and printed nothing.
    pub(crate) fn failed(self, code: i32, complaint: &str) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains(complaint), "{complaint:?}: {self:?}");
        assert_eq!(self.stdout, "");
        self
    }

    /// It failed, said so on standard error, and may have printed something before.
    pub(crate) fn output_fails_with(self, complaint: &str) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.stderr.contains(complaint), "{complaint:?}: {self:?}");
    }

    /// The token on standard output, and nothing besides.
    pub(crate) fn token(&self) -> Token {
        assert_eq!(self.stdout.lines().count(), 1, "{self:?}");
        Token::decode(&self.stdout).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn visit(top: &Path, path: &Path, found: &mut Vec<(String, u32)>) {
    let metadata = fs::metadata(path).unwrap();
    let name = path.strip_prefix(top).unwrap().display().to_string();
    found.push((name, metadata.mode() & 0o7777));
    if metadata.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| visit(top, &entry.unwrap().path(), found));
    }
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
