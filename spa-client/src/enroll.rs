//! `spa enroll`: a token in, a server's file out.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use spa_keys::{Token, TokenEnrolment, date};
use spa_proto::SigningKey;
use zeroize::Zeroizing;

use crate::alias::Alias;
use crate::cli::EnrollOptions;
use crate::config::ConfigDir;
use crate::exit::{Exit, Failure};
use crate::field::Field;
use crate::host_file::{HostEntry, PendingEnrolment};
use crate::request::{self, PendingKey};
use crate::update::{self, Update};
use crate::{os, report, trust};

/// Room for tens of thousands of tokens.
const MAX_INPUT: usize = 16 * 1024 * 1024;

/// Takes tokens in, all that there are.
pub(crate) fn run(config: &ConfigDir, options: &EnrollOptions) -> Result<Exit, Failure> {
    let text = read_token(options.token.as_deref())?;
    let tokens = split(&text);
    if tokens.len() > 1 && options.name.is_some() {
        return Err(Failure::usage("--name is for one token, and these are several"));
    }
    let ended = tokens.iter().map(|token| enroll(config, token, options));
    let failed: Vec<_> = ended.filter_map(Result::err).collect();
    // The last one is for whoever called.
    let mut failed = failed.into_iter().rev();
    let Some(last) = failed.next() else { return Ok(Exit::Done) };
    failed.rev().for_each(|failure| report::complain(&failure));
    Err(last)
}

/// Each begins a line with what all of them begin with; what does not is left to the decoder to
/// complain of.
fn split(text: &str) -> Vec<&str> {
    let begins =
        |at: &usize| text[*at..].starts_with("spa1") && (*at == 0 || text[..*at].ends_with('\n'));
    let starts: Vec<_> = text.char_indices().map(|(at, _)| at).filter(begins).collect();
    if starts.len() < 2 {
        return vec![text];
    }
    let ends = starts[1..].iter().copied().chain([text.len()]);
    starts.iter().zip(ends).map(|(start, end)| &text[*start..end]).collect()
}

fn enroll(config: &ConfigDir, text: &str, options: &EnrollOptions) -> Result<(), Failure> {
    let name = options.name.as_ref();
    let token = trust::token(text, options.passphrase_file.as_deref())?;
    let alias = choose_alias(name, &token)?;
    let there = config.find_client(&token.server, &token.kid);
    if let Some(there) = there.filter(|there| !update::brings_more(config, there, &token)) {
        return already_there(&there, name);
    }
    trust::refuse_late(&token, date::now())?;
    let update = match Update::by_key(config, &token)? {
        None if options.replace => Update::by_alias(config, &alias)?,
        update => update,
    };
    if let Some(update) = update {
        return replace(config, update, token, options);
    }
    let (entry, pending_key) = bind(config, token)?;
    config.is_free(&alias)?;
    report::note(&describe(&entry));
    trust::ask(options.yes)?;
    config.add(&alias, entry)?;
    if let Some(Err(error)) = pending_key.map(PendingKey::delete) {
        report::note(&format!("the key's copy among the requests stays: {error}"));
    }
    let path = config.host_path(&alias);
    report::note(&format!("kept in   {}\nnext      spa knock {alias}", path.display()));
    Ok(())
}

/// Other keys for a server that is here already. With a token that names the key
/// that is here, this stays; else there is a new one.
fn replace(
    config: &ConfigDir,
    update: Update,
    token: Token,
    options: &EnrollOptions,
) -> Result<(), Failure> {
    if let Some(name) = options.name.as_ref().filter(|name| *name != update.alias()) {
        return Err(Failure::keys(format!(
            "this token replaces the keys of {}, which cannot be called {name} by it: leave out --name",
            update.alias()
        )));
    }
    let key = match &token.enrolment {
        TokenEnrolment::Key(key) => Some(*key),
        TokenEnrolment::Secret { .. } => None,
    };
    let own = &update.signing_keys().signing;
    let (entry, pending_key) = if key == Some(own.verifying_key()) {
        (entry(token, own.clone(), None)?, None)
    } else {
        bind(config, token)?
    };
    let alias = update.alias().clone();
    report::note(&format!("{}\nby\n{}", update.describe(), describe(&entry)));
    if let Some(what) = update.other_server(&entry).filter(|_| !options.yes && !options.replace) {
        trust::refuse_unseen(&what)?;
        report::note(&format!("note      {what}"));
    }
    trust::ask(options.yes)?;
    update.write(config, entry)?;
    if let Some(Err(error)) = pending_key.map(PendingKey::delete) {
        report::note(&format!("the key's copy among the requests stays: {error}"));
    }
    report::note(&format!(
        "{alias} has new keys; those from before are in {}, until a knock has been seen to \
         open\nnext      spa knock {alias}",
        config.former_path(&alias).display()
    ));
    Ok(())
}

