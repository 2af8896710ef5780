//! `spa-keys list`.

use spa_keys::{ClientRecord, RevokedClient, Store, StoreError, date};

use super::{Failure, print};
use crate::view::{View, table, to_json};

pub(crate) fn run(store: &Store, json: bool) -> Result<(), Failure> {
    check_there(store)?;
    let (clients, revoked) = (store.clients()?, store.revoked()?);
    let views = views(&clients.records, &revoked.records);
    print(&if json { to_json(&views) } else { table(&views) })?;
    if views.is_empty() && !json {
        eprintln!("no clients yet: spa-keys add NAME --service SERVICE");
    }
    complain(clients.broken.into_iter().chain(revoked.broken).collect())
}

/// A directory that is not there is mistyped rather than empty.
pub(super) fn check_there(store: &Store) -> Result<(), StoreError> {
    match store.dir().try_exists() {
        Ok(false) => Err(StoreError::NotInitialised(store.dir().to_owned())),
        _ => Ok(()),
    }
}

fn views(clients: &[ClientRecord], revoked: &[RevokedClient]) -> Vec<View> {
    let now = date::now();
    let clients = clients.iter().map(|client| View::of_client(client, now));
    clients.chain(revoked.iter().map(View::of_revoked)).collect()
}

/// Records that cannot be read are named one by one, after those that can.
pub(super) fn complain(broken: Vec<StoreError>) -> Result<(), Failure> {
    broken.iter().for_each(|error| eprintln!("spa-keys: {error}"));
    match broken.len() {
        0 => Ok(()),
        1 => Err(Failure::Other("this record is broken: its client is shut out".to_owned())),
        n => {
            Err(Failure::Other(format!("these {n} records are broken: their clients are shut out")))
        }
    }
}
