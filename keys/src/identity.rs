//! Who the server is: `DIR/server.toml`, or a systemd credential of that name.

mod former;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use spa_proto::{Cloak, ServerPublic, ServerSecret};
use zeroize::Zeroizing;

use crate::document::{self, Malformed};
use crate::encoding::to_base64;
use crate::error::StoreError;
use crate::field;
use crate::files::{self, FileError};
use crate::host::check_host;
use crate::lock::WriteLock;
use crate::random;
use former::FormerInFile;
pub use former::{FormerIdentity, ReplacedServer};

/// The server's own keys (protocol §3.1), and where clients send their knocks.
pub struct ServerIdentity {
    /// Private key.
    pub secret: ServerSecret,
    /// What hides its clients' pseudonyms.
    pub cloak: Cloak,
    /// Name or address, as clients resolve it; see [`check_host`].
    pub host: String,
    /// UDP port, not 0.
    pub port: u16,
    /// What it had before, while that still works.
    pub former: Option<FormerIdentity>,
    /// The public key that it had first, where that is another.
    pub first: Option<ServerPublic>,
}

/// The file, in the order in which it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct IdentityFile {
    host: String,
    port: std::num::NonZeroU16,
    #[serde(deserialize_with = "field::required")]
    public_key: ServerPublic,
    #[serde(deserialize_with = "field::required")]
    secret_key: ServerSecret,
    #[serde(deserialize_with = "field::required")]
    cloak: Cloak,
    #[serde(default, deserialize_with = "field::optional")]
    first_public_key: Option<ServerPublic>,
    #[serde(default)]
    former: Option<FormerInFile>,
}

/// Where the service manager puts a service's credentials (systemd.exec(5)).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

impl ServerIdentity {
    /// Reads it: the credential `server.toml`, if this service was given one,
    /// or else the file in `dir`. Either must be private.
    ///
    /// # Errors
    /// [`StoreError::NotInitialised`], or whatever is wrong with the file.
    pub fn load(dir: &Path) -> Result<Self, StoreError> {
        let credentials = std::env::var_os(CREDENTIALS).map(PathBuf::from);
        Self::load_from(credentials.as_deref(), dir)
    }

    /// Where [`Self::load`] reads it from.
    #[must_use]
    pub fn path(dir: &Path) -> PathBuf {
        let credentials = std::env::var_os(CREDENTIALS).map(PathBuf::from);
        path_from(credentials.as_deref(), dir)
    }

    fn load_from(credentials: Option<&Path>, dir: &Path) -> Result<Self, StoreError> {
        let path = path_from(credentials, dir);
        let text = files::read_private(&path).map_err(|error| missing(dir, error))?;
        Ok(Self::parse(&path, &text)?)
    }

    /// Makes a new one, and the directories.
    ///
    /// # Errors
    /// [`StoreError::Initialised`] where there is one: it stays as it is.
    pub fn init(dir: &Path, host: &str, port: u16) -> Result<Self, StoreError> {
        let identity = Self::generate(host, port)?;
        for dir in [dir, &dir.join("clients"), &dir.join("revoked")] {
            files::make_private_dir(dir)?;
        }
        let _lock = WriteLock::acquire(dir)?;
        let path = path_in(dir);
        files::create_new(&path, &identity.to_text()).map_err(|error| taken(path, error))?;
        Ok(identity)
    }

