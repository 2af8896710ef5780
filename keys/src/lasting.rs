//! How long grants last: what a service, a record and a request say, as one.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use spa_proto::ServiceName;

use crate::record::ClientRecord;
use crate::{duration, files};

/// Bytes of a `spad.toml` that are read at most.
const MOST: usize = 1 << 20;

/// What a service says of its grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lasting {
    /// How long one lasts that asks for no duration.
    pub ttl: Duration,
    /// How long one lasts at most.
    pub max_ttl: Duration,
}

impl Lasting {
    /// With the defaults for what is left open: 30 s, and 5 min or what one lasts anyway.
    #[must_use]
    pub fn new(ttl: Option<Duration>, max_ttl: Option<Duration>) -> Self {
        let ttl = ttl.unwrap_or(Duration::from_secs(30));
        Self { ttl, max_ttl: max_ttl.unwrap_or(Duration::from_secs(300).max(ttl)) }
    }

    /// Asked for, else the record's default, else the service's; never beyond
    /// either's maximum: asking for more gets the most there is.
    #[must_use]
    pub fn granted(&self, asked: Option<Duration>, record: &ClientRecord) -> Duration {
        let most = record.max_ttl().map_or(self.max_ttl, |most| most.min(self.max_ttl));
        asked.or(record.ttl()).unwrap_or(self.ttl).min(most)
    }

    /// For how many seconds each of the record's services opens for who asks for no duration, as
    /// far as the service is known: the record's own limits alone do not say.
    pub(crate) fn known(
        services: &BTreeMap<ServiceName, Self>,
        record: &ClientRecord,
    ) -> BTreeMap<ServiceName, NonZeroU32> {
        let time = |name| {
            let time = services.get(&name)?.granted(None, record);
            NonZeroU32::new(u32::try_from(time.as_secs()).ok()?).map(|seconds| (name, seconds))
        };
        record.services().into_iter().filter_map(time).collect()
    }

    /// The services of the `spad.toml` beside the directory of the keys, where there is one that
    /// does not say that its keys are elsewhere. What is wrong in it is left to `spad check`.
    pub(crate) fn beside(keys: &Path) -> BTreeMap<ServiceName, Self> {
        let path = dir_of(keys).map(|dir| dir.join("spad.toml"));
        let text = path.ok().and_then(|path| files::read_shared_up_to(&path, MOST).ok());
        let table: toml::Table = text.and_then(|text| text.parse().ok()).unwrap_or_default();
        let own = table.get("keys-dir").and_then(toml::Value::as_str);
        if own.is_none_or(|own| is_same(Path::new(own), keys)) {
            Self::of_config(&table)
        } else {
            BTreeMap::new()
        }
    }

    fn of_config(table: &toml::Table) -> BTreeMap<ServiceName, Self> {
        let services = table.get("service").and_then(toml::Value::as_table);
        let service = |(name, service): (&String, &toml::Value)| {
            let time = |key| match service.get(key) {
                None => Some(None),
                Some(time) => duration::parse(time.as_str()?).ok().map(Some),
            };
            Some((name.parse().ok()?, Self::new(time("ttl")?, time("max-ttl")?)))
        };
        services.into_iter().flatten().filter_map(service).collect()
    }
}

/// The directory that another is in. Where that is a link, the one that has the link.
fn dir_of(dir: &Path) -> io::Result<PathBuf> {
    // What is named `.` or `..` is in no directory by its name.
    let named = if dir.file_name().is_some() { dir.to_owned() } else { dir.canonicalize()? };
    Ok(named.parent().unwrap_or(&named).to_owned())
}

/// Whether two names are of one directory.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = Path::canonicalize;
    real(one).is_ok_and(|one| real(other).is_ok_and(|other| one == other))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn reads_what_services_say() {
        let text = "[service.ssh]\nport = 22\n[service.web]\nttl = \"1h\"\n\
                    [service.db]\nttl = \"1m\"\nmax-ttl = \"2m\"\n[service.bad]\nttl = \"soon\"\n";
        let services = Lasting::of_config(&text.parse().unwrap());
        let of = |name: &str| {
            let lasting = services.get(&name.parse().unwrap())?;
            Some((lasting.ttl.as_secs(), lasting.max_ttl.as_secs()))
        };
        assert_eq!(of("ssh"), Some((30, 300)));
        assert_eq!(of("web"), Some((3600, 3600)));
        assert_eq!(of("db"), Some((60, 120)));
        assert_eq!(of("bad"), None);
        for text in ["", "service = 1", "[service]\nssh = 1"] {
            let services = Lasting::of_config(&text.parse().unwrap());
            assert!(services.values().all(|one| one.ttl.as_secs() == 30), "{text}");
        }
    }

    /// However the directory of the keys is named, also as one that is a link to another place.
    #[test]
    #[cfg(unix)]
    fn spad_toml_is_beside_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("spad/keys/clients")).unwrap();
        fs::create_dir_all(path("elsewhere/keys")).unwrap();
        std::os::unix::fs::symlink("../elsewhere/keys", path("spad/link")).unwrap();
        fs::write(path("spad/spad.toml"), "[service.ssh]\nport = 22\n").unwrap();
        for keys in ["spad/keys", "spad/keys/", "spad/keys/.", "spad/keys/clients/..", "spad/link"]
        {
            assert_eq!(Lasting::beside(&path(keys)).len(), 1, "{keys}");
        }
        for keys in ["elsewhere/keys", "spad/keys/clients", "spad/none/.."] {
            assert!(Lasting::beside(&path(keys)).is_empty(), "{keys}");
        }
    }

    #[test]
    fn a_spad_toml_of_other_keys_says_nothing_of_these() {
        let dir = tempfile::tempdir().unwrap();
        let (keys, others) = (dir.path().join("keys"), dir.path().join("others"));
        fs::create_dir_all(&keys).unwrap();
        let found = |text: &str| {
            fs::write(dir.path().join("spad.toml"), text).unwrap();
            Lasting::beside(&keys).len()
        };
        let service = "[service.ssh]\nport = 22\n";
        let of = |dir: &Path| format!("keys-dir = '{}'\n{service}", dir.display());
        assert_eq!((found(service), found(&of(&keys)), found(&of(&keys.join(".")))), (1, 1, 1));
        assert_eq!(found(&of(&others)), 0, "there is no such directory");
        fs::create_dir_all(&others).unwrap();
        assert_eq!(found(&of(&others)), 0);
        let long = |len: usize| format!("{service}{}", "#".repeat(len - service.len()));
        assert_eq!((found(&long(MOST)), found(&long(MOST + 1)), found("not toml")), (1, 0, 0));
    }

    /// A pipe would keep `spa-keys add` waiting until somebody writes into it, as is done here.
    #[test]
    #[cfg(unix)]
    fn only_a_regular_spad_toml_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("spad.toml");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::thread::spawn(move || fs::write(pipe, "[service.ssh]\nport = 22\n"));
        assert!(Lasting::beside(&dir.path().join("keys")).is_empty());
    }
}
