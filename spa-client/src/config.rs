//! The directory where servers and keys are kept.
//!
//! ```text
//! DIR/config.toml           choices for all servers (settings)
//! DIR/hosts/ALIAS.toml      one server each (host_file)
//! DIR/hosts/ALIAS.former    what was there before its keys were replaced (update)
//! DIR/requests/KEY.toml     keys that wait for their token (request)
//! DIR/state/                where DIR was given; else with the state of other programs (again)
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use spa_keys::files;
use spa_proto::{Kid, ServerPublic};
use zeroize::Zeroizing;

use crate::alias::{Alias, same_host};
use crate::erase::{self, Leaving};
use crate::exit::Failure;
use crate::host_file::HostEntry;
use crate::os;
use crate::settings::Settings;

/// The directory, which need not be there yet.
pub(crate) struct ConfigDir {
    path: PathBuf,
    /// It is not the user's own.
    is_given: bool,
    state: Option<PathBuf>,
}

/// All servers of this machine.
pub(crate) struct Known {
    /// In the order of their aliases.
    pub(crate) entries: Vec<(Alias, HostEntry)>,
    /// Files that cannot be used, and why.
    pub(crate) broken: Vec<Failure>,
}

impl ConfigDir {
    /// The one `given`, else the user's own.
    pub(crate) fn new(given: Option<PathBuf>) -> Result<Self, Failure> {
        let is_given = given.is_some();
        let state = given.as_ref().map(|dir| dir.join("state")).or_else(os::default_state_dir);
        let path = given.or_else(os::default_config_dir);
        let path = path.ok_or_else(|| Failure::usage("no home directory: say --config-dir DIR"))?;
        Ok(Self { path, is_given, state })
    }

