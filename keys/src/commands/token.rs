//! A token on its way out: as text or as a picture, in clear or sealed.

use std::path::{Path, PathBuf};

use serde::Serialize;
use spa_keys::ask::{self, AskError};
use spa_keys::{ClientName, SealedToken, Store, Token, TokenEnrolment, date, files, note, random};
use spa_proto::Timestamp;
use zeroize::Zeroizing;

use super::{Failure, print};
use crate::cli::TokenOptions;
use crate::qr::Qr;
use crate::view::to_json;

/// Where a token is to go: decided before there is one, since it is shown once.
pub(crate) struct Delivery {
    options: TokenOptions,
    passphrase: Option<Zeroizing<String>>,
}

/// Makes another token for a client that has not used the one before.
pub(crate) const RENEW: &str = "spa-keys renew";

impl Delivery {
    /// Asks for the passphrase, and refuses files that are there already.
    pub(crate) fn prepare(options: TokenOptions) -> Result<Self, Failure> {
        for path in [&options.png, &options.svg].into_iter().flatten() {
            if path.symlink_metadata().is_ok() {
                let path = path.display();
                return Err(Failure::Other(format!("{path} is there already: take another name")));
            }
        }
        let passphrase = passphrase(&options).map_err(explain_question)?;
        Ok(Self { options, passphrase })
    }

    /// Hands the token over, and says what to do with it; if it gets lost, `again` with the
    /// client's name makes another.
    pub(crate) fn hand_over(
        &self,
        store: &Store,
        name: &ClientName,
        token: &Token,
        again: &str,
    ) -> Result<(), Failure> {
        self.send(name, token).map_err(|failure| {
            Failure::Other(format!("{failure}; the token is lost: run {again} {name}"))
        })?;
        let ends = store.client(name).ok().and_then(|record| record.ends());
        note!("{}", self.explain(token, ends));
        Ok(())
    }

    fn send(&self, name: &ClientName, token: &Token) -> Result<(), Failure> {
        let line = self.line(token)?;
        if self.options.json {
            if !self.options.is_text() {
                self.draw(&line)?;
            }
            return print(&Zeroizing::new(to_json(&Handed::of(name, token, &line, &self.options))));
        }
        if self.options.is_text() {
            return print(&line).and_then(|()| print("\n"));
        }
        let qr = self.draw(&line)?;
        if self.options.qr {
            print(&qr.to_terminal())?;
            note!("the code takes {} columns; where they are fewer: --png", qr.columns());
        }
        Ok(())
    }

    /// Into the files that are asked for.
    fn draw(&self, line: &str) -> Result<Qr, Failure> {
        let qr = Qr::of(line).map_err(failure)?;
        if let Some(path) = &self.options.png {
            files::create_new_bytes(path, &qr.to_png().map_err(failure)?).map_err(failure)?;
        }
        if let Some(path) = &self.options.svg {
            files::create_new(path, &qr.to_svg()).map_err(failure)?;
        }
        Ok(qr)
    }

    fn line(&self, token: &Token) -> Result<Zeroizing<String>, Failure> {
        let Some(passphrase) = &self.passphrase else { return Ok(token.encode()) };
        let salt = *random::bytes().map_err(failure)?;
        Ok(SealedToken::seal(token, passphrase, salt).map_err(failure)?.encode())
    }

    /// For a client that may knock up to when it `ends`.
    fn explain(&self, token: &Token, ends: Option<Timestamp>) -> String {
        let over = match self.passphrase {
            Some(_) => "hand it over, and the passphrase by another way, then on",
            None => "hand it over safely, then on",
        };
        let usage = match &token.enrolment {
            TokenEnrolment::Secret { expires, .. } => format!(
                "the token works once, until {}: {over} the client: spa enroll",
                date::format(ends.map_or(*expires, |ends| ends.min(*expires)))
            ),
            TokenEnrolment::Key(_) => format!(
                "the token works only with the key that the client has already: {over} that client: spa \
                 enroll"
            ),
        };
        let files = [&self.options.png, &self.options.svg];
        let written = files.into_iter().flatten().map(|path| note_of(path));
        written.chain([usage]).collect::<Vec<_>>().join("\n")
    }
}

/// A token, for programs.
#[derive(Serialize)]
struct Handed<'a> {
    name: &'a str,
    kid: String,
    services: Vec<String>,
    /// Up to when it can be used; null for one that works with a key that is there.
    expires: Option<String>,
    /// Null where it went to a file.
    token: Option<&'a str>,
    files: Vec<&'a Path>,
}

impl<'a> Handed<'a> {
    fn of(name: &'a ClientName, token: &Token, line: &'a str, options: &'a TokenOptions) -> Self {
        let expires = match &token.enrolment {
            TokenEnrolment::Secret { expires, .. } => Some(date::format(*expires)),
            TokenEnrolment::Key(_) => None,
        };
        Self {
            name: name.as_str(),
            kid: token.kid.to_string(),
            services: token.services.iter().map(ToString::to_string).collect(),
            expires,
            token: options.is_text().then_some(line),
            files: [&options.png, &options.svg]
                .into_iter()
                .flatten()
                .map(PathBuf::as_path)
                .collect(),
        }
    }
}

fn note_of(path: &Path) -> String {
    format!("the token is in {}: delete it when the client has it", path.display())
}

fn passphrase(options: &TokenOptions) -> Result<Option<Zeroizing<String>>, AskError> {
    match &options.passphrase_file {
        Some(path) => ask::passphrase_in(path).map(Some),
        None if options.passphrase => {
            ask::new_passphrase("new passphrase for the token: ").map(Some)
        }
        None => Ok(None),
    }
}

fn explain_question(error: AskError) -> Failure {
    let hint = match error {
        AskError::NoTerminal(_) => "; it can be in a file: --passphrase-file",
        AskError::Different => ": nothing was changed",
        _ => "",
    };
    Failure::Other(format!("{error}{hint}"))
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure::Other(error.to_string())
}
