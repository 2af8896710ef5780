//! The keyring of a desktop (Secret Service), through `secret-tool`, which is libsecret's own: to
//! speak to a message bus ourselves would be more code than all the rest of this program.
//! Secrets are on its standard input and output only.

use std::env;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use spa_keys::encoding::{from_base64, to_base64};
use zeroize::Zeroizing;

use super::{bounded, in_path};

const PROGRAM: &str = "secret-tool";
/// What tells our entries from those of others.
const OURS: [&str; 2] = ["application", "spa"];
/// For an answer that takes nobody's hands.
pub(crate) const ANSWER: Duration = Duration::from_secs(3);
/// For a person whom the desktop asks to unlock its keyring.
pub(crate) const PERSON: Duration = Duration::from_secs(30);

/// What the keyring says of an entry.
pub(crate) enum Found {
    /// It is this.
    Secret(Zeroizing<[u8; 32]>),
    /// It is there, behind the keyring's own lock.
    Locked,
    /// There is none.
    Nothing,
    /// Who could tell does not.
    Silence,
    /// There is nobody who could tell: no bus, no keyring, or no program to ask it with.
    Nobody,
}

/// Whether a person sits at a desktop that may have a keyring.
pub(crate) fn is_there() -> bool {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    (set("DISPLAY") || set("WAYLAND_DISPLAY")) && can_be_asked()
}

fn can_be_asked() -> bool {
    let bus = || Path::new(&env::var_os("XDG_RUNTIME_DIR")?).join("bus").exists().then_some(());
    (env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some() || bus().is_some()) && in_path(PROGRAM)
}

/// Puts a secret there, in place of one of the same name. If the keyring is locked, the desktop
/// asks for its password, and is waited for within `limit`.
pub(crate) fn keep(name: &str, secret: &[u8; 32], limit: Duration) -> Result<(), String> {
    let label = format!("--label=spa: {name}");
    let text = to_base64(secret);
    ask(&["store", &label], &entry(name), text.as_bytes(), limit).map(drop).map_err(|error| {
        format!(
            "the desktop's keyring does not take it ({PROGRAM}: {error}): it may be locked, \
             there may be none, or the package libsecret-tools is missing; --keyring kernel does \
             without it"
        )
    })
}

/// What is kept under a name. Nobody is asked for anything.
pub(crate) fn kept(name: &str) -> Found {
    search(&["search"], name, ANSWER)
}

/// The same, while the desktop asks for the keyring's password.
pub(crate) fn kept_by_asking(name: &str) -> Found {
    search(&["search", "--unlock"], name, PERSON)
}

/// Takes these away, as far as one answer's time goes; from a keyring that is locked nothing can
/// be taken.
pub(crate) fn forget(names: &[String]) {
    let deadline = Instant::now() + ANSWER;
    for name in names {
        clear(&entry(name), deadline);
    }
}

/// The same for all that there is.
pub(crate) fn forget_all() {
    clear(&OURS, Instant::now() + ANSWER);
}

fn clear(attributes: &[&str], deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    if !left.is_zero() && can_be_asked() {
        let _ = ask(&["clear"], attributes, b"", left);
    }
}

fn entry(name: &str) -> [&str; 4] {
    let [application, spa] = OURS;
    [application, spa, "server", name]
}

fn search(words: &[&str], name: &str, limit: Duration) -> Found {
    match ask(words, &entry(name), b"", limit) {
        Ok(said) => read(&said),
        Err(error) if error.kind() == ErrorKind::TimedOut => Found::Silence,
        Err(_) => Found::Nobody,
    }
}

fn ask(
    words: &[&str],
    attributes: &[&str],
    input: &[u8],
    limit: Duration,
) -> io::Result<Zeroizing<Vec<u8>>> {
    bounded::output(Command::new(PROGRAM).args(words).args(attributes), input, limit)
}

/// An entry is told in several lines; of a locked one all but the secret.
fn read(said: &[u8]) -> Found {
    let text = std::str::from_utf8(said).unwrap_or_default();
    match text.lines().find_map(|line| line.strip_prefix("secret = ")) {
        Some(secret) => from_base64(secret).map_or(Found::Nothing, Found::Secret),
        None if text.is_empty() => Found::Nothing,
        None => Found::Locked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_locked_entry_from_none() {
        let whole =
            format!("[/1]\nlabel = spa: fw\nsecret = {}\ncreated = x\n", *to_base64(&[7; 32]));
        assert!(matches!(read(whole.as_bytes()), Found::Secret(secret) if *secret == [7; 32]));
        assert!(matches!(read(b"[/1]\nlabel = spa: fw\ncreated = x\n"), Found::Locked));
        assert!(matches!(read(b""), Found::Nothing));
        assert!(matches!(read(b"[/1]\nsecret = AAAA\n"), Found::Nothing), "not of ours");
    }
}
