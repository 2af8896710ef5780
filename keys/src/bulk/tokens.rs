//! Where the tokens of many clients go.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use spa_keys::files::{self, FileError};
use spa_keys::{ClientName, StoreError, Token};

use crate::commands::Failure;

/// A directory with a file for each, or one file with a line for each.
#[derive(Args, Clone)]
#[group(required = false, multiple = false)]
pub(crate) struct Destination {
    /// Write each token into a file of its own in this directory, as NAME.token
    #[arg(long, value_name = "DIR")]
    pub(crate) tokens: Option<PathBuf>,

    /// Write all tokens into this new file, a line NAME,TOKEN for each
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens_csv: Option<PathBuf>,
}

/// What tokens can be written to.
pub(crate) enum Tokens {
    Dir(PathBuf),
    Csv(PathBuf, File),
}

impl Destination {
    /// Without one there is nothing to be done but a dry run.
    pub(crate) fn check(&self, dry_run: bool) -> Result<(), Failure> {
        let named = self.tokens.is_some() || self.tokens_csv.is_some();
        if named || dry_run {
            return Ok(());
        }
        let what = "say where the tokens go: --tokens DIR or --tokens-csv FILE";
        Err(StoreError::Policy(what).into())
    }

    /// Why this client's token cannot be written: another is there.
    pub(super) fn is_taken(&self, name: &ClientName) -> Option<String> {
        let own = self.tokens.as_ref().map(|dir| file(dir, name));
        let path = own.or_else(|| self.tokens_csv.clone())?;
        let taken = path.symlink_metadata().is_ok();
        taken.then(|| format!("{} is there already; it stays as it is", path.display()))
    }

    pub(super) fn open(self) -> Result<Tokens, Failure> {
        match (self.tokens, self.tokens_csv) {
            (Some(dir), _) => {
                files::make_private_dir(&dir).map_err(failure)?;
                Ok(Tokens::Dir(dir))
            }
            (None, Some(path)) => {
                files::create_new(&path, "name,token\n").map_err(failure)?;
                let open = OpenOptions::new().append(true).open(&path);
                let open = open.map_err(|error| failure(FileError::io(&path, "open", error)))?;
                Ok(Tokens::Csv(path, open))
            }
            (None, None) => Err(Failure::Other("nowhere to put the tokens".to_owned())),
        }
    }
}

impl Tokens {
    /// Writes a token; in which file it is then.
    pub(super) fn write(&mut self, name: &ClientName, token: &Token) -> Result<String, Failure> {
        let line = token.encode();
        let path = match self {
            Self::Dir(dir) => {
                let path = file(dir, name);
                files::create_new(&path, &format!("{}\n", &*line)).map_err(failure)?;
                path
            }
            Self::Csv(path, file) => {
                // No name and no token needs quotes.
                let written = file.write_all(format!("{name},{}\n", &*line).as_bytes());
                written
                    .and_then(|()| file.sync_data())
                    .map_err(|error| failure(FileError::io(path, "write", error)))?;
                path.clone()
            }
        };
        Ok(path.display().to_string())
    }
}

/// As records are named: a slash would be another directory.
fn file(dir: &Path, name: &ClientName) -> PathBuf {
    dir.join(format!("{}.token", name.as_str().replace('/', "+")))
}

fn failure(error: FileError) -> Failure {
    Failure::Other(error.to_string())
}
