//! Clients by the thousand: their records, written without the program that makes one at a time,
//! and their knocks, sealed before they are sent.

use std::fs;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use spa_keys::encoding::to_base64;
use spa_keys::{NewClient, Policy, ServerIdentity, Store};
use spa_proto::{
    Address, ClientKeys, Credentials, Datagram, Entropy, Kid, Kind, Mode, Psk, Request, Services,
    SigningKey, Timestamp, seal,
};
use spa_tests::Result;
use spa_tests::lab::{Doing, LabError};

/// The clients of one server.
pub(crate) struct Crowd {
    keys_dir: PathBuf,
    server: ServerIdentity,
    /// A record as the program writes it, of which names and keys are replaced.
    template: String,
    /// How many records there are.
    count: u32,
}

impl Crowd {
    /// No clients yet, of the server with these keys.
    pub(crate) fn new(keys_dir: &Path) -> Result<Self> {
        let server = ServerIdentity::load(keys_dir)?;
        let template = template(keys_dir)?;
        Ok(Self { keys_dir: keys_dir.to_owned(), server, template, count: 0 })
    }

    /// Makes records until there are `count`, which are taken for enrolled: they have a key, and
    /// have knocked before.
    pub(crate) fn grow(&mut self, count: u32) -> Result {
        while self.count < count {
            let path = self.clients_dir().join(format!("{}.toml", name(self.count)));
            self.write_record(self.count, &path)?;
            self.count += 1;
        }
        Ok(())
    }

    /// Writes the record of the next client to a file that the daemon does not look at, and gives
    /// the name that is still to be given to it.
    pub(crate) fn prepare_next(&mut self) -> Result<(u32, PathBuf, PathBuf)> {
        let number = self.count;
        let there = self.clients_dir().join(format!("{}.toml", name(number)));
        let hidden = self.clients_dir().join(format!(".{}.new", name(number)));
        self.write_record(number, &hidden)?;
        self.count += 1;
        Ok((number, hidden, there))
    }

    fn clients_dir(&self) -> PathBuf {
        self.keys_dir.join("clients")
    }

    fn write_record(&self, number: u32, path: &Path) -> Result {
        use std::io::Write;
        let (kid, psk, signing) = secrets(number);
        let verifying = signing.verifying_key().to_bytes();
        let line = |line: &str| match line.split(' ').next() {
            Some("name") => format!("name = \"{}\"\n", name(number)),
            Some("knocked") => "knocked = true\n".to_owned(),
            Some("kid") => format!("kid = \"{kid}\"\n"),
            Some("key") => format!("key = \"{}\"\n", *to_base64(&verifying)),
            Some("psk") => format!("psk = \"{}\"\n", *to_base64(psk.expose())),
            _ => format!("{line}\n"),
        };
        let text: String = self.template.lines().map(line).collect();
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes()).doing(path.display())
    }

    /// Bytes of a record on disk.
    pub(crate) fn record_len(&self) -> usize {
        self.template.len()
    }

    /// What a client has.
    pub(crate) fn credentials(&self, number: u32) -> Credentials {
        let (kid, psk, signing) = secrets(number);
        let server = self.server.secret.public();
        let keys = ClientKeys::derive(&psk, &server, &kid);
        Credentials { server, kid, cloak: self.server.cloak.clone(), keys, signing }
    }
}

/// A record for the service that all measurements open, made by the program's own way.
fn template(keys_dir: &Path) -> Result<String> {
    let new = NewClient {
        name: "template".parse()?,
        expires: None,
        policy: Policy { services: vec!["ssh".parse()?], ..Policy::default() },
        key: Some(SigningKey::from_seed(&[1; 32]).verifying_key()),
    };
    let store = Store::open(keys_dir);
    store.add(new, now())?;
    let path = store.clients_dir().join("template.toml");
    let text = fs::read_to_string(&path)?;
    fs::remove_file(&path)?;
    Ok(text)
}

/// Names sort as the numbers do.
fn name(number: u32) -> String {
    format!("c{number:06}")
}

/// The same in every run; nobody else ever hears of this server. They look as random as real ones
/// do: tables by key-id rely on it.
fn secrets(number: u32) -> (Kid, Psk, SigningKey) {
    let hash = |what: &str| <[u8; 32]>::from(Sha256::digest(format!("{what} {number}")));
    let (kid, seed) = (hash("kid").first_chunk().copied().unwrap_or_default(), hash("seed"));
    (Kid::from_bytes(kid), Psk::from_bytes(seed), SigningKey::from_seed(&seed))
}

/// Wall-clock time.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or_default())
}

/// A knock for `source`, made `later` than now. `number` makes it another one than those before.
pub(crate) fn knock(
    client: &Credentials,
    source: IpAddr,
    later: Duration,
    number: u32,
) -> Result<Datagram> {
    let services = Services::new(["ssh".parse()?]);
    let request = Request {
        kind: Kind::Knock,
        mode: Mode::Default,
        address: Address::Explicit(source),
        width: None,
        seconds: None::<NonZeroU32>,
        services: services.ok_or_else(|| LabError::new("no services"))?,
    };
    let mut entropy = [9; 32];
    entropy[..4].copy_from_slice(&number.to_be_bytes());
    let sealed = seal(client, &request, now().plus(later), &Entropy::from_bytes(entropy));
    sealed.map_err(|error| LabError::new(format!("sealing: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_ids_look_random_from_their_first_to_their_last_byte() {
        let kids: Vec<_> = (0..1000).map(|number| *secrets(number).0.as_bytes()).collect();
        for at in 0..16 {
            let values: std::collections::BTreeSet<_> = kids.iter().map(|kid| kid[at]).collect();
            assert!(values.len() > 230, "byte {at}: {} values", values.len());
        }
    }
}