    /// Where programs keep what they remember, nothing of it secret.
    pub(crate) fn state_dir(&self) -> Option<&Path> {
        self.state.as_deref()
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is, if that has to be said.
    pub(crate) fn given(&self) -> Option<&Path> {
        self.is_given.then_some(self.path.as_path())
    }

    /// Where the user's choices for all servers are.
    pub(crate) fn settings_path(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// Those choices.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        Settings::read(&self.settings_path())
    }

    /// The file of a server.
    pub(crate) fn host_path(&self, alias: &Alias) -> PathBuf {
        self.hosts_dir().join(format!("{alias}.toml"))
    }

    /// Where keys wait for their token.
    pub(crate) fn requests_dir(&self) -> PathBuf {
        self.path.join("requests")
    }

    fn hosts_dir(&self) -> PathBuf {
        self.path.join("hosts")
    }

    /// Which server `host` means: an alias, or the host name of just one.
    pub(crate) fn find(&self, host: &str) -> Result<Alias, Failure> {
        match self.find_known(host)? {
            Some(alias) => Ok(alias),
            None => Err(self.unknown(host, &self.known()?)),
        }
    }

    /// The same, where it is no error that there is none.
    pub(crate) fn find_known(&self, host: &str) -> Result<Option<Alias>, Failure> {
        if let Ok(alias) = host.parse::<Alias>()
            && self.host_path(&alias).symlink_metadata().is_ok()
        {
            return Ok(Some(alias));
        }
        let known = self.known()?;
        let mut matching = known.entries.iter().filter(|(_, entry)| same_host(entry.host(), host));
        match (matching.next(), matching.next()) {
            (Some((alias, _)), None) => Ok(Some(alias.clone())),
            (Some((one, _)), Some((other, _))) => Err(Failure::keys(format!(
                "more than one server is at {host}: say which, such as {one} or {other}"
            ))),
            (None, _) => Ok(None),
        }
    }

    fn unknown(&self, host: &str, known: &Known) -> Failure {
        let aliases: Vec<_> = known.entries.iter().map(|(alias, _)| alias.to_string()).collect();
        let mut text = format!("no keys for {host:?} in {}", self.path.display());
        if aliases.is_empty() {
            text += "; take a token in first: spa enroll";
        } else {
            text += &format!(" (there are some for {})", aliases.join(", "));
        }
        for broken in &known.broken {
            text += &format!("\nspa: not looked at: {broken}");
        }
        Failure::keys(text)
    }

    /// Reads every server; files that cannot be used do not hide the others.
    pub(crate) fn known(&self) -> Result<Known, Failure> {
        let mut known = Known { entries: Vec::new(), broken: Vec::new() };
        for alias in self.aliases()? {
            match self.load(&alias) {
                Ok(entry) => known.entries.push((alias, entry)),
                Err(failure) => known.broken.push(failure),
            }
        }
        Ok(known)
    }

    fn aliases(&self) -> Result<Vec<Alias>, Failure> {
        let mut aliases: Vec<_> = toml_files(&self.hosts_dir())?
            .iter()
            .filter_map(|path| path.file_stem()?.to_str()?.parse().ok())
            .collect();
        aliases.sort();
        Ok(aliases)
    }

    /// Reads one server.
    pub(crate) fn load(&self, alias: &Alias) -> Result<HostEntry, Failure> {
        let path = self.host_path(alias);
        let text = files::read_private(&path).map_err(Failure::keys)?;
        HostEntry::parse(&path, &text).map_err(Failure::keys)
    }

    /// Which server, if any, is this very one, with this very key-id.
    pub(crate) fn find_client(&self, server: &ServerPublic, kid: &Kid) -> Option<Alias> {
        let entries = self.known().ok()?.entries;
        entries
            .into_iter()
            .find(|(_, entry)| entry.server_key() == *server && entry.key_id() == *kid)
            .map(|(alias, _)| alias)
    }

    /// Writes a new server; one that is there stays as it is.
    pub(crate) fn add(&self, alias: &Alias, entry: HostEntry) -> Result<(), Failure> {
        files::make_private_dir(&self.hosts_dir()).map_err(Failure::keys)?;
        let text = entry.into_text().map_err(Failure::keys)?;
        files::create_new(&self.host_path(alias), &text).map_err(|error| {
            if error.is_taken() { self.taken(alias) } else { Failure::keys(error) }
        })
    }

    /// Refuses a name that a server has already.
    pub(crate) fn is_free(&self, alias: &Alias) -> Result<(), Failure> {
        let taken = self.host_path(alias).symlink_metadata().is_ok();
        if taken { Err(self.taken(alias)) } else { Ok(()) }
    }

    fn taken(&self, alias: &Alias) -> Failure {
        if let Err(damaged) = self.load(alias) {
            return Failure::keys(format!(
                "{damaged}\n  nothing can take its place before it is gone: spa forget {alias}, then \
                 enrol again"
            ));
        }
        Failure::keys(format!(
            "there is a server called {alias} already ({}), which stays as it is; if this token \
             takes its place: --replace, which keeps the keys of before until the new ones work; else \
             give the new one another name: --name",
            self.host_path(alias).display()
        ))
    }

    /// Where a server's former keys are, until the new ones have been seen to work.
    pub(crate) fn former_path(&self, alias: &Alias) -> PathBuf {
        self.hosts_dir().join(format!("{alias}.former"))
    }

    /// Keeps a copy of a server's file; of several that were not seen to work, the first
    /// replaced one that may have.
    pub(crate) fn set_aside(&self, alias: &Alias) -> Result<(), Failure> {
        let text = self.text(alias)?;
        match files::create_new(&self.former_path(alias), &text) {
            Err(error) if error.is_taken() => Ok(()),
            written => written.map_err(Failure::keys),
        }
    }

    /// Deletes that copy, if there is one, and overwrites what it held.
    pub(crate) fn forget_aside(&self, alias: &Alias) -> Result<(), Failure> {
        erase::remove_if_there(&self.former_path(alias)).map_err(Failure::keys)
    }

    /// Takes the token's secret out of a server's file, and forgets the keys from
    /// before, now that the server is known to have seen the new ones; unless the
    /// knock was of others, since replaced.
    pub(crate) fn confirm(&self, alias: &Alias, kid: &Kid) -> Result<(), Failure> {
        let mut entry = self.load(alias)?;
        if entry.key_id() != *kid {
            return Ok(());
        }
        let cleared = if entry.forget_secret() { self.replace(alias, entry) } else { Ok(()) };
        self.forget_aside(alias).and(cleared)
    }

    /// A server's file, as it is.
    pub(crate) fn text(&self, alias: &Alias) -> Result<Zeroizing<String>, Failure> {
        files::read_private(&self.host_path(alias)).map_err(Failure::keys)
    }

    /// Writes a server's file anew, and overwrites what the old one held.
    pub(crate) fn replace(&self, alias: &Alias, entry: HostEntry) -> Result<(), Failure> {
        let path = self.host_path(alias);
        let old = Leaving::open(&path);
        let text = entry.into_text().map_err(Failure::keys)?;
        files::write_atomic(&path, &text).map_err(Failure::keys)?;
        old.erase().map_err(|error| {
            let path = path.display();
            Failure::keys(format!("{path} is new, but what it held is still on the disk: {error}"))
        })
    }

    /// Deletes a server's file, and overwrites what it held; so with what was on its way there
    /// when somebody was killed.
    pub(crate) fn remove(&self, alias: &Alias) -> Result<(), Failure> {
        let (path, aside) = (self.host_path(alias), self.former_path(alias));
        let unfinished: Result<Vec<_>, _> =
            [&path, &aside].into_iter().map(|path| files::unfinished(path)).collect();
        let mut paths = vec![path];
        paths.extend(Some(aside).filter(|path| erase::is_there(path)));
        let found = unfinished.map(|found| paths.extend(found.into_iter().flatten()));
        // The keys that are in force go in any case.
        let removed = erase::remove_all(&paths).map_err(Failure::keys);
        removed.and(found.map_err(Failure::keys))
    }
}

/// The `.toml` files in a directory; none where there is no directory.
pub(crate) fn toml_files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable =
        |error| Failure::keys(format!("cannot read the directory {}: {error}", dir.display()));
    let listing = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.map_err(unreadable)?,
    };
    let paths: Result<Vec<_>, _> = listing.map(|item| item.map(|item| item.path())).collect();
    let mut paths = paths.map_err(unreadable)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_file::PendingEnrolment;
    use spa_keys::{Token, TokenEnrolment};
    use spa_proto::{Cloak, EnrolSecret, Psk, ServerSecret, SigningKey, Timestamp};
    use std::io::Read;

    fn entry(kid: u8) -> HostEntry {
        entry_with(kid, None)
    }

    fn entry_with(kid: u8, enrolment: Option<PendingEnrolment>) -> HostEntry {
        let signing = SigningKey::from_seed(&[1; 32]);
        let token = Token {
            server: ServerSecret::from_bytes([2; 32]).public(),
            cloak: Cloak::from_bytes([3; 16]),
            host: "fw.example".into(),
            port: 62201,
            kid: Kid::from_bytes([kid; 16]),
            psk: Psk::from_bytes([4; 32]),
            enrolment: TokenEnrolment::Key(signing.verifying_key()),
            services: vec!["ssh".parse().unwrap()],
            lasting: Default::default(),
        };
        HostEntry::new(token, signing, enrolment).unwrap()
    }

    /// A knock that opened while others took its place says nothing of those.
    #[test]
    fn former_keys_stay_until_those_after_them_have_opened() {
        let dir = tempfile::tempdir().unwrap();
        let config = ConfigDir::new(Some(dir.path().to_owned())).unwrap();
        let alias: Alias = "fw".parse().unwrap();
        config.add(&alias, entry(1)).unwrap();
        config.set_aside(&alias).unwrap();
        config.replace(&alias, entry(2)).unwrap();
        config.confirm(&alias, &Kid::from_bytes([1; 16])).unwrap();
        assert!(config.former_path(&alias).exists());
        config.confirm(&alias, &Kid::from_bytes([2; 16])).unwrap();
        assert!(!config.former_path(&alias).exists());
    }

    #[test]
    fn the_file_that_held_the_tokens_secret_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let config = ConfigDir::new(Some(dir.path().to_owned())).unwrap();
        let alias: Alias = "fw".parse().unwrap();
        let secret = EnrolSecret::from_bytes([5; 32]);
        let pending = PendingEnrolment::new(secret, Timestamp::from_millis(9));
        config.add(&alias, entry_with(1, Some(pending))).unwrap();
        let mut held = fs::File::open(config.host_path(&alias)).unwrap();
        config.confirm(&alias, &Kid::from_bytes([1; 16])).unwrap();
        assert!(config.load(&alias).unwrap().token_expires().is_none());
        let mut left = String::new();
        held.read_to_string(&mut left).unwrap();
        assert_eq!((left.is_empty(), left.trim_matches('\0')), (false, ""));
    }
}
