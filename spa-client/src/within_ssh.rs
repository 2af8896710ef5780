//! What `spa ssh` tells the `spa knock` that ssh runs (`Match … exec`), so that one connection
//! takes one knock. Pure, but for the environment.

use std::env;
use std::process::Command;
use std::time::Duration;

use spa_proto::Timestamp;

use crate::alias::same_host;

/// In the environment of ssh, and so of what it runs.
const NAME: &str = "SPA_SSH";
/// Nobody is going to connect. No host has such a name.
const QUESTION: &str = "-";
/// For how long a knock does for ssh's own start; what knocks later has reasons of its own.
const FRESH: Duration = Duration::from_secs(10);

/// What was told.
pub(crate) enum Told {
    /// ssh is only asked what it would do.
    Question,
    /// This host was knocked at, at this time, and has opened.
    Knocked { host: String, at: Timestamp },
}

/// ssh is run, and will not connect.
pub(crate) fn asks(ssh: &mut Command) {
    ssh.env(NAME, QUESTION);
}

/// ssh is run after a knock at `host`.
pub(crate) fn has_knocked(ssh: &mut Command, host: &str, at: Timestamp) {
    ssh.env(NAME, format!("{host} {}", at.as_millis()));
}

/// What the `spa ssh` behind all this has told, if there is one.
pub(crate) fn told() -> Option<Told> {
    read(&env::var(NAME).ok()?)
}

fn read(text: &str) -> Option<Told> {
    if text == QUESTION {
        return Some(Told::Question);
    }
    let (host, millis) = text.split_once(' ')?;
    let at = Timestamp::from_millis(millis.parse().ok()?);
    Some(Told::Knocked { host: host.to_owned(), at })
}

/// Whether what was told makes a knock at `host` needless.
pub(crate) fn is_fresh(host: &str, knocked: &str, at: Timestamp, now: Timestamp) -> bool {
    same_host(host, knocked) && at <= now && now <= at.plus(FRESH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_knock_does_for_one_start() {
        let mut ssh = Command::new("ssh");
        let at = Timestamp::from_millis(1_000_000);
        has_knocked(&mut ssh, "fe80::1%eth0", at);
        let (_, value) = ssh.get_envs().next().unwrap();
        let Some(Told::Knocked { host, at: read }) = read(value.unwrap().to_str().unwrap()) else {
            panic!("{value:?}");
        };
        assert_eq!((host.as_str(), read), ("fe80::1%eth0", at));
        let after = |seconds| at.plus(Duration::from_secs(seconds));
        assert!(is_fresh(&host, &host, at, after(10)));
        assert!(!is_fresh(&host, &host, at, after(11)), "ssh has long started");
        assert!(!is_fresh(&host, &host, after(1), at), "a clock that was put back says nothing");
        assert!(!is_fresh("fw.example", &host, at, at), "another host");
    }

    #[test]
    fn anything_else_says_nothing() {
        assert!(matches!(read("-"), Some(Told::Question)));
        for text in ["", "fw", "fw ", "fw x", "1"] {
            assert!(read(text).is_none(), "{text:?}");
        }
    }
}
