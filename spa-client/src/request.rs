//! `spa request`: enrolment the other way round. The key is made first, and
//! waits in `requests/` for the token that names it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spa_keys::{PublicKeyLine, document, files, random};
use spa_proto::{SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::config::{ConfigDir, toml_files};
use crate::erase;
use crate::exit::{Exit, Failure};
use crate::field;
use crate::report;

const COMMENT: &str = "# Written by `spa request`; waits for its token: spa enroll\n";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    #[serde(rename = "signing-key", with = "field")]
    signing: SigningKey,
}

/// A key that waits for its token.
pub(crate) struct PendingKey {
    path: PathBuf,
    pub(crate) signing: SigningKey,
}

impl PendingKey {
    /// Deletes the file, once the key is kept elsewhere.
    pub(crate) fn delete(self) -> Result<(), String> {
        erase::remove(&self.path)
    }
}

/// Makes a key and prints its public half.
pub(crate) fn run(config: &ConfigDir) -> Result<Exit, Failure> {
    let signing = new_signing_key()?;
    keep(config, &signing)?;
    report::print(&PublicKeyLine::encode(&signing))?;
    report::note("the private half stays here and waits for its token; on the server:");
    report::note("  spa-keys add NAME --service ssh --pubkey LINE");
    report::note("then, here, with the token that this prints: spa enroll");
    Ok(Exit::Done)
}

/// A signing key, made here.
pub(crate) fn new_signing_key() -> Result<SigningKey, Failure> {
    let seed = random::bytes().map_err(Failure::keys)?;
    Ok(SigningKey::from_seed(&seed))
}

fn keep(config: &ConfigDir, signing: &SigningKey) -> Result<(), Failure> {
    let dir = config.requests_dir();
    files::make_private_dir(&dir).map_err(Failure::keys)?;
    let body = toml::to_string(&OnDisk { signing: signing.clone() });
    let body = Zeroizing::new(body.map_err(Failure::keys)?);
    let text = Zeroizing::new(format!("{COMMENT}{}", *body));
    files::create_new(&dir.join(file_name(&signing.verifying_key())), &text).map_err(Failure::keys)
}

/// Named for the first half of the public key.
fn file_name(key: &VerifyingKey) -> String {
    let digits: String = key.to_bytes().iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("{digits}.toml")
}

/// The key that a token names.
pub(crate) fn find(config: &ConfigDir, key: &VerifyingKey) -> Result<PendingKey, Failure> {
    let path = config.requests_dir().join(file_name(key));
    if !path.exists() {
        return Err(no_such_key(config));
    }
    let pending = load(path)?;
    if pending.signing.verifying_key() == *key { Ok(pending) } else { Err(no_such_key(config)) }
}

fn no_such_key(config: &ConfigDir) -> Failure {
    let dir = config.requests_dir();
    let pending = toml_files(&dir).map_or(0, |files| files.len());
    Failure::keys(format!(
        "this token is for a key that was made elsewhere: none of the {pending} in {} is it; \
         enrol where `spa request` was run, with the same --config-dir",
        dir.display()
    ))
}

fn load(path: PathBuf) -> Result<PendingKey, Failure> {
    let text = files::read_private(&path).map_err(Failure::keys)?;
    let OnDisk { signing } = parse(&path, &text)?;
    Ok(PendingKey { path, signing })
}

fn parse(path: &Path, text: &str) -> Result<OnDisk, Failure> {
    document::parse(path, text).map_err(Failure::keys)
}