    fn generate(host: &str, port: u16) -> Result<Self, StoreError> {
        check_host(host)?;
        if port == 0 {
            return Err(StoreError::Policy("the port cannot be 0"));
        }
        Ok(Self {
            secret: ServerSecret::from_bytes(*random::bytes()?),
            cloak: Cloak::from_bytes(*random::bytes()?),
            host: host.to_owned(),
            port,
            former: None,
            first: None,
        })
    }

    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Malformed> {
        let file: IdentityFile = document::parse(path, text)?;
        let malformed = |message: String| Malformed::new(path, message);
        check_host(&file.host).map_err(|error| malformed(format!("host: {error}")))?;
        if file.secret_key.public() != file.public_key {
            let message = "public-key does not belong to secret-key: one of them was changed";
            return Err(malformed(message.to_owned()));
        }
        let IdentityFile { host, port, secret_key, cloak, first_public_key: first, .. } = file;
        let former = file.former.map(FormerIdentity::from);
        Ok(Self { secret: secret_key, cloak, host, port: port.get(), former, first })
    }

    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(1024));
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "# This server, to its clients: made by spa-keys init, to be replaced by spa-keys rotate\n\
             # alone, or every client is shut out. Secret. host and port go into new tokens only.\n\
             host = \"{}\"\n\
             port = {}\n\
             public-key = \"{}\"\n\
             secret-key = \"{}\"\n\
             cloak = \"{}\"\n",
            self.host,
            self.port,
            *to_base64(self.secret.public().as_bytes()),
            *to_base64(self.secret.expose().as_slice()),
            *to_base64(self.cloak.expose()),
        );
        if let Some(first) = &self.first {
            let first = to_base64(first.as_bytes());
            let _ = writeln!(text, "first-public-key = \"{}\"", *first);
        }
        self.former.iter().for_each(|former| former.write(&mut text));
        text
    }
}

fn path_in(dir: &Path) -> PathBuf {
    dir.join("server.toml")
}

fn path_from(credentials: Option<&Path>, dir: &Path) -> PathBuf {
    let credential = credentials.map(path_in).filter(|path| path.exists());
    credential.unwrap_or_else(|| path_in(dir))
}

fn missing(dir: &Path, error: FileError) -> StoreError {
    if error.is_missing() { StoreError::NotInitialised(dir.to_owned()) } else { error.into() }
}

fn taken(path: PathBuf, error: FileError) -> StoreError {
    if error.is_taken() { StoreError::Initialised(path) } else { error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Zeroizing<String> {
        ServerIdentity::generate("fw.example.com", 62201).ok().unwrap().to_text()
    }

    fn complain(text: &str) -> String {
        ServerIdentity::parse(Path::new("/s.toml"), text).err().unwrap().to_string()
    }

    #[test]
    fn reads_what_it_writes() {
        let text = text();
        let read = ServerIdentity::parse(Path::new("/s.toml"), &text).ok().unwrap();
        assert!(*read.to_text() == *text);
        assert_eq!((read.host.as_str(), read.port), ("fw.example.com", 62201));
    }

    #[cfg(unix)]
    #[test]
    fn a_credential_goes_before_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, given) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let host = |credentials| match ServerIdentity::load_from(credentials, dir.path()) {
            Ok(identity) => identity.host,
            Err(error) => error.to_string(),
        };
        ServerIdentity::init(dir.path(), "file.example", 62201).ok().unwrap();
        assert_eq!(host(Some(given.path())), "file.example", "there is no such credential");
        let credential = path_in(given.path());
        files::create_new(&credential, &text()).unwrap();
        assert_eq!(
            (host(Some(given.path())), host(None)),
            ("fw.example.com".into(), "file.example".into())
        );
        std::fs::set_permissions(&credential, PermissionsExt::from_mode(0o440)).unwrap();
        let said = host(Some(given.path()));
        assert!(said.contains(&format!("chmod 600 {}", credential.display())), "{said}");
    }

    #[test]
    fn complains_by_line_and_keeps_secrets_to_itself() {
        let text = text();
        let secret = text.lines().find(|line| line.starts_with("secret-key")).unwrap();
        let secret = secret.split('"').nth(1).unwrap();
        // Beyond the bits that X25519 does not look at.
        let other = if secret.starts_with(['A', 'B']) { 'w' } else { 'A' };
        for (broken, complaint) in [
            (text.replace(secret, &secret[1..]), "/s.toml:6: expected 32 bytes in base64"),
            (
                text.replace(secret, &format!("{other}{}", &secret[1..])),
                "/s.toml: public-key does not",
            ),
            (text.replace("port", "prot"), "/s.toml:4: unknown field `prot`"),
            (text.replace("62201", "0"), "/s.toml:4: "),
            (text.replace("fw.", "f w."), "/s.toml: host: "),
            (text.replace("cloak", "#"), "/s.toml: missing field `cloak`"),
            (text.replace("cloak = \"", "cloak = "), "/s.toml:7: "),
        ] {
            let said = complain(&broken);
            assert!(said.starts_with(complaint), "{said}");
            assert!(!said.contains(&secret[4..]), "{said}");
        }
    }
}
