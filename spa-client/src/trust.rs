//! Before a token is taken in: taken out from under its passphrase, looked at,
//! shown to whoever is there.

use std::io::{self, IsTerminal};
use std::path::Path;

use spa_keys::ask::{self, AskError};
use spa_keys::{SealedToken, Token, TokenEnrolment, TokenError, date};
use spa_proto::Timestamp;
use zeroize::Zeroizing;

use crate::exit::Failure;
use crate::report;

/// Before giving up.
const TRIES: usize = 3;

/// The token that a line holds, or has under a passphrase.
pub(crate) fn token(line: &str, passphrase_file: Option<&Path>) -> Result<Token, Failure> {
    if !SealedToken::is_one(line) {
        return Token::decode(line).map_err(Failure::keys);
    }
    let sealed = SealedToken::decode(line).map_err(Failure::keys)?;
    if let Some(path) = passphrase_file {
        let passphrase = ask::passphrase_in(path).map_err(explain)?;
        return sealed.open(&passphrase).map_err(Failure::keys);
    }
    for _ in 1..TRIES {
        match sealed.open(&passphrase()?) {
            Err(TokenError::Passphrase) => {
                report::note(&format!("spa: {}", TokenError::Passphrase))
            }
            opened => return opened.map_err(Failure::keys),
        }
    }
    sealed.open(&passphrase()?).map_err(Failure::keys)
}

fn passphrase() -> Result<Zeroizing<String>, Failure> {
    ask::passphrase("passphrase of the token: ").map_err(explain)
}

fn explain(error: AskError) -> Failure {
    let hint = match error {
        AskError::NoTerminal(_) => {
            " for the token's passphrase; it can be in a file: \
                                    --passphrase-file"
        }
        _ => "",
    };
    Failure::keys(format!("{error}{hint}"))
}

/// A token whose time is over enrols nobody.
pub(crate) fn refuse_late(token: &Token, now: Timestamp) -> Result<(), Failure> {
    match token.enrolment {
        TokenEnrolment::Secret { expires, .. } if now > expires => Err(Failure::keys(format!(
            "the time of this token was over at {}, and by this machine's clock it is {}: ask for \
             another (there: spa-keys renew NAME)",
            date::format(expires),
            date::format(now)
        ))),
        _ => Ok(()),
    }
}

/// Asks whether what was shown is to be trusted, where somebody is there to say so.
pub(crate) fn ask(yes: bool) -> Result<(), Failure> {
    if yes || !somebody_is_there() {
        return Ok(());
    }
    report::ask("take it in? [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(Failure::keys)?;
    if is_yes(&answer) { Ok(()) } else { Err(Failure::keys("the token was not taken in")) }
}

/// Refuses what nobody can be asked about, where it must not happen unseen.
pub(crate) fn refuse_unseen(what: &str) -> Result<(), Failure> {
    if somebody_is_there() {
        return Ok(());
    }
    Err(Failure::keys(format!(
        "{what}, and there is no terminal to ask on: the token was not taken in. If that is meant, \
         say so with --replace or --yes"
    )))
}

fn somebody_is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_one() {
        for answer in ["y\n", "Y\r\n", "yes", " YES \n"] {
            assert!(is_yes(answer), "{answer:?}");
        }
        for answer in ["", "\n", "n\n", "yess\n", "yes no\n", "ja\n"] {
            assert!(!is_yes(answer), "{answer:?}");
        }
    }
}