fn choose_alias(name: Option<&Alias>, token: &Token) -> Result<Alias, Failure> {
    let alias = name.cloned().or_else(|| Alias::of_host(&token.host));
    alias.ok_or_else(|| {
        Failure::usage(format!("{:?} makes no alias: give one with --name", token.host))
    })
}

/// The same token a second time is no harm, unless it was to have another name.
fn already_there(there: &Alias, name: Option<&Alias>) -> Result<(), Failure> {
    let text = format!("this token was taken in before, as {there}: spa knock {there}");
    if name.is_some_and(|name| name != there) {
        return Err(Failure::keys(text));
    }
    report::note(&text);
    Ok(())
}

/// Finds or makes the signing key that goes with the token.
fn bind(config: &ConfigDir, token: Token) -> Result<(HostEntry, Option<PendingKey>), Failure> {
    let (signing, enrolment, pending_key) = match token.enrolment.clone() {
        TokenEnrolment::Secret { secret, expires } => {
            (request::new_signing_key()?, Some(PendingEnrolment::new(secret, expires)), None)
        }
        TokenEnrolment::Key(key) => {
            let pending = request::find(config, &key)?;
            (pending.signing.clone(), None, Some(pending))
        }
    };
    Ok((entry(token, signing, enrolment)?, pending_key))
}

fn entry(
    token: Token,
    signing: SigningKey,
    enrolment: Option<PendingEnrolment>,
) -> Result<HostEntry, Failure> {
    HostEntry::new(token, signing, enrolment)
        .map_err(|why| Failure::keys(format!("the token cannot be used: {why}")))
}

/// What is about to be trusted.
fn describe(entry: &HostEntry) -> String {
    let services: Vec<_> = entry.services().iter().map(ToString::to_string).collect();
    let token = entry.token_expires().map_or_else(
        || "works with the key that this machine has".to_owned(),
        |expires| format!("works once, first knock before {}", date::format(expires)),
    );
    format!(
        "server    {}, UDP port {}\nits key   {}\nservices  {}\ntoken     {token}",
        entry.host(),
        entry.port(),
        *entry.server_key().write(),
        services.join(", "),
    )
}

fn read_token(from: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    match from {
        None => ask(),
        Some(path) if path.as_os_str() == "-" => read_all(io::stdin().lock())
            .map_err(|error| Failure::keys(format!("cannot read standard input: {error}"))),
        Some(path) => read_file(path),
    }
}

fn ask() -> Result<Zeroizing<String>, Failure> {
    if !io::stdin().is_terminal() {
        let text = "no terminal to ask on; to read the token from standard input: spa enroll -";
        return Err(Failure::usage(text));
    }
    report::ask("token (not shown): ");
    os::read_hidden_line().map_err(|error| {
        Failure::usage(format!(
            "cannot ask without showing the token here ({error}); use a pipe or a file: spa enroll -"
        ))
    })
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    if looks_like_token(path) {
        return Err(Failure::usage(
            "a token does not belong among the arguments: others on this machine see those, and \
             the shell's history keeps them; it was not used. Let spa ask for it (spa enroll), or \
             give it on standard input (spa enroll -)",
        ));
    }
    let unreadable =
        |error| Failure::keys(format!("cannot read the token from {}: {error}", path.display()));
    let token = read_all(File::open(path).map_err(unreadable)?).map_err(unreadable)?;
    if os::others_can_read(path) {
        let path = path.display();
        report::note(&format!("others on this machine can read {path}: delete it when done"));
    }
    Ok(token)
}

/// Also where it lacks its beginning: what is no file must not be repeated in
/// an error message if it may be most of a token.
fn looks_like_token(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let text = text.trim();
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let long = text.len() >= 100 && text.bytes().all(base64);
    (text.starts_with("spa1") || long) && !path.exists()
}

fn read_all(input: impl Read) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let read = input.take(MAX_INPUT as u64 + 1).read_to_string(&mut text)?;
    if read > MAX_INPUT {
        return Err(io::Error::other(format!("there are more than {MAX_INPUT} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_tokens_from_files() {
        for text in ["spa1.AAAA", " spa1.AAAA", "spa1-key.AAAA", &"A".repeat(300)] {
            assert!(looks_like_token(Path::new(text)), "{text}");
        }
        for text in ["token.txt", "/tmp/token", &format!("/{}", "a/".repeat(200))] {
            assert!(!looks_like_token(Path::new(text)), "{text}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("spa1.token");
        std::fs::write(&file, "").unwrap();
        assert!(!looks_like_token(&file));
    }
}
