//! `spa-keys revoke`.

use spa_keys::{Store, StoreError, date, note};

use super::{Failure, print, still_in};
use crate::cli::Named;
use crate::view::{View, to_json};

pub(crate) fn run(store: &Store, named: &Named) -> Result<(), Failure> {
    let mut revoked = Vec::new();
    let mut failures = Vec::new();
    let all = store.revoke_all(&named.name, date::now());
    for one in all.map_err(|error| still_in(&named.name, error))? {
        match one {
            Ok(client) => revoked.push(client),
            Err(error) => failures.push(explain(error)),
        }
    }
    if named.json {
        print(&to_json(&revoked.iter().map(View::of_revoked).collect::<Vec<_>>()))?;
    } else {
        let lines = revoked.iter().map(|client| {
            format!("{} (key-id {:.8}) is revoked\n", client.name, client.kid.to_string())
        });
        print(&lines.collect::<String>())?;
    }
    let last = failures.pop();
    failures.iter().for_each(|failure| note!("spa-keys: {failure}"));
    last.map_or(Ok(()), Err)
}

/// A record that cannot be read cannot be kept without its secrets either.
fn explain(error: StoreError) -> Failure {
    let path = match &error {
        StoreError::Malformed(malformed) => malformed.path(),
        _ => return error.into(),
    };
    Failure::Other(format!(
        "{error}\na broken record lets nobody in; to be rid of it, run: rm {}",
        path.display()
    ))
}
