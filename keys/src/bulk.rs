//! Many clients at once: all of them are looked at before the first is made.

mod tokens;

use std::collections::{BTreeMap, BTreeSet};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use spa_keys::{NewClient, ServerIdentity, Store, StoreError, date};

use crate::commands::Failure;
pub(crate) use tokens::Destination;

/// A client to be made, and what says so.
pub(crate) struct Planned {
    /// File and line, as people are told.
    pub(crate) place: String,
    pub(crate) client: NewClient,
}

/// A client that was made.
#[derive(Serialize)]
pub(crate) struct Added {
    name: String,
    kid: String,
    /// The file that its token is in.
    token: String,
}

/// Everything that is in the way, a line each; nothing is made.
pub(crate) fn problems(
    store: &Store,
    planned: &[Planned],
    to: Option<&Destination>,
) -> Result<Vec<String>, Failure> {
    ServerIdentity::load(store.dir())?;
    let mut names: BTreeMap<_, &str> = BTreeMap::new();
    let mut problems = Vec::new();
    for Planned { place, client } in planned {
        let name = &client.name;
        if let Some(first) = names.insert(name.clone(), place.as_str()) {
            problems.push(format!("{place}: {name} is there already, at {first}"));
        }
        problems.extend(store.check_new(client).err().map(|error| format!("{place}: {error}")));
        let taken = to.and_then(|to| to.is_taken(name));
        problems.extend(taken.map(|taken| format!("{place}: {taken}")));
    }
    // Of those that are to be made as well: a name is a client's or a person's.
    let people: BTreeSet<_> =
        names.keys().filter(|name| name.device().is_some()).map(|name| name.person()).collect();
    for (name, place) in names.iter().filter(|(name, _)| people.contains(name)) {
        problems.push(format!("{place}: {}", StoreError::Person(name.clone())));
    }
    Ok(problems)
}

/// Makes them, one after the other, each with its token before the next. Where
/// one fails, those before it stay, and that is said.
pub(crate) fn add(
    store: &Store,
    planned: Vec<Planned>,
    to: Destination,
) -> Result<Vec<Added>, Failure> {
    let count = planned.len();
    let bar = progress(count);
    let mut tokens = to.open()?;
    let mut added = Vec::with_capacity(count);
    for Planned { place, client } in planned {
        let name = client.name.clone();
        bar.set_message(name.to_string());
        let one = store.add(client, date::now()).map_err(Failure::from).and_then(|token| {
            let kid = token.kid.to_string();
            let written = tokens.write(&name, &token);
            // A record whose token nobody has is of no use.
            let written = written.map_err(|failure| match store.withdraw(&name, date::now()) {
                Ok(_) => failure,
                Err(error) => Failure::Other(format!(
                    "{failure}\nand {name} is a client all the same, without a token ({error}): leave \
                     this line out too, and run: spa-keys renew {name}"
                )),
            });
            Ok(Added { name: name.to_string(), kid, token: written? })
        });
        match one {
            Ok(one) => added.push(one),
            Err(failure) => return Err(stopped(&place, &failure, added.len(), count)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(added)
}

fn stopped(place: &str, failure: &Failure, done: usize, count: usize) -> Failure {
    Failure::Other(format!(
        "{place}: {failure}\n{done} of {count} clients were added before that, and their tokens are \
         written: leave them out of another try"
    ))
}

/// On a terminal only, and beside what is printed.
fn progress(count: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(count).unwrap_or(u64::MAX));
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
